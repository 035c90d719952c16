"""Allocation of identities: every set of labels has one number in the whole cluster.

How it works:

1. What is known here is answered from memory, also while etcd is away.
2. A new number is taken by one transaction that creates both keys, ``id/<number>`` and ``by-labels/<digest>``. The
   first is why no number stands for two sets of labels, the second why no set has two numbers. Whoever loses uses what
   the winner made. Numbers are chosen at random, so that nodes which allocate at once seldom meet.
3. Neither key is leased, and nobody counts references: the endpoints' records are the references. The leader marks an
   identity that no endpoint has and deletes it later (:mod:`policy.identity_garbage`); to use a marked one takes a
   transaction that clears the mark, so the two cannot miss each other.
4. What a hand has deleted comes back, under the same number unless another has it meanwhile (:meth:`restore`).

Cost: one record per set of labels, about 500 bytes in memory on every node.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from kvstore import keys
from kvstore.codec import encode
from kvstore.own_writes import wait_visible
from kvstore.store import KeyValue, Put, Store, absent, unchanged
from kvstore.watcher import View
from model.clock import Clock, rfc3339
from model.errors import CasFailed, Exhausted, InvalidInput
from model.identities import IDENTITY_MAX, IDENTITY_MIN, IdentityRecord
from model.ids import IdentityId
from model.labels import Labels
from policy.identity_view import IdentityIndex, read_identity

log = logging.getLogger(__name__)

ALL_NUMBERS: Final = range(IDENTITY_MIN, IDENTITY_MAX + 1)
_ATTEMPTS: Final = 64


class IdentityRegistry:
    """The identities of the cluster. Safe from any thread.

    Args:
        store: the cluster's state.
        view: of the identities' keys (:func:`policy.identity_view.identity_view`); not started yet.
        clock: for the time in records.
        held: numbers that endpoints have, whether or not they are recorded; they are never given to other labels.
        numbers: what may be allocated.
    """

    def __init__(
        self,
        store: Store,
        view: View[IdentityRecord],
        clock: Clock,
        *,
        held: Callable[[], Collection[IdentityId]] = frozenset,
        numbers: range = ALL_NUMBERS,
    ) -> None:
        self._store = store
        self._view = view
        self._clock = clock
        self._held = held
        self._numbers = numbers
        self._index = IdentityIndex(view)

    @property
    def synced(self) -> bool:
        """Whether what is known is up to date."""
        return self._view.synced

    def ensure(self, labels: Labels) -> IdentityId:
        """Find the identity of a set of labels, or allocate one. It is visible here when this returns.

        Raises:
            Exhausted: no number is free.
            StoreUnavailable: the labels are new and etcd is away.
            CasFailed: others were faster, again and again.
        """
        number = self._index.number_of(labels)
        return number if number is not None and self._in_use_again(number, labels) else self._allocate(labels, None)

    def restore(self, number: IdentityId, labels: Labels) -> IdentityId:
        """Make an identity that an endpoint has exist, after it was deleted from etcd.

        Returns:
            The same number; another one when it has other labels meanwhile, or these labels another number.

        Raises: as :meth:`ensure`.
        """
        return number if self._in_use_again(number, labels) else self._allocate(labels, number)

    def labels_of(self, number: IdentityId) -> Labels | None:
        """The labels of an identity; None when it is not known here."""
        return self._index.labels_of(number)

    def number_of(self, labels: Labels) -> IdentityId | None:
        """The identity of a set of labels; None when none is known here."""
        return self._index.number_of(labels)

    def all(self) -> Mapping[IdentityId, Labels]:
        """Every identity known here."""
        return self._index.all()

    def records(self) -> Mapping[IdentityId, IdentityRecord]:
        """Every identity known here with all that is recorded, sorted by number; for listing."""
        found = {keys.parse_identity(key): entry.value for key, entry in self._view.items().items()}
        return dict(sorted(found.items()))

    def _in_use_again(self, number: IdentityId, labels: Labels) -> bool:
        """Whether the number, as known here, has these labels; not marked any more when this returns True."""
        entry = self._view.get(keys.identity(number))
        if entry is None or entry.value.labels != labels:
            return False
        return not entry.value.unused_since or self._take(entry.item, labels)

    def _take(self, item: KeyValue | None, labels: Labels) -> bool:
        """Use an identity that was read from the store, if it has these labels, and clear its mark."""
        for _ in range(_ATTEMPTS):
            record = None if item is None else _readable(item)
            if item is None or record is None or record.labels != labels:
                return False
            if not record.unused_since:
                wait_visible(self._view, item.mod_revision)
                return True
            result = self._store.txn([unchanged(item)], [Put(item.key, encode(replace(record, unused_since="")))])
            if result.succeeded:
                wait_visible(self._view, result.revision)
                return True
            (item,) = result.current
        raise CasFailed(f"the identity of {labels} changed {_ATTEMPTS} times; try again")

    def _allocate(self, labels: Labels, wanted: IdentityId | None) -> IdentityId:
        """Take a number for labels that have none, ``wanted`` if it is free."""
        claim_key = keys.identity_labels(labels)
        record = encode(IdentityRecord(labels=labels, created_at=rfc3339(self._clock.now())))
        lost: set[IdentityId] = set()
        claim: KeyValue | None = None
        number = wanted if wanted in self._numbers else None
        for _ in range(_ATTEMPTS):
            number = number or self._free(lost)
            key = keys.identity(number)
            unclaimed = absent(claim_key) if claim is None else unchanged(claim)
            put_claim = Put(claim_key, str(number).encode())
            result = self._store.txn([absent(key), unclaimed], [Put(key, record), put_claim])
            if result.succeeded:
                log.info("identity allocated", extra={"identity": number, "labels": str(labels)})
                wait_visible(self._view, result.revision)
                return number
            item, claim = result.current
            owner = None if claim is None else self._claimed_by(claim)
            if owner is not None:
                owned = item if owner == number else self._store.get(keys.identity(owner))
                if self._take(owned, labels):
                    return owner
                if owned is None:
                    number = owner  # its record is lost: the number comes back
                    continue
            # From here on the claim, if there is one, leads nowhere and is replaced.
            if item is None:
                continue
            if _has(item, labels):
                unclaimed = absent(claim_key) if claim is None else unchanged(claim)
                result = self._store.txn([unchanged(item), unclaimed], [Put(key, record), put_claim])
                if result.succeeded:
                    wait_visible(self._view, result.revision)
                    return number
                continue
            lost.add(number)
            number = None
        raise CasFailed(f"no identity for {labels} in {_ATTEMPTS} attempts, others were faster; try again")

    def _claimed_by(self, claim: KeyValue) -> IdentityId | None:
        number = claimed_number(claim)
        return number if number in self._numbers else None

    def _free(self, lost: Collection[IdentityId]) -> IdentityId:
        number = self._next_free({*self._index.all(), *lost, *self._held()})
        if number is not None:
            return number
        # What is known here may be late: numbers may have become free.
        stored = {_number_in(item.key) for item in self._store.list(keys.IDENTITY_IDS).items}
        number = self._next_free({*stored, *self._held()})
        if number is None:
            raise Exhausted(
                f"all {len(self._numbers)} identities, {self._numbers[0]} to {self._numbers[-1]}, are in use; "
                "make fewer labels count with IDENTITY_LABELS"
            )
        return number

    def _next_free(self, taken: Collection[IdentityId | None]) -> IdentityId | None:
        start = random.randrange(len(self._numbers))  # noqa: S311  # spreads competitors, keeps no secret
        for step in range(len(self._numbers)):
            number = IdentityId(self._numbers[(start + step) % len(self._numbers)])
            if number not in taken:
                return number
        return None


def claimed_number(claim: KeyValue) -> IdentityId | None:
    """The number that a ``by-labels`` key holds; None when it holds none."""
    try:
        return keys.parse_identity(keys.IDENTITY_IDS + claim.value.decode("ascii"))
    except (InvalidInput, UnicodeDecodeError):
        return None


def _readable(item: KeyValue) -> IdentityRecord | None:
    try:
        return read_identity(item)
    except InvalidInput as err:
        log.warning("identity cannot be read, its number is passed over", extra={"key": item.key, "error": str(err)})
        return None


def _has(item: KeyValue, labels: Labels) -> bool:
    record = _readable(item)
    return record is not None and record.labels == labels


def _number_in(key: str) -> IdentityId | None:
    try:
        return keys.parse_identity(key)
    except InvalidInput:
        return None
