"""The seam to the cluster store: what hawse needs of etcd, and no more.

How it is used:

1. Every write is one transaction on ``mod_revision`` (:func:`absent`, :func:`unchanged`); no lock is trusted alone.
2. Readers keep a view: a snapshot at revision R, then a watch from R + 1 (:mod:`kvstore.watcher`). A revision is
   global, so «I have seen revision N» is enough to know that a write of N is visible.
3. Blocking calls take the time that :func:`model.deadline.remaining_s` leaves, and at most the store's own time limit.

Keys are text, values are bytes (JSON, see :mod:`kvstore.codec`). Two implementations, one contract suite
(``tests/contract/test_store.py``): :class:`kvstore.etcd.EtcdStore`, :class:`kvstore.memory.MemoryStore`.

Source: https://etcd.io/docs/v3.4/learning/api/ (KV, Watch, Lease).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NewType, Protocol, Self, TypeAlias

LeaseId = NewType("LeaseId", int)


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key at one moment."""

    key: str
    value: bytes
    mod_revision: int
    """Revision of the last write to this key."""
    create_revision: int
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys below a prefix, sorted by key, as they stood together at ``revision``."""

    items: tuple[KeyValue, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Newest:
    """What one can say of all keys below a prefix without reading them, as they stood together at ``revision``."""

    count: int
    item: KeyValue | None
    """The key that was written last, without its value; None when there are no keys."""
    revision: int


@dataclass(frozen=True, slots=True)
class Compare:
    """True when the key was last written at ``mod_revision``; 0 means «does not exist»."""

    key: str
    mod_revision: int


def absent(key: str) -> Compare:
    """The key must not exist."""
    return Compare(key, 0)


def unchanged(item: KeyValue) -> Compare:
    """The key must still be what was read."""
    return Compare(item.key, item.mod_revision)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a value; with a lease the key goes when the lease does."""

    key: str
    value: bytes
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; no error when it does not exist."""

    key: str


Op: TypeAlias = Put | Delete


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Outcome of a transaction."""

    succeeded: bool
    """Whether every comparison held and the operations were done; otherwise nothing was written."""
    revision: int
    """Store revision after the transaction."""
    current: tuple[KeyValue | None, ...] = ()
    """When it did not succeed: the compared keys as they are now, in the order of the comparisons (None: absent), read
    in the same transaction, so a retry needs no further round trip."""


class EventKind(enum.Enum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key. For a deletion ``item.value`` is empty, ``item.mod_revision`` that of the deletion."""

    kind: EventKind
    item: KeyValue


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Changes in the order of their revisions; never a part of one revision.

    A batch may be empty: it then only says how far the store has come (progress notification).
    """

    events: tuple[Event, ...]
    revision: int


class Watch(Protocol):
    """A running watch. Iterating blocks; :meth:`cancel` (from any thread) ends the iteration."""

    def __iter__(self) -> Iterator[WatchBatch]:
        """Yield batches until cancelled.

        Raises:
            Compacted: the start revision (or one not yet delivered) has been compacted away.
            StoreUnavailable: the stream broke; changes may have been missed, take a new snapshot.
        """
        ...

    def cancel(self) -> None:
        """End the watch; idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What an operator wants to know of the store."""

    healthy: bool
    detail: str
    """One line: endpoint and version, or why it is not healthy."""
    endpoints: tuple[str, ...]
    revision: int | None = None
    db_size_bytes: int | None = None


class Store(Protocol):
    """A consistent, watchable key-value store. All methods may be called from any thread.

    Every method but :meth:`status` raises:
        StoreUnavailable: the store cannot be reached, has no leader, or did not answer in time. A write may or may not
            have been done; that is why every write of hawse is idempotent.
        DeadlineExceeded: the caller's own deadline was over before the call was made.
    """

    def get(self, key: str) -> KeyValue | None:
        """Read one key, linearizable."""
        ...

    def list(self, prefix: str) -> Snapshot:
        """Read all keys that start with ``prefix``, linearizable, sorted by key."""
        ...

    def newest(self, prefix: str) -> Newest:
        """Count all keys that start with ``prefix`` and find the one that was written last, linearizable."""
        ...

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """Do all ``ops`` in one revision if every comparison holds, otherwise nothing.

        An empty ``compare`` always holds. A key may stand at most once in ``ops``.

        Raises:
            NotFound: the lease of a ``Put`` does not exist any more.
            InvalidInput: a key stands twice in ``ops``.
        """
        ...

    def watch(self, prefix: str, start_revision: int) -> Watch:
        """Deliver every change below ``prefix`` from ``start_revision`` on, in order.

        A store that has not yet come to ``start_revision - 1`` is another one than the snapshot's (or a member that is
        behind): the iteration raises StoreUnavailable.
        """
        ...

    def grant_lease(self, ttl_s: int) -> LeaseId:
        """Create a lease that ends ``ttl_s`` seconds after its last renewal."""
        ...

    def renew_lease(self, lease: LeaseId) -> bool:
        """Renew a lease; False when it does not exist any more (its keys are gone)."""
        ...

    def revoke_lease(self, lease: LeaseId) -> None:
        """End a lease and delete its keys; no error when it does not exist."""
        ...

    def status(self) -> StoreStatus:
        """Ask how the store is; never raises a StoreError."""
        ...

    def close(self) -> None:
        """Release connections; running watches end. Idempotent."""
        ...
