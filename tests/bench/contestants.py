"""Who is measured: pairs of ends on one host and on two, through Docker's drivers, hawse, and nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from tests.bench import limits, nodes
from tests.bench.measurements import Pair, serve
from tests.bench.places import Place, in_container
from tests.bench.plan import Plan
from tests.bench.states import CLIENT, DEFAULT, LABEL, SERVER, SERVICE_PORT, State
from tests.bench.urgency import Urgency
from tests.support import swarm, wait
from tests.support.etcd_members import EtcdMembers
from tests.support.node import Node
from tests.support.plugin import NAME
from tests.support.testbed import Testbed

BRIDGE: Final = "Docker bridge"
OVERLAY: Final = "Docker overlay"
VETH: Final = "bare veth pair"
UNDERLAY: Final = "bare underlay"
VXLAN: Final = "bare VXLAN"
VETH_RULED: Final = "veth pair, Docker's rules"
VXLAN_RULED: Final = "VXLAN, Docker's rules"
"""The same two in namespaces with the rules that every container of Docker has: as fast as a container can be."""
HAWSE: Final = "hawse"
"""In its default state: policy on with 10 entries, flows tracked and counted."""
FOLLOWED: Final = "hawse, flows followed"
OPEN: Final = "hawse, no policy"
THOUSAND: Final = "hawse, 1 000 entries"
TEN_THOUSAND: Final = "hawse, 10 000 entries"

SAME: Final = "same"
ACROSS: Final = "across"
SERVICES: Final = "services"
"""Paths: the first word of a row's name."""
TITLES: Final[Mapping[str, str]] = {
    SAME: "same host",
    ACROSS: "two hosts",
    SERVICES: "to a service on the same host",
}
_NOT_ASKED: Final = ((SAME, OVERLAY), (ACROSS, UNDERLAY), (SAME, VETH_RULED), (ACROSS, VXLAN_RULED))
"""No bar is about them."""

_STATES: Final = (
    (HAWSE, DEFAULT),
    (FOLLOWED, State(entries=DEFAULT.entries, followed=True)),
    (OPEN, State(entries=0)),
    (THOUSAND, State(entries=1000)),
    (TEN_THOUSAND, State(entries=10_000)),
)
ENTRIES: Final[Mapping[str, int]] = {name: state.entries for name, state in _STATES if not state.followed}
"""Contestants that differ in nothing but the number of policy entries."""
_BRIDGED: Final = "bridged"
_OVERLAID: Final = "overlaid"
_HAWSED: Final = "hawsed"
# The translation of each node, so that both modes are measured in one run and no plugin is restarted between samples.
_TRANSLATION: Final = ("socket", "packet")
_SOON_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One that takes part in rows."""

    name: str
    path: str
    pair: Pair
    state: State | None
    """What hawse has to be in; None: it has no part in this."""


class Field:
    """The hosts, the containers on them, and all contestants.

    Args:
        testbed: where the hosts are made.
        plan: a quick one has hawse in its default state only, and nobody that no bar is about.
    """

    def __init__(self, testbed: Testbed, plan: Plan) -> None:
        self._testbed = testbed
        self._plan = plan
        self._urgency = Urgency(testbed._leftovers) if plan.urgent else None
        self._image = testbed.probe.parents[1]
        self.nodes: Final = self._start_nodes()
        one, other = self.nodes
        plan.say("data path: containers and devices")
        with ThreadPoolExecutor() as pool:
            of_bridge, of_overlay, of_plugin = map(pool.submit, (self._bridged, self._overlaid, self._hawsed))
            bridged = of_bridge.result()
            overlaid, overlaid_across = of_overlay.result()
            hawsed, hawsed_across = of_plugin.result()
            services = pool.map(self._service, self.nodes, _TRANSLATION)
        rules = limits.rules_of(one, f"{_BRIDGED}-{CLIENT}")
        fixed = [
            _fixed(BRIDGE, SAME, bridged),
            _fixed(OVERLAY, SAME, overlaid),
            _fixed(VETH, SAME, self._bare(limits.veth_pair(one, self._image))),
            _fixed(VETH_RULED, SAME, self._bare(limits.veth_pair(one, self._image, rules=rules))),
            _fixed(OVERLAY, ACROSS, overlaid_across),
            _fixed(UNDERLAY, ACROSS, self._bare(limits.underlay(one, other, self._image))),
            _fixed(VXLAN, ACROSS, self._bare(limits.vxlan(one, other, self._image))),
            _fixed(VXLAN_RULED, ACROSS, self._bare(limits.vxlan(one, other, self._image, rules=rules))),
        ]
        of_hawse = [
            Contestant(name=name, path=path, pair=pair, state=state)
            for name, state in _STATES
            for path, pair in ((SAME, hawsed), (ACROSS, hawsed_across))
        ]
        everybody = [*fixed, *of_hawse]
        self.contestants: Final[Sequence[Contestant]] = [one for one in everybody if not plan.quick or is_quick(one)]
        self.left_out: Final = [f"{one.name}, {TITLES[one.path]}" for one in everybody if one not in self.contestants]
        self.services: Final[Sequence[Contestant]] = [contestant for both in services for contestant in both]
        for place in {one.pair.server for one in self.contestants}:
            serve(place)

    def close(self) -> None:
        """End what runs and turn the hosts off."""
        for place in {end for one in (*self.contestants, *self.services) for end in (one.pair.client, one.pair.server)}:
            place.close()
        for node in self.nodes:
            node.machine.power_off()

    def _start_nodes(self) -> tuple[Node, Node]:
        self._plan.say("data path: two hosts with their engines")
        etcd: EtcdMembers = self._testbed.etcd("speed", 1)
        # Enabled before there is a Swarm: what drivers it has a node says at once as it joins, and then every 20 s.
        settings = {
            f"speed{number}": {"SERVICE_TRANSLATION": mode, "SCOPE": "global"}
            for number, mode in enumerate(_TRANSLATION, 1)
        }
        one, other = started = nodes.start(self._testbed, settings, etcd=etcd)
        # A cable is no firewall: without this each frame between the hosts passes netfilter once more.
        self._testbed.underlay.run("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0")
        self._plan.say("data path: the Swarm")
        swarm.form([(node.engine, node.address) for node in started])
        swarm.wait_driver(one.engine, NAME, len(started))
        return one, other

    def _bridged(self) -> Pair:
        one, _ = self.nodes
        one.engine("network", "create", "--subnet", "10.61.0.0/24", _BRIDGED)
        client, server = (self._container(one, f"{_BRIDGED}-{role}", _BRIDGED) for role in (CLIENT, SERVER))
        return Pair(client=client, server=server, address=server.address)

    def _overlaid(self) -> tuple[Pair, Pair]:
        one, other = self.nodes
        one.engine("network", "create", "-d", "overlay", "--attachable", "--subnet", "10.62.0.0/24", _OVERLAID)
        return self._spread(one, other, _OVERLAID)

    def _hawsed(self) -> tuple[Pair, Pair]:
        one, other = self.nodes
        one.create_network(_HAWSED, "--subnet", "10.60.0.0/24", "--attachable")
        return self._spread(one, other, _HAWSED)

    def _spread(self, one: Node, other: Node, network: str) -> tuple[Pair, Pair]:
        client = self._container(one, f"{network}-{CLIENT}", network, f"--label={LABEL}={CLIENT}")
        near, far = (
            self._container(node, f"{network}-{SERVER}", network, f"--label={LABEL}={SERVER}") for node in (one, other)
        )
        return (
            Pair(client=client, server=near, address=near.address),
            Pair(client=client, server=far, address=far.address),
        )

    def _service(self, node: Node, mode: str) -> Sequence[Contestant]:
        """A service of one container, asked by two on the same host: directly, and at its virtual address.

        By two, because a connection to the address that becomes the same four numbers as a direct one of a moment ago
        is taken for a late packet of that one by the server's kernel, and waits for its second SYN.
        """
        name = f"web-{mode}"
        label = f"--label=hawse.service={name}:{SERVICE_PORT}"
        server = self._container(node, name, _HAWSED, f"--label={LABEL}=web", label)
        clients = [
            self._container(node, f"{name}-{CLIENT}-{number}", _HAWSED, f"--label={LABEL}={CLIENT}")
            for number in (1, 2)
        ]
        server.start("ask", f"taskset -c 1 speed serve {SERVICE_PORT}", says="ready")

        def address() -> str:
            told = node.hawse("service", "get", name, "-o", "json")
            assert told.rc == 0, str(told)
            (network,) = node.hawse_json("service", "get", name)["networks"]
            return str(network["vip"])

        vip = wait.until_passes(address, timeout_s=_SOON_S, interval_s=0.2)
        return [
            Contestant(
                name=f"{how}, {node.name}",
                path=SERVICES,
                pair=Pair(client=client, server=server, address=asked, ask_port=SERVICE_PORT),
                state=DEFAULT,
            )
            for how, asked, client in zip(("direct", f"by {mode}"), (server.address, vip), clients, strict=True)
        ]

    def _container(self, node: Node, name: str, network: str, *options: str) -> Place:
        # For the receiver's buffer, which is larger than a container may have by default.
        node.start(name, network, "--cap-add=NET_ADMIN", *options)
        return self._at_its_pace(in_container(node.machine, name, node.address_in(name, network)))

    def _bare(self, pair: Pair) -> Pair:
        for place in (pair.client, pair.server):
            self._at_its_pace(place)
        return pair

    def _at_its_pace(self, place: Place) -> Place:
        if self._urgency is not None:
            self._urgency.take(place.name)
        return place


def is_quick(one: Contestant) -> bool:
    """Whether a quick run has it."""
    return (one.path, one.name) not in _NOT_ASKED and one.state in (None, DEFAULT)


def _fixed(name: str, path: str, pair: Pair) -> Contestant:
    return Contestant(name=name, path=path, pair=pair, state=None)
