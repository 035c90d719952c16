"""from_overlay on real tunnel packets: a plain UDP socket on the underlay says whatever it wants.

A test run of the program cannot do this: there is no way to give a packet tunnel metadata.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath.abi import DropReason
from datapath.api import Direction, IpcacheKey, RemoteEndpoint
from model.ids import Vni
from tests.support.frames import ARP, BROADCAST, IPV6, arp, echo, ethernet, ipv4, vlan, vxlan
from tests.support.overlay import IDENTITY, TUNNEL_PORT, VNI, Container, Node, standing_overlay
from tests.support.wait import until

pytestmark = pytest.mark.kernel

LOCAL: Final = "10.5.0.2"
REMOTE: Final = "10.5.0.3"
OF_A_THIRD_NODE: Final = "10.5.0.4"
SENDER_MAC: Final = "0a:00:00:00:00:03"
UNKNOWN_NODE: Final = "10.77.0.200"


@dataclass(slots=True)
class Scene:
    """A node with a container, and a socket of the node that its peers' packets come from."""

    node: Node
    container: Container
    peer: socket.socket
    unknown: socket.socket


@pytest.fixture(scope="module")
def scene(bpf_root: Path) -> Iterator[Scene]:
    with standing_overlay(bpf_root) as overlay:
        node = overlay.add_node()
        other = overlay.add_node(started=False)
        container = overlay.add_container(node, LOCAL)
        other.namespace.ip("addr", "add", f"{UNKNOWN_NODE}/24", "dev", "eth0")
        third = IPv4Address("10.77.0.3")
        node.datapath.replace_nodes([other.address, third])
        node.datapath.replace_remotes(
            {
                IpcacheKey(VNI, IPv4Address(REMOTE)): RemoteEndpoint(tunnel_endpoint=other.address, identity=IDENTITY),
                IpcacheKey(VNI, IPv4Address(OF_A_THIRD_NODE)): RemoteEndpoint(tunnel_endpoint=third, identity=IDENTITY),
                IpcacheKey(Vni(8), IPv4Address(REMOTE)): RemoteEndpoint(
                    tunnel_endpoint=other.address, identity=IDENTITY
                ),
            }
        )
        with other.namespace.entered():
            peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            peer.bind((str(other.address), 0))
            unknown = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            unknown.bind((UNKNOWN_NODE, 0))
        with peer, unknown:
            yield Scene(node, container, peer, unknown)


def inner(*, source: str = REMOTE, target: str = LOCAL) -> bytes:
    return ethernet(ipv4(echo(kind=0), source=source, target=target), source=SENDER_MAC)


GOOD: Final = vxlan(inner(), vni=VNI, group=IDENTITY)


def test_packet_of_a_known_node_is_delivered(scene: Scene) -> None:
    with scene.container.packet_socket() as seen:
        scene.peer.sendto(GOOD, (str(scene.node.address), TUNNEL_PORT))

        assert seen.recv(2048) == inner()


def test_packet_of_an_unknown_node_is_dropped(scene: Scene) -> None:
    assert_dropped(scene, scene.unknown, GOOD, DropReason.UNKNOWN_NODE)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        pytest.param(vxlan(inner(), vni=VNI, group=1), DropReason.INVALID_IDENTITY, id="identity of the host"),
        pytest.param(vxlan(inner(), vni=VNI, group=0), DropReason.INVALID_IDENTITY, id="identity 0"),
        pytest.param(vxlan(inner(), vni=VNI, group=None), DropReason.INVALID_IDENTITY, id="no identity"),
        pytest.param(
            vxlan(inner(source=OF_A_THIRD_NODE), vni=VNI, group=IDENTITY),
            DropReason.INVALID_SOURCE_IP,
            id="source on a third node",
        ),
        pytest.param(
            vxlan(inner(source="10.5.0.99"), vni=VNI, group=IDENTITY), DropReason.INVALID_SOURCE_IP, id="unknown source"
        ),
        pytest.param(
            vxlan(inner(source=LOCAL), vni=VNI, group=IDENTITY), DropReason.INVALID_SOURCE_IP, id="source on this node"
        ),
        pytest.param(
            vxlan(inner(target="10.5.0.99"), vni=VNI, group=IDENTITY),
            DropReason.UNKNOWN_L3_TARGET,
            id="unknown destination",
        ),
        pytest.param(
            vxlan(inner(target=OF_A_THIRD_NODE), vni=VNI, group=IDENTITY),
            DropReason.NOT_LOCAL,
            id="destination on a third node",
        ),
        pytest.param(
            vxlan(inner(), vni=8, group=IDENTITY), DropReason.UNKNOWN_L3_TARGET, id="destination in another network"
        ),
        pytest.param(vxlan(inner(), vni=9, group=IDENTITY), DropReason.INVALID_SOURCE_IP, id="unknown network"),
        pytest.param(vxlan(inner()[:-1], vni=VNI, group=IDENTITY), DropReason.INVALID_PACKET, id="truncated"),
        pytest.param(vxlan(vlan(inner(), 5), vni=VNI, group=IDENTITY), DropReason.VLAN_FILTERED, id="vlan tag"),
        pytest.param(
            vxlan(ethernet(bytes(40), source=SENDER_MAC, kind=IPV6), vni=VNI, group=IDENTITY),
            DropReason.UNSUPPORTED_L3,
            id="ipv6",
        ),
        pytest.param(
            vxlan(
                ethernet(
                    arp(sender_mac=SENDER_MAC, sender=REMOTE, target=LOCAL),
                    source=SENDER_MAC,
                    target=BROADCAST,
                    kind=ARP,
                ),
                vni=VNI,
                group=IDENTITY,
            ),
            DropReason.UNSUPPORTED_L3,
            id="arp",
        ),
        pytest.param(
            vxlan(
                ethernet(ipv4(echo(), source=REMOTE, target=LOCAL), source=SENDER_MAC, target=BROADCAST),
                vni=VNI,
                group=IDENTITY,
            ),
            DropReason.MULTICAST,
            id="broadcast",
        ),
        pytest.param(
            vxlan(
                ethernet(ipv4(echo(), source=REMOTE, target=LOCAL), source=SENDER_MAC, target="0a:00:00:00:00:09"),
                vni=VNI,
                group=IDENTITY,
            ),
            DropReason.INVALID_TARGET_MAC,
            id="frame past the router",
        ),
    ],
)
def test_bad_packet_of_a_known_node_is_dropped(scene: Scene, packet: bytes, reason: DropReason) -> None:
    assert_dropped(scene, scene.peer, packet, reason)


def assert_dropped(scene: Scene, sender: socket.socket, packet: bytes, reason: DropReason) -> None:
    """The packet is counted under its reason; the good one after it is the first that the container sees."""
    before = scene.node.count(reason, Direction.INGRESS)
    with scene.container.packet_socket() as seen:
        sender.sendto(packet, (str(scene.node.address), TUNNEL_PORT))
        until("the drop is counted", lambda: scene.node.count(reason, Direction.INGRESS) == before + 1, timeout_s=5)
        scene.peer.sendto(GOOD, (str(scene.node.address), TUNNEL_PORT))

        assert seen.recv(2048) == inner()
