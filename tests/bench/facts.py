"""What a reader must know of the machine and the tree that figures are of."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.bench.plan import Plan

_ROOT: Final = Path(__file__).parents[2]


def facts(*, begun: datetime, took_s: Mapping[str, float], plan: Plan) -> Mapping[str, str]:
    """Facts of a run, by name; ``took_s`` is of each of its parts."""
    parts = ", ".join(f"{name} {part_s:.0f}" for name, part_s in took_s.items())
    return {
        "begun": begun.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{sum(took_s.values()):.0f} s: {parts}",
        "kind": ("quick" if plan.quick else "full") + (", measured programs first" if plan.urgent else ""),
        "cpu": _field(Path("/proc/cpuinfo").read_text(), "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_field(Path('/proc/meminfo').read_text(), 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "load before": f"{_LOAD[0]:.1f}",
        "kernel": f"{platform.release()} {platform.machine()}",
        "hawse": _COMMIT,
    }


def _field(text: str, name: str) -> str:
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")


def _commit() -> str:
    def git(*argv: str) -> str:
        return subprocess.run(
            ["git", "-C", str(_ROOT), *argv], capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{git('rev-parse', '--short=12', 'HEAD') or 'unknown'}{' with changes' if changed else ''}"


# As the program starts: later the load is the bench's own, and the tree may be another than the one that is measured.
_LOAD: Final = os.getloadavg()
_COMMIT: Final = _commit()
