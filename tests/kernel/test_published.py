"""Ports of the host that lead to containers: from everywhere, with the client's own address."""

from __future__ import annotations

import json
import socket
from ipaddress import IPv4Address
from typing import Final

import pytest

from datapath.abi import DropReason
from datapath.api import Direction, PublishedPort, PublishedTarget
from datapath.policy_table import PolicyTable
from model.ids import IDENTITY_HOST, IDENTITY_WORLD
from tests.kernel.test_host import closed_but_for
from tests.kernel.test_services import connection, exchange, listener
from tests.kernel.test_way_out import KNOWN, WORLD, Scene, scene, start_with_way_out
from tests.support import frames
from tests.support.overlay import VNI, Container, Overlay

pytestmark = pytest.mark.kernel

__all__ = ["scene"]

HOST_PORT: Final = 8000
PORT: Final = 8080


def publish(container: Container, *, address: str | None = None, port: int = HOST_PORT) -> None:
    target = PublishedTarget(address=IPv4Address(container.address), vni=VNI, port=PORT)
    at = None if address is None else IPv4Address(address)
    container.node.datapath.replace_published(
        {PublishedPort(port=port, protocol=number, address=at): target for number in (6, 17)}
    )


def test_from_outside_with_the_clients_address(scene: Scene) -> None:
    publish(scene.container)

    with (
        listener(scene.container.namespace) as server,
        connection(scene.world, str(scene.node.address), HOST_PORT) as made,
    ):
        assert exchange(made, server) == WORLD
        assert made.getpeername() == (str(scene.node.address), HOST_PORT)


def test_datagrams_and_their_fragments(scene: Scene) -> None:
    publish(scene.container)
    with scene.container.namespace.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with scene.world.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        server.bind(("0.0.0.0", PORT))
        for each in (server, client):
            each.settimeout(3)
        client.connect((str(scene.node.address), HOST_PORT))
        for size in (0, 1, 1000, 5000, 20000):
            client.send(b"x" * size)
            data, peer = server.recvfrom(65535)
            assert (len(data), peer[0]) == (size, WORLD)
            server.sendto(data * 2, peer)
            assert len(client.recv(65535)) == 2 * size


def test_an_error_of_the_container_reaches_the_client(scene: Scene) -> None:
    publish(scene.container)
    with scene.world.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(3)
        client.connect((str(scene.node.address), HOST_PORT))
        client.send(b"nobody there")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connection(scene.world, str(scene.node.address), HOST_PORT)


@pytest.mark.parametrize("asked", ["127.0.0.1", "node"])
def test_from_the_host_itself(scene: Scene, asked: str) -> None:
    publish(scene.container)
    address = str(scene.node.address) if asked == "node" else asked

    with (
        listener(scene.container.namespace) as server,
        connection(scene.node.namespace, address, HOST_PORT) as made,
    ):
        assert exchange(made, server) == str(scene.node.address)


def test_from_another_host_and_its_containers(overlay: Overlay, scene: Scene) -> None:
    other = overlay.add_node()
    start_with_way_out(other)
    other.datapath.apply_policy(KNOWN)
    there = overlay.add_container(other, "10.5.0.4")
    overlay.connect()
    publish(scene.container)

    with (
        listener(scene.container.namespace) as server,
        connection(other.namespace, str(scene.node.address), HOST_PORT) as host,
        connection(there.namespace, str(scene.node.address), HOST_PORT) as container,
    ):
        assert exchange(host, server) == str(other.address)
        assert exchange(container, server) == there.address


def test_from_another_container_and_from_itself(overlay: Overlay, scene: Scene) -> None:
    other = overlay.add_container(scene.node, "10.5.0.3")
    publish(scene.container)
    address = str(scene.node.address)

    with listener(scene.container.namespace) as server:
        with connection(other.namespace, address, HOST_PORT) as made:
            assert exchange(made, server) == other.address
        with connection(scene.container.namespace, address, HOST_PORT) as made:
            assert exchange(made, server) == address


def test_at_one_address_only(scene: Scene) -> None:
    publish(scene.container, address="127.0.0.1")

    with listener(scene.container.namespace) as server:
        with connection(scene.node.namespace, "127.0.0.1", HOST_PORT) as made:
            exchange(made, server)
        with pytest.raises(ConnectionRefusedError):
            connection(scene.world, str(scene.node.address), HOST_PORT)


def test_a_port_that_is_taken_back(scene: Scene) -> None:
    publish(scene.container)
    with listener(scene.container.namespace) as server:
        with connection(scene.world, str(scene.node.address), HOST_PORT) as made:
            exchange(made, server)
        scene.node.datapath.replace_published({})
        with pytest.raises(ConnectionRefusedError):
            connection(scene.world, str(scene.node.address), HOST_PORT)
        with pytest.raises(ConnectionRefusedError):
            connection(scene.node.namespace, "127.0.0.1", HOST_PORT)


def test_policy_knows_the_client(scene: Scene) -> None:
    publish(scene.container)
    only_world = closed_but_for(IDENTITY_WORLD, direction=Direction.INGRESS)
    scene.node.datapath.apply_policy(only_world)
    with (
        listener(scene.container.namespace) as server,
        connection(scene.world, str(scene.node.address), HOST_PORT) as made,
    ):
        assert exchange(made, server) == WORLD
    closed = PolicyTable(entries={}, identities=only_world.identities)
    scene.node.datapath.apply_policy(closed)
    with listener(scene.container.namespace), pytest.raises(TimeoutError):
        connection(scene.world, str(scene.node.address), HOST_PORT)
    denied = [one for one in scene.node.datapath.flow_events().events if one.reason == DropReason.POLICY_DENIED]
    assert {str(one.source) for one in denied} == {WORLD}


def _frame(scene: Scene, source: str, target: str) -> None:
    """Put a datagram for the port on the wire to the host, whatever its addresses."""
    link = json.loads(scene.node.namespace.ip("-j", "link", "show", "dev", "eth0"))[0]
    mac = link["broadcast" if target.endswith(".255") else "address"]
    packet = frames.ipv4(
        frames.udp(b"forged", port=HOST_PORT), source=source, target=target, protocol=socket.IPPROTO_UDP
    )
    with scene.router.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind(("eth0", 0))
    with raw:
        raw.send(frames.ethernet(packet, source="02:00:00:00:00:99", target=mac))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("10.77.0.1", "10.77.0.1", id="from the host's own address"),
        pytest.param("127.0.0.1", "10.77.0.1", id="from loopback"),
        pytest.param("10.77.0.200", "10.77.0.255", id="to all"),
        pytest.param("10.77.0.200", "224.0.0.251", id="to a group"),
        pytest.param("10.77.0.200", "198.51.100.77", id="to another host"),
    ],
)
def test_what_is_not_for_this_host_gets_to_no_container(scene: Scene, source: str, target: str) -> None:
    publish(scene.container)
    with scene.container.namespace.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind(("0.0.0.0", PORT))
        server.settimeout(0.5)
        _frame(scene, source, target)
        with pytest.raises(TimeoutError):
            server.recv(100)
        server.settimeout(3)
        _frame(scene, "10.77.0.200", "10.77.0.1")
        assert server.recv(100) == b"forged"


def test_after_a_change_of_policy_the_same_ends_are_judged(overlay: Overlay, scene: Scene) -> None:
    """Whoever sends first then."""
    other = overlay.add_container(scene.node, "10.5.0.3")
    publish(scene.container)
    address = str(scene.node.address)
    with (
        listener(scene.container.namespace) as server,
        connection(other.namespace, address, HOST_PORT) as neighbour,
    ):
        accepted, _ = server.accept()
        only_host = closed_but_for(IDENTITY_HOST, direction=Direction.EGRESS)
        scene.node.datapath.apply_policy(only_host)
        neighbour.settimeout(3)
        accepted.sendall(b"first")
        assert neighbour.recv(100) == b"first"
        accepted.close()
