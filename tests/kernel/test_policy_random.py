"""The kernel judges as the compiler's table says and as the policies mean: random clusters, random packets.

Every packet is the first of its connection and between addresses of its own, so that nothing that was tracked before
can decide. What is compared: whether it passes, whose policy decided, the drop reason, and the rule.
"""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from collections.abc import Iterator
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
from model.ids import IdentityId
from policy.compiler import Compiled, compile_table
from tests.support import frames
from tests.support.frames import SYN, echo, ethernet, icmp, ipv4, sctp, tcp, udp, vxlan
from tests.support.overlay import TUNNEL_PORT, VNI, Container, Node, an_endpoint, standing_overlay
from tests.support.policy_bench import End, PolicyBench
from tests.support.policy_kernel_model import KernelModel
from tests.support.policy_reference import verdict
from tests.support.policy_worlds import World, random_world
from tests.support.wait import until

pytestmark = pytest.mark.kernel

PACKETS_ON_ONE_HOST: Final = 5000
PACKETS_TO_OTHER_HOSTS: Final = 2000
PACKETS_FROM_OTHER_HOSTS: Final = 1500


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
        self._ends = {world.number_of(end): end for end in world.endpoints}

    def of(
        self, source: int, destination: int, protocol: int, port: int, directions: tuple[Direction, ...]
    ) -> Judgement:
        """Ask the ends of these directions; the reference has to agree with the table at each."""
        rules: list[int] = []
        for direction in directions:
            local, remote = (source, destination) if direction is Direction.EGRESS else (destination, source)
            passes, rule = self._kernel.judge(local, remote, direction, protocol, port)
            meant = verdict(
                self._world.policies,
                self._ends[source],
                self._ends[destination],
                protocol,
                port,
                direction,
                self._world.mode,
            )
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


def first_packet(protocol: int, port: int, *, source_port: int) -> bytes:
    """What opens a connection of this protocol; of ICMP the port is the message type."""
    match protocol:
        case frames.TCP:
            return tcp(SYN, source_port=source_port, port=port)
        case frames.UDP:
            return udp(b"?", source_port=source_port, port=port)
        case frames.SCTP:
            return sctp(frames.SCTP_INIT, source_port=source_port, port=port)
        case frames.ICMP:
            return echo(kind=port, ident=source_port) if port in {0, 8} else icmp(port, bytes(16))
        case _:
            return bytes(16)


_addresses = (str(IPv4Address("10.5.0.10") + number) for number in itertools.count())


def worlds() -> Iterator[tuple[int, World, Compiled]]:
    """Worlds without end, each with its seed."""
    for seed in itertools.count():
        world = random_world(seed)
        yield seed, world, compile_table(world.inputs)


def packets(world: World) -> Iterator[tuple[int, int, int, int]]:
    """Who to whom, protocol, port."""
    identities = [world.number_of(end) for end in world.endpoints]
    for source, destination in itertools.product(identities, identities):
        for protocol, port in world.packets:
            yield source, destination, protocol, port


@pytest.mark.parametrize(
    ("wanted", "here", "directions"),
    [
        pytest.param(PACKETS_ON_ONE_HOST, True, (Direction.EGRESS, Direction.INGRESS), id="one host"),
        pytest.param(PACKETS_TO_OTHER_HOSTS, False, (Direction.EGRESS,), id="to another host"),
    ],
)
def test_packets_of_containers_are_judged_as_the_policies_mean(
    bench: PolicyBench,
    wanted: int,
    here: bool,  # noqa: FBT001
    directions: tuple[Direction, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcomes: Counter[tuple[DropReason, Direction]] = Counter()
    counted_before = counted(bench)
    for seed, world, compiled in worlds():
        bench.datapath.apply_policy(compiled.table)
        expected = Expected(world, compiled)
        for source, destination, protocol, port in packets(world):
            sender = End(address=next(_addresses), identity=source)
            receiver = End(address=next(_addresses), identity=destination, here=here)
            bench.place(sender, receiver)

            outcome = bench.send(
                sender, receiver, first_packet(protocol, port, source_port=bench.fresh_port()), protocol
            )

            where = f"world {seed}: {source} -> {destination}, protocol {protocol}, port {port}"
            judgement = expected.of(source, destination, protocol, port, directions)
            assert [judgement] == [seen(event) for event in outcome.events], where
            assert outcome.passed is (judgement.verdict is FlowVerdict.FORWARDED), where
            # A packet that passes is counted by the hook, one that does not by who decided.
            outcomes[judgement.reason, judgement.direction if judgement.reason else Direction.EGRESS] += 1
        if outcomes.total() >= wanted:
            break

    assert outcomes == counted(bench) - counted_before
    assert len(outcomes) >= 1 + 2 * len(directions), "every outcome has to occur"
    tell(capsys, f"containers to {'this host' if here else 'another host'}", outcomes, seed + 1)


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
        for source, destination, protocol, port in packets(world):
            remote, local = next(_addresses), next(_addresses)
            tunnel.place(remote=remote, remote_identity=source, local=local, local_identity=destination)
            payload = first_packet(protocol, port, source_port=next(ports))
            tunnel.send(ipv4(payload, source=remote, target=local, protocol=protocol), source)
            where = f"world {seed}: {source} -> {destination}, protocol {protocol}, port {port}"
            judgement = expected.of(source, destination, protocol, port, (Direction.INGRESS,))
            awaited[IPv4Address(remote)] = (where, judgement)
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
