"""Leave nothing behind when a use case fails half-way."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator
from typing import Final

from model.deadline import deadline
from model.errors import HawseError

log = logging.getLogger(__name__)

WORK_TIMEOUT_S: Final = 8.0
UNDO_TIMEOUT_S: Final = 2.0
"""Work and undo together stay within the ten seconds of a handler."""


class Undo:
    """The steps that take back what has been done so far, last one first."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def push(self, what: str, take_back: Callable[[], object]) -> None:
        """Add a step **before** doing what it takes back: a write that failed may have been done all the same.

        ``take_back`` has to be harmless when there is nothing to take back.
        """
        self._stack.callback(_try, what, take_back)

    def forget(self) -> None:
        """Drop all steps: nothing was done, or it stays."""
        self._stack.pop_all()

    def run(self) -> None:
        """Take everything back; a step that fails is logged and does not keep the others from running."""
        with deadline(UNDO_TIMEOUT_S):
            self._stack.close()


@contextlib.contextmanager
def undone_on_error() -> Iterator[Undo]:
    """Run the block with most of the handler's time; when it raises, undo its steps with time of their own."""
    undo = Undo()
    try:
        with deadline(WORK_TIMEOUT_S):
            yield undo
    except BaseException:
        # A fresh context, because a deadline that is over would stop the undo as well.
        contextvars.Context().run(undo.run)
        raise


def _try(what: str, take_back: Callable[[], object]) -> None:
    try:
        take_back()
    except HawseError as err:
        # The first error is the one to report; what stays behind here is found by the reconciliation.
        log.warning("undo failed", extra={"step": what, "reason": str(err)})
