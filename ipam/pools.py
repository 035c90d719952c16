"""Pools: made once for the whole cluster, held by the nodes (and the Swarm's allocator) that have a network on them.

A pool is its CIDR: whoever asks for the same CIDR joins. Two pools that overlap without being equal cannot both
exist; that is held by one key, ``ipam/pool-set``, which every creation compares and writes, so two creations at the
same moment cannot both succeed. Round trips: joining 2, creating 5 (both only when a network is made).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from ipam import rules
from ipam.config import IpamConfig
from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.store import Compare, Delete, KeyValue, Put, Store, absent, unchanged
from model.addresses import IPNetwork, PoolRecord
from model.clock import rfc3339
from model.errors import CasFailed, Conflict, Exhausted

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 64
"""Each lost attempt means that another writer made progress, so this is reached by a bug or a broken store only."""

_CHUNK: Final = 96
"""Operations per transaction; etcd's default limit (``--max-txn-ops``) is 128."""


class Pools:
    """Creation, joining and removal of pools. Keeps no state of its own."""

    def __init__(self, store: Store, config: IpamConfig, now: Callable[[], datetime]) -> None:
        self._store = store
        self._config = config
        self._now = now

    def ensure(self, pool: IPNetwork, holder: str) -> None:
        """Create the pool or join it.

        Raises:
            Conflict: it overlaps another pool without being equal to it.
        """
        for _ in range(_ATTEMPTS):
            item = self._store.get(keys.pool(pool))
            if item is None:
                guard, others = self._read_all()
                self._refuse_overlap(pool, others)
                if self._create(pool, holder, guard):
                    return
                continue
            record = decode(PoolRecord, item.value, key=item.key)
            if holder in record.holders:
                return
            joined = replace(record, holders=tuple(sorted({*record.holders, holder})))
            if self._store.txn([unchanged(item)], [Put(item.key, encode(joined))]).succeeded:
                log.info("pool joined", extra={"pool": str(pool), "holder": holder})
                return
        raise CasFailed(f"pool {pool} changed {_ATTEMPTS} times while {holder} tried to join it; try again")

    def create_default(self, holder: str) -> IPNetwork:
        """Create a pool from the default ranges: another one at each call.

        The engine compares the answer with the host's own routes and asks again until there is no overlap, so answering
        the same pool twice would never end (it releases the refused ones afterwards).

        Raises:
            Exhausted: nothing is left of the default ranges.
        """
        prefix = self._config.default_pool_prefix
        for _ in range(_ATTEMPTS):
            guard, others = self._read_all()
            pool = rules.next_free_subnet(self._config.default_pools, prefix, [other.pool for other in others])
            if pool is None:
                raise Exhausted(self._default_pools_used_up(others))
            if self._create(pool, holder, guard):
                return pool
        raise CasFailed(f"lost {_ATTEMPTS} races for a default pool; try again")

    def leave(self, pool: IPNetwork, holder: str) -> bool:
        """Take a holder off a pool; the last one takes the pool with it, and all its addresses.

        Unknown pools are no error.

        Returns:
            Whether the pool is gone.
        """
        key = keys.pool(pool)
        for _ in range(_ATTEMPTS):
            item = self._store.get(key)
            if item is None:
                return True
            record = decode(PoolRecord, item.value, key=key)
            rest = tuple(other for other in record.holders if other != holder)
            if rest == record.holders:
                return False
            if rest:
                if self._store.txn([unchanged(item)], [Put(key, encode(replace(record, holders=rest)))]).succeeded:
                    log.info("pool left", extra={"pool": str(pool), "holder": holder})
                    return False
            elif self._delete(pool, item):
                log.info("pool removed", extra={"pool": str(pool), "holder": holder})
                return True
        raise CasFailed(f"pool {pool} changed {_ATTEMPTS} times while {holder} tried to leave it; try again")

    def sweep_addresses(self, pool: IPNetwork) -> bool:
        """Delete the addresses of a pool that does not exist.

        They are left when an agent stops half-way through removing a large pool.

        Returns:
            False when the pool does exist; nothing is deleted from then on.
        """
        while True:
            leftovers = self._store.list(keys.addresses_of(pool)).items[:_CHUNK]
            if not leftovers:
                return True
            if not self._store.txn([absent(keys.pool(pool))], [Delete(item.key) for item in leftovers]).succeeded:
                return False

    def _read_all(self) -> tuple[Compare, list[PoolRecord]]:
        """All pools, and the comparison that fails when one was created since."""
        # The guard is read first: a pool created between the two reads is either in the list or changes the guard.
        guard = self._store.get(keys.POOL_SET)
        items = self._store.list(keys.POOLS).items
        records = [decode(PoolRecord, item.value, key=item.key) for item in items]
        return (absent(keys.POOL_SET) if guard is None else unchanged(guard)), records

    def _create(self, pool: IPNetwork, holder: str, guard: Compare) -> bool:
        if not self.sweep_addresses(pool):
            return False
        record = PoolRecord(pool=pool, holders=(holder,), created_at=rfc3339(self._now()))
        created = self._store.txn(
            [guard, absent(keys.pool(pool))],
            [
                Put(keys.POOL_SET, str(pool).encode()),
                Put(keys.pool(pool), encode(record)),
                Put(keys.cursor(pool), str(pool.network_address).encode()),
            ],
        ).succeeded
        if created:
            log.info("pool created", extra={"pool": str(pool), "holder": holder})
        return created

    def _delete(self, pool: IPNetwork, item: KeyValue) -> bool:
        """Delete a pool that has no other holder: its key first, so that nothing is granted in it any more.

        Every grant compares the pool's key. The few addresses of an ordinary pool go in the same transaction.
        """
        addresses = self._store.list(keys.addresses_of(pool)).items
        ops = [Delete(item.key), Delete(keys.cursor(pool)), *(Delete(address.key) for address in addresses[:_CHUNK])]
        if not self._store.txn([unchanged(item)], ops).succeeded:
            return False
        self.sweep_addresses(pool)
        return True

    def _refuse_overlap(self, pool: IPNetwork, others: Iterable[PoolRecord]) -> None:
        for other in others:
            if other.pool != pool and rules.overlapping(pool, [other.pool]):
                raise Conflict(
                    f"pool {pool} overlaps pool {other.pool}, which is held by {', '.join(other.holders)}: "
                    f"choose another --subnet, or exactly --subnet {other.pool} to join that network"
                )

    def _default_pools_used_up(self, others: Iterable[PoolRecord]) -> str:
        ranges = self._config.default_pools
        prefix = self._config.default_pool_prefix
        inside = sum(rules.overlapping(other.pool, ranges) is not None for other in others)
        names = ",".join(str(pool) for pool in ranges) or "(none)"
        return (
            f"no default pool is left: {inside} pools are in use in {names}, which has room for "
            f"{rules.subnet_count(ranges, prefix)} of /{prefix}; remove unused networks, give --subnet, "
            "or change DEFAULT_POOLS or DEFAULT_POOL_PREFIX"
        )
