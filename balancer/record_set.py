"""Records below a prefix of the store that one writer keeps equal to what it knows from elsewhere.

Only records that differ are written, in transactions on what was read: a record that another has changed meanwhile is
read again with the refusal and compared anew. Several records go in one transaction, far fewer than etcd's limits of
operations (``--max-txn-ops``, 128) and bytes (``--max-request-bytes``, 1.5 MiB). A large record has a transaction of
its own; when the store refuses that one, the others are written all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from kvstore.codec import encode
from kvstore.first_read import FirstRead
from kvstore.own_writes import wait_visible
from kvstore.store import Compare, Delete, KeyValue, Op, Put, Store, absent, unchanged
from kvstore.watcher import Entry, View
from model.errors import CasFailed, HawseError, StoreError, StoreUnavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

_ATTEMPTS: Final = 16
_BATCH_RECORDS: Final = 50
_BATCH_BYTES: Final = 500_000


class _LeadsNoMore(CasFailed):
    """The guard does not hold."""


class RecordSet(Generic[T]):
    """The records below a prefix. Safe from any thread.

    Args:
        store: the cluster's state.
        view: of the records.
        read: makes a record of a key and its value, as the view does.
        what: of the records, in the plural, for messages.
    """

    def __init__(self, store: Store, view: View[T], read: Callable[[KeyValue], T], what: str) -> None:
        self._store = store
        self._view = view
        self._read_item = read
        self._what = what
        self._first_read = FirstRead(view, what)
        self._same: dict[str, tuple[KeyValue, T]] = {}
        """What was compared last and found to be the same: most of it comes again as the same object."""
        self._problems: dict[str, str] = {}
        """Which records the last write could not write, a sentence each."""

    def problems(self) -> Sequence[str]:
        """Which records could not be written the last time, a sentence each."""
        return tuple(self._problems.values())

    def all(self) -> Mapping[str, T]:
        """Every record by its key.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._first_read.require()
        return {key: entry.value for key, entry in self._view.items().items()}

    def write(
        self,
        wanted: Mapping[str, T | None],
        *,
        owned: Callable[[T], bool] = lambda _: True,
        guard: Sequence[Compare] = (),
    ) -> int:
        """Make records say what they should; None: there shall be none. Returns how many were written.

        A record that is not ``owned`` is never written over. What cannot be read is written over: who knows better?
        One that the store refuses by itself is a problem (:meth:`problems`) and keeps no other from being written.

        Raises:
            CasFailed: ``guard`` does not hold (any more), or others changed the same records, again and again.
            StoreError: the store refused several records together.
            StoreUnavailable: nothing has been read from the store yet, or it cannot be written.
        """
        self._first_read.require()
        entries = self._view.items()
        changes = {key: value for key, value in wanted.items() if self._changes(entries.get(key), key, value, owned)}
        known = {key: entries[key].item for key in changes if key in entries}
        revision = 0
        problems: dict[str, str] = {}
        for batch in _batches(changes):
            try:
                revision = max(revision, self._write_batch(batch, known, owned, guard))
            except (StoreUnavailable, _LeadsNoMore):
                raise
            except (StoreError, CasFailed) as err:
                if len(batch) > 1:
                    raise
                (key,) = batch
                problems[key] = f"{key} cannot be written to etcd: {err}"
                if problems[key] != self._problems.get(key):
                    log.warning("record cannot be written", extra={"key": key, "reason": str(err)})
        self._problems = problems
        if revision:
            wait_visible(self._view, revision)
        return len(changes) - len(problems)

    def _changes(self, entry: Entry[T] | None, key: str, wanted: T | None, owned: Callable[[T], bool]) -> bool:
        """Whether a record has to be written, and may be, as far as the view knows."""
        if entry is None:
            return wanted is not None
        item, value = self._same.get(key, (None, None))
        if wanted is not None and item is entry.item and value is wanted:
            return False
        if wanted is not None and wanted == entry.value:
            self._same[key] = (entry.item, wanted)
            return False
        self._same.pop(key, None)
        return owned(entry.value)

    def _write_batch(
        self,
        batch: dict[str, T | None],
        known: dict[str, KeyValue],
        owned: Callable[[T], bool],
        guard: Sequence[Compare],
    ) -> int:
        for _ in range(_ATTEMPTS):
            if not batch:
                return 0
            compare = [unchanged(known[key]) if key in known else absent(key) for key in batch]
            ops: list[Op] = [Delete(key) if value is None else Put(key, encode(value)) for key, value in batch.items()]
            result = self._store.txn([*guard, *compare], ops)
            if result.succeeded:
                log.debug("records written", extra={"what": self._what, "keys": sorted(batch)})
                return result.revision
            leads, now = result.current[: len(guard)], result.current[len(guard) :]
            if any(_revision(item) != one.mod_revision for one, item in zip(guard, leads, strict=True)):
                raise _LeadsNoMore(f"the {self._what} are written by another node now")
            for key, item in zip(batch, now, strict=True):
                known.pop(key, None)
                if item is not None:
                    known[key] = item
            batch = {key: value for key, value in batch.items() if self._differs(known.get(key), value, owned)}
        raise CasFailed(f"others changed the same {self._what} {_ATTEMPTS} times meanwhile")

    def _differs(self, item: KeyValue | None, wanted: T | None, owned: Callable[[T], bool]) -> bool:
        """The same of a record that was read with a refusal."""
        if item is None:
            return wanted is not None
        try:
            found = self._read_item(item)
        except HawseError:
            return True
        return owned(found) and found != wanted


def _batches(changes: Mapping[str, T | None]) -> Iterator[dict[str, T | None]]:
    batch: dict[str, T | None] = {}
    size = 0
    for key, value in changes.items():
        grows = len(key) if value is None else len(key) + len(encode(value))
        if batch and (len(batch) == _BATCH_RECORDS or size + grows > _BATCH_BYTES):
            yield batch
            batch, size = {}, 0
        batch[key] = value
        size += grows
    if batch:
        yield batch


def _revision(item: KeyValue | None) -> int:
    return 0 if item is None else item.mod_revision
