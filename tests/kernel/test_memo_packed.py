"""Packets of known flows that the programs put into the tunnel themselves: what is on the wire, and when they do not.

That a packet was not given to the VXLAN device is proved by taking that down on the sending host. Memos are held for
ever where the test does not say otherwise.
"""

from __future__ import annotations

import array
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath import abi
from datapath.abi import DropReason
from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from tests.kernel.test_memo_live import (
    BURST,
    CLIENT_PORT,
    LONG_S,
    PORT,
    SHORT_S,
    Talk,
    World,
    bound,
    on_hosts,
    without_tunnel,
)
from tests.support import memo
from tests.support.frames import checksum
from tests.support.netns import run
from tests.support.overlay import MTU, OPEN, TUNNEL_PORT, Node
from tests.support.policy_tables import closing
from tests.support.wait import until

pytestmark = pytest.mark.kernel

IDENTIFICATION: Final = slice(18, 20)
CHECKSUM: Final = slice(24, 26)
INNER: Final = 64
"""Where the packet in the tunnel begins: behind Ethernet 14, IPv4 20, UDP 8, VXLAN 8, Ethernet 14."""
OVERHEAD: Final = INNER - 14
SEEN: Final = 64
"""Bytes of a datagram that was seen to leave whole."""
MUCH: Final = 2_000_000
LARGE: Final = 60_000
"""Bytes that go out as one segment, or few."""
_SO_RCVBUFFORCE: Final = 33


@pytest.fixture
def world(bpf_root: Path) -> Iterator[World]:
    """A client and a server on two hosts."""
    with on_hosts(bpf_root) as made:
        yield made


@contextlib.contextmanager
def speaking(world: World) -> Iterator[Talk]:
    """Between the two; nothing is known yet."""
    with bound(world.client.namespace, CLIENT_PORT) as client, bound(world.server.namespace, PORT) as server:
        yield Talk(client, server, (world.server.address, PORT), (world.client.address, CLIENT_PORT))


@contextlib.contextmanager
def packing(world: World) -> Iterator[tuple[Talk, abi.MemoValue]]:
    """Both ways of a flow are known up to the wire; what is known of the client's."""
    with speaking(world) as talk, contextlib.ExitStack() as opened:
        known = [
            opened.enter_context(memo.memos(node.root)).become_packed(talk.burst)
            for node in (world.client.node, world.receiver)
        ]
        for node in world.nodes:
            opened.enter_context(memo.memos(node.root)).become(2, talk.burst)
        # What follows is shorter.
        talk.client.sendto(bytes(SEEN), talk.there)
        talk.server.sendto(bytes(SEEN), talk.back)
        assert talk.ask()
        assert talk.answer()
        yield talk, known[0]


@contextlib.contextmanager
def wire(world: World) -> Iterator[socket.socket]:
    """Sees every frame that the client's host sends and gets."""
    with world.overlay.underlay.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        raw.bind(("port1", 0))
        raw.settimeout(LONG_S)
        yield raw


def tunnelled(raw: socket.socket, world: World, text: bytes) -> bytes:
    """The frame of the client's host that carries this."""
    source = world.client.node.address.packed
    while True:
        frame = raw.recv(1 << 16)
        if frame[26:30] == source and frame[36:38] == TUNNEL_PORT.to_bytes(2, "big") and text in frame:
            return frame


def without_numbers(frame: bytes) -> bytes:
    """The frame without what differs from one packet to the next: numbers of datagrams, and checksums over them."""
    changed = bytearray(frame)
    for at in (IDENTIFICATION, CHECKSUM):
        changed[at] = bytes(2)
        changed[at.start + OVERHEAD : at.stop + OVERHEAD] = bytes(2)
    return bytes(changed)


@pytest.mark.parametrize(
    ("payload", "tos"),
    [*((payload, 0) for payload in (0, 1, 5, 33, MTU - 28)), *((33, tos) for tos in (0x01, 0x02, 0x03, 0xB8, 0x2B))],
)
def test_packet_is_written_as_the_device_does(world: World, tos: int, payload: int) -> None:
    text = b"x" * payload
    with packing(world) as (talk, _), wire(world) as raw, memo.memos(world.client.node.root) as seen:
        talk.client.sendto(text, talk.there)
        talk.client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        tunnelled(raw, world, text)
        with without_tunnel(world.client.node):
            talk.client.sendto(text, talk.there)
            packed = tunnelled(raw, world, text)
        for key, value in seen.all():
            value.underlay = 0
            seen.map.update(key, value)
        talk.client.sendto(text, talk.there)
        by_the_device = tunnelled(raw, world, text)

    assert without_numbers(packed) == without_numbers(by_the_device)
    assert checksum(packed[14:34]) == 0


def test_other_end_takes_it_and_it_is_counted(world: World) -> None:
    sender, receiver = world.client.node, world.receiver
    with packing(world) as (talk, _), without_tunnel(sender), without_tunnel(receiver):
        sent = _bytes(sender, Direction.EGRESS)
        before = sender.count(DropReason(0), Direction.EGRESS), receiver.count(DropReason(0), Direction.INGRESS)
        talk.client.sendto(bytes(SEEN), talk.there)
        assert talk.ask()
        assert talk.answer()

        after = sender.count(DropReason(0), Direction.EGRESS), receiver.count(DropReason(0), Direction.INGRESS)
        assert after == (before[0] + 2, before[1] + 2)
        assert 2 * (14 + 28) < _bytes(sender, Direction.EGRESS) - sent - SEEN < 2 * (14 + 28) + SEEN


def test_packed_flow_needs_no_other_map(world: World) -> None:
    with packing(world) as (talk, _), without_tunnel(world.client.node), without_tunnel(world.receiver):
        for node in world.nodes:
            memo.hide_the_way(node.root)

        assert talk.ask()
        assert talk.answer()


def _bytes(node: Node, direction: Direction) -> int:
    return sum(
        counter.bytes
        for counter in node.datapath.counters()
        if (counter.reason, counter.direction) == (DropReason(0), direction)
    )


@contextlib.contextmanager
def connected(world: World) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection of the client, known up to the wire in both directions."""
    with world.server.namespace.entered():
        listener = socket.create_server((world.server.address, PORT))
    with world.client.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, client, contextlib.ExitStack() as opened:
        client.settimeout(LONG_S)
        client.connect((world.server.address, PORT))
        accepted, _ = listener.accept()
        opened.enter_context(accepted)
        accepted.settimeout(LONG_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def exchange() -> None:
            for _ in range(BURST):
                client.sendall(b"x")
                accepted.recv(1)
                accepted.sendall(b"x")
                client.recv(1)

        for node in world.nodes:
            opened.enter_context(memo.memos(node.root)).become_packed(exchange)
        for node in world.nodes:
            opened.enter_context(memo.memos(node.root)).become(2, exchange)
        carry_much(client, accepted)
        yield client, accepted


def carry_much(client: socket.socket, accepted: socket.socket) -> None:
    """Send much, and see it arrive as it was."""
    content = array.array("I", range(MUCH // 4)).tobytes()
    got: list[bytes] = []
    receiving = threading.Thread(target=lambda: got.append(_received(accepted, len(content))))
    receiving.start()
    client.sendall(content)
    receiving.join(timeout=4 * LONG_S)
    assert got == [content]


def _received(accepted: socket.socket, number: int) -> bytes:
    """So many bytes; a single call gives what is there, whatever it is told, where the socket has a timeout."""
    got = bytearray()
    while len(got) < number:
        more = accepted.recv(number - len(got))
        assert more, f"closed after {len(got)} of {number} bytes"
        got += more
    return bytes(got)


def test_large_segments_are_packed_and_stay_large(world: World) -> None:
    sender = world.client.node
    with connected(world) as (client, accepted), wire(world) as raw, without_tunnel(sender):
        before = sender.count(DropReason(0), Direction.EGRESS)

        carry_much(client, accepted)

        raw.settimeout(SHORT_S)
        assert max(len(frame) for frame in _frames(raw, sender)) > 4 * MTU
        # Counted are the segments.
        assert sender.count(DropReason(0), Direction.EGRESS) >= before + MUCH // MTU


def test_small_segment_is_packed(world: World) -> None:
    with connected(world) as (client, accepted):
        client.sendall(b"small")
        assert accepted.recv(100) == b"small"

        with without_tunnel(world.client.node):
            client.sendall(b"again")
            assert accepted.recv(100) == b"again"


def _frames(raw: socket.socket, sender: Node) -> list[bytes]:
    frames = []
    with contextlib.suppress(TimeoutError):
        while True:
            frame = raw.recv(1 << 17)
            if frame[26:30] == sender.address.packed and frame[36:38] == TUNNEL_PORT.to_bytes(2, "big"):
                frames.append(frame)
    return frames


NARROW: Final = 1300


def narrow_link(node: Node, _peer: Node) -> None:
    node.namespace.ip("link", "set", "eth0", "mtu", str(NARROW))


def narrow_route(node: Node, peer: Node) -> None:
    node.namespace.ip("route", "add", str(peer.address), "dev", "eth0", "src", str(node.address), "mtu", str(NARROW))


@pytest.mark.parametrize("narrow", [narrow_link, narrow_route])
def test_packet_that_is_too_long_goes_through_the_device(world: World, narrow: Callable[[Node, Node], None]) -> None:
    """Which makes fragments of it, if nothing else helps."""
    sender = world.client.node
    narrow(sender, world.receiver)
    fits = b"x" * (NARROW - OVERHEAD - 28)
    with packing(world) as (talk, _):
        for text, packed in ((fits, True), (fits + b"x", False)):
            assert _carries(talk, text, LONG_S)
            with without_tunnel(sender):
                assert _carries(talk, text, LONG_S if packed else SHORT_S) == packed


def _carries(talk: Talk, text: bytes, patience_s: float) -> bool:
    talk.server.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            talk.server.recv(1)
    talk.server.settimeout(patience_s)
    talk.client.sendto(text, talk.there)
    try:
        return talk.server.recv(1 << 16) == text
    except TimeoutError:
        return False


def test_longer_packet_than_was_seen_goes_through_the_device_once(world: World) -> None:
    sender, text = world.client.node, bytes(SEEN + 1)
    with packing(world) as (talk, _):
        with without_tunnel(sender):
            assert _carries(talk, bytes(SEEN), LONG_S)
            assert not _carries(talk, text, SHORT_S)
        assert _carries(talk, text, LONG_S)
        with without_tunnel(sender):
            assert _carries(talk, text, LONG_S)


@pytest.mark.parametrize("narrow", [narrow_link, narrow_route])
def test_large_segments_that_are_too_long_go_through_the_device(
    world: World, narrow: Callable[[Node, Node], None]
) -> None:
    narrow(world.client.node, world.receiver)
    with connected(world) as (client, accepted):
        assert not _carries_large(world, client, accepted)


def test_larger_segments_than_were_seen_go_through_the_device_once(world: World) -> None:
    sender = world.client.node
    with connected(world) as (client, accepted), memo.memos(sender.root) as memos:
        ((key, value),) = [one for one in memos.all() if one[0].protocol_and_hook >> 8 == abi.MemoHook.FROM_CONTAINER]
        value.longest -= 1
        memos.map.update(key, value)
        assert not _carries_large(world, client, accepted)

        assert _received(accepted, LARGE) == bytes(LARGE)

        assert _carries_large(world, client, accepted)


def _carries_large(world: World, client: socket.socket, accepted: socket.socket) -> bool:
    """Whether large segments of the client arrive while its host has no VXLAN device."""
    with without_tunnel(world.client.node):
        client.sendall(bytes(LARGE))
        accepted.settimeout(SHORT_S)
        try:
            return _received(accepted, LARGE) == bytes(LARGE)
        except TimeoutError:
            return False
        finally:
            accepted.settimeout(LONG_S)


def test_next_hop_that_is_not_known_any_more_is_asked_for(world: World) -> None:
    sender = world.client.node
    with packing(world) as (talk, _), without_tunnel(sender):
        sender.namespace.ip("neigh", "flush", "dev", "eth0")

        assert talk.ask()


def test_next_hop_with_another_link_layer_address(world: World) -> None:
    sender, receiver = world.client.node, world.receiver
    with packing(world) as (talk, _), without_tunnel(sender):
        receiver.namespace.ip("link", "set", "eth0", "address", "0a:00:00:00:77:02")
        sender.namespace.ip("neigh", "replace", str(receiver.address), "lladdr", "0a:00:00:00:77:02", "dev", "eth0")

        assert talk.ask()


def test_next_hop_may_be_a_router(world: World) -> None:
    sender, receiver = world.client.node, world.receiver
    router = IPv4Address("10.77.0.254")
    world.overlay.underlay.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    world.overlay.underlay.run("sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0")
    world.overlay.underlay.run("sysctl", "-qw", "net.ipv4.conf.br0.send_redirects=0")
    sender.namespace.ip("route", "add", str(receiver.address), "via", str(router), "src", str(sender.address))
    with packing(world) as (talk, known), without_tunnel(sender):
        assert IPv4Address(known.next_hop.to_bytes(4, "big")) == router
        assert talk.ask()


def test_other_route_counts_soon(world: World) -> None:
    """The memo ends by itself, and the next one knows the new route."""
    sender, receiver = world.client.node, world.receiver
    with soon_lost(world, lambda: sender.namespace.ip("route", "add", "blackhole", str(receiver.address))) as talk:
        sender.namespace.ip("route", "del", "blackhole", str(receiver.address))

        assert talk.ask()


@contextlib.contextmanager
def soon_lost(world: World, change: Callable[[], object]) -> Iterator[Talk]:
    """A flow whose packets the change stops, when what is known of it has ended."""
    with speaking(world) as talk, memo.memos(world.client.node.root) as seen:

        def known() -> bool:
            talk.burst()
            return any(value.underlay and not value.ifindex for _, value in seen.all())

        until("the flow is known up to the wire", known, timeout_s=LONG_S)
        change()

        until("nothing arrives", lambda: not talk.ask(patience_s=SHORT_S), timeout_s=2 * LONG_S)
        talk.burst()
        assert not talk.ask(patience_s=SHORT_S)
        yield talk


def test_what_the_hosts_firewall_drops_ends_soon(world: World) -> None:
    rule = ("OUTPUT", "-p", "udp", "--dport", str(TUNNEL_PORT), "-j", "DROP")
    host = world.client.node.namespace
    with soon_lost(world, lambda: host.run("iptables", "-I", *rule)) as talk:
        host.run("iptables", "-D", *rule)
        assert talk.ask()


def test_what_an_ipsec_policy_refuses_ends_soon(world: World) -> None:
    sender, receiver = world.client.node, world.receiver
    policy = ("src", f"{sender.address}/32", "dst", f"{receiver.address}/32", "dir", "out")
    with soon_lost(world, lambda: sender.namespace.ip("xfrm", "policy", "add", *policy, "action", "block")) as talk:
        sender.namespace.ip("xfrm", "policy", "delete", *policy)
        assert talk.ask()


def test_uplink_that_was_down_is_used_again(world: World) -> None:
    host = world.client.node.namespace
    with packing(world) as (talk, _), without_tunnel(world.client.node):
        host.ip("link", "set", "eth0", "down")
        assert not talk.ask(patience_s=SHORT_S)

        host.ip("link", "set", "eth0", "up")
        assert talk.ask()


def test_uplink_that_is_gone(world: World) -> None:
    with packing(world) as (talk, _):
        world.client.node.namespace.ip("link", "del", "eth0")

        assert not talk.ask(patience_s=SHORT_S)


def test_policy_cuts_at_the_next_packet(world: World) -> None:
    sender = world.client.node
    with packing(world) as (talk, _), without_tunnel(sender):
        assert talk.ask()
        before = sender.count(DropReason.POLICY_DENIED, Direction.EGRESS)
        sender.datapath.apply_policy(closing({300: IdentityFlags.EGRESS}))

        assert not talk.ask(patience_s=SHORT_S)
        assert sender.count(DropReason.POLICY_DENIED, Direction.EGRESS) == before + 1

        sender.datapath.apply_policy(OPEN)
    with speaking(world) as talk:
        assert talk.ask()


def test_after_a_moment_a_packet_goes_through_the_device_again(world: World) -> None:
    sender = world.client.node
    with packing(world) as (talk, _), memo.memos(sender.root) as seen:
        with without_tunnel(sender):
            assert talk.ask()
            seen.hold(0)
            assert not talk.ask(patience_s=SHORT_S)
        seen.become_packed(talk.burst)
        talk.client.sendto(bytes(SEEN), talk.there)
        with without_tunnel(sender):
            assert talk.ask()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(["-t", "mangle", "-A", "POSTROUTING", "-j", "TOS", "--set-tos", "0x48/0xfc"], id="tos"),
        pytest.param(["-t", "mangle", "-A", "POSTROUTING", "-j", "TTL", "--ttl-set", "9"], id="ttl"),
    ],
)
def test_what_the_host_writes_into_the_outer_header_stays(world: World, changed: list[str]) -> None:
    sender = world.client.node
    sender.namespace.run("iptables", *changed)
    with packing(world) as (talk, _), wire(world) as raw, without_tunnel(sender):
        talk.client.sendto(b"marked", talk.there)
        frame = tunnelled(raw, world, b"marked")

    assert frame[15] == (0x48 if "TOS" in changed else 0)
    assert frame[22] == (9 if "TTL" in changed else 64)


def test_without_our_program_at_the_uplink_nothing_is_packed(world: World) -> None:
    sender = world.client.node
    run("tc", "-n", sender.namespace.name, "qdisc", "del", "dev", "eth0", "clsact")
    with world.talking() as talk:
        assert talk.ask()
        with without_tunnel(sender):
            assert not talk.ask(patience_s=SHORT_S)


def test_what_the_host_has_marked_is_not_packed(world: World) -> None:
    """Queues may go by that."""
    sender = world.client.node
    sender.namespace.run("iptables", "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "MARK", "--set-mark", "7")
    with world.talking() as talk, without_tunnel(sender):
        assert not talk.ask(patience_s=SHORT_S)


def test_next_hop_that_the_programs_do_not_find(world: World) -> None:
    """The packet left by a route that is the host's own packets' only."""
    sender, receiver = world.client.node, world.receiver
    world.overlay.underlay.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    route = (str(receiver.address), "via", "10.77.0.254", "src", str(sender.address))
    sender.namespace.ip("route", "add", *route, "table", "77")
    sender.namespace.ip("rule", "add", "iif", "lo", "table", "77")
    with world.talking() as talk:
        assert talk.ask()
        with without_tunnel(sender):
            assert not talk.ask(patience_s=SHORT_S)
