"""The time a piece of work has left, carried along by the thread that does it.

dockerd may wait for a plugin without any time limit (after its own restart it has none), so every handler sets its own
deadline and everything below that can block asks :func:`remaining_s` how long it may.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Iterator

from model.errors import DeadlineExceeded

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


@contextlib.contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """Give the work inside the block at most ``timeout_s`` seconds; a nested block can only shorten that."""
    ends = time.monotonic() + timeout_s
    outer = _deadline.get()
    token = _deadline.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining_s(at_most_s: float) -> float:
    """Seconds that are left, but never more than ``at_most_s``.

    Raises:
        DeadlineExceeded: nothing is left.
    """
    ends = _deadline.get()
    if ends is None:
        return at_most_s
    left = ends - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("the request ran out of time; it may be repeated")
    return min(left, at_most_s)
