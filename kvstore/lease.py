"""Keys that exist as long as this process does: a node's liveness, the cluster's leadership.

1. Grant a lease, put the keys under it; every third of its time renew it and look whether the keys are still so.
2. The lease is gone (the store forgot it, or was away for longer than it lasts): grant another and put the keys again.
   A key that somebody else changed or deleted is put again too, and a warning says so.
3. The store is away: try again after a backoff. :attr:`LeaseKeeper.lease` tells the lease until it may have ended, then
   None, whether or not the store can be asked: who acts on the lease must stop by itself.

A key that only one process may have (the leader's) is not among the kept ones: create it with ``absent(key)`` and
``Put(key, value, keeper.lease)``; it lives and dies with the same lease.

Costs one thread, and two small calls in a third of the lease's time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from kvstore.backoff import Backoff
from kvstore.store import Compare, LeaseId, Put, Store
from model.deadline import deadline
from model.errors import HawseError, NotFound

log = logging.getLogger(__name__)

_STOP_S: Final = 1.0


class LeaseKeeper:
    """A lease that is kept alive, and the keys under it.

    Args:
        store: where the lease is.
        keys: what to keep under the lease; more can be added with :meth:`put`.
        ttl_s: how long the keys outlive a process that died.
        backoff: waits after a failure; never longer than a third of the lease's time.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        store: Store,
        keys: Mapping[str, bytes],
        *,
        ttl_s: int = 15,
        backoff: Backoff = Backoff(first_s=0.2),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._backoff = backoff
        self._clock = clock
        self._changed = threading.Condition()
        self._keys = dict(keys)
        self._lease: LeaseId | None = None
        self._ends = 0.0
        self._written: dict[str, Compare] = {}
        self._stopping = False
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def lease(self) -> LeaseId | None:
        """The lease, as long as it is certain that the store has not ended it."""
        with self._changed:
            return self._lease if self._clock() < self._ends else None

    def start(self) -> None:
        """Begin to keep the lease; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the lease and so delete its keys. Waits a second; a store that is away ends it by itself. Idempotent."""
        self._stopping = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def put(self, key: str, value: bytes) -> None:
        """Keep one more key, or another value; written by the keeper's thread, at once if the store is there."""
        with self._changed:
            self._keys[key] = value
            self._written.pop(key, None)
        self._wanted.set()

    def wait_kept(self, timeout_s: float) -> bool:
        """Wait until there is a lease and all keys are written."""
        with self._changed:
            return self._changed.wait_for(lambda: self.lease is not None and self._complete(), timeout_s)

    def _complete(self) -> bool:
        return self._keys.keys() == self._written.keys()

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            delay_s = self._ttl_s / 3
            try:
                self._keep()
                failures = 0
            except HawseError as err:
                failures += 1
                delay_s = min(self._backoff.delay_s(failures), delay_s)
                log.warning(
                    "lease not renewed",
                    extra={"keys": sorted(self._keys), "error": str(err), "retry_in_s": round(delay_s, 3)},
                )
            self._wanted.wait(delay_s)
            self._wanted.clear()
        self._revoke()

    def _keep(self) -> None:
        # The time before the call counts: the store may have begun the lease's time right after it.
        asked = self._clock()
        if self._lease is not None and not self._store.renew_lease(self._lease):
            log.warning("lease lost", extra={"lease": f"{self._lease:x}", "keys": sorted(self._keys)})
            self._forget()
        if self._lease is None:
            asked = self._clock()
            self._lease = self._store.grant_lease(self._ttl_s)
        with self._changed:
            self._ends = asked + self._ttl_s
        try:
            self._write(self._lease)
        except NotFound:
            self._forget()
            self._wanted.set()

    def _write(self, lease: LeaseId) -> None:
        with self._changed:
            keys, compare, complete = dict(self._keys), tuple(self._written.values()), self._complete()
        if complete:
            result = self._store.txn(compare, [])
            if result.succeeded:
                return
            log.warning("leased keys were changed by another, putting them again", extra={"keys": sorted(keys)})
        result = self._store.txn([], [Put(key, value, lease) for key, value in keys.items()])
        with self._changed:
            # A put() meanwhile has taken its key out of what is written; it stays out, and wakes the thread again.
            current = {key for key, value in keys.items() if self._keys[key] == value}
            self._written = {key: Compare(key, result.revision) for key in current}
            self._changed.notify_all()

    def _forget(self) -> None:
        with self._changed:
            self._lease = None
            self._ends = 0.0
            self._written = {}

    def _revoke(self) -> None:
        if self._lease is None:
            return
        lease = self._lease
        self._forget()
        try:
            with deadline(_STOP_S):
                self._store.revoke_lease(lease)
        except HawseError as err:
            log.info("lease not revoked, it ends by itself", extra={"ttl_s": self._ttl_s, "error": str(err)})
