"""The control plane: what containers and operators wait for, and what the agent costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tests.bench import control_agent, control_endpoint, control_news, nodes
from tests.bench.figures import Part, Row
from tests.bench.plan import Plan
from tests.support.node import Node
from tests.support.testbed import Testbed

_POOL: Final = "10.90.0.0/16"
_NETWORK: Final = "bench"


def measure(testbed: Testbed, plan: Plan) -> Part:
    """Measure everything; the suite of :mod:`tests.bench.suites`."""
    rows: list[Row] = []
    notes: list[str] = []

    def collect(what: str, measured: Callable[[], Sequence[Row]]) -> None:
        try:
            rows.extend(measured())
        except Exception as failure:  # noqa: BLE001 # the other figures must not be lost
            notes.append(f"{what}: {type(failure).__name__}: {failure}")

    plan.say("control plane: one node")
    single = _one_node(testbed)
    networks = {control_endpoint.HAWSE: _NETWORK, control_endpoint.BRIDGE: "bench-bridge"}
    try:
        collect("calls", lambda: control_endpoint.call_rows(single, _NETWORK, plan))
        collect("docker run", lambda: control_endpoint.run_rows(single, {**networks, "no network": "none"}, plan))
        collect("containers at once", lambda: control_endpoint.burst_rows(single, networks, plan))
        collect("maps", lambda: control_agent.map_rows(single))
    finally:
        single.machine.power_off()
    plan.say("control plane: three nodes")
    three = _three_nodes(testbed)
    try:
        collect("news", lambda: control_news.news_rows(three, _NETWORK, plan))
        collect("start", lambda: control_agent.start_rows(three[0], plan))
    finally:
        for node in three:
            node.machine.power_off()
    names = {row.name for row in rows}
    bars = (*control_endpoint.BARS, *control_news.BARS, *control_agent.BARS)
    left_out = [control_endpoint.LEFT_OUT] if plan.quick else []
    return Part(rows=rows, bars=[bar for bar in bars if bar.row in names], notes=notes, left_out=left_out)


def _one_node(testbed: Testbed) -> Node:
    node = testbed.node("control")
    node.create_network(_NETWORK, "--subnet", _POOL)
    node.engine("network", "create", "bench-bridge")
    return node


def _three_nodes(testbed: Testbed) -> Sequence[Node]:
    etcd = testbed.etcd("control", 1)
    three = nodes.start(testbed, {f"control{number}": {} for number in (1, 2, 3)}, etcd=etcd)
    for node in three:
        node.create_network(_NETWORK, "--subnet", _POOL)
    return three
