"""Time, as something that is handed in, so that tests need not wait for it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Protocol

_READINGS: Final = 10
_NO_TIME_S: Final = 50e-6


class Clock(Protocol):
    """Two clocks: one to measure with, one to write down."""

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back, means nothing on another host."""
        ...

    def now(self) -> datetime:
        """The time of day in UTC; may jump."""
        ...


class SystemClock:
    """The clocks of this host."""

    def monotonic_s(self) -> float:
        """Seconds of the host's monotonic clock."""
        return time.monotonic()

    def now(self) -> datetime:
        """The host's time of day in UTC."""
        return datetime.now(UTC)


def zero_of_monotonic_us(clock: Clock) -> int:
    """When the monotonic clock stood at zero: microseconds since 1970, by the time of day as it is now.

    The clocks are read one after the other, and whoever reads may be made to wait in between: a reading counts when
    that took no time, or less than the others.
    """
    best_gap_s, best_us = float("inf"), 0
    for _ in range(_READINGS):
        before_s = clock.monotonic_s()
        now_us = round(clock.now().timestamp() * 1e6)
        gap_s = clock.monotonic_s() - before_s
        if gap_s < best_gap_s:
            best_gap_s, best_us = gap_s, now_us - round((before_s + gap_s / 2) * 1e6)
        if best_gap_s <= _NO_TIME_S:
            break
    return best_us


def rfc3339(moment: datetime) -> str:
    """Write a time as records carry it, ``2026-01-31T12:00:00.000001Z``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def age_s(now: datetime, written: str) -> float:
    """Seconds since a time that :func:`rfc3339` wrote; infinite when the record does not say."""
    try:
        return (now - datetime.fromisoformat(written)).total_seconds()
    except ValueError:
        return float("inf")
