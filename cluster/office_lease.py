"""A lease for an office that few agents stand for, shorter than the agent's own.

It is granted when it is asked for the first time: an agent that never stands for the office costs the store nothing.
"""

from __future__ import annotations

import threading

from kvstore.lease import LeaseKeeper
from kvstore.store import LeaseId, Store


class OfficeLease:
    """Kept from the first question on. Safe from any thread.

    Args:
        store: where the lease is.
        ttl_s: how long an office stays with a host that died.
    """

    def __init__(self, store: Store, *, ttl_s: int) -> None:
        self._keeper = LeaseKeeper(store, {}, ttl_s=ttl_s)
        self._lock = threading.Lock()
        self._started = False
        self._stopped = False

    def lease(self) -> LeaseId | None:
        """The lease while it certainly lasts; None at first, until it has been granted."""
        with self._lock:
            if not (self._started or self._stopped):
                self._started = True
                self._keeper.start()
        return self._keeper.lease

    def start(self) -> None:
        """Do nothing yet."""

    def stop(self) -> None:
        """End the lease, and with it the office. Idempotent."""
        with self._lock:
            self._stopped = True
        if self._started:
            self._keeper.stop()
