"""How much CPU the whole machine has spent: user, system, softirq and everything else that is not idle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """CPU seconds since boot, of all processors; the difference of two calls is what came between."""
    return busy_of(_STAT.read_text()) / _TICKS_S


def busy_of(stat: str) -> int:
    """The same in ticks, of a text of /proc/stat.

    Time that the hypervisor took away is not the machine's, and what guests spent is in ``user`` and ``nice`` already.

    Source: proc(5), /proc/stat.
    """
    user, nice, system, _, _, irq, softirq = map(int, stat.split("\n", 1)[0].split()[1:8])
    return user + nice + system + irq + softirq
