"""The scale: thousands of endpoints on one host, a hundred thousand elsewhere, and how each cost grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.bench import nodes, scale_local, scale_remote
from tests.bench.figures import Curve, Part, Row
from tests.bench.plan import Plan
from tests.support.testbed import Testbed

_NETWORK: Final = "bench"
_POOL: Final = "10.64.0.0/12"


def measure(testbed: Testbed, plan: Plan) -> Part:
    """Measure everything; the suite of :mod:`tests.bench.suites`."""
    rows: list[Row] = []
    curves: list[Curve] = []
    notes: list[str] = []

    def collect(what: str, measured: Callable[[], Part]) -> None:
        try:
            part = measured()
        except Exception as failure:  # noqa: BLE001 # the other figures must not be lost
            notes.append(f"{what}: {type(failure).__name__}: {failure}")
        else:
            rows.extend(part.rows)
            curves.extend(part.curves)
            notes.extend(part.notes)

    plan.say("scale: two nodes that do not know each other")
    local, remote = both = nodes.start(testbed, {"scale-local": {}, "scale-remote": {}})
    try:
        for node in both:
            node.create_network(_NETWORK, "--subnet", _POOL)
        collect("local", lambda: scale_local.local_figures(local, _NETWORK, plan))
        collect("remote", lambda: scale_remote.remote_figures(remote, local, _NETWORK, plan))
    finally:
        for node in both:
            node.machine.power_off()
    names = {row.name for row in rows}
    # They are about the largest sizes.
    bars = [] if plan.quick else [bar for bar in (*scale_local.BARS, *scale_remote.BARS) if bar.row in names]
    left_out = [scale_local.LEFT_OUT, scale_remote.LEFT_OUT] if plan.quick else []
    return Part(rows=rows, bars=bars, curves=curves, notes=notes, left_out=left_out)
