"""Containers talk through real interfaces: on one host, across hosts, and not where they must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from datapath.abi import DropReason
from datapath.api import Direction
from model.ids import Vni
from tests.support import frames
from tests.support.frames import echo, ethernet, ipv4, vlan
from tests.support.overlay import MTU, Container, Overlay, standing_overlay
from tests.support.wait import until

pytestmark = pytest.mark.kernel

LARGEST_ECHO: Final = MTU - 28
IPERF_PORT: Final = "5201"


@pytest.fixture(scope="module")
def standing(bpf_root: Path) -> Iterator[Overlay]:
    """Hosts that all tests here share; so they count differences."""
    with standing_overlay(bpf_root) as made:
        yield made


@pytest.fixture(scope="module")
def neighbours(standing: Overlay) -> tuple[Container, Container]:
    """Two containers of one host."""
    overlay = standing
    node = overlay.add_node()
    return overlay.add_container(node, "10.5.0.2"), overlay.add_container(node, "10.5.0.3")


@pytest.fixture(scope="module")
def strangers(standing: Overlay) -> tuple[Container, Container]:
    """Two containers on two hosts."""
    overlay = standing
    first, second = overlay.add_node(), overlay.add_node()
    pair = overlay.add_container(first, "10.5.0.4"), overlay.add_container(second, "10.5.0.5")
    overlay.connect()
    return pair


@pytest.fixture(params=["neighbours", "strangers"], ids=["one host", "two hosts"])
def pair(request: pytest.FixtureRequest) -> tuple[Container, Container]:
    """Two containers that must reach one another."""
    containers: tuple[Container, Container] = request.getfixturevalue(request.param)
    return containers


def test_they_ping_one_another(pair: tuple[Container, Container]) -> None:
    one, other = pair

    assert one.ping(other.address)
    assert other.ping(one.address)


def test_packets_of_full_mtu_pass_unfragmented(pair: tuple[Container, Container]) -> None:
    one, other = pair

    assert one.ping(other.address, "-M", "do", "-s", str(LARGEST_ECHO))
    assert not one.ping(other.address, "-M", "do", "-s", str(LARGEST_ECHO + 1))


def test_fragmented_packets_pass(pair: tuple[Container, Container]) -> None:
    one, other = pair

    assert one.ping(other.address, "-s", "4000")
    assert one.ping(other.address, "-s", "60000")


@pytest.mark.parametrize("options", [[], ["-R"], ["-u", "-b", "50M", "-l", "1400"]], ids=["tcp", "tcp reverse", "udp"])
def test_bulk_data_arrives_whole(pair: tuple[Container, Container], options: list[str]) -> None:
    one, other = pair
    server = other.namespace.popen("iperf3", "-s", "-1", "-p", IPERF_PORT, "--forceflush")
    try:
        until("iperf3 listens", lambda: IPERF_PORT in other.namespace.run("ss", "-tlnH"), timeout_s=10)
        report = one.namespace.run("iperf3", "-c", other.address, "-p", IPERF_PORT, "-n", "20M", *options)
    finally:
        server.kill()
        server.communicate()

    assert "iperf Done" in report


def test_both_directions_are_counted(strangers: tuple[Container, Container]) -> None:
    one, other = strangers

    def counted() -> list[int]:
        return [
            node.count(DropReason.FORWARDED, direction)
            for node in (one.node, other.node)
            for direction in (Direction.EGRESS, Direction.INGRESS)
        ]

    before = counted()

    assert one.ping(other.address)

    assert [count + 1 for count in before] == counted()


def test_same_addresses_in_two_networks_do_not_meet(overlay: Overlay) -> None:
    first, second = overlay.add_node(), overlay.add_node()
    one = overlay.add_container(first, "10.5.0.2")
    other_network_here = overlay.add_container(first, "10.5.0.3", vni=Vni(8))
    other_network_there = overlay.add_container(second, "10.5.0.4", vni=Vni(8))
    twin = overlay.add_container(second, "10.5.0.2", vni=Vni(8))
    overlay.connect()

    assert not one.ping(other_network_here.address)
    assert not one.ping(other_network_there.address)
    assert other_network_here.ping(twin.address)
    assert other_network_there.ping(other_network_here.address)
    assert one.node.count(DropReason.UNKNOWN_L3_TARGET, Direction.EGRESS) == 2


def test_neighbour_table_has_only_the_router(neighbours: tuple[Container, Container]) -> None:
    one, other = neighbours

    assert one.ping(other.address)

    table = one.namespace.ip("neigh", "show")
    assert f"{other.address} dev eth0 lladdr {frames.ROUTER}" in table
    assert str(other.spec.mac) not in table


def test_gateway_answers_pings(neighbours: tuple[Container, Container]) -> None:
    one, _ = neighbours

    assert one.ping("10.5.0.1")


def test_container_of_an_internal_network_does_not_reach_the_stack_of_the_host(overlay: Overlay) -> None:
    node = overlay.add_node()
    one, other = overlay.add_container(node, "10.5.0.2", gateway=None), overlay.add_container(node, "10.5.0.3")
    node.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    node.namespace.ip("route", "add", f"{other.address}/32", "dev", other.endpoint.host_ifname)
    one.namespace.ip("route", "add", "default", "via", "10.5.0.1")

    before = node.count(DropReason.UNKNOWN_L3_TARGET, Direction.EGRESS)

    assert not one.ping(str(node.address))
    assert before + 1 == node.count(DropReason.UNKNOWN_L3_TARGET, Direction.EGRESS)
    assert one.ping(other.address)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            lambda one, other: ethernet(
                ipv4(echo(), source="10.5.0.9", target=other.address), source=str(one.spec.mac)
            ),
            DropReason.INVALID_SOURCE_IP,
            id="spoofed address",
        ),
        pytest.param(
            lambda one, other: ethernet(
                ipv4(echo(), source=one.address, target=other.address), source="0a:00:00:00:00:09"
            ),
            DropReason.INVALID_SOURCE_MAC,
            id="spoofed mac",
        ),
        pytest.param(
            lambda one, other: vlan(
                ethernet(ipv4(echo(), source=one.address, target=other.address), source=str(one.spec.mac)), 5
            ),
            DropReason.VLAN_FILTERED,
            id="vlan tag",
        ),
        pytest.param(
            lambda one, other: ethernet(
                ipv4(echo(), source=one.address, target=other.address)[:12], source=str(one.spec.mac)
            ),
            DropReason.INVALID_PACKET,
            id="truncated in the ip header",
        ),
        pytest.param(
            lambda one, _: ethernet(b"\0", source=str(one.spec.mac)),
            DropReason.INVALID_PACKET,
            id="no ip header at all",
        ),
    ],
)
def test_bad_frame_is_dropped_and_counted(
    neighbours: tuple[Container, Container], make: Callable[[Container, Container], bytes], reason: DropReason
) -> None:
    one, other = neighbours
    before = one.node.count(reason, Direction.EGRESS)

    with other.packet_socket() as seen:
        one.send_frame(make(one, other))

        until("the drop is counted", lambda: one.node.count(reason, Direction.EGRESS) == before + 1, timeout_s=5)
        seen.settimeout(0)
        with pytest.raises(BlockingIOError):
            seen.recv(2048)
