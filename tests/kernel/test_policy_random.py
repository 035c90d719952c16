"""The kernel judges as the compiler's table says and as the policies mean: random clusters, random packets.

Every packet is the first of its connection and between addresses of its own, so that nothing that was tracked before
can decide. What is compared: whether it passes, whose policy decided, the drop reason, and the rule.
"""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath import entries, maps
from datapath.abi import DropReason
from datapath.api import Direction, IpcacheKey, RemoteEndpoint
from datapath.flow_event import FlowEvent, FlowVerdict
from datapath.maps import TypedMap
from datapath.pins import Pins
from model.ids import IDENTITY_HOST, IDENTITY_REMOTE_NODE, IdentityId
from policy.compiler import Compiled, compile_table
from tests.support import frames
from tests.support.frames import SYN, echo, ethernet, icmp, ipv4, sctp, tcp, udp, vxlan
from tests.support.overlay import TUNNEL_PORT, VNI, Container, Node, an_endpoint, standing_overlay
from tests.support.policy_bench import NODE, OTHER_NODE, End, Outcome, PolicyBench
from tests.support.policy_kernel_model import KernelModel
from tests.support.policy_reference import End as Meant
from tests.support.policy_reference import verdict
from tests.support.policy_worlds import ADDRESSES, World, random_world
from tests.support.wait import until

pytestmark = pytest.mark.kernel

PACKETS_ON_ONE_HOST: Final = 5000
PACKETS_TO_OTHER_HOSTS: Final = 2000
PACKETS_FROM_OTHER_HOSTS: Final = 1500
PACKETS_OUTSIDE: Final = 2000
"""In each direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What becomes of the first packet of a connection."""

    verdict: FlowVerdict
    direction: Direction
    """Whose policy decided; of a packet that passes: of the first end that was asked."""
    reason: DropReason
    rule: int


class Expected:
    """What has to become of packets in one world, from the reference and from the table."""

    def __init__(self, world: World, compiled: Compiled) -> None:
        self._world = world
        self._compiled = compiled
        self._kernel = KernelModel(compiled.table)

    def of(self, source: Meant, destination: Meant, protocol: int, port: int, *directions: Direction) -> Judgement:
        """Ask the ends of these directions; the reference has to agree with the table at each."""
        rules: list[int] = []
        for direction in directions:
            local, remote = (source, destination) if direction is Direction.EGRESS else (destination, source)
            passes, rule = self._kernel.judge(
                self._world.number_of(local), self._world.number_of(remote), direction, protocol, port
            )
            meant = verdict(self._world.policies, source, destination, protocol, port, direction, self._world.mode)
            assert passes is meant
            if not passes:
                reference = self._compiled.rules.get(rule)
                return Judgement(
                    verdict=FlowVerdict.DROPPED,
                    direction=direction,
                    reason=DropReason.POLICY_DENY if reference and reference.deny else DropReason.POLICY_DENIED,
                    rule=rule,
                )
            rules.append(rule)
        return Judgement(
            verdict=FlowVerdict.FORWARDED, direction=directions[0], reason=DropReason.FORWARDED, rule=rules[0]
        )


def seen(event: FlowEvent) -> Judgement:
    return Judgement(verdict=event.verdict, direction=event.direction, reason=DropReason(event.reason), rule=event.rule)


@dataclass(frozen=True, slots=True)
class Packet:
    """The first of a connection; of ICMP the port is the message type."""

    source: Meant
    destination: Meant
    protocol: int
    port: int

    def payload(self, source_port: int) -> bytes:
        """What opens a connection of this protocol."""
        match self.protocol:
            case frames.TCP:
                return tcp(SYN, source_port=source_port, port=self.port)
            case frames.UDP:
                return udp(b"?", source_port=source_port, port=self.port)
            case frames.SCTP:
                return sctp(frames.SCTP_INIT, source_port=source_port, port=self.port)
            case frames.ICMP if self.port in {0, 8}:
                return echo(kind=self.port, ident=source_port)
            case frames.ICMP:
                return icmp(self.port, bytes(16))
            case _:
                return bytes(16)


_addresses = (str(IPv4Address("10.5.0.10") + number) for number in itertools.count())


def worlds() -> Iterator[tuple[int, World, Compiled]]:
    """Worlds without end, each with its seed."""
    for seed in itertools.count():
        world = random_world(seed)
        yield seed, world, compile_table(world.inputs)


def packets(world: World, sources: Iterable[Meant], destinations: Iterable[Meant]) -> Iterator[Packet]:
    """Everything that the world asks about, from each to each."""
    for source, destination in itertools.product(sources, destinations):
        for protocol, port in world.packets:
            yield Packet(source, destination, protocol, port)


@pytest.mark.parametrize(
    ("wanted", "here", "directions"),
    [
        pytest.param(PACKETS_ON_ONE_HOST, True, (Direction.EGRESS, Direction.INGRESS), id="one host"),
        pytest.param(PACKETS_TO_OTHER_HOSTS, False, (Direction.EGRESS,), id="to another host"),
    ],
)
def test_packets_between_containers_are_judged_as_the_policies_mean(
    bench: PolicyBench,
    wanted: int,
    here: bool,  # noqa: FBT001
    directions: tuple[Direction, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    checked = Checked(bench)
    for seed, world, compiled in worlds():
        bench.datapath.apply_policy(compiled.table)
        expected = Expected(world, compiled)
        for packet in packets(world, world.endpoints, world.endpoints):
            sender = End(address=next(_addresses), identity=world.number_of(packet.source))
            receiver = End(address=next(_addresses), identity=world.number_of(packet.destination), here=here)
            bench.place(sender, receiver)

            outcome = bench.send(sender, receiver, packet.payload(bench.fresh_port()), packet.protocol)

            judgement = expected.of(packet.source, packet.destination, packet.protocol, packet.port, *directions)
            checked.check(outcome, judgement, f"world {seed}: {packet}", hook=Direction.EGRESS)
        if checked.outcomes.total() >= wanted:
            break

    checked.finish(capsys, f"containers to {'this host' if here else 'another host'}", worlds=seed + 1)
    assert len(checked.outcomes) == 1 + 2 * len(directions), "every outcome has to occur"


@pytest.mark.parametrize("direction", Direction)
def test_packets_to_and_from_outside_are_judged_as_the_policies_mean(
    bench: PolicyBench, direction: Direction, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.open_to_host("10.5.0.0/16")
    bench.datapath.replace_nodes([OTHER_NODE])
    outside: dict[Meant, str] = {IDENTITY_HOST: str(NODE), IDENTITY_REMOTE_NODE: str(OTHER_NODE)}
    outside |= {address: str(address) for address in ADDRESSES if address.version == 4}
    checked = Checked(bench)
    for seed, world, compiled in worlds():
        bench.datapath.apply_policy(compiled.table)
        expected = Expected(world, compiled)
        ends = (world.endpoints, outside) if direction is Direction.EGRESS else (outside, world.endpoints)
        for packet in packets(world, *ends):
            inner = packet.source if direction is Direction.EGRESS else packet.destination
            container = End(address=next(_addresses), identity=world.number_of(inner))
            bench.place(container)
            payload = packet.payload(bench.fresh_port())

            if direction is Direction.EGRESS:
                target = End(address=outside[packet.destination], identity=0)
                outcome = bench.send(container, target, payload, packet.protocol)
            else:
                outcome = bench.send_from_host(outside[packet.source], container, payload, packet.protocol)

            judgement = expected.of(packet.source, packet.destination, packet.protocol, packet.port, direction)
            checked.check(outcome, judgement, f"world {seed}: {packet}", hook=direction)
        if checked.outcomes.total() >= PACKETS_OUTSIDE:
            break

    checked.finish(capsys, f"{direction} over the host", worlds=seed + 1)
    assert len(checked.outcomes) == 3, "every outcome has to occur"


class Checked:
    """Outcomes so far, and what the kernel counted meanwhile."""

    def __init__(self, bench: PolicyBench) -> None:
        self.outcomes: Counter[tuple[DropReason, Direction]] = Counter()
        self._bench = bench
        self._before = counted(bench)

    def check(self, outcome: Outcome, judgement: Judgement, where: str, *, hook: Direction) -> None:
        """A packet that passes is counted by the hook, one that does not by who decided."""
        assert [judgement] == [seen(event) for event in outcome.events], where
        assert outcome.passed is (judgement.verdict is FlowVerdict.FORWARDED), where
        self.outcomes[judgement.reason, judgement.direction if judgement.reason else hook] += 1

    def finish(self, capsys: pytest.CaptureFixture[str], what: str, *, worlds: int) -> None:
        assert self.outcomes == counted(self._bench) - self._before
        tell(capsys, what, self.outcomes, worlds)


def counted(bench: PolicyBench) -> Counter[tuple[DropReason, Direction]]:
    return Counter({(DropReason(one.reason), one.direction): one.packets for one in bench.datapath.counters()})


def tell(
    capsys: pytest.CaptureFixture[str], what: str, outcomes: Counter[tuple[DropReason, Direction]], number: int
) -> None:
    parts = ", ".join(f"{count} {reason.text} {direction}" for (reason, direction), count in sorted(outcomes.items()))
    with capsys.disabled():
        print(f"\n{what}: {outcomes.total()} packets in {number} worlds as expected: {parts}")  # noqa: T201


@dataclass(slots=True)
class Tunnel:
    """A node, and a socket of another one that sends tunnel packets to it."""

    node: Node
    container: Container
    peer_address: IPv4Address
    peer: socket.socket
    ipcache: TypedMap[maps.abi.IpcacheKey, maps.abi.IpcacheValue]

    def place(self, *, remote: str, remote_identity: int, local: str, local_identity: int) -> None:
        spec = an_endpoint(local, identity=IdentityId(local_identity))
        there = RemoteEndpoint(tunnel_endpoint=self.peer_address, identity=IdentityId(remote_identity))
        self.ipcache.update_many(
            [
                (entries.ipcache_key(IpcacheKey(VNI, IPv4Address(remote))), entries.remote_place(there)),
                (
                    entries.ipcache_key(IpcacheKey(VNI, IPv4Address(local))),
                    entries.local_place(spec, self.container.endpoint.ifindex),
                ),
            ]
        )

    def send(self, packet: bytes, identity: int) -> None:
        frame = ethernet(packet, source="0a:00:00:00:00:03")
        self.peer.sendto(vxlan(frame, vni=VNI, group=identity), (str(self.node.address), TUNNEL_PORT))


@pytest.fixture
def tunnel(bpf_root: Path) -> Iterator[Tunnel]:
    with standing_overlay(bpf_root) as overlay:
        node, other = overlay.add_node(), overlay.add_node(started=False)
        container = overlay.add_container(node, "10.5.0.2")
        node.datapath.replace_nodes([other.address])
        ipcache = TypedMap(Pins(node.root).maps, "hawse_ipcache", maps.IPCACHE)
        with other.namespace.entered():
            peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind((str(other.address), 0))
        with peer:
            yield Tunnel(node, container, other.address, peer, ipcache)
        ipcache.close()


def test_packets_out_of_the_tunnel_are_judged_as_the_policies_mean(
    tunnel: Tunnel, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: Counter[tuple[DropReason, Direction]] = Counter()
    datapath = tunnel.node.datapath
    ports = itertools.cycle(range(1024, 65000))
    for seed, world, compiled in worlds():
        datapath.apply_policy(compiled.table)
        datapath.flow_events()
        expected = Expected(world, compiled)
        awaited: dict[IPv4Address, tuple[str, Judgement]] = {}
        for packet in packets(world, world.endpoints, world.endpoints):
            remote, local = next(_addresses), next(_addresses)
            source, destination = world.number_of(packet.source), world.number_of(packet.destination)
            tunnel.place(remote=remote, remote_identity=source, local=local, local_identity=destination)
            payload = packet.payload(next(ports))
            tunnel.send(ipv4(payload, source=remote, target=local, protocol=packet.protocol), source)
            judgement = expected.of(packet.source, packet.destination, packet.protocol, packet.port, Direction.INGRESS)
            awaited[IPv4Address(remote)] = (f"world {seed}: {packet}", judgement)
            outcomes[judgement.reason, Direction.INGRESS] += 1
        events: list[FlowEvent] = []

        def all_are_reported() -> bool:
            events.extend(datapath.flow_events().events)  # noqa: B023  # called within this turn
            ours = [one for one in events if one.source in awaited]  # noqa: B023
            return len(ours) == len(awaited)  # noqa: B023

        until("every packet is reported", all_are_reported, timeout_s=10)
        for event in events:
            # The container may announce itself; nothing else of it is asked about.
            if isinstance(event.source, IPv4Address) and event.source in awaited:
                where, judgement = awaited[event.source]
                assert judgement == seen(event), where
        if outcomes.total() >= PACKETS_FROM_OTHER_HOSTS:
            break

    assert len(outcomes) == 3, "every outcome has to occur"
    tell(capsys, "out of the tunnel", outcomes, seed + 1)
