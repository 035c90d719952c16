"""How long an entry of the kernel's has been idle."""

from __future__ import annotations

import ctypes


def idle_s(seen_s: int, now_s: int) -> int:
    """Seconds since a packet; the kernel's numbers have 32 bits and may be of a second that has not begun here.

    Args:
        seen_s: as the entry says.
        now_s: CLOCK_MONOTONIC in whole seconds.
    """
    return max(0, ctypes.c_int32(now_s - seen_s).value)
