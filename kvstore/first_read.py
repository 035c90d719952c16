"""An agent that has just started knows nothing yet; that must not be taken for an empty cluster."""

from __future__ import annotations

from typing import Any, Final

from kvstore.watcher import View
from model.deadline import remaining_s
from model.errors import StoreUnavailable

_PATIENCE_S: Final = 5.0


class FirstRead:
    """Waits, once, until a view has been read and its subscribers know what is in it. Safe from any thread."""

    def __init__(self, view: View[Any], what: str) -> None:
        self._view = view
        self._what = what
        self._done = False

    def require(self) -> None:
        """Return at once when the view has been read before, however long ago.

        Raises:
            StoreUnavailable: it could not be read within the caller's time.
            DeadlineExceeded: the caller's time was over before.
        """
        if self._done:
            return
        if self._view.revision == 0:
            self._view.wait_synced(remaining_s(_PATIENCE_S))
        revision = self._view.revision
        if revision == 0 or not self._view.wait_delivered(revision, remaining_s(_PATIENCE_S)):
            raise StoreUnavailable(f"the {self._what} have not been read from etcd yet; try again")
        self._done = True
