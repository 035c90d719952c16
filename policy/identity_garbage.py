"""Deletes identities that nobody has any more; done by the cluster's leader.

In two phases, each a transaction on what was read: an identity that no endpoint has is marked, and deleted when it was
marked, and unchanged, for the grace period. Whoever wants it meanwhile clears the mark (:mod:`policy.identities`), and
that changes its revision: the deletion then fails. The period is measured here, so clocks of nodes need not agree, and
a new leader begins to count anew.

Now and then the claims (``by-labels``) are compared with the records, for what a hand has deleted or changed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from kvstore import keys
from kvstore.codec import encode
from kvstore.store import Compare, Delete, KeyValue, Op, Put, Store, absent, unchanged
from kvstore.watcher import Entry, View
from model.clock import Clock, rfc3339
from model.identities import IdentityRecord
from model.ids import IdentityId
from model.labels import Labels
from model.overdue import Overdue
from policy.identities import claimed_number

log = logging.getLogger(__name__)

GRACE_S: Final = 600.0
"""How long an identity stays that no endpoint has: long enough for a node whose view is late to use it."""
_WRITES_AT_ONCE: Final = 250
"""Writes in one look; the rest waits for the next one, because the same thread renews what keeps this node alive."""


class IdentityGarbage:
    """The collector of identities. Call :meth:`collect` regularly from one thread, while this node leads.

    Args:
        store: the cluster's state.
        view: of the identities' keys.
        clock: time.
        grace_s: how long an identity stays that nobody has.
    """

    def __init__(self, store: Store, view: View[IdentityRecord], clock: Clock, *, grace_s: float = GRACE_S) -> None:
        self._store = store
        self._view = view
        self._clock = clock
        self._grace_s = grace_s
        self._marked: Overdue[tuple[IdentityId, int]] = Overdue(grace_s, clock.monotonic_s)
        self._compared_at_s: float | None = None
        self._writes_left = 0

    def collect(self, in_use: Collection[IdentityId]) -> None:
        """Look once: mark, clear and delete. Nothing is done while the identities may be out of date.

        Args:
            in_use: identities of all endpoints of the cluster.
        """
        if not self._view.synced:
            return
        self._writes_left = _WRITES_AT_ONCE
        entries = {keys.parse_identity(key): entry for key, entry in self._view.items().items()}
        self._mark(entries, in_use)
        marked = {
            (number, entry.item.mod_revision): entry
            for number, entry in entries.items()
            if entry.value.unused_since and number not in in_use
        }
        for number, revision in self._marked.look(marked):
            self._delete(number, marked[number, revision])
        self._compare_claims()

    def _mark(self, entries: dict[IdentityId, Entry[IdentityRecord]], in_use: Collection[IdentityId]) -> None:
        now = rfc3339(self._clock.now())
        for number, entry in entries.items():
            unused = number not in in_use
            if unused != bool(entry.value.unused_since):
                record = replace(entry.value, unused_since=now if unused else "")
                self._write([unchanged(entry.item)], [Put(entry.item.key, encode(record))])

    def _delete(self, number: IdentityId, entry: Entry[IdentityRecord]) -> None:
        compare, ops = [unchanged(entry.item)], [Delete(entry.item.key)]
        claim = self._store.get(keys.identity_labels(entry.value.labels))
        if claim is not None and claimed_number(claim) == number:
            compare.append(unchanged(claim))
            ops.append(Delete(claim.key))
        if self._write(compare, ops):
            log.info("collecting identity, no endpoint has it", extra={"identity": number})

    def _compare_claims(self) -> None:
        """Make a claim for labels that have none, and take claims away that lead nowhere."""
        now_s = self._clock.monotonic_s()
        if self._compared_at_s is not None and now_s - self._compared_at_s < self._grace_s:
            return
        # The two are not of one moment; every write compares what it relies on.
        claims = {item.key: item for item in self._store.list(keys.IDENTITY_LABELS).items}
        owners: dict[Labels, KeyValue] = {}
        for entry in sorted(self._view.items().values(), key=lambda entry: keys.parse_identity(entry.item.key)):
            owners.setdefault(entry.value.labels, entry.item)
        for labels, item in owners.items():
            claim = claims.pop(keys.identity_labels(labels), None)
            number = keys.parse_identity(item.key)
            if claim is None or claimed_number(claim) != number:
                key = keys.identity_labels(labels)
                guard = absent(key) if claim is None else unchanged(claim)
                self._write([unchanged(item), guard], [Put(key, str(number).encode())])
        for claim in claims.values():
            lost = claimed_number(claim)
            if lost is not None:
                self._write([unchanged(claim), absent(keys.identity(lost))], [Delete(claim.key)])
        if self._writes_left > 0:
            self._compared_at_s = now_s

    def _write(self, compare: Sequence[Compare], ops: Sequence[Op]) -> bool:
        """Write unless it has been much already, or somebody was faster: the next look sees what is left to do."""
        if self._writes_left <= 0:
            return False
        self._writes_left -= 1
        return self._store.txn(compare, ops).succeeded
