"""What a container waits for: the calls that connect it, ``docker run`` itself, and many containers at once."""

from __future__ import annotations

import concurrent.futures
import functools
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.bench.control_calls import CalledEndpoint, DriverCalls
from tests.bench.figures import Bar, Better, Row
from tests.bench.percentiles import percentile
from tests.bench.plan import Plan
from tests.bench.rounds import turns
from tests.support.images import IMAGE
from tests.support.node import Node

_ROUNDS: Final = 5
_RUNS: Final = 30
_MANY: Final = 200
_FEW: Final = 10
_BURSTS: Final = 3
_BURST_S: Final = 900.0
"""Where two processors start hundreds of containers, the last one waits long; that is a figure, and no failure."""
LEFT_OUT: Final = f"control plane: {_MANY} containers at once; here it is {_FEW}"
HAWSE: Final = "hawse"
BRIDGE: Final = "bridge"
BARS: Final = (
    Bar(row="create-join-p50", contestant=HAWSE, against=None, limit=15),
    Bar(row="create-join-p99", contestant=HAWSE, against=None, limit=60),
    Bar(row="docker-run", contestant=HAWSE, against=BRIDGE, limit=1.0),
)
_CALLS: Final[Sequence[tuple[str, str, Callable[[CalledEndpoint], float]]]] = (
    ("request-address", "RequestAddress", lambda one: one.request_address_s),
    ("create-join", "CreateEndpoint and Join", lambda one: one.create_and_join_s),
)


def call_rows(node: Node, network: str, plan: Plan) -> Sequence[Row]:
    """Connect endpoints one after the other, round by round, and take them away again."""
    rounds, count = plan.rounds or _ROUNDS, 20 if plan.quick else 200
    times: dict[str, list[list[float]]] = {name: [] for name, _, _ in _CALLS}
    gone: list[list[float]] = []
    with DriverCalls(node, network) as calls:
        for number in range(rounds):
            made = [calls.connect() for _ in range(count)]
            for name, _, time_of in _CALLS:
                times[name].append([time_of(one) for one in made])
            gone.append([calls.disconnect(one) for one in made])
            plan.say(
                f"round {number + 1} of {rounds}: CreateEndpoint and Join p50 "
                f"{percentile(times['create-join'][-1], 0.5) * 1000:.1f} ms"
            )
    rows = [row for name, title, _ in _CALLS for row in _quantiles(name, title, times[name])]
    return [*rows, *_quantiles("leave-delete-release", "Leave, DeleteEndpoint and ReleaseAddress", gone)]


def run_rows(node: Node, networks: dict[str, str], plan: Plan) -> Sequence[Row]:
    """``docker run --rm <image> true``, of all contestants in turn.

    Args:
        node: where.
        networks: by contestant.
        plan: how often.
    """
    times: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        _run(node, network)  # what is made at the first time only
    for number in range(_ROUNDS if plan.quick else _RUNS):
        for name in turns(list(networks), number):
            times[name].append(_run(node, networks[name]))
    plan.say("docker run: " + "; ".join(f"{name} {percentile(one, 0.5):.0f} ms" for name, one in times.items()))
    return [
        Row(
            name="docker-run",
            title="docker run --rm … true",
            unit="ms",
            better=Better.LOWER,
            samples=times,
            references=[name for name in networks if name != HAWSE],
        )
    ]


def burst_rows(node: Node, networks: dict[str, str], plan: Plan) -> Sequence[Row]:
    """Start many containers at once, of all contestants in turn, until ``docker run -d`` has answered for all.

    On a machine that is too small the engine or etcd refuses some of them; how many is a figure as well.
    """
    rounds, count = (plan.rounds or 1, _FEW) if plan.quick else (plan.rounds or _BURSTS, _MANY)
    times: dict[str, list[float]] = {name: [] for name in networks}
    refused: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds):
        for name in turns(list(networks), number):
            containers = [f"burst-{name}-{one}" for one in range(count)]
            started_s = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(count) as pool:
                started = list(pool.map(functools.partial(_starts, node, networks[name]), containers))
            times[name].append(time.monotonic() - started_s)
            refused[name].append(started.count(False))
            plan.say(f"{count} containers at once, {name}: {times[name][-1]:.1f} s, {started.count(False)} refused")
            # All at once, and not as Node.remove does: nobody removes the network, which goes with the machine.
            if there := node.engine("ps", "-aq", "--filter", "name=burst-").split():
                node.engine("rm", "-f", *there, timeout_s=_BURST_S)
    return [
        Row(
            name="containers-at-once",
            title=f"{count} containers at once",
            unit="s",
            better=Better.LOWER,
            samples=times,
            references=[name for name in networks if name != HAWSE],
        ),
        Row(
            name="containers-refused",
            title=f"{count} containers at once: not started",
            unit="containers",
            better=Better.LOWER,
            samples=refused,
        ),
    ]


def _starts(node: Node, network: str, container: str) -> bool:
    argv = ("run", "-d", "--name", container, "--network", network, IMAGE)
    return node.engine.run(*argv, timeout_s=_BURST_S).rc == 0


def _run(node: Node, network: str) -> float:
    started_s = time.perf_counter()
    node.engine("run", "--rm", "--network", network, IMAGE, "true")
    return (time.perf_counter() - started_s) * 1000


def _quantiles(name: str, title: str, rounds: Sequence[Sequence[float]]) -> Sequence[Row]:
    return [
        Row(
            name=f"{name}-p{share}",
            title=f"{title}, p{share}",
            unit="ms",
            better=Better.LOWER,
            samples={HAWSE: [percentile(one, share / 100) * 1000 for one in rounds]},
        )
        for share in (50, 99)
    ]
