"""What becomes of packed flows when the host is set up, or changed meanwhile, in ways that its stack would mind.

Memos end by themselves here, as they do on hosts, where the test does not say otherwise.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from datapath import source
from tests.kernel.test_memo_live import LONG_S, SHORT_S, Talk, World, populate, without_tunnel
from tests.kernel.test_memo_packed import INNER, SEEN, packing, speaking, tunnelled, wire
from tests.support import memo
from tests.support.frames import checksum
from tests.support.netns import Namespace, run
from tests.support.overlay import OPEN, Node, Overlay, standing_overlay
from tests.support.wait import until

pytestmark = pytest.mark.kernel

ROUTER: Final = "10.77.0.254"
ROUTES: Final = "77"
"""A table of the host's own."""
ELSEWHERE: Final = 4500
NARROW: Final = 1300
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_STXCSUM: Final = 0x17


@pytest.fixture
def overlay(bpf_root: Path) -> Iterator[Overlay]:
    with standing_overlay(bpf_root) as overlay:
        yield overlay


@pytest.fixture
def world(overlay: Overlay) -> World:
    """A client and a server on two hosts."""
    return populate(overlay, overlay.add_node(), overlay.add_node())


@contextlib.contextmanager
def packing_now(world: World) -> Iterator[Talk]:
    """The flow has been packed; what is known of it ends within the moment."""
    with speaking(world) as talk, memo.memos(world.client.node.root) as seen:

        def known() -> bool:
            talk.burst()
            return any(value.underlay and not value.ifindex for _, value in seen.all())

        until("the flow is known up to the wire", known, timeout_s=LONG_S)
        yield talk


def is_packed(world: World) -> bool:
    """Does a known flow need the device? Leaves nothing behind."""
    with world.talking() as talk:
        talk.client.sendto(bytes(SEEN), talk.there)
        assert talk.ask()
        with without_tunnel(world.client.node):
            return talk.ask(patience_s=SHORT_S)


def link_layer(namespace: Namespace, ifname: str) -> bytes:
    (link,) = json.loads(namespace.ip("-j", "link", "show", "dev", ifname))
    return bytes.fromhex(link["address"].replace(":", ""))


def change_route(sender: Node, receiver: Node) -> None:
    sender.namespace.ip("route", "add", str(receiver.address), "via", ROUTER, "src", str(sender.address))


def change_rule(sender: Node, receiver: Node) -> None:
    sender.namespace.ip("route", "add", str(receiver.address), "via", ROUTER, "table", ROUTES)
    sender.namespace.ip("rule", "add", "to", str(receiver.address), "table", ROUTES)


@pytest.mark.parametrize("change", [change_route, change_rule])
def test_other_next_hop_counts_within_the_moment(world: World, change: Callable[[Node, Node], None]) -> None:
    sender, receiver = world.client.node, world.receiver
    under = world.overlay.underlay
    for setting in ("ip_forward=1", "conf.all.send_redirects=0", "conf.br0.send_redirects=0"):
        under.run("sysctl", "-qw", f"net.ipv4.{setting}")
    router, direct = link_layer(under, "br0"), link_layer(receiver.namespace, "eth0")
    with packing_now(world) as talk, wire(world) as raw:

        def next_hop() -> bytes:
            talk.burst()
            text = b"next hop"
            talk.client.sendto(text, talk.there)
            return tunnelled(raw, world, text)[:6]

        assert next_hop() == direct
        change(sender, receiver)

        until("packets go to the router", lambda: next_hop() == router, timeout_s=LONG_S, interval_s=0)
        assert {next_hop() for _ in range(5)} == {router}


def test_flow_goes_on_by_the_other_uplink(world: World) -> None:
    """The one that it is packed for goes down, and the host's routes lead by another one."""
    sender, receiver = world.client.node, world.receiver
    world.overlay.underlay.ip(
        *("link", "add", "second", "type", "veth", "peer", "name", "eth1", "netns", sender.namespace.name)
    )
    world.overlay.underlay.ip("link", "set", "second", "master", "br0", "up")
    sender.namespace.ip("link", "set", "eth1", "up")
    for ifname, metric in (("eth0", "10"), ("eth1", "20")):
        sender.namespace.ip(
            *("route", "add", str(receiver.address), "dev", ifname, "src", str(sender.address), "metric", metric)
        )
    with packing_now(world) as talk:
        sender.namespace.ip("link", "set", "eth0", "down")

        until("packets arrive", lambda: talk.ask(patience_s=SHORT_S), timeout_s=LONG_S, interval_s=0)


def test_shorter_limit_counts_within_the_moment(world: World) -> None:
    host = world.client.node.namespace
    with packing_now(world) as talk, wire(world) as raw:
        host.ip("link", "set", "eth0", "mtu", str(NARROW))

        def fits() -> bool:
            talk.burst()
            text = b"long".ljust(NARROW, b".")
            talk.client.sendto(text, talk.there)
            return len(tunnelled(raw, world, b"long")) <= NARROW + 14

        until("packets leave as fragments", fits, timeout_s=LONG_S, interval_s=0)
        assert talk.ask()


def test_uplink_may_get_another_name(world: World) -> None:
    host = world.client.node.namespace
    with packing(world) as (talk, _), without_tunnel(world.client.node):
        host.ip("link", "set", "eth0", "name", "uplink")

        assert talk.ask()


def bridge(namespace: Namespace) -> str:
    namespace.ip("link", "add", "uplink", "type", "bridge")
    namespace.ip("link", "set", "eth0", "master", "uplink")
    return "uplink"


def macvlan(namespace: Namespace) -> str:
    namespace.ip("link", "add", "link", "eth0", "name", "uplink", "type", "macvlan", "mode", "bridge")
    return "uplink"


@pytest.mark.parametrize("make", [bridge, macvlan])
def test_uplink_of_another_kind(overlay: Overlay, make: Callable[[Namespace], str]) -> None:
    first, second = (overlay.add_node(started=False) for _ in range(2))
    for node in (first, second):
        node.namespace.ip("addr", "flush", "dev", "eth0")
        ifname = make(node.namespace)
        node.namespace.ip("addr", "add", f"{node.address}/24", "dev", ifname)
        node.namespace.ip("link", "set", ifname, "up")
        node.datapath.start(node.config)
        node.datapath.apply_policy(OPEN)

    assert is_packed(populate(overlay, first, second))


def test_what_leaves_as_something_else_is_never_packed(world: World) -> None:
    """As an encrypted packet does."""
    host = world.client.node.namespace
    host.run("nft", "add table inet host")
    host.run("nft", "add chain inet host out { type filter hook postrouting priority 0; }")
    host.run("nft", f"add rule inet host out udp dport 8472 udp dport set {ELSEWHERE}")
    with speaking(world) as talk, wire(world) as raw, memo.memos(world.client.node.root) as seen:

        def known() -> bool:
            talk.burst()
            return any(not value.ifindex for _, value in seen.all())

        until("the flow is known", known, timeout_s=LONG_S)
        for _ in range(10):
            talk.burst()

        assert not any(value.underlay for _, value in seen.all() if not value.ifindex)
        raw.settimeout(SHORT_S)
        ports = set()
        with contextlib.suppress(TimeoutError):
            while True:
                frame = raw.recv(1 << 16)
                if frame[23] == socket.IPPROTO_UDP and frame[26:30] == world.client.node.address.packed:
                    ports.add(int.from_bytes(frame[36:38], "big"))
        assert ports == {ELSEWHERE}


def test_port_that_the_hosts_nat_gives_stays(world: World) -> None:
    host = world.client.node.namespace
    host.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-p", "udp", "-j", "MASQUERADE", "--to-ports", "100-200")
    with packing(world) as (talk, _), wire(world) as raw, without_tunnel(world.client.node):
        talk.client.sendto(b"marked", talk.there)
        frame = tunnelled(raw, world, b"marked")

    assert 100 <= int.from_bytes(frame[34:36], "big") <= 200


def test_what_the_host_puts_into_a_class_is_not_packed(world: World) -> None:
    host = world.client.node.namespace
    host.run("iptables", "-t", "mangle", "-A", "POSTROUTING", "-p", "udp", "-j", "CLASSIFY", "--set-class", "1:2")

    assert not is_packed(world)


def test_queue_of_the_uplink_gets_every_packet(world: World) -> None:
    name = world.client.node.namespace.name
    with packing(world) as (talk, _), without_tunnel(world.client.node):
        run("tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "pfifo")
        for _ in range(10):
            talk.client.sendto(bytes(SEEN), talk.there)

        def queued() -> bool:
            listed = json.loads(run("tc", "-n", name, "-s", "-j", "qdisc", "show", "dev", "eth0"))
            return any(queue["kind"] == "pfifo" and queue["packets"] >= 10 for queue in listed)

        until("ten packets have been in the queue", queued, timeout_s=LONG_S)


def test_filter_of_others_at_the_uplink_counts_at_once(world: World) -> None:
    name = world.client.node.namespace.name
    drop = ("bpf", "bytecode", "1,6 0 0 2,", "direct-action")
    with packing(world) as (talk, _), without_tunnel(world.client.node):
        assert talk.ask()
        run("tc", "-n", name, "filter", "add", "dev", "eth0", "egress", "prio", "200", *drop)

        assert not talk.ask(patience_s=SHORT_S)


def test_checksum_that_the_container_left_to_the_interface(world: World) -> None:
    """The kernel computes it, for an interface that does not."""
    host = world.client.node.namespace
    with host.entered():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        off = array.array("B", struct.pack("II", _ETHTOOL_STXCSUM, 0))
        fcntl.ioctl(asking, _SIOCETHTOOL, struct.pack("16sQ16x", b"eth0", off.buffer_info()[0]))
    with packing(world) as (talk, _), wire(world) as raw, without_tunnel(world.client.node):
        talk.client.sendto(b"odd", talk.there)
        frame = tunnelled(raw, world, b"odd")

    inner = frame[INNER:]
    assert inner[26:28] != bytes(2)
    assert checksum(inner[12:20] + struct.pack("!HH", socket.IPPROTO_UDP, len(inner) - 20) + inner[20:]) == 0


def test_kernel_that_cannot_make_the_room(overlay: Overlay, tmp_path: Path) -> None:
    """Before 5.13 it refuses a flag that it does not know: as this one does a flag that no kernel knows yet."""
    folder = tmp_path / "bpf"
    shutil.copytree(source.FOLDER, folder, ignore=shutil.ignore_patterns("compiled"))
    header = folder / "lib" / "pack.h"
    text = header.read_text(encoding="utf-8")
    assert "(1ULL << 6 |" in text
    header.write_text(text.replace("(1ULL << 6 |", "(1ULL << 40 |"), encoding="utf-8")
    node = overlay.add_node(started=False)
    node.datapath.close()
    node.datapath = node.another_agent(folder)
    node.datapath.start(node.config)
    node.datapath.apply_policy(OPEN)
    world = populate(overlay, node, overlay.add_node())

    assert not is_packed(world)
