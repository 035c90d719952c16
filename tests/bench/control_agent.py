"""The agent itself: how long it takes to be ready, how much memory it and its maps have."""

from __future__ import annotations

import concurrent.futures
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from cli.client import ClientError
from tests.bench.figures import Bar, Better, Row
from tests.bench.plan import Plan
from tests.bench.rounds import turns
from tests.support import wait
from tests.support.node import Node

PINNED: Final = "programs pinned"
NOT_PINNED: Final = "nothing pinned"
BARS: Final = (Bar(row="agent-start", contestant=PINNED, against=None, limit=1.0),)
_ROUNDS: Final = 5
_QUICK_ROUNDS: Final = 1
_SHOWN: Final = 6
_START_TIME: Final = 19
"""Which word behind the name it is, in proc_pid_stat(5)."""
_READY_S: Final = 60.0
_LOOK_S: Final = 0.005


def agent_mb(node: Node) -> float:
    """Memory of the agent's processes in MB, shared pages divided among those that have them; without its etcd."""
    return sum(process.share_mb for process in node.plugin.processes().values() if process.is_agent)


def start_rows(node: Node, plan: Plan) -> Sequence[Row]:
    """How long an agent takes until it says that all is well, with and without what was pinned.

    Counted from its first process on, and from the engine's order on: the engine itself waits half a second before it
    looks at a plugin. The node has an etcd that runs; one of its own would be started in that time.
    """
    rounds = plan.rounds or (_QUICK_ROUNDS if plan.quick else _ROUNDS)
    started: dict[str, list[float]] = {PINNED: [], NOT_PINNED: []}
    ordered: dict[str, list[float]] = {PINNED: [], NOT_PINNED: []}
    for number in range(rounds):
        for contestant in turns((PINNED, NOT_PINNED), number):
            node.plugin.disable(force=True)
            if contestant == NOT_PINNED:
                node.machine.must("sh", "-c", "ip link del hawse0; rm -r /sys/fs/bpf/hawse")
            ordered_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                enabling = pool.submit(node.plugin.enable)
                _wait_ready(node)
                ready_s = time.clock_gettime(time.CLOCK_BOOTTIME)
                enabling.result()
            started[contestant].append(ready_s - _begun_s(node))
            ordered[contestant].append(ready_s - ordered_s)
    plan.say("agent start: " + "; ".join(f"{name} {statistics.median(one):.2f} s" for name, one in started.items()))
    return [
        Row(
            name="agent-start",
            title="agent's first process until it is ready",
            unit="s",
            better=Better.LOWER,
            samples=started,
        ),
        Row(
            name="plugin-enable",
            title="docker plugin enable until the agent is ready",
            unit="s",
            better=Better.LOWER,
            samples=ordered,
        ),
    ]


def map_rows(node: Node) -> Sequence[Row]:
    """Kernel memory of the maps, as the kernel counts it."""
    pins = node.machine.must("sh", "-c", "ls -d /sys/fs/bpf/hawse/v*/hawse_*").split()
    shown = [json.loads(node.machine.must("bpftool", "-j", "map", "show", "pinned", pin)) for pin in pins]
    sizes = {str(one["name"]): int(one["bytes_memlock"]) / 1e6 for one in shown}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
    return [
        Row(
            name="map-memory",
            title=f"memory of the {len(sizes)} BPF maps, and of the largest",
            unit="MB",
            better=Better.LOWER,
            samples={"all": [sum(sizes.values())], **{name: [sizes[name]] for name in largest}},
        )
    ]


def _wait_ready(node: Node) -> None:
    agent = node.agent(timeout_s=2)

    def ready() -> bool:
        try:
            answer: Any = agent.get("/v1/status", dict)
        except ClientError:
            return False
        return bool(answer["healthy"])

    wait.until("the agent is ready", ready, timeout_s=_READY_S, interval_s=_LOOK_S)


def _begun_s(node: Node) -> float:
    """When the agent's first process was started, of the clock that counts from the machine's boot."""
    stat = node.machine.must("cat", f"/proc/{node.plugin.pid()}/stat")
    ticks = int(stat.rpartition(")")[2].split()[_START_TIME])
    return ticks / os.sysconf("SC_CLK_TCK")
