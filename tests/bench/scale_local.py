"""Thousands of endpoints on one host, made by the driver's real calls and moved into namespaces as an engine would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Final

from tests.bench.control_agent import agent_mb
from tests.bench.control_calls import CallFailed, DriverCalls
from tests.bench.control_seats import Seat, get_up, sit_down
from tests.bench.figures import Bar, Better, Curve, Part, Point, Row
from tests.bench.percentiles import percentile
from tests.bench.plan import Plan
from tests.support.node import Node

_HAWSE: Final = "hawse"
_AT_ONCE: Final = 100
_SIZES: Final = (0, 10, 100, 500, 1000, 2000)
_QUICK_SIZES: Final = (0, 10, 100)
LEFT_OUT: Final = f"scale: {_SIZES[-1]} endpoints on one host; here it is {_QUICK_SIZES[-1]}"
BARS: Final = (Bar(row="agent-memory-1000", contestant=_HAWSE, against=None, limit=100),)


def local_figures(node: Node, network: str, plan: Plan) -> Part:
    """Make them step by step, look at each size, and take them away again; what was seen before a failure counts."""
    sizes = _QUICK_SIZES if plan.quick else _SIZES
    memory: list[Point] = []
    connect: dict[str, list[Point]] = {"p50": [], "p99": []}
    seats: list[Seat] = []
    rows: list[Row] = []
    notes: list[str] = []
    with DriverCalls(node, network) as calls, contextlib.ExitStack() as last:
        last.callback(_remove, calls, seats, plan)
        try:
            for size in sizes:
                times: list[float] = []
                while len(seats) < size:
                    new = sit_down(node.machine, calls, min(_AT_ONCE, size - len(seats)))
                    seats.extend(new)
                    times = [seat.endpoint.create_and_join_s * 1000 for seat in new]
                used_mb = agent_mb(node)
                memory.append(Point(size=size, samples=[used_mb]))
                if times:
                    for share, points in ((0.5, connect["p50"]), (0.99, connect["p99"])):
                        points.append(Point(size=size, samples=[percentile(times, share)]))
                    plan.say(f"{size} endpoints: p50 {percentile(times, 0.5):.1f} ms, agent {used_mb:.0f} MB")
                if size in {0, 1000, 2000}:
                    rows.append(_row(f"agent-memory-{size}", f"agent with {size} endpoints", "MB", used_mb))
        except CallFailed as failure:
            notes.append(f"with {len(seats)} endpoints on one host: {failure}")
    curves = [
        Curve(
            name="local-memory",
            title="memory of the agent",
            unit="MB",
            size_title="endpoints on this host",
            points={_HAWSE: memory},
        ),
        Curve(
            name="local-connect",
            title="CreateEndpoint and Join",
            unit="ms",
            size_title="endpoints on this host",
            points=connect,
        ),
    ]
    return Part(rows=rows, curves=curves, notes=notes)


def _remove(calls: DriverCalls, seats: Sequence[Seat], plan: Plan) -> None:
    started_s = time.monotonic()
    get_up(calls, seats)
    plan.say(f"{len(seats)} endpoints removed in {time.monotonic() - started_s:.0f} s")


def _row(name: str, title: str, unit: str, value: float) -> Row:
    return Row(name=name, title=title, unit=unit, better=Better.LOWER, samples={_HAWSE: [value]})
