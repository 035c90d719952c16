"""The identities of the cluster, read from memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from kvstore import keys
from kvstore.codec import decode
from kvstore.store import KeyValue, Store
from kvstore.watcher import Change, View
from model.errors import InvalidInput
from model.identities import IdentityRecord
from model.ids import IdentityId
from model.labels import RESERVED_PREFIX, Labels


def identity_view(store: Store) -> View[IdentityRecord]:
    """View of all identities; made stopped, because subscriptions come before ``start``."""
    return View(store, keys.IDENTITY_IDS, read_identity)


def read_identity(item: KeyValue) -> IdentityRecord:
    """Read and check one identity.

    Raises:
        InvalidInput: the number is not one that is allocated, the record cannot be read, or it has a label that only
            reserved identities have.
    """
    keys.parse_identity(item.key)
    record = decode(IdentityRecord, item.value, key=item.key)
    reserved = [name for name in record.labels if name.startswith(RESERVED_PREFIX)]
    if reserved:
        raise InvalidInput(f"etcd key {item.key} has label {reserved[0]!r}, which only reserved identities have")
    return record


class IdentityIndex:
    """Which number has which labels, both ways; follows a view of identities. Safe from any thread.

    Two numbers can have the same labels after a hand has changed etcd; the lower one counts then.
    """

    def __init__(self, view: View[IdentityRecord]) -> None:
        self._lock = threading.Lock()
        self._labels: dict[IdentityId, Labels] = {}
        self._numbers: dict[Labels, set[IdentityId]] = {}
        view.subscribe(self._on_identities)

    def labels_of(self, number: IdentityId) -> Labels | None:
        """The labels of an identity, None when it does not exist."""
        with self._lock:
            return self._labels.get(number)

    def number_of(self, labels: Labels) -> IdentityId | None:
        """The identity of a set of labels, None when it has none."""
        with self._lock:
            return min(self._numbers.get(labels, ()), default=None)

    def all(self) -> Mapping[IdentityId, Labels]:
        """Copy everything."""
        with self._lock:
            return dict(self._labels)

    def _on_identities(self, changes: Sequence[Change[IdentityRecord]]) -> None:
        with self._lock:
            for change in changes:
                number = keys.parse_identity(change.key)
                self._forget(number)
                if change.new is not None:
                    self._labels[number] = change.new.labels
                    self._numbers.setdefault(change.new.labels, set()).add(number)

    def _forget(self, number: IdentityId) -> None:
        labels = self._labels.pop(number, None)
        if labels is not None:
            self._numbers[labels].discard(number)
            if not self._numbers[labels]:
                del self._numbers[labels]
