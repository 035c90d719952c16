"""Time, as something that is handed in, so that tests need not wait for it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


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


def rfc3339(moment: datetime) -> str:
    """Write a time as records carry it, ``2026-01-31T12:00:00.000001Z``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def age_s(now: datetime, written: str) -> float:
    """Seconds since a time that :func:`rfc3339` wrote; infinite when the record does not say."""
    try:
        return (now - datetime.fromisoformat(written)).total_seconds()
    except ValueError:
        return float("inf")
