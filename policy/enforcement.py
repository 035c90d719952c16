"""Says in the store which policy revision this node enforces, in a thread of its own.

The store may be away for as long as it likes: the newest statement is written when it is back. One that somebody has
deleted (the collector of nodes that were away too long) is written again.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.store import Put, Store
from kvstore.watcher import View
from model.errors import HawseError
from model.ids import NodeName
from model.policy_answers import Enforcement

log = logging.getLogger(__name__)

_STOP_S: Final = 2.0


class EnforcementPublisher:
    """Keeps ``/hawse/v1/enforced/<node>`` as this node says.

    Args:
        store: the cluster's state.
        view: of what all nodes say; not started yet.
        node: this node.
        backoff: waits after an error.
    """

    def __init__(
        self,
        store: Store,
        view: View[Enforcement],
        node: NodeName,
        *,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
    ) -> None:
        self._store = store
        self._view = view
        self._key = keys.enforced(node)
        self._backoff = backoff
        self._changed = threading.Condition()
        self._wanted: Enforcement | None = None
        self._written: Enforcement | None = None
        self._written_at = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="enforcement", daemon=True)
        # Of writes, not of changes: a deletion that comes right after the write leaves no change to tell of.
        view.subscribe_writes(self._look)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more; what was written stays, because the kernel goes on enforcing it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def publish(self, enforcement: Enforcement) -> None:
        """Say this from now on; returns at once. The same again is not written again."""
        with self._changed:
            self._wanted = enforcement
            self._changed.notify_all()

    def _look(self) -> None:
        """Write again what was written and is not there any more."""
        seen = self._view.revision
        gone = self._view.get(self._key) is None
        with self._changed:
            if gone and self._written_at and seen >= self._written_at:
                self._written = None
                self._written_at = 0
                self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._wanted != self._written)
                wanted = self._wanted
                if self._stopping or wanted is None:
                    return
            try:
                revision = self._store.txn([], [Put(self._key, encode(wanted))]).revision
            except HawseError as err:
                failures += 1
                delay_s = self._backoff.delay_s(failures)
                log.warning(
                    "enforced revision could not be written",
                    extra={"error": str(err), "failures": failures, "retry_in_s": round(delay_s, 3)},
                )
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, delay_s)
                continue
            failures = 0
            with self._changed:
                self._written, self._written_at = wanted, revision
            self._look()  # it may be gone already
