"""Wait until machines have nothing more to do than to be there.

A change of policy or the start of a program goes on costing for a moment after it has its effect: written back, told to
others, cleaned up. What is measured meanwhile would be measured beside it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.machine import Machine

_GROUPS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_USAGE: Final = re.compile(r"^usage_usec (\d+)$", re.MULTILINE)
_CALM: Final = 0.15
"""Of one processor, all machines together: engines, agents and a Swarm without work take a few hundredths."""
_LOOKS_EVERY_S: Final = 0.1
_PATIENCE_S: Final = 5.0


class Settling:
    """Of these machines."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        above = next(group for group in _GROUPS if (group / "cgroup.controllers").exists())
        self._files = [above / machine._group / "cpu.stat" for machine in machines]

    def wait(self) -> bool:
        """Wait until they have settled; returns whether they did within a few seconds."""
        seen: list[tuple[float, float]] = []

        def calm() -> bool:
            seen.append((self._used_s(), time.monotonic()))
            if len(seen) == 1:
                return False
            before, now = seen[-2:]
            return (now[0] - before[0]) / (now[1] - before[1]) < _CALM

        try:
            return wait.until("machines settle", calm, timeout_s=_PATIENCE_S, interval_s=_LOOKS_EVERY_S)
        except wait.NeverHappened:
            return False

    def _used_s(self) -> float:
        return sum(used_s(file.read_text()) for file in self._files)


def used_s(stat: str) -> float:
    """CPU seconds of a control group's ``cpu.stat``.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "cpu.stat".
    """
    found = _USAGE.search(stat)
    if found is None:
        raise ValueError(f"no usage_usec in {stat!r}")
    return int(found[1]) / 1e6
