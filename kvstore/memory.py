"""A store in memory: what etcd does, without etcd, and with the failures of etcd on request.

It is a public fake: the contract suite holds it to the same behaviour as :class:`kvstore.etcd.EtcdStore`, and its
controls (:meth:`MemoryStore.fail_with`, :meth:`~MemoryStore.break_watches`, :meth:`~MemoryStore.compact`,
:meth:`~MemoryStore.lose_everything`, :meth:`~MemoryStore.expire_leases`, :meth:`~MemoryStore.report_progress`) let a
test bring about what a cluster does on a bad day. Nothing survives the process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from kvstore.rules import refuse_repeated_keys, refuse_start
from kvstore.store import (
    Compare,
    Delete,
    Event,
    EventKind,
    KeyValue,
    LeaseId,
    Newest,
    Op,
    Put,
    Snapshot,
    StoreStatus,
    TxnResult,
    Watch,
    WatchBatch,
)
from model.deadline import remaining_s
from model.errors import Compacted, NotFound, StoreError, StoreUnavailable

_TIMEOUT_S: Final = 3.0


@dataclass(slots=True)
class _Lease:
    ttl_s: int
    ends: float


class MemoryStore:
    """The Store Protocol on dictionaries. Thread safe.

    Args:
        clock: seconds that never go back; a test that moves its own clock calls :meth:`expire_leases` afterwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._items: dict[str, KeyValue] = {}
        self._history: list[WatchBatch] = []
        self._revision = 1
        self._compacted = 0
        self._leases: dict[LeaseId, _Lease] = {}
        self._last_lease = 0
        self._watches: list[_MemoryWatch] = []
        self._failure: StoreError | None = None
        self._closed = False

    def get(self, key: str) -> KeyValue | None:
        """See :meth:`kvstore.store.Store.get`."""
        with self._changed:
            self._begin()
            return self._items.get(key)

    def list(self, prefix: str) -> Snapshot:
        """See :meth:`kvstore.store.Store.list`."""
        with self._changed:
            self._begin()
            return Snapshot(
                tuple(self._items[key] for key in sorted(self._items) if key.startswith(prefix)), self._revision
            )

    def newest(self, prefix: str) -> Newest:
        """See :meth:`kvstore.store.Store.newest`."""
        with self._changed:
            self._begin()
            found = [item for key, item in self._items.items() if key.startswith(prefix)]
            last = max(found, key=lambda item: item.mod_revision, default=None)
            return Newest(len(found), None if last is None else replace(last, value=b""), self._revision)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """See :meth:`kvstore.store.Store.txn`."""
        refuse_repeated_keys(ops)
        with self._changed:
            self._begin()
            current = tuple(self._items.get(item.key) for item in compare)
            holds = all(
                item.mod_revision == (0 if now is None else now.mod_revision)
                for item, now in zip(compare, current, strict=True)
            )
            if not holds:
                return TxnResult(succeeded=False, revision=self._revision, current=current)
            for op in ops:
                if isinstance(op, Put) and op.lease is not None and op.lease not in self._leases:
                    raise NotFound(f"lease {op.lease:x} for {op.key} does not exist any more")
            self._write(ops)
            return TxnResult(succeeded=True, revision=self._revision)

    def watch(self, prefix: str, start_revision: int) -> Watch:
        """See :meth:`kvstore.store.Store.watch`."""
        refuse_start(start_revision)
        with self._changed:
            self._begin()
            watch = _MemoryWatch(self._changed, prefix, start_revision, self._expire)
            if start_revision <= self._compacted:
                watch.fail(Compacted(f"revision {start_revision} is compacted, the oldest is {self._compacted + 1}"))
            elif start_revision > self._revision + 1:
                watch.fail(StoreUnavailable(f"the store is at {self._revision}, behind revision {start_revision - 1}"))
            else:
                for batch in self._history:
                    watch.offer(batch)
                self._watches.append(watch)
            return watch

    def grant_lease(self, ttl_s: int) -> LeaseId:
        """See :meth:`kvstore.store.Store.grant_lease`."""
        with self._changed:
            self._begin()
            self._last_lease += 1
            lease = LeaseId(self._last_lease)
            self._leases[lease] = _Lease(ttl_s, self._clock() + ttl_s)
            return lease

    def renew_lease(self, lease: LeaseId) -> bool:
        """See :meth:`kvstore.store.Store.renew_lease`."""
        with self._changed:
            self._begin()
            held = self._leases.get(lease)
            if held is None:
                return False
            held.ends = self._clock() + held.ttl_s
            return True

    def revoke_lease(self, lease: LeaseId) -> None:
        """See :meth:`kvstore.store.Store.revoke_lease`."""
        with self._changed:
            self._begin()
            self._end_lease(lease)

    def status(self) -> StoreStatus:
        """See :meth:`kvstore.store.Store.status`."""
        with self._changed:
            failure = StoreUnavailable("the store is closed") if self._closed else self._failure
            if failure is not None:
                return StoreStatus(healthy=False, detail=str(failure), endpoints=("memory",))
            size_bytes = sum(len(item.key) + len(item.value) for item in self._items.values())
            return StoreStatus(
                healthy=True,
                detail="memory",
                endpoints=("memory",),
                revision=self._revision,
                db_size_bytes=size_bytes,
            )

    def close(self) -> None:
        """See :meth:`kvstore.store.Store.close`."""
        with self._changed:
            self._closed = True
            for watch in tuple(self._watches):
                watch.cancel()
            self._watches.clear()

    def fail_with(self, error: StoreError | None) -> None:
        """Let every call raise ``error`` from now on, until called with None. Running watches go on."""
        with self._changed:
            self._failure = error

    def break_watches(self, error: StoreError | None = None) -> None:
        """End every running watch with ``error`` (default: StoreUnavailable), as a member that dies does."""
        with self._changed:
            for watch in self._watches:
                watch.fail(error or StoreUnavailable("the watch was broken on purpose"))
            self._watches.clear()

    def compact(self, revision: int | None = None) -> None:
        """Forget the history up to and including ``revision`` (default: all of it). Running watches go on."""
        with self._changed:
            self._compacted = max(self._compacted, self._revision if revision is None else revision)
            self._history = [batch for batch in self._history if batch.revision > self._compacted]

    def lose_everything(self) -> None:
        """Be a new, empty cluster at the same address: no key, no lease, revision 1; running watches break."""
        with self._changed:
            self._items.clear()
            self._history.clear()
            self._leases.clear()
            self._revision, self._compacted = 1, 0
            self.break_watches()

    def expire_leases(self) -> None:
        """Look at a clock that a test has moved; the store does so itself with the real one."""
        with self._changed:
            self._expire()

    def report_progress(self) -> None:
        """Send every running watch an empty batch with the store's revision, as etcd does every ten minutes."""
        with self._changed:
            for watch in self._watches:
                watch.offer(WatchBatch((), self._revision))

    def _begin(self) -> None:
        remaining_s(_TIMEOUT_S)
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._failure is not None:
            raise self._failure
        self._expire()

    def _expire(self) -> float | None:
        """End the leases that are over; seconds until the next one ends."""
        now = self._clock()
        for lease in [lease for lease, held in self._leases.items() if held.ends <= now]:
            self._end_lease(lease)
        return min((held.ends - now for held in self._leases.values()), default=None)

    def _end_lease(self, lease: LeaseId) -> None:
        if self._leases.pop(lease, None) is not None:
            self._write([Delete(key) for key in sorted(self._items) if self._items[key].lease == lease])

    def _write(self, ops: Sequence[Op]) -> None:
        # As in etcd, a transaction that changes nothing makes no revision.
        ops = [op for op in ops if isinstance(op, Put) or op.key in self._items]
        if not ops:
            return
        self._revision += 1
        batch = WatchBatch(tuple(self._apply(op) for op in ops), self._revision)
        self._history.append(batch)
        self._watches = [watch for watch in self._watches if watch.running]
        for watch in self._watches:
            watch.offer(batch)

    def _apply(self, op: Op) -> Event:
        if isinstance(op, Delete):
            del self._items[op.key]
            return Event(EventKind.DELETE, KeyValue(op.key, b"", self._revision, 0))
        before = self._items.get(op.key)
        created = self._revision if before is None else before.create_revision
        item = KeyValue(op.key, op.value, self._revision, created, op.lease)
        self._items[op.key] = item
        return Event(EventKind.PUT, item)


class _MemoryWatch:
    """A queue that the store fills, under the store's own lock."""

    def __init__(
        self, changed: threading.Condition, prefix: str, start_revision: int, expire: Callable[[], float | None]
    ) -> None:
        self._changed = changed
        self._expire = expire
        self._prefix = prefix
        self._start_revision = start_revision
        self._queue: deque[WatchBatch] = deque()
        self._error: StoreError | None = None
        self.running = True

    def offer(self, batch: WatchBatch) -> None:
        """Queue what of a batch belongs to this watch."""
        if batch.revision < self._start_revision:
            return
        events = tuple(event for event in batch.events if event.item.key.startswith(self._prefix))
        if events or not batch.events:
            self._queue.append(replace(batch, events=events))
            self._changed.notify_all()

    def fail(self, error: StoreError) -> None:
        """End the iteration with an error, after what is queued."""
        self._error = error
        self.running = False
        self._changed.notify_all()

    def __iter__(self) -> Iterator[WatchBatch]:
        while True:
            with self._changed:
                while self.running:
                    # A key may go because its lease ends, with nobody calling the store at that time.
                    until_expiry_s = self._expire()
                    if self._queue:
                        break
                    self._changed.wait(until_expiry_s)
                if self._queue:
                    batch = self._queue.popleft()
                elif self._error is not None:
                    raise self._error
                else:
                    return
            yield batch

    def cancel(self) -> None:
        with self._changed:
            self.running = False
            self._error = None
            self._queue.clear()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
