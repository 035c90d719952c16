"""The scale: thousands of endpoints on one host, a hundred thousand elsewhere, and how each cost grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tests.bench import scale_local, scale_remote
from tests.bench.figures import Curve, Part, Row
from tests.bench.plan import Plan
from tests.support.node import Node
from tests.support.testbed import Testbed

_NETWORK: Final = "bench"
_POOL: Final = "10.64.0.0/12"


def measure(testbed: Testbed, plan: Plan) -> Part:
    """Measure everything; the suite of :mod:`tests.bench.suites`."""
    rows: list[Row] = []
    curves: list[Curve] = []
    notes: list[str] = []
    parts: Sequence[tuple[str, Callable[[Node, str, Plan], tuple[Sequence[Row], Sequence[Curve]]]]] = (
        ("local", scale_local.local_figures),
        ("remote", scale_remote.remote_figures),
    )
    for name, measured in parts:
        node = testbed.node(f"scale-{name}")
        try:
            node.create_network(_NETWORK, "--subnet", _POOL)
            more_rows, more_curves = measured(node, _NETWORK, plan)
            rows += more_rows
            curves += more_curves
        except Exception as failure:  # noqa: BLE001 # the other figures must not be lost
            notes.append(f"{name}: {type(failure).__name__}: {failure}")
        finally:
            node.machine.power_off()
    names = {row.name for row in rows}
    bars = [bar for bar in (*scale_local.BARS, *scale_remote.BARS) if bar.row in names]
    return Part(rows=rows, bars=bars, curves=curves, notes=notes)
