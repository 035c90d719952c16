"""How soon the other nodes know: from a new endpoint to its first packet, from a policy to its last or first one.

Three nodes with one etcd. The packets are datagrams between namespaces, sent every half millisecond by this process,
which has sockets in all of them; so what is measured ends when a packet has really passed, or does not any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.policy_documents import Applied
from datapath.netlink import Netlink, Request
from datapath.netlink_messages import ifinfmsg
from tests.bench.control_calls import DriverCalls
from tests.bench.control_seats import Seat, seated
from tests.bench.figures import Bar, Better, Row
from tests.bench.percentiles import percentile
from tests.bench.plan import Plan
from tests.support import wait
from tests.support.netns import inside
from tests.support.node import Node

_ETH_P_IP: Final = 0x0800
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_HAWSE: Final = "hawse"
_RTM_NEWLINK: Final = 16
_LANDING: Final = "bench-landing"
_PORT: Final = 7100
_PAUSE_S: Final = 0.0005
_PATIENCE_S: Final = 10.0
_QUIET_S: Final = 0.1
"""So long without a packet, and none is on its way any more."""
_SERVER: Final = {"label.app": "bench-server"}
_CLOSING: Final = json.dumps({
    "apiVersion": "hawse/v1",
    "kind": "Policy",
    "metadata": {"name": "bench-closing"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "bench-server"}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "bench-nobody"}}]}],
    },
}).encode()  # fmt: skip
BARS: Final = (
    Bar(row="new-endpoint-p99", contestant=_HAWSE, against=None, limit=100),
    Bar(row="policy-change-p99", contestant=_HAWSE, against=None, limit=100),
)


def news_rows(nodes: Sequence[Node], network: str, plan: Plan) -> Sequence[Row]:
    """Measure both; the nodes share an etcd and have the network on the same subnet."""
    count = 20 if plan.quick else 200
    with contextlib.ExitStack() as opened:
        calls = [opened.enter_context(DriverCalls(node, network)) for node in nodes]
        seats = [
            opened.enter_context(seated(node.machine, one, 1, _SERVER))[0]
            for node, one in zip(nodes, calls, strict=True)
        ]
        sockets = [opened.enter_context(contextlib.closing(seat.udp())) for seat in seats]
        landing = opened.enter_context(_landing(nodes[0]))
        fresh = [_new_endpoint(nodes[0], landing, calls[0], sockets[1:]) for _ in range(count)]
        plan.say(f"new endpoint, reached from two other nodes: p50 {percentile(fresh, 0.5):.1f} ms")
        changed = list(_policy_changes(nodes[0], seats, count))
        plan.say(f"policy change, enforced on three nodes: p50 {percentile(changed, 0.5):.1f} ms")
    return [
        *_rows("new-endpoint", "new endpoint until two other nodes reach it", fresh),
        *_rows("policy-change", "policy change until three nodes enforce it", changed),
    ]


def _new_endpoint(node: Node, landing: Path, calls: DriverCalls, askers: Sequence[socket.socket]) -> float:
    """Milliseconds from the answer to CreateEndpoint until packets of all askers have come in.

    To move the interface into a container is not ours: here it takes a message to the kernel and no program.
    """
    made = calls.connect()
    known_s = time.perf_counter() - made.join_s
    address = (made.address.partition("/")[0], _PORT)
    try:
        with contextlib.closing(_arrivals(node, landing, made.container_ifname)) as arrivals:
            missing = {f"asker {number}".encode(): asker for number, asker in enumerate(askers)}

            def reached() -> bool:
                for mark, asker in missing.items():
                    asker.sendto(mark, address)
                for packet in _all_of(arrivals):
                    missing.pop(next((mark for mark in missing if packet.endswith(mark)), b""), None)
                return not missing

            wait.until(f"{address} is reached from all", reached, timeout_s=_PATIENCE_S, interval_s=_PAUSE_S)
            return (time.perf_counter() - known_s) * 1000
    finally:
        calls.disconnect(made)


@contextlib.contextmanager
def _landing(node: Node) -> Iterator[Path]:
    """A network namespace for the interfaces of new endpoints."""
    node.machine.must("ip", "netns", "add", _LANDING)
    try:
        yield Path(f"/proc/{node.machine.pid}/root/run/netns/{_LANDING}")
    finally:
        node.machine.must("ip", "netns", "del", _LANDING)


def _arrivals(node: Node, landing: Path, ifname: str) -> socket.socket:
    """What comes in at an interface of a node, which is moved and raised."""
    with contextlib.ExitStack() as opened:
        with inside(Path(f"/proc/{node.machine.pid}/ns/net")):
            netlink = Netlink()
        opened.callback(netlink.close)
        target = os.open(landing, os.O_RDONLY)
        opened.callback(os.close, target)
        move = ifinfmsg()
        move["attrs"] = [("IFLA_IFNAME", ifname), ("IFLA_NET_NS_FD", target)]
        netlink.execute(f"move {ifname}", [Request(move, _RTM_NEWLINK)])
    with inside(landing):
        found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    fcntl.ioctl(found, _SIOCSIFFLAGS, struct.pack("16sh14x", ifname.encode(), _IFF_UP))
    found.bind((ifname, _ETH_P_IP))
    found.settimeout(0)
    return found


def _policy_changes(node: Node, seats: Sequence[Seat], count: int) -> Iterator[float]:
    """Milliseconds of an even number of changes; the last one opens again."""
    agent = node.agent()
    with contextlib.ExitStack() as opened:
        pairs = []
        for server, client in zip(seats, [*seats[1:], seats[0]], strict=True):
            listener = opened.enter_context(contextlib.closing(_listening(server)))
            sender = opened.enter_context(contextlib.closing(client.udp()))
            pairs.append(_Pair(listener=listener, sender=sender, address=(server.address, _PORT)))
        _until_open(pairs)
        for number in range(count):
            started_s = time.perf_counter()
            if number % 2:
                agent.post("/v1/policies/delete", {"names": ["bench-closing"]}, Applied)
                _until_open(pairs)
                ended_s = time.perf_counter()
            else:
                agent.post_text("/v1/policies", _CLOSING, Applied)
                ended_s = _last_passed(pairs)
            yield max(0.0, ended_s - started_s) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Who sends to whom."""

    listener: socket.socket
    sender: socket.socket
    address: tuple[str, int]


def _until_open(pairs: Sequence[_Pair]) -> None:
    """Return when a packet of every pair has passed."""
    missing = list(pairs)

    def passed() -> bool:
        for pair in missing:
            pair.sender.sendto(b"open", pair.address)
        missing[:] = [pair for pair in missing if b"open" not in _all_of(pair.listener)]
        return not missing

    wait.until("packets of all pairs pass", passed, timeout_s=_PATIENCE_S, interval_s=_PAUSE_S)


def _last_passed(pairs: Sequence[_Pair]) -> float:
    """When the last packet was sent that passed anywhere, once none has for a while."""
    passed_s = [time.perf_counter()]
    sent_s: dict[bytes, float] = {}

    def quiet() -> bool:
        now_s = time.perf_counter()
        mark = str(len(sent_s)).encode()
        sent_s[mark] = now_s
        for pair in pairs:
            pair.sender.sendto(mark, pair.address)
        passed_s.extend(sent_s[data] for pair in pairs for data in _all_of(pair.listener) if data in sent_s)
        return now_s - max(passed_s) > _QUIET_S

    wait.until("no packet passes any more", quiet, timeout_s=_PATIENCE_S, interval_s=_PAUSE_S)
    return max(passed_s)


def _listening(seat: Seat) -> socket.socket:
    listener = seat.udp()
    listener.settimeout(0)
    listener.bind((seat.address, _PORT))
    return listener


def _all_of(listener: socket.socket) -> list[bytes]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listener.recv(256))
    return found


def _rows(name: str, title: str, samples: Sequence[float]) -> Sequence[Row]:
    return [
        Row(
            name=f"{name}-p{share}",
            title=f"{title}, p{share} of {len(samples)}",
            unit="ms",
            better=Better.LOWER,
            samples={_HAWSE: [percentile(samples, share / 100)]},
        )
        for share in (50, 99)
    ]
