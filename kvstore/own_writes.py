"""Reading one's own writes: a registry that has written answers with what it wrote."""

from __future__ import annotations

import logging
from typing import Any, Final

from kvstore.watcher import View
from model.deadline import remaining_s

log = logging.getLogger(__name__)

_SEE_S: Final = 2.0


def wait_visible(view: View[Any], revision: int) -> None:
    """Wait until a write is visible in the view and its subscribers know it.

    When the view has lost the store this gives up: the write is done, and the view takes a new snapshot soon.

    Raises:
        DeadlineExceeded: the caller's time is over; the write is done.
    """
    if not view.wait_delivered(revision, remaining_s(_SEE_S)):
        log.warning("own write is not visible yet", extra={"revision": revision, "seen": view.revision})
