"""A cluster that is large elsewhere: endpoints and identities of other nodes, written to etcd."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from datapath import entries, maps
from datapath.api import IpcacheKey
from datapath.maps import TypedMap
from kvstore import keys
from kvstore.codec import decode
from model.addresses import IPNetwork
from model.ids import Vni
from model.networks import Network
from tests.bench.control_agent import agent_mb
from tests.bench.control_calls import DriverCalls
from tests.bench.control_seats import Seat, seated
from tests.bench.figures import Bar, Better, Curve, Part, Point, Row
from tests.bench.percentiles import percentile
from tests.bench.plan import Plan
from tests.bench.rounds import turns
from tests.support import wait
from tests.support.node import Node

_HAWSE: Final = "hawse"
_NOTHING_REMOTE: Final = "hawse, nothing remote"
_ROOT: Final = Path(__file__).parents[2]
_PROGRAM: Final = "tests.bench.scale_records"
_ETCD: Final = "http://127.0.0.1:2379"
_PROGRAMMED_S: Final = 300.0
_PORT: Final = 7200
_ROUNDS: Final = 7
_FULL: Final = ((10, 100, 1000, 10_000, 100_000), 5000)
_QUICK: Final = ((10, 100, 1000, 5000), 500)
"""Sizes, and how many identities."""
LEFT_OUT: Final = (
    f"scale: {_FULL[0][-1]} remote endpoints, {_FULL[1]} identities; here it is {_QUICK[0][-1]} and {_QUICK[1]}"
)
BARS: Final = (
    Bar(row="agent-memory-remote", contestant=_HAWSE, against=None, limit=400),
    Bar(row="remote-packets", contestant=_HAWSE, against=_NOTHING_REMOTE, limit=0.97),
)


def remote_figures(node: Node, empty: Node, network: str, plan: Plan) -> Part:
    """Write records step by step; at each size: how soon the kernel knows them, and what they cost.

    The time is of all that were written up to there, nodes and identities too, which are written first. Packets are in
    the end compared with those of a node that knows of no other, in turn.
    """
    sizes, identity_count = _QUICK if plan.quick else _FULL
    sends_s = 0.3 if plan.quick else 1.0
    place = _network(node)
    program: list[Point] = []
    memory = [Point(size=1, samples=[agent_mb(node)])]
    connect: list[Point] = []
    packets: dict[str, list[float]] = {_HAWSE: [], _NOTHING_REMOTE: []}
    with contextlib.ExitStack() as opened:
        calls, seats = _seated(opened, node, network)
        ends = {_HAWSE: seats, _NOTHING_REMOTE: _seated(opened, empty, network)[1]}
        written, took_s = 0, 0.0
        for size in sizes:
            took_s += _write(node, place, written, size, identity_count)
            written = size
            program.append(Point(size=size, samples=[took_s]))
            memory.append(Point(size=size, samples=[agent_mb(node)]))
            made = [calls.connect() for _ in range(20)]
            for one in made:
                calls.disconnect(one)
            connect.append(Point(size=size, samples=[percentile([one.create_and_join_s for one in made], 0.5) * 1000]))
            plan.say(
                f"{size} remote endpoints: written and known within {took_s:.2f} s, agent "
                f"{memory[-1].samples[0]:.0f} MB, CreateEndpoint and Join {connect[-1].samples[0]:.1f} ms"
            )
        for number in range(plan.rounds or _ROUNDS):
            for name in turns(list(ends), number):
                packets[name].append(_packets(*ends[name], sends_s))
    title = f"{sizes[-1]} remote endpoints"
    rows = [
        _row(
            "remote-program-all",
            f"{title}: written to etcd, with {identity_count} identities, and in the kernel",
            "s",
            program[-1],
        ),
        _row("agent-memory-remote", f"{title}: memory of the agent", "MB", memory[-1]),
        Row(
            name="remote-packets",
            title=f"{title}: 64-byte UDP on the same host",
            unit="packets/s",
            better=Better.HIGHER,
            samples=packets,
            references=[_NOTHING_REMOTE],
        ),
    ]
    curves = [
        _curve(
            "remote-program",
            f"written to etcd, with {identity_count} identities, and in the kernel",
            "s",
            program,
        ),
        _curve("remote-memory", "memory of the agent", "MB", memory),
        _curve("remote-connect", "CreateEndpoint and Join, p50", "ms", connect),
    ]
    return Part(rows=rows, curves=curves)


def _seated(opened: contextlib.ExitStack, node: Node, network: str) -> tuple[DriverCalls, Sequence[Seat]]:
    calls = opened.enter_context(DriverCalls(node, network))
    return calls, opened.enter_context(seated(node.machine, calls, 2))


def _network(node: Node) -> Network:
    (value,) = node.etcd.entries(keys.NETWORKS).values()
    return decode(Network, value.encode(), key=keys.NETWORKS)


def _write(node: Node, place: Network, first: int, last: int, identity_count: int) -> float:
    """Write records, and return the seconds from the first write until the last is in the kernel."""
    arguments = {
        "etcd": _ETCD,
        "pool": str(place.pool),
        "vni": place.vni,
        "first": first,
        "last": last,
        "identities": identity_count,
    }
    words = (sys.executable, "-m", _PROGRAM, json.dumps(arguments))
    begun_s = float(node.machine.must("env", f"PYTHONPATH={_ROOT}", *words, timeout_s=_PROGRAMMED_S))
    folder = Path(f"/proc/{node.machine.pid}/root/sys/fs/bpf/hawse")
    ipcache = TypedMap(next(folder.glob("v*")), "hawse_ipcache", maps.IPCACHE)
    try:
        key = entries.ipcache_key(_last_place(place.pool, place.vni, last))
        wait.until("the kernel knows all", lambda: ipcache.lookup(key), timeout_s=_PROGRAMMED_S, interval_s=0.01)
    finally:
        ipcache.close()
    return time.monotonic() - begun_s


def _last_place(pool: IPNetwork, vni: Vni, count: int) -> IpcacheKey:
    return IpcacheKey(vni, pool[-2 - (count - 1)])


def _packets(client: Seat, server: Seat, sends_s: float) -> float:
    """64-byte datagrams a second that come in from one namespace in the other; one processor does all."""
    with server.udp() as listener, client.udp() as sender:
        listener.bind((server.address, _PORT))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listener.settimeout(0)
        sender.connect((server.address, _PORT))
        data, came = b"x" * 64, 0
        started_s = time.perf_counter()
        while (now_s := time.perf_counter()) - started_s < sends_s:
            for _ in range(64):
                sender.send(data)
            came += _emptied(listener)
        return came / (now_s - started_s)


def _emptied(listener: socket.socket) -> int:
    count = 0
    try:
        while True:
            listener.recv(128)
            count += 1
    except BlockingIOError:
        return count


def _row(name: str, title: str, unit: str, point: Point) -> Row:
    return Row(name=name, title=title, unit=unit, better=Better.LOWER, samples={_HAWSE: point.samples})


def _curve(name: str, title: str, unit: str, points: Sequence[Point]) -> Curve:
    return Curve(name=name, title=title, unit=unit, size_title="remote endpoints", points={_HAWSE: points})
