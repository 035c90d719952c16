"""Known flows between real sockets, when everything around them changes: the very next packet goes by what is so now.

The memos are held for ever: what ends a flow is the change, not the time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath import abi, host_config
from datapath.abi import DropReason
from datapath.api import Direction, IpcacheKey, PublishedPort, PublishedTarget, RemoteEndpoint
from datapath.maps import CONFIG, TypedMap
from datapath.names import TUNNEL_IFNAME
from datapath.pins import Pins
from datapath.policy_table import IdentityFlags
from model.ids import IdentityId
from tests.kernel.test_services import VIP, serve
from tests.support import memo
from tests.support.frames import ethernet, ipv4, udp, vxlan
from tests.support.netns import Namespace
from tests.support.overlay import IDENTITY, OPEN, TUNNEL_PORT, VNI, Container, Node, Overlay, standing_overlay
from tests.support.policy_tables import allow, closing
from tests.support.wait import until

pytestmark = pytest.mark.kernel

PORT: Final = 9000
CLIENT_PORT: Final = 9001
HOST_PORT: Final = 9002
BURST: Final = 60
SHORT_S: Final = 0.3
LONG_S: Final = 5.0
THIRD_NODE: Final = IPv4Address("10.77.0.99")
_SO_NO_CHECK: Final = 11
_numbers: Final = itertools.count()


def bound(place: Namespace, port: int) -> socket.socket:
    with place.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("0.0.0.0", port))
    made.settimeout(LONG_S)
    return made


@dataclasses.dataclass(slots=True)
class Talk:
    """Datagrams between two containers, both ways."""

    client: socket.socket
    server: socket.socket
    there: tuple[str, int]
    back: tuple[str, int]

    def ask(self, to: tuple[str, int] | None = None, *, patience_s: float = LONG_S) -> bool:
        """Does one more datagram of the client arrive?"""
        return _arrives(self.client, to or self.there, self.server, patience_s)

    def answer(self, *, patience_s: float = LONG_S) -> bool:
        """Does one more datagram of the server arrive?"""
        return _arrives(self.server, self.back, self.client, patience_s)

    def burst(self) -> None:
        """Many datagrams each way."""
        for _ in range(BURST):
            self.client.sendto(b"burst", self.there)
            self.server.sendto(b"burst", self.back)


def _arrives(sender: socket.socket, to: tuple[str, int], receiver: socket.socket, patience_s: float) -> bool:
    text = f"datagram {next(_numbers)}".encode()
    _empty(receiver)  # a full one takes no more
    sender.sendto(text, to)
    receiver.settimeout(patience_s)
    try:
        while receiver.recv(100) != text:
            pass
    except TimeoutError:
        return False
    return True


def _empty(receiver: socket.socket) -> None:
    receiver.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            receiver.recv(100)


@dataclasses.dataclass(slots=True)
class World:
    """A client and a server, on one host or on two."""

    overlay: Overlay
    client: Container
    server: Container

    @property
    def nodes(self) -> Sequence[Node]:
        return self.overlay.nodes

    @property
    def receiver(self) -> Node:
        """Who decides last on what the client sends."""
        return self.server.node

    @contextlib.contextmanager
    def talking(self) -> Iterator[Talk]:
        """A flow that is known at every hook that it passes."""
        with (
            bound(self.client.namespace, CLIENT_PORT) as client,
            bound(self.server.namespace, PORT) as server,
            contextlib.ExitStack() as opened,
        ):
            talk = Talk(client, server, (self.server.address, PORT), (self.client.address, CLIENT_PORT))
            for node in self.nodes:
                opened.enter_context(memo.memos(node.root)).become(2, talk.burst)
            assert talk.ask()
            assert talk.answer()
            yield talk


def populate(overlay: Overlay, first: Node, second: Node) -> World:
    """The client on the first host, the server on the second; they may be one."""
    client = overlay.add_container(first, "10.5.0.2")
    server = overlay.add_container(second, "10.5.0.3", identity=IdentityId(301))
    overlay.connect()
    return World(overlay, client, server)


@contextlib.contextmanager
def on_hosts(bpf_root: Path, number: int = 2) -> Iterator[World]:
    """A client and a server on so many hosts."""
    with standing_overlay(bpf_root) as overlay:
        nodes = [overlay.add_node() for _ in range(number)]
        yield populate(overlay, nodes[0], nodes[-1])


@pytest.fixture(params=[1, 2], ids=["one host", "two hosts"])
def world(request: pytest.FixtureRequest, bpf_root: Path) -> Iterator[World]:
    with on_hosts(bpf_root, request.param) as made:
        yield made


def test_known_flow_needs_no_other_map(world: World) -> None:
    with world.talking() as talk:
        for node in world.nodes:
            memo.hide_the_way(node.root)

        assert talk.ask()
        assert talk.answer()


def test_memo_holds_for_a_second(world: World) -> None:
    node = world.client.node
    with (
        world.talking() as talk,
        memo.memos(node.root) as seen,
        contextlib.closing(TypedMap(Pins(node.root).maps, "hawse_config", CONFIG)) as config,
    ):
        value = config.lookup(abi.ArrayKey(index=0))
        assert value is not None
        ticks, more = host_config.ticks_a_second(), 60_000
        assert value.memo_ticks == ticks

        def end() -> int:
            for key, _ in seen.all():
                seen.map.delete(key)
            talk.burst()
            return max((found.until for _, found in seen.all()), default=0)

        before = until("there is a memo", end, timeout_s=LONG_S, interval_s=0)
        value.memo_ticks = more
        config.update(abi.ArrayKey(index=0), value)
        after = until("there is a memo", end, timeout_s=LONG_S, interval_s=0)

    assert after - before >= more - ticks


def test_policy_cuts_it_and_lets_it_go_on(world: World) -> None:
    with world.talking() as talk:
        for node in world.nodes:
            node.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}))
        assert not talk.ask(patience_s=SHORT_S)
        assert not talk.answer(patience_s=SHORT_S)

        for node in world.nodes:
            node.datapath.apply_policy(OPEN)
        assert talk.ask()
        assert talk.answer()


def test_address_of_another_container_of_the_same_host(world: World) -> None:
    with world.talking() as talk:
        node, address = world.server.node, world.server.address
        node.datapath.remove_endpoint(world.server.spec.endpoint_id)
        heir = world.overlay.add_container(node, address, identity=IdentityId(301))

        with bound(heir.namespace, PORT) as inherited:
            talk.server = inherited
            assert talk.ask()
            assert talk.answer()


def test_address_of_a_container_of_another_host(world: World) -> None:
    with world.talking() as talk:
        old, address = world.server.node, world.server.address
        new = world.overlay.add_node()
        old.datapath.remove_endpoint(world.server.spec.endpoint_id)
        old.containers.remove(world.server)
        heir = world.overlay.add_container(new, address, identity=IdentityId(301))
        world.overlay.connect()

        with bound(heir.namespace, PORT) as inherited:
            talk.server = inherited
            assert talk.ask()
            assert talk.answer()


def test_removed_receiver(world: World) -> None:
    with world.talking() as talk:
        before = world.receiver.count(DropReason.UNKNOWN_L3_TARGET, _direction(world))
        world.server.node.datapath.remove_endpoint(world.server.spec.endpoint_id)

        talk.client.sendto(b"late", talk.there)

        until(
            "it is dropped",
            lambda: world.receiver.count(DropReason.UNKNOWN_L3_TARGET, _direction(world)) == before + 1,
            timeout_s=LONG_S,
        )


def _direction(world: World) -> Direction:
    return Direction.EGRESS if len(world.nodes) == 1 else Direction.INGRESS


def test_new_identity_of_an_end(world: World) -> None:
    """It is closed for what the old one was open for."""
    table = closing({302: IdentityFlags.INGRESS | IdentityFlags.EGRESS})
    for node in world.nodes:
        node.datapath.apply_policy(table)
    with world.talking() as talk:
        world.server.spec = dataclasses.replace(world.server.spec, identity=IdentityId(302))
        world.server.node.datapath.ensure_endpoint(world.server.spec)

        assert not talk.ask(patience_s=SHORT_S)
        assert not talk.answer(patience_s=SHORT_S)


def test_new_identity_of_a_peer(world: World) -> None:
    """The client's host may ask some, and hears who the server is by now."""
    asks_301 = closing({300: IdentityFlags.EGRESS}, allow(300, 301, Direction.EGRESS))
    for node in world.nodes:
        node.datapath.apply_policy(asks_301)
    with world.talking() as talk:
        world.server.spec = dataclasses.replace(world.server.spec, identity=IdentityId(302))
        world.server.node.datapath.ensure_endpoint(world.server.spec)
        world.overlay.connect()

        assert not talk.ask(patience_s=SHORT_S)


@pytest.fixture
def apart(bpf_root: Path) -> Iterator[World]:
    with on_hosts(bpf_root) as made:
        yield made


def test_node_that_left_is_heard_no_more(apart: World) -> None:
    with apart.talking() as talk:
        before = apart.receiver.count(DropReason.UNKNOWN_NODE, Direction.INGRESS)
        apart.receiver.datapath.replace_nodes([])

        assert not talk.ask(patience_s=SHORT_S)

        assert apart.receiver.count(DropReason.UNKNOWN_NODE, Direction.INGRESS) == before + 1


def test_connection_to_a_lost_node_is_reset(apart: World) -> None:
    with apart.server.namespace.entered():
        listener = socket.create_server((apart.server.address, PORT))
    with apart.client.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, client:
        client.connect((apart.server.address, PORT))
        client.settimeout(LONG_S)
        accepted, _ = listener.accept()
        with accepted, memo.memos(apart.client.node.root) as seen:
            accepted.settimeout(LONG_S)

            def exchange() -> None:
                for _ in range(BURST):
                    client.sendall(b"x")
                    accepted.recv(1)
                    accepted.sendall(b"x")
                    client.recv(1)

            seen.become(2, exchange)
            gone = RemoteEndpoint(tunnel_endpoint=apart.receiver.address, identity=IdentityId(301), gone=True)
            apart.client.node.datapath.update_remotes({IpcacheKey(VNI, IPv4Address(apart.server.address)): gone}, [])

            client.sendall(b"late")
            with pytest.raises(ConnectionResetError):
                client.recv(1)


@pytest.mark.parametrize(
    ("spoofed", "reason"),
    [
        pytest.param({"node": THIRD_NODE}, DropReason.INVALID_SOURCE_IP, id="another node"),
        pytest.param({"group": 1}, DropReason.INVALID_IDENTITY, id="identity of the host"),
        pytest.param({"group": None}, DropReason.INVALID_IDENTITY, id="no identity"),
        pytest.param({"group": 303}, DropReason.POLICY_DENIED, id="another identity"),
        pytest.param({"vni": 8}, DropReason.INVALID_SOURCE_IP, id="another network"),
        pytest.param({"target": "0a:00:00:00:00:09"}, DropReason.INVALID_TARGET_MAC, id="past the router"),
    ],
)
@pytest.mark.parametrize("checked", [True, False], ids=["outer checksum", "no outer checksum"])
def test_tunnel_packet_that_pretends(
    apart: World, spoofed: dict[str, object], reason: DropReason, *, checked: bool
) -> None:
    """One with a checksum always goes through the tunnel's device, one without may be unpacked before it."""
    node, receiver = apart.client.node, apart.receiver
    receiver.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}, allow(301, IDENTITY)))
    receiver.datapath.replace_nodes([node.address, THIRD_NODE])
    node.namespace.ip("addr", "add", f"{THIRD_NODE}/24", "dev", "eth0")
    with apart.talking() as talk, node.namespace.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, not checked)
            sender.bind((str(spoofed.get("node", node.address)), 0))
            datagram = udp(b"pretended", source_port=CLIENT_PORT, port=PORT)
            target = {"target": spoofed["target"]} if "target" in spoofed else {}
            inner = ethernet(
                ipv4(datagram, source=apart.client.address, target=apart.server.address, protocol=17),
                source=str(apart.client.spec.mac),
                **target,  # type: ignore[arg-type]
            )
            outer = vxlan(inner, vni=spoofed.get("vni", VNI), group=spoofed.get("group", IDENTITY))  # type: ignore[arg-type]
            before = receiver.count(reason, Direction.INGRESS)

            sender.sendto(outer, (str(receiver.address), TUNNEL_PORT))

            until("it is dropped", lambda: receiver.count(reason, Direction.INGRESS) == before + 1, timeout_s=LONG_S)
        assert talk.ask()


@contextlib.contextmanager
def without_tunnel(node: Node, *, lanes: bool = False) -> Iterator[None]:
    """What arrives now was unpacked at the underlay, because its flow is known, or the host that it comes from."""
    node.namespace.ip("link", "set", TUNNEL_IFNAME, "down")
    if not lanes:
        with memo.memos(node.root) as seen:
            seen.hold_lanes(0)
    try:
        yield
    finally:
        node.namespace.ip("link", "set", TUNNEL_IFNAME, "up")


def test_known_flow_is_unpacked_at_the_underlay(apart: World) -> None:
    with apart.talking() as talk, without_tunnel(apart.receiver), apart.server.packet_socket() as seen:
        before = apart.receiver.count(DropReason(0), Direction.INGRESS)

        assert talk.ask()

        assert apart.receiver.count(DropReason(0), Direction.INGRESS) == before + 1
        frame = seen.recv(2048)
        assert frame[:14] == ethernet(b"", source=str(apart.client.spec.mac))
        assert len(frame) == 14 + 20 + 8 + int.from_bytes(frame[38:40], "big") - 8


@pytest.mark.parametrize("interface", [0, 1], ids=["not known", "another"])
def test_what_came_in_elsewhere_goes_through_the_hosts_stack(apart: World, interface: int) -> None:
    with apart.talking() as talk:
        with memo.memos(apart.receiver.root) as seen:
            seen.hold_lanes(0)
            for key, value in seen.all():
                value.underlay = interface
                seen.map.update(key, value)

        assert talk.ask()
        with without_tunnel(apart.receiver):
            assert not talk.ask(patience_s=SHORT_S)


def test_what_the_hosts_firewall_drops_ends_soon(apart: World) -> None:
    """The memo ends by itself, and no packet gets to where another could be made."""
    with bound(apart.client.namespace, CLIENT_PORT) as client, bound(apart.server.namespace, PORT) as server:
        talk = Talk(client, server, (apart.server.address, PORT), (apart.client.address, CLIENT_PORT))
        with memo.memos(apart.receiver.root) as seen:

            def made() -> bool:
                talk.burst()
                return seen.count() >= 2

            until("there are memos", made, timeout_s=LONG_S)
        apart.receiver.namespace.run("iptables", "-I", "INPUT", "-p", "udp", "--dport", str(TUNNEL_PORT), "-j", "DROP")

        until("nothing arrives", lambda: not talk.ask(patience_s=SHORT_S), timeout_s=2 * LONG_S)
        assert not talk.ask(patience_s=SHORT_S)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"flags": 0x0040}, id="another flag"),
        pytest.param({"low": 1}, id="reserved bits"),
        pytest.param({"cut": 1}, id="shorter than it says"),
        pytest.param({"tos": 3}, id="marked by a router"),
        pytest.param({"tos": 1}, id="inner packet cannot be marked"),
    ],
)
def test_unusual_tunnel_packet_is_left_to_the_device(apart: World, changed: dict[str, int]) -> None:
    node, receiver = apart.client.node, apart.receiver
    with apart.talking() as talk, without_tunnel(receiver):
        with node.namespace.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
            sender.bind((str(node.address), 0))
            unusual = bytearray(_in_tunnel(apart, b"unusual"))
            unusual[1] |= changed.get("flags", 0)
            unusual[7] |= changed.get("low", 0)
            _empty(talk.server)

            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, changed.get("tos", 0))
            sender.sendto(unusual[: len(unusual) - changed.get("cut", 0)], (str(receiver.address), TUNNEL_PORT))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0)
            sender.sendto(_in_tunnel(apart, b"usual"), (str(receiver.address), TUNNEL_PORT))

            talk.server.settimeout(LONG_S)
            assert talk.server.recv(100) == b"usual"


def test_damaged_outer_header_is_left_to_the_hosts_stack(apart: World) -> None:
    node, receiver = apart.client.node, apart.receiver
    with apart.talking() as talk, without_tunnel(receiver):
        # Behind the bridge, which would drop it.
        with apart.overlay.underlay.entered():
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with sender:
            sender.bind(("port2", 0))
            damaged, whole = (_on_the_wire(node, receiver, _in_tunnel(apart, text)) for text in (b"damaged", b"whole"))
            _empty(talk.server)

            sender.send(damaged[:22] + bytes([damaged[22] ^ 1]) + damaged[23:])
            sender.send(whole)

            talk.server.settimeout(LONG_S)
            assert talk.server.recv(100) == b"whole"


def _in_tunnel(world: World, text: bytes) -> bytes:
    """A datagram of the client, as the tunnel carries it."""
    datagram = udp(text, source_port=CLIENT_PORT, port=PORT)
    packet = ipv4(datagram, source=world.client.address, target=world.server.address, protocol=17)
    return vxlan(ethernet(packet, source=str(world.client.spec.mac)), vni=VNI, group=IDENTITY)


def _on_the_wire(sender: Node, receiver: Node, content: bytes) -> bytes:
    """A frame of the underlay with a packet of the tunnel."""
    datagram = udp(content, source_port=50000, port=TUNNEL_PORT)
    outer = ipv4(datagram, source=str(sender.address), target=str(receiver.address), protocol=17)
    return ethernet(outer, source=_mac(sender), target=_mac(receiver))


def _mac(node: Node) -> str:
    (link,) = json.loads(node.namespace.ip("-j", "link", "show", "eth0"))
    return str(link["address"])


def test_virtual_address_after_the_backends_own(world: World) -> None:
    """Answers to the same port, which the client knows by another address from then on."""
    with world.talking() as talk:
        serve(world.client.node, world.server)
        assert talk.ask((str(VIP), PORT))

        _empty(talk.client)
        talk.server.sendto(b"answer", talk.back)
        assert _next_from(talk.client, b"answer") == (str(VIP), PORT)


def test_published_port_after_the_containers_own(world: World) -> None:
    with world.talking() as talk:
        address, target = world.server.node.address, IPv4Address(world.server.address)
        world.server.node.datapath.replace_published(
            {PublishedPort(port=HOST_PORT, protocol=17): PublishedTarget(address=target, vni=VNI, port=PORT)}
        )
        assert talk.ask((str(address), HOST_PORT))

        _empty(talk.client)
        talk.server.sendto(b"answer", talk.back)
        assert _next_from(talk.client, b"answer") == (str(address), HOST_PORT)


def _next_from(receiver: socket.socket, text: bytes) -> tuple[str, int]:
    receiver.settimeout(LONG_S)
    while True:
        data, (address, port) = receiver.recvfrom(100)
        if data == text:
            return str(address), int(port)
