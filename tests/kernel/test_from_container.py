"""from_container on single packets, without any interface: verdict, answer and counter.

The kernel runs no IPv4 frame that ends before its IP header; those are sent by real containers in test_containers.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Final

import pytest

from datapath import abi, bpf_syscalls, entries, maps
from datapath.abi import DropReason
from datapath.addresses import words
from datapath.api import IpcacheKey, RemoteEndpoint
from datapath.maps import TypedMap
from datapath.pins import Pins
from datapath.policy_maps import PolicyMaps, prefix_key
from datapath.programs import open_programs
from model.ids import IDENTITY_HOST, IdentityId, Vni
from tests.support import frames
from tests.support.frames import ARP, BROADCAST, IPV6, ROUTER, arp, echo, ethernet, ipv4, vlan
from tests.support.overlay import VNI, an_endpoint
from tests.support.policy_tables import open_policy

pytestmark = pytest.mark.kernel

SHOT: Final = 2
STOLEN: Final = 4
REDIRECT: Final = 7

LOOPBACK: Final = 1
"""A test run without context comes in through the loopback interface."""

OWN: Final = "10.5.0.2"
HERE: Final = "10.5.0.3"
ELSEWHERE: Final = "10.5.0.4"
OTHER_NETWORK: Final = "10.5.0.9"
GATEWAY: Final = "10.5.0.1"

ENDPOINT: Final = an_endpoint(OWN, gateway=GATEWAY)
MAC: Final = str(ENDPOINT.mac)
FOREIGN_MAC: Final = "0a:00:00:00:00:09"


@dataclass(frozen=True, slots=True)
class Case:
    """A packet from the container and what is to become of it."""

    packet: bytes
    verdict: int
    counted: DropReason | None
    answer: bytes | None = None


def to(target: str, *, source: str = OWN, payload: bytes | None = None) -> bytes:
    return ipv4(echo() if payload is None else payload, source=source, target=target)


def ask(target: str, *, sender_mac: str = MAC, sender: str = OWN, source: str = MAC, operation: int = 1) -> bytes:
    message = arp(sender_mac=sender_mac, sender=sender, target=target, operation=operation)
    return ethernet(message, source=source, target=BROADCAST, kind=ARP)


CASES: Final = {
    "accepted local": Case(ethernet(to(HERE), source=MAC), REDIRECT, DropReason.FORWARDED),
    "accepted remote": Case(ethernet(to(ELSEWHERE), source=MAC), REDIRECT, DropReason.FORWARDED),
    "first fragment": Case(
        ethernet(ipv4(echo(), source=OWN, target=HERE, fragment=0x2000), source=MAC), REDIRECT, DropReason.FORWARDED
    ),
    "later fragment whose first was not seen": Case(
        ethernet(ipv4(b"\1" * 64, source=OWN, target=HERE, fragment=185, identification=77), source=MAC),
        SHOT,
        DropReason.FRAGMENT_NOT_FOUND,
    ),
    "options in the header": Case(
        ethernet(ipv4(bytes(4) + echo(), source=OWN, target=HERE, first_byte=0x46), source=MAC),
        REDIRECT,
        DropReason.FORWARDED,
    ),
    "spoofed address": Case(ethernet(to(ELSEWHERE, source=HERE), source=MAC), SHOT, DropReason.INVALID_SOURCE_IP),
    "no address yet": Case(ethernet(to(ELSEWHERE, source="0.0.0.0"), source=MAC), SHOT, DropReason.INVALID_SOURCE_IP),
    "spoofed mac": Case(ethernet(to(HERE), source=FOREIGN_MAC), SHOT, DropReason.INVALID_SOURCE_MAC),
    "unknown destination": Case(ethernet(to("10.5.0.77"), source=MAC), SHOT, DropReason.UNKNOWN_L3_TARGET),
    "address of another network": Case(ethernet(to(OTHER_NETWORK), source=MAC), SHOT, DropReason.UNKNOWN_L3_TARGET),
    "world": Case(ethernet(to("192.0.2.1"), source=MAC), REDIRECT, DropReason.FORWARDED),
    "own host": Case(ethernet(to("10.77.0.1"), source=MAC), REDIRECT, DropReason.FORWARDED),
    "other host": Case(ethernet(to("10.77.0.2"), source=MAC), REDIRECT, DropReason.FORWARDED),
    "loopback address": Case(ethernet(to("127.0.0.1"), source=MAC), SHOT, DropReason.UNKNOWN_L3_TARGET),
    "limited broadcast": Case(ethernet(to("255.255.255.255"), source=MAC), SHOT, DropReason.UNKNOWN_L3_TARGET),
    "directed broadcast": Case(ethernet(to("10.5.0.255"), source=MAC), SHOT, DropReason.UNKNOWN_L3_TARGET),
    "link-layer broadcast": Case(ethernet(to(HERE), source=MAC, target=BROADCAST), SHOT, DropReason.MULTICAST),
    "multicast": Case(ethernet(to("224.0.0.251"), source=MAC, target="01:00:5e:00:00:fb"), SHOT, DropReason.MULTICAST),
    "frame past the router": Case(
        ethernet(to(HERE), source=MAC, target=FOREIGN_MAC), SHOT, DropReason.INVALID_TARGET_MAC
    ),
    "vlan": Case(vlan(ethernet(to(HERE), source=MAC), 5), SHOT, DropReason.VLAN_FILTERED),
    "ipv6": Case(ethernet(bytes(40), source=MAC, kind=IPV6), SHOT, DropReason.UNSUPPORTED_L3),
    "ipv6 multicast": Case(
        ethernet(bytes(40), source=MAC, target="33:33:00:00:00:02", kind=IPV6), SHOT, DropReason.UNSUPPORTED_L3
    ),
    "unknown ethertype": Case(ethernet(bytes(40), source=MAC, kind=0x88CC), SHOT, DropReason.UNSUPPORTED_L3),
    "802.3 length": Case(ethernet(bytes(40), source=MAC, kind=40), SHOT, DropReason.UNSUPPORTED_L2),
    "shorter than it says": Case(
        ethernet(ipv4(echo(), source=OWN, target=HERE, total=400), source=MAC), SHOT, DropReason.INVALID_PACKET
    ),
    "shorter than its header": Case(
        ethernet(ipv4(echo(), source=OWN, target=HERE, total=19), source=MAC), SHOT, DropReason.INVALID_PACKET
    ),
    "header length too small": Case(
        ethernet(ipv4(echo(), source=OWN, target=HERE, first_byte=0x44), source=MAC), SHOT, DropReason.INVALID_PACKET
    ),
    "version 6 in ipv4": Case(
        ethernet(ipv4(echo(), source=OWN, target=HERE, first_byte=0x65), source=MAC), SHOT, DropReason.INVALID_PACKET
    ),
    "arp answered": Case(
        ask(HERE),
        REDIRECT,
        None,
        ethernet(
            arp(sender_mac=ROUTER, sender=HERE, target=OWN, operation=2, target_mac=MAC),
            source=ROUTER,
            target=MAC,
            kind=ARP,
        ),
    ),
    "arp for an address nobody has": Case(
        ask("10.5.0.200"),
        REDIRECT,
        None,
        ethernet(
            arp(sender_mac=ROUTER, sender="10.5.0.200", target=OWN, operation=2, target_mac=MAC),
            source=ROUTER,
            target=MAC,
            kind=ARP,
        ),
    ),
    "arp for the own address": Case(ask(OWN), STOLEN, None),
    "arp probe for the own address": Case(ask(OWN, sender="0.0.0.0"), STOLEN, None),
    "arp reply nobody asked for": Case(ask(HERE, operation=2), STOLEN, None),
    "arp with spoofed address": Case(ask("10.5.0.1", sender=HERE), SHOT, DropReason.INVALID_SOURCE_IP),
    "arp with spoofed mac": Case(ask(HERE, sender_mac=FOREIGN_MAC), SHOT, DropReason.INVALID_SOURCE_MAC),
    "arp in a spoofed frame": Case(ask(HERE, source=FOREIGN_MAC), SHOT, DropReason.INVALID_SOURCE_MAC),
    "arp truncated": Case(ask(HERE)[:30], SHOT, DropReason.INVALID_PACKET),
    "gateway answers a ping": Case(
        ethernet(to(GATEWAY), source=MAC),
        REDIRECT,
        DropReason.FORWARDED,
        ethernet(ipv4(echo(kind=0), source=GATEWAY, target=OWN), source=ROUTER, target=MAC),
    ),
    "gateway offers nothing else": Case(
        ethernet(ipv4(frames.udp(b"", port=53), source=OWN, target=GATEWAY, protocol=frames.UDP), source=MAC),
        SHOT,
        DropReason.UNKNOWN_L3_TARGET,
    ),
    "fragment to the gateway": Case(
        ethernet(ipv4(echo(), source=OWN, target=GATEWAY, fragment=0x2000), source=MAC),
        SHOT,
        DropReason.UNKNOWN_L3_TARGET,
    ),
}


class Bench:
    """The program with one container, one neighbour here, one elsewhere and one in another network."""

    def __init__(self, root: Path) -> None:
        where = Pins(root)
        self.programs = open_programs(where)
        self.endpoints = TypedMap(where.maps, "hawse_endpoints", maps.ENDPOINTS)
        self.ipcache = TypedMap(where.maps, "hawse_ipcache", maps.IPCACHE)
        self.config = TypedMap(where.maps, "hawse_config", maps.CONFIG)
        self.metrics = TypedMap(where.maps, "hawse_metrics", maps.METRICS)
        self.endpoints.update(abi.EndpointKey(ifindex=LOOPBACK), entries.endpoint_value(ENDPOINT))
        here, other = an_endpoint(HERE), an_endpoint(OTHER_NETWORK, vni=Vni(8))
        there = RemoteEndpoint(tunnel_endpoint=IPv4Address("10.77.0.2"), identity=IdentityId(301))
        self.ipcache.update_many(
            [
                (entries.ipcache_key(IpcacheKey(VNI, IPv4Address(HERE))), entries.local_place(here, 50)),
                (entries.ipcache_key(IpcacheKey(Vni(8), IPv4Address(OTHER_NETWORK))), entries.local_place(other, 51)),
                (entries.ipcache_key(IpcacheKey(VNI, IPv4Address(ELSEWHERE))), entries.remote_place(there)),
            ]
        )
        self.policy = PolicyMaps(
            TypedMap(where.maps, "hawse_policy", maps.POLICY),
            TypedMap(where.maps, "hawse_identities", maps.IDENTITIES),
            TypedMap(where.maps, "hawse_prefixes", maps.PREFIXES),
        )
        self.policy.apply(open_policy(IDENTITY_HOST, 300, 301))
        networks = TypedMap(where.maps, "hawse_networks", maps.NETWORKS)
        networks.update(prefix_key(ip_network("10.5.0.0/24")), abi.NetworkValue(vni=VNI))
        networks.close()
        nodes = TypedMap(where.maps, "hawse_nodes", maps.NODES)
        nodes.update(abi.NodeKey(address=words(IPv4Address("10.77.0.2"))), abi.NodeValue())
        nodes.close()
        self.configure(tunnel_ifindex=52)

    def configure(self, *, tunnel_ifindex: int) -> None:
        value = abi.ConfigValue(
            node_address=words(IPv4Address("10.77.0.1")), tunnel_ifindex=tunnel_ifindex, host_ifindex=53
        )
        self.config.update(abi.ArrayKey(index=0), value)

    def counted(self) -> dict[tuple[DropReason, abi.Direction], tuple[int, int]]:
        """Packets and bytes by outcome."""
        found = {}
        for reason in DropReason:
            for direction in abi.Direction:
                values = self.metrics.lookup_per_cpu(abi.ArrayKey(index=reason * 2 + direction))
                packets = sum(value.packets for value in values)
                if packets:
                    found[reason, direction] = (packets, sum(value.bytes for value in values))
        return found

    def run(self, packet: bytes) -> tuple[bpf_syscalls.ProgramRun, dict[DropReason, tuple[int, int]]]:
        """Run once; what was counted by it, all of it egress."""
        before = self.counted()
        outcome = bpf_syscalls.run_program(self.programs.from_container, packet)
        after = self.counted()
        added = {}
        for (reason, direction), (packets, size) in after.items():
            old = before.get((reason, direction), (0, 0))
            if (packets, size) != old:
                assert direction is abi.Direction.EGRESS
                added[reason] = (packets - old[0], size - old[1])
        return outcome, added

    def close(self) -> None:
        self.programs.close()
        for one in (self.endpoints, self.ipcache, self.config, self.metrics):
            one.close()


@pytest.fixture(scope="module")
def bench(bpf_root: Path) -> Iterator[Bench]:
    made = Bench(bpf_root / f"bench{os.getpid()}")
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_packet_from_container(bench: Bench, case: Case) -> None:
    outcome, counted = bench.run(case.packet)

    assert ({} if case.counted is None else {case.counted: (1, len(case.packet))}) == counted
    assert case.verdict == outcome.verdict
    assert (case.packet if case.answer is None else case.answer) == outcome.packet


def test_packet_of_an_interface_without_entry_is_dropped(bench: Bench) -> None:
    key = abi.EndpointKey(ifindex=LOOPBACK)
    bench.endpoints.delete(key)
    try:
        outcome, counted = bench.run(ethernet(to(HERE), source=MAC))
    finally:
        bench.endpoints.update(key, entries.endpoint_value(ENDPOINT))

    assert outcome.verdict == SHOT
    assert list(counted) == [DropReason.UNKNOWN_ENDPOINT]


def test_remote_packet_without_configuration_is_dropped(bench: Bench) -> None:
    bench.configure(tunnel_ifindex=0)
    try:
        outcome, counted = bench.run(ethernet(to(ELSEWHERE), source=MAC))
    finally:
        bench.configure(tunnel_ifindex=52)

    assert outcome.verdict == SHOT
    assert list(counted) == [DropReason.NO_CONFIGURATION]


def test_endpoint_of_an_internal_network_reaches_no_host_and_no_world(bench: Bench) -> None:
    key = abi.EndpointKey(ifindex=LOOPBACK)
    bench.endpoints.update(key, entries.endpoint_value(an_endpoint(OWN, gateway=None)))
    try:
        outcomes = [bench.run(ethernet(to(target), source=MAC)) for target in ("10.77.0.1", "10.77.0.2", "192.0.2.1")]
    finally:
        bench.endpoints.update(key, entries.endpoint_value(ENDPOINT))

    assert [outcome.verdict for outcome, _ in outcomes] == [SHOT] * 3
    assert [list(counted) for _, counted in outcomes] == [[DropReason.UNKNOWN_L3_TARGET]] * 3


def test_endpoint_without_gateway_gets_no_answer_for_an_empty_address(bench: Bench) -> None:
    key = abi.EndpointKey(ifindex=LOOPBACK)
    bench.endpoints.update(key, entries.endpoint_value(an_endpoint(OWN, gateway=None)))
    try:
        outcome, counted = bench.run(ethernet(to("0.0.0.0"), source=MAC))
    finally:
        bench.endpoints.update(key, entries.endpoint_value(ENDPOINT))

    assert outcome.verdict == SHOT
    assert list(counted) == [DropReason.UNKNOWN_L3_TARGET]
