"""A part of the store, kept up to date in memory: how every reader of the cluster's state reads.

1. Take a snapshot of the prefix at revision R; tell the subscribers how it differs from what they knew.
2. Watch from R + 1; put every batch into place at once.
3. On any error (stream broken, revision compacted, another cluster at the same address) begin again, after a backoff.

Nothing is resumed: a watch that broke is followed by a new snapshot, so there is no gap to reason about, and a change
seen twice is no change. Costs one copy of the prefix in memory and two threads; a resync reads the prefix once.

Source: https://etcd.io/docs/v3.4/learning/api/ (Watch streams).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.delivery import Change, Delivery
from kvstore.store import EventKind, KeyValue, Snapshot, Store, Watch, WatchBatch
from model.errors import HawseError, InvalidInput, StoreError, StoreUnavailable

__all__ = ["Change", "Entry", "View"]

T = TypeVar("T")
log = logging.getLogger(__name__)

_STOP_S: Final = 1.0
_CONFIRM_AFTER_S: Final = 0.05
_CONFIRM_LIMIT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A decoded value and the key as the store has it."""

    value: T
    item: KeyValue
    """Without its bytes in a view that does not keep them: see :meth:`whole_item`."""

    fingerprint: int
    """Of the bytes."""

    def shows(self, item: KeyValue) -> bool:
        """Whether this is that key as it stands there: another store may have come to the same revision."""
        mine = self.item
        return (mine.mod_revision, mine.create_revision, mine.lease, self.fingerprint) == (
            item.mod_revision,
            item.create_revision,
            item.lease,
            hash(item.value),
        )

    def whole_item(self) -> KeyValue:
        """The key with its bytes; when they were not kept, as this version writes the value."""
        if self.item.value:
            return self.item
        return replace(self.item, value=encode(self.value))


class View(Generic[T]):
    """A prefix of the store kept up to date in memory by a thread.

    Readers never touch the store and never block on it; while the store is away they see what was known last.

    Args:
        store: where the keys are.
        prefix: which keys.
        decode: makes a value of a key; when it raises, the key is treated as absent (logged once per revision).
        backoff: waits between resyncs, and before a subscriber that failed is called again.
        keep_bytes: whether entries keep the bytes of their keys. In a large view they take as much as the values.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        decode: Callable[[KeyValue], T],
        *,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        keep_bytes: bool = True,
    ) -> None:
        self._store = store
        self._keep_bytes = keep_bytes
        self._prefix = prefix
        self._decode = decode
        self._backoff = backoff
        self._changed = threading.Condition()
        self._entries: dict[str, Entry[T]] = {}
        self._undecodable: dict[str, int] = {}
        self._version = 0
        self._revision = 0
        self._written_revision = 0
        self._on_write: list[Callable[[], None]] = []
        self._generation = 0
        self._synced = False
        self._resyncs = 0
        self._watch: Watch | None = None
        self._stopping = threading.Event()
        self._delivery: Delivery[T] = Delivery(prefix, backoff)
        self._thread = threading.Thread(target=self._run, name=f"view {prefix}", daemon=True)

    def start(self) -> None:
        """Begin to follow the store; returns at once. A view is started once."""
        self._delivery.start()
        self._thread.start()

    def stop(self) -> None:
        """Follow the store no more; what was known stays readable. Idempotent, also before :meth:`start`."""
        self._stopping.set()
        with self._changed:
            watch = self._watch
        if watch is not None:
            watch.cancel()
        if self._thread.is_alive():
            # A thread that waits for a dead store ends by itself when that call does; nobody has to wait for it.
            self._thread.join(_STOP_S)
        self._delivery.stop(_STOP_S)

    def get(self, key: str) -> Entry[T] | None:
        """Read one key as it is known now."""
        with self._changed:
            return self._entries.get(key)

    def items(self) -> Mapping[str, Entry[T]]:
        """Copy all entries, as they stood together at one revision."""
        with self._changed:
            return dict(self._entries)

    @property
    def version(self) -> int:
        """Another number whenever :meth:`items` may be others. A store made anew may come to the same revision."""
        with self._changed:
            return self._version

    @property
    def revision(self) -> int:
        """Every change up to this store revision is visible here; 0 before the first snapshot."""
        with self._changed:
            return self._revision

    @property
    def written_revision(self) -> int:
        """Store revision of the newest write below the prefix, except deletions that were before the first snapshot."""
        with self._changed:
            return self._written_revision

    @property
    def synced(self) -> bool:
        """Whether a snapshot was taken and the watch runs."""
        with self._changed:
            return self._synced

    @property
    def resyncs(self) -> int:
        """How often the view began again; for metrics."""
        with self._changed:
            return self._resyncs

    def subscribe(self, on_change: Callable[[Sequence[Change[T]]], None]) -> None:
        """Be told of changes, the first snapshot's included; call before :meth:`start`.

        After a resync only the difference to what was known is told. Calls come one at a time from a thread of the
        view's own, after the view shows the change; when one raises, its changes come again (:mod:`kvstore.delivery`).
        """
        self._delivery.subscribe(on_change)

    def subscribe_writes(self, on_write: Callable[[], None]) -> None:
        """Be told that something may have been written, without what; call before :meth:`start`.

        Unlike :meth:`subscribe` this leaves nothing out: also a value written again, a key made and deleted in between,
        one that cannot be read, and every new snapshot. Called in the view's own thread after the view shows the write
        and its :attr:`revision`; has to return at once and not to raise.
        """
        self._on_write.append(on_write)

    def wait_synced(self, timeout_s: float) -> bool:
        """Wait until :attr:`synced`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._synced, timeout_s)

    def wait_revision(self, revision: int, timeout_s: float) -> bool:
        """Wait until a store revision is visible here, as after a write of one's own.

        A revision that changed nothing below the prefix causes no event; after a short while the store is asked whether
        there is anything the view does not have yet.
        """
        ends = time.monotonic() + timeout_s
        pause_s = _CONFIRM_AFTER_S
        while True:
            left_s = max(0.0, ends - time.monotonic())
            with self._changed:
                if self._changed.wait_for(lambda: self._revision >= revision, min(left_s, pause_s)):
                    return True
            if left_s <= pause_s:
                return False
            self._confirm()
            pause_s = min(2 * pause_s, _CONFIRM_LIMIT_S)

    def wait_delivered(self, revision: int, timeout_s: float) -> bool:
        """Wait until a store revision is visible here and every subscriber has taken its changes."""
        ends = time.monotonic() + timeout_s
        if not self.wait_revision(revision, timeout_s):
            return False
        with self._changed:
            generation = self._generation
        return self._delivery.wait(generation, max(0.0, ends - time.monotonic()))

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            followed_since = time.monotonic()
            try:
                self._follow()
                error: HawseError = StoreUnavailable("the watch ended")
            except HawseError as err:
                error = err
            except Exception as err:
                log.exception("view broke", extra={"prefix": self._prefix})
                error = StoreError(f"unexpected: {err}")
            with self._changed:
                self._watch = None
                self._synced = False
                if self._stopping.is_set():
                    return
                self._resyncs += 1
                self._changed.notify_all()
            # Only a watch that lived counts as success: a store that reads but breaks every watch is spared too.
            lived = time.monotonic() - followed_since > self._backoff.limit_s
            failures = 1 if lived else failures + 1
            delay_s = self._backoff.delay_s(failures)
            log.warning(
                "view lost the store, it takes a new snapshot",
                extra={
                    "prefix": self._prefix,
                    "error": str(error),
                    "failures": failures,
                    "retry_in_s": round(delay_s, 3),
                },
            )
            self._stopping.wait(delay_s)

    def _follow(self) -> None:
        snapshot = self._store.list(self._prefix)
        self._adopt(snapshot)
        with self._store.watch(self._prefix, snapshot.revision + 1) as watch:
            with self._changed:
                # stop() either sees this watch, or is seen here.
                self._watch = watch
                if self._stopping.is_set():
                    return
                self._synced = True
                self._changed.notify_all()
            log.debug("view synced", extra={"prefix": self._prefix, "revision": snapshot.revision})
            for batch in watch:
                self._apply(batch)

    def _adopt(self, snapshot: Snapshot) -> None:
        found = {item.key: item for item in snapshot.items}
        with self._changed:
            gone = [key for key in self._entries if key not in found]
            changes = [self._place(key, None) for key in gone]
            changes += [self._place(item.key, item) for item in snapshot.items]
            self._undecodable = {key: rev for key, rev in self._undecodable.items() if key in found}
            # A store whose revision went back is another one.
            known = self._written_revision if self._written_revision <= snapshot.revision else 0
            self._written_revision = max(known, *(item.mod_revision for item in snapshot.items), 0)
            self._publish(changes, snapshot.revision)
        self._tell_of_writes()

    def _apply(self, batch: WatchBatch) -> None:
        with self._changed:
            changes = [
                self._place(event.item.key, event.item if event.kind is EventKind.PUT else None)
                for event in batch.events
                if event.item.mod_revision > self._revision
            ]
            self._written_revision = max(
                self._written_revision, *(event.item.mod_revision for event in batch.events), 0
            )
            self._publish(changes, max(self._revision, batch.revision))
        if batch.events:
            self._tell_of_writes()

    def _tell_of_writes(self) -> None:
        for on_write in self._on_write:
            on_write()

    def _place(self, key: str, item: KeyValue | None) -> Change[T]:
        old = self._entries.get(key)
        if old is not None and item is not None and old.shows(item):
            return Change(key, old.value, old.value)
        new = None if item is None else self._entry(item)
        if item is None:
            self._undecodable.pop(key, None)
        if new is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = new
        if old is not None or new is not None:
            self._version += 1
        return Change(key, None if old is None else old.value, None if new is None else new.value)

    def _entry(self, item: KeyValue) -> Entry[T] | None:
        try:
            value = self._decode(item)
        except Exception as err:
            if self._undecodable.get(item.key) != item.mod_revision:
                self._undecodable[item.key] = item.mod_revision
                # An InvalidInput says all; anything else is a mistake in hawse and shows where.
                log.warning(
                    "value in the store cannot be read, the key is treated as absent",
                    extra={"key": item.key, "revision": item.mod_revision, "error": str(err)},
                    exc_info=not isinstance(err, InvalidInput),
                )
            return None
        self._undecodable.pop(item.key, None)
        return Entry(value, item if self._keep_bytes else replace(item, value=b""), hash(item.value))

    def _publish(self, changes: Sequence[Change[T]], revision: int) -> None:
        self._revision = revision
        self._generation += 1
        self._delivery.offer([change for change in changes if change.old != change.new], self._generation)
        self._changed.notify_all()

    def _confirm(self) -> None:
        """Raise the revision when the store has nothing below the prefix that is not known here."""
        with self._changed:
            since = self._revision
        try:
            newest = self._store.newest(self._prefix)
        except HawseError:
            return
        with self._changed:
            # As many keys as are known, and the last that was written is known as it is: none was written since, and
            # none has gone. Events up to there that are still on their way changed nothing in the end; _apply leaves
            # them out. Where others have come meanwhile the two do not belong together, and it is asked again.
            if (
                self._synced
                and since == self._revision < newest.revision
                and newest.count == len(self._entries) + len(self._undecodable)
                and (newest.item is None or newest.item.mod_revision == self._known_revision(newest.item.key))
            ):
                self._revision = newest.revision
                self._changed.notify_all()

    def _known_revision(self, key: str) -> int | None:
        entry = self._entries.get(key)
        return self._undecodable.get(key) if entry is None else entry.item.mod_revision
