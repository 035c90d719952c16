"""Packets of connections that nothing is known of yet, between hosts that are: past the hosts' stacks, and judged.

That a packet went past them is proved by taking the tunnel's device down. What is known of a host is held for ever
where the test does not say otherwise.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath.abi import DropReason, MemoHook
from datapath.api import Direction, IpcacheKey, RemoteEndpoint
from datapath.policy_table import IdentityFlags
from tests.kernel.test_memo_live import LONG_S, PORT, SHORT_S, World, bound, on_hosts, without_tunnel
from tests.support import memo
from tests.support.frames import ethernet, ipv4, udp, vxlan
from tests.support.overlay import IDENTITY, TUNNEL_PORT, VNI
from tests.support.policy_tables import allow, closing
from tests.support.wait import until

pytestmark = pytest.mark.kernel

LANES: Final = 16
"""``lib/lane.h``: to each host."""
LENGTH: Final = 100
"""Bytes of datagrams that were seen to leave whole."""
OVERHEAD: Final = 20 + 8 + 50
"""Bytes of the packet in the tunnel beside those."""
CLOSED_PORT: Final = 9003
STRANGER: Final = "10.5.0.9"
"""An address of another host's container."""
THIRD_NODE: Final = IPv4Address("10.77.0.99")
_SO_NO_CHECK: Final = 11
_ports: Final = itertools.count(20000)


@pytest.fixture
def world(bpf_root: Path) -> Iterator[World]:
    """A client and a server on two hosts."""
    with on_hosts(bpf_root) as made:
        yield made


def arrives(world: World, *, patience_s: float = LONG_S, length: int = 20, port: int = PORT) -> bool:
    """Does the first datagram of a new connection arrive?"""
    with (
        bound(world.client.namespace, next(_ports)) as sender,
        bound(world.server.namespace, port) as receiver,
    ):
        receiver.settimeout(patience_s)
        sender.sendto(bytes(length), (world.server.address, port))
        try:
            return len(receiver.recv(2048)) == length
        except TimeoutError:
            return False


def send(world: World, length: int) -> None:
    """The first datagram of a new connection, each way."""
    for one, other in ((world.client, world.server), (world.server, world.client)):
        with bound(one.namespace, next(_ports)) as sender:
            sender.sendto(bytes(length), (other.address, PORT))


@contextlib.contextmanager
def lanes(world: World, length: int = LENGTH) -> Iterator[None]:
    """All of them are open for datagrams of this length, on both hosts and both ways."""
    with contextlib.ExitStack() as opened:
        seen = [opened.enter_context(memo.memos(node.root)) for node in world.nodes]

        def all_are_open() -> bool:
            send(world, length)
            for one in seen:
                one.hold_lanes()
            ways = [value for one in seen for _, value in one.lanes(MemoHook.TO_NODE)]
            return len(ways) == 2 * LANES and all(
                value.longest >= length + OVERHEAD and one.lanes(MemoHook.FROM_NODE) for one in seen for value in ways
            )

        until("every lane is open", all_are_open, timeout_s=60, interval_s=0)
        yield


@contextlib.contextmanager
def open_lanes(world: World) -> Iterator[None]:
    """And nothing comes past them."""
    with contextlib.ExitStack() as opened:
        opened.enter_context(lanes(world))
        for node in world.nodes:
            opened.enter_context(without_tunnel(node, lanes=True))
        yield


def test_connection_of_its_first_to_its_last_packet(world: World) -> None:
    with world.server.namespace.entered():
        listener = socket.create_server((world.server.address, PORT))
    with world.client.namespace.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with open_lanes(world), listener, client:
        client.settimeout(LONG_S)
        client.connect((world.server.address, PORT))
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"
        assert client.recv(100) == b""
        source_port = client.getsockname()[1]
        client.close()

        for node in world.nodes:
            until(
                "it is noted that it has ended",
                lambda node=node: (
                    [
                        one.state
                        for one in node.datapath.connections().entries
                        if (one.source_port, one.destination_port) == (source_port, PORT)
                    ]
                    == ["closing"]
                ),
                timeout_s=LONG_S,
            )


def test_it_is_counted_once_on_each_host(world: World) -> None:
    with open_lanes(world):
        sent = world.client.node.count(DropReason(0), Direction.EGRESS)
        got = world.receiver.count(DropReason(0), Direction.INGRESS)

        assert arrives(world)

        assert world.client.node.count(DropReason(0), Direction.EGRESS) == sent + 1
        assert world.receiver.count(DropReason(0), Direction.INGRESS) == got + 1


def test_the_receivers_policy_judges_it(world: World) -> None:
    receiver = world.receiver
    receiver.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}, allow(301, IDENTITY, port=PORT, protocol=17)))
    with open_lanes(world):
        before = receiver.count(DropReason.POLICY_DENIED, Direction.INGRESS)

        assert arrives(world)
        assert not arrives(world, port=CLOSED_PORT, patience_s=SHORT_S)

        assert receiver.count(DropReason.POLICY_DENIED, Direction.INGRESS) == before + 1


def test_the_senders_policy_judges_it(world: World) -> None:
    sender = world.client.node
    asks = allow(300, 301, Direction.EGRESS, port=PORT, protocol=17)
    sender.datapath.apply_policy(closing({300: IdentityFlags.EGRESS}, asks))
    with open_lanes(world):
        before = sender.count(DropReason.POLICY_DENIED, Direction.EGRESS)

        assert arrives(world)
        assert not arrives(world, port=CLOSED_PORT, patience_s=SHORT_S)

        assert sender.count(DropReason.POLICY_DENIED, Direction.EGRESS) == before + 1


@pytest.mark.parametrize(
    ("spoofed", "reason"),
    [
        pytest.param({"group": 1}, DropReason.INVALID_IDENTITY, id="identity of the host"),
        pytest.param({"group": 303}, DropReason.POLICY_DENIED, id="another identity"),
        pytest.param({"vni": 8}, DropReason.INVALID_SOURCE_IP, id="another network"),
        pytest.param({"source": STRANGER}, DropReason.INVALID_SOURCE_IP, id="container of another host"),
        pytest.param({"source": "10.5.0.3"}, DropReason.INVALID_SOURCE_IP, id="container of the receiving host"),
        pytest.param({"destination": STRANGER}, DropReason.NOT_LOCAL, id="to another host"),
        pytest.param({"destination": "10.5.0.77"}, DropReason.UNKNOWN_L3_TARGET, id="to nobody"),
    ],
)
def test_who_pretends_is_refused(world: World, spoofed: dict[str, object], reason: DropReason) -> None:
    node, receiver = world.client.node, world.receiver
    elsewhere = RemoteEndpoint(tunnel_endpoint=THIRD_NODE, identity=IDENTITY)
    receiver.datapath.update_remotes({IpcacheKey(VNI, IPv4Address(STRANGER)): elsewhere}, [])
    receiver.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}, allow(301, IDENTITY)))
    with open_lanes(world), node.namespace.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
            sender.bind((str(node.address), 0))
            packet = ipv4(
                udp(b"pretended", source_port=next(_ports), port=PORT),
                source=str(spoofed.get("source", world.client.address)),
                target=str(spoofed.get("destination", world.server.address)),
                protocol=17,
            )
            outer = vxlan(
                ethernet(packet, source=str(world.client.spec.mac)),
                vni=int(str(spoofed.get("vni", VNI))),
                group=int(str(spoofed.get("group", IDENTITY))),
            )
            before = receiver.count(reason, Direction.INGRESS)

            sender.sendto(outer, (str(receiver.address), TUNNEL_PORT))

            until("it is dropped", lambda: receiver.count(reason, Direction.INGRESS) == before + 1, timeout_s=LONG_S)


def test_host_that_was_not_heard_goes_through_the_device(world: World) -> None:
    with open_lanes(world), memo.memos(world.receiver.root) as seen:
        for key, _ in seen.lanes(MemoHook.FROM_NODE):
            seen.map.delete(key)

        assert not arrives(world, patience_s=SHORT_S)


def test_what_comes_in_elsewhere_goes_through_the_device(world: World) -> None:
    with open_lanes(world), memo.memos(world.receiver.root) as seen:
        for key, value in seen.lanes(MemoHook.FROM_NODE):
            seen.map.delete(key)
            value.mark ^= key.scope ^ key.scope + 1
            key.scope += 1
            seen.map.update(key, value)

        assert not arrives(world, patience_s=SHORT_S)


def test_packet_for_the_host_itself_goes_through_the_device(world: World) -> None:
    with bound(world.receiver.namespace, PORT) as host, bound(world.client.namespace, next(_ports)) as client:
        host.settimeout(LONG_S)
        with lanes(world):
            client.sendto(b"before", (str(world.receiver.address), PORT))
            assert host.recv(100) == b"before"
        with open_lanes(world):
            host.settimeout(SHORT_S)
            client.sendto(b"after", (str(world.receiver.address), PORT))
            with pytest.raises(TimeoutError):
                host.recv(100)


def test_node_that_left_is_heard_no_more(world: World) -> None:
    with lanes(world):
        before = world.receiver.count(DropReason.UNKNOWN_NODE, Direction.INGRESS)
        world.receiver.datapath.replace_nodes([])

        assert not arrives(world, patience_s=SHORT_S)

        assert world.receiver.count(DropReason.UNKNOWN_NODE, Direction.INGRESS) == before + 1


def test_longer_packet_than_was_seen_goes_through_the_device_once(world: World) -> None:
    sender = world.client.node
    with lanes(world), without_tunnel(sender, lanes=True):
        assert arrives(world, length=LENGTH)
        assert not arrives(world, length=LENGTH + 1, patience_s=SHORT_S)
    with lanes(world, LENGTH + 1), without_tunnel(sender, lanes=True):
        assert arrives(world, length=LENGTH + 1)


@pytest.mark.parametrize("back", [False, True], ids=["sender", "receiver"])
def test_after_a_moment_the_stack_sees_one_again(world: World, *, back: bool) -> None:
    node = world.receiver if back else world.client.node
    with lanes(world), memo.memos(node.root) as seen:
        with without_tunnel(node, lanes=True):
            assert arrives(world)
            seen.hold_lanes(0)
            assert not arrives(world, patience_s=SHORT_S)

        assert arrives(world)


@pytest.mark.parametrize("chain", ["OUTPUT", "INPUT"])
def test_what_a_hosts_firewall_drops_ends_soon(world: World, chain: str) -> None:
    host = (world.client.node if chain == "OUTPUT" else world.receiver).namespace
    rule = (chain, "-p", "udp", "--dport", str(TUNNEL_PORT), "-j", "DROP")
    for _ in range(2 * LANES):
        assert arrives(world)
    host.run("iptables", "-I", *rule)

    until("nothing arrives", lambda: not arrives(world, patience_s=SHORT_S), timeout_s=2 * LONG_S)

    host.run("iptables", "-D", *rule)
    assert arrives(world)


def test_connections_leave_by_more_than_one_port(world: World) -> None:
    with lanes(world), memo.memos(world.client.node.root) as seen:
        ports = {value.source_port for _, value in seen.lanes(MemoHook.TO_NODE)}

    assert len(ports) > LANES // 2


def test_lane_is_of_no_use_under_another_epoch(world: World) -> None:
    """Of policies or of places: whoever changes those need not know that there are lanes."""
    with open_lanes(world):
        assert arrives(world)
        world.client.node.datapath.apply_policy(closing({303: IdentityFlags.INGRESS}))

        assert not arrives(world, patience_s=SHORT_S)


def test_there_is_one_lane_in_for_each_host(world: World) -> None:
    with lanes(world), memo.memos(world.receiver.root) as seen:
        ((key, value),) = seen.lanes(MemoHook.FROM_NODE)

    assert IPv4Address(key.source.to_bytes(4, "big")) == world.client.node.address
    assert value.until == memo.FOR_EVER
