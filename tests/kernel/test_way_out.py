"""The way out: with the host's address and a port of its range, and what comes back."""

from __future__ import annotations

import dataclasses
import socket
from ipaddress import IPv4Network
from typing import Any, Final

import pytest

from datapath import maps
from datapath.abi import CLOSE_TIMEOUT_S, STREAM_TIMEOUT_S, TCP_TIMEOUT_S, DropReason
from datapath.api import Direction, NetworkSpec, WayOut
from datapath.maps import TypedMap
from datapath.pins import Pins
from datapath.policy_table import IdentityFlags, PolicyTable
from model.ids import IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD
from tests.kernel.test_services import connection, exchange, listener
from tests.support.netns import Namespace
from tests.support.overlay import IDENTITY, NETWORK, OPEN, TUNNEL_PORT, VNI, Container, Node, Overlay

pytestmark = pytest.mark.kernel

FIRST_PORT: Final = 10240
LAST_PORT: Final = 32767
WORLD: Final = "198.51.100.10"
PORT: Final = 8080
KNOWN: Final = PolicyTable(
    identities={
        **OPEN.identities,
        **dict.fromkeys((IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD), IdentityFlags.KNOWN),
    }
)


@dataclasses.dataclass(slots=True)
class Scene:
    container: Container
    world: Namespace
    router: Namespace

    @property
    def node(self) -> Node:
        return self.container.node


def start_with_way_out(node: Node, *, routed: tuple[IPv4Network, ...] = ()) -> None:
    way = WayOut(first_port=FIRST_PORT, last_port=LAST_PORT, routed=routed)
    node.datapath.start(dataclasses.replace(node.config, way_out=way))


@pytest.fixture
def scene(overlay: Overlay) -> Scene:
    """A container, and a machine behind a router whose other link carries 1300 bytes."""
    node = overlay.add_node()
    container = overlay.add_container(node, "10.5.0.2")
    router = overlay.namespaces.make("router")
    world = overlay.namespaces.make("world")
    overlay.underlay.ip("link", "add", "toworld", "type", "veth", "peer", "name", "eth0", "netns", router.name)
    overlay.underlay.ip("link", "set", "toworld", "master", "br0", "up")
    router.ip("addr", "add", "10.77.0.200/24", "dev", "eth0")
    router.ip("link", "set", "eth0", "up")
    router.ip("link", "add", "eth1", "mtu", "1300", "type", "veth", "peer", "name", "eth0", "netns", world.name)
    router.ip("addr", "add", "198.51.100.1/24", "dev", "eth1")
    router.ip("link", "set", "eth1", "up")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    world.ip("link", "set", "eth0", "mtu", "1300", "up")
    world.ip("addr", "add", f"{WORLD}/24", "dev", "eth0")
    world.ip("route", "add", "default", "via", "198.51.100.1")
    node.namespace.ip("route", "add", "default", "via", "10.77.0.200")
    node.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    # Nothing of it is the firewall's business.
    node.namespace.run("iptables", "-P", "FORWARD", "DROP")
    start_with_way_out(node)
    node.datapath.apply_policy(KNOWN)
    overlay.connect()
    return Scene(container, world, router)


def _send(source: socket.socket, target: socket.socket, number: int) -> None:
    source.sendall(b"x" * number)
    target.settimeout(3)
    while number:
        received = len(target.recv(number))
        assert received
        number -= received


def test_the_world_sees_the_host_and_a_port_of_the_range(scene: Scene) -> None:
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD) as made:
        accepted, (address, port) = server.accept()
        with accepted:
            for _ in range(20):
                _send(made, accepted, 50_000)
                _send(accepted, made, 50_000)
    assert address == str(scene.node.address)
    assert FIRST_PORT <= port <= LAST_PORT


def test_datagrams_and_their_fragments(scene: Scene) -> None:
    with scene.world.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with scene.container.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        server.bind((WORLD, PORT))
        for each in (server, client):
            each.settimeout(3)
        for size in (0, 1, 1000, 5000, 20000):
            client.sendto(b"x" * size, (WORLD, PORT))
            data, (address, port) = server.recvfrom(65535)
            assert (len(data), address) == (size, str(scene.node.address))
            assert FIRST_PORT <= port <= LAST_PORT
            server.sendto(data * 2, (address, port))
            assert len(client.recv(65535)) == 2 * size


def test_nobody_speaks_for_the_host_in_its_tunnel(scene: Scene) -> None:
    """With the host's address on it, another host would take it for a packet of this one's containers."""
    with scene.world.entered():
        server, sentinel = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with scene.container.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, sentinel, client:
        server.bind((WORLD, TUNNEL_PORT))
        sentinel.bind((WORLD, PORT))
        client.sendto(b"forged", (WORLD, TUNNEL_PORT))
        client.sendto(b"sent after it", (WORLD, PORT))
        sentinel.settimeout(3)
        assert sentinel.recv(100) == b"sent after it"
        with pytest.raises(BlockingIOError):
            server.recv(100, socket.MSG_DONTWAIT)

    assert scene.node.count(DropReason.ENCAP_PROHIBITED, Direction.EGRESS) == 1


def test_ping_and_errors_about_what_was_sent(scene: Scene) -> None:
    container = scene.container

    assert container.ping(WORLD)
    assert "Time to live exceeded" in container.namespace.run("ping", "-c1", "-W1", "-t1", WORLD, check=False)
    with container.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(3)
        client.connect((WORLD, 9))
        client.send(b"nobody there")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connection(container.namespace, WORLD, 9)


def test_what_is_too_long_further_on_is_learned(scene: Scene) -> None:
    container = scene.container
    output = container.namespace.run("ping", "-c1", "-W1", "-s1400", "-Mdo", WORLD, check=False)

    assert "mtu = 1300" in output or "mtu=1300" in output, output
    assert container.ping(WORLD, "-s1272", "-Mdo")


def test_what_is_too_long_for_the_first_link_is_refused_here(scene: Scene) -> None:
    scene.node.namespace.ip("link", "set", "eth0", "mtu", "1280")
    container = scene.container
    output = container.namespace.run("ping", "-c1", "-W1", "-s1400", "-Mdo", WORLD, check=False)

    assert "mtu = 1280" in output or "mtu=1280" in output, output
    assert container.ping(WORLD, "-s1252", "-Mdo")


def test_two_containers_with_the_same_port_are_told_apart(overlay: Overlay, scene: Scene) -> None:
    other = overlay.add_container(scene.node, "10.5.0.3")
    with (
        listener(scene.world) as server,
        connection(scene.container.namespace, WORLD, source_port=4000) as one,
        connection(other.namespace, WORLD, source_port=4000) as another,
    ):
        assert exchange(one, server) == exchange(another, server) == str(scene.node.address)


def test_ranges_and_networks_that_are_routed_keep_their_addresses(scene: Scene) -> None:
    scene.router.ip("route", "add", str(NETWORK), "via", str(scene.node.address))
    start_with_way_out(scene.node, routed=(IPv4Network("198.51.100.0/25"),))
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD) as made:
        assert exchange(made, server) == scene.container.address

    start_with_way_out(scene.node)
    scene.node.datapath.replace_networks({NETWORK: NetworkSpec(vni=VNI, routed=True)})
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD) as made:
        assert exchange(made, server) == scene.container.address


def test_policy_towards_the_world(scene: Scene) -> None:
    closed = dataclasses.replace(
        KNOWN, identities={**KNOWN.identities, IDENTITY: KNOWN.identities[IDENTITY] | IdentityFlags.EGRESS}
    )
    scene.node.datapath.apply_policy(closed)

    assert not scene.container.ping(WORLD)
    scene.node.datapath.apply_policy(KNOWN)
    assert scene.container.ping(WORLD)


def test_the_world_opens_nothing_towards_a_masqueraded_port(scene: Scene) -> None:
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD, source_port=4001) as made:
        accepted, (address, port) = server.accept()
        with pytest.raises(ConnectionRefusedError):
            connection(scene.world, address, port)
        accepted.close()
        made.close()
    assert {(one.kind, one.reply) for one in scene.node.datapath.translations()} == {
        ("masquerade", False),
        ("masquerade", True),
    }


def test_many_flows(scene: Scene) -> None:
    """The ports of one server: 5 000 of them, none is given twice."""
    with scene.world.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    server.bind((WORLD, PORT))
    server.settimeout(3)
    seen: dict[tuple[str, int], bytes] = {}
    with server, scene.container.namespace.entered():
        for number in range(5000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind(("", 20000 + number))
                client.sendto(str(number).encode(), (WORLD, PORT))
            data, source = server.recvfrom(100)
            seen[source] = data
    assert len(seen) == 5000


def _age(node: Node, seconds: int, *, forget_tracking: bool = False) -> None:
    """Have this much time gone by for translated connections, or their tracking entries pushed out."""
    for name, layout in (("hawse_nat", maps.NAT), ("hawse_conntrack", maps.CONNTRACK)):
        opened: TypedMap[Any, Any] = TypedMap(Pins(node.root).maps, name, layout)
        try:
            for key, value in list(opened.items()):
                if name == "hawse_nat":
                    value.seen_s = max(0, value.seen_s - seconds)
                    opened.update(key, value)
                elif forget_tracking:
                    opened.delete(key)
        finally:
            opened.close()


def test_ports_of_refused_connections_come_back(scene: Scene) -> None:
    way = WayOut(first_port=FIRST_PORT, last_port=FIRST_PORT + 19)
    scene.node.datapath.start(dataclasses.replace(scene.node.config, way_out=way))
    for round_ in range(3):
        for number in range(20):
            with pytest.raises(ConnectionRefusedError):
                connection(scene.container.namespace, WORLD, 9, source_port=30000 + 20 * round_ + number)
        _age(scene.node, CLOSE_TIMEOUT_S + 1)


def test_nothing_is_opened_from_outside_when_a_connection_is_over(scene: Scene) -> None:
    with scene.world.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with scene.container.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        server.bind((WORLD, PORT))
        client.bind(("", 4002))
        for each in (server, client):
            each.settimeout(3)
        client.sendto(b"question", (WORLD, PORT))
        _, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        assert client.recv(100) == b"answer"
        _age(scene.node, STREAM_TIMEOUT_S + 1, forget_tracking=True)
        server.sendto(b"too late", peer)
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(100)


def test_a_connection_whose_tracking_was_pushed_out_goes_on_as_it_was(scene: Scene) -> None:
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD) as made:
        accepted, _ = server.accept()
        with accepted:
            for _ in range(2):
                _send(made, accepted, 1000)
                _age(scene.node, 0, forget_tracking=True)
                _send(accepted, made, 1000)
                (tracked,) = scene.node.datapath.connections()
                assert str(tracked.source) == scene.container.address


def test_a_half_that_was_pushed_out_is_made_again(scene: Scene) -> None:
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD) as made:
        accepted, _ = server.accept()
        opened = TypedMap(Pins(scene.node.root).maps, "hawse_nat", maps.NAT)
        try:
            opened.delete_many([key for key, value in opened.items() if value.reply])
        finally:
            opened.close()
        with accepted:
            _send(made, accepted, 1000)
            _send(accepted, made, 1000)


def test_what_is_over_is_swept_away_and_nothing_else(scene: Scene) -> None:
    with listener(scene.world) as server, connection(scene.container.namespace, WORLD) as kept:
        accepted, _ = server.accept()
        with connection(scene.container.namespace, WORLD) as ended:
            other, _ = server.accept()
            other.close()
        assert ended.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            connection(scene.container.namespace, WORLD, 9)
        _age(scene.node, CLOSE_TIMEOUT_S + 1)

        swept = scene.node.datapath.sweep()

        # Of the one that ended and the one that was refused; tracking entries have not aged.
        assert (swept.connections, swept.translations) == (0, 4)
        assert len(scene.node.datapath.translations()) == 2
        _send(kept, accepted, 1000)
        _send(accepted, kept, 1000)
        accepted.close()
    assert scene.node.datapath.sweep().translations == 0
    _age(scene.node, TCP_TIMEOUT_S + 1)
    assert scene.node.datapath.sweep().translations == 2
