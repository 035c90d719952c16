"""Wait for a condition. The only place in the tests that polls: what can be waited for otherwise, is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_INTERVAL_S: Final = 0.05


class NeverHappened(AssertionError):
    """What was waited for did not come about in time; the text says what, and what was seen last."""


def until(what: str, look: Callable[[], T | None], *, timeout_s: float, interval_s: float = _INTERVAL_S) -> T:
    """Call ``look`` until it returns something true, and return that.

    Raises:
        NeverHappened: not within ``timeout_s`` seconds.
    """
    ends = time.monotonic() + timeout_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= ends:
            raise NeverHappened(f"not within {timeout_s:g} s: {what}; seen last: {seen!r}")
        time.sleep(interval_s)


def until_passes(check: Callable[[], T], *, timeout_s: float, interval_s: float = _INTERVAL_S) -> T:
    """Call ``check`` until it raises no AssertionError, and return what it returned.

    Raises:
        AssertionError: the one it raised last, after ``timeout_s`` seconds.
    """
    ends = time.monotonic() + timeout_s
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() >= ends:
                raise
        time.sleep(interval_s)
