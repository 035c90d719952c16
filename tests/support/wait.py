"""Wait for a condition. The only place in the tests that polls: what can be waited for otherwise, is.

Between two looks at least as much time goes by as the last one took, up to half a second: many are commands, and what
is waited for needs the processors, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_INTERVAL_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5


class NeverHappened(AssertionError):
    """What was waited for did not come about in time; the text says what, and what was seen last."""


def until(what: str, look: Callable[[], T | None], *, timeout_s: float, interval_s: float = _INTERVAL_S) -> T:
    """Call ``look`` until it returns something true, and return that.

    Raises:
        NeverHappened: not within ``timeout_s`` seconds.
    """
    ends = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= ends:
            raise NeverHappened(f"not within {timeout_s:g} s: {what}; seen last: {seen!r}")
        _pause(interval_s, began)


def until_passes(check: Callable[[], T], *, timeout_s: float, interval_s: float = _INTERVAL_S) -> T:
    """Call ``check`` until it raises no AssertionError, and return what it returned.

    Raises:
        AssertionError: the one it raised last, after ``timeout_s`` seconds.
    """
    ends = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        try:
            return check()
        except AssertionError:
            if time.monotonic() >= ends:
                raise
        _pause(interval_s, began)


def _pause(interval_s: float, began: float) -> None:
    took_s = time.monotonic() - began
    time.sleep(max(interval_s, min(took_s, _LONGEST_PAUSE_S)))
