"""Addresses: one etcd key each, created by compare-and-swap, deleted when its last holder releases it.

How an address is granted:

1. A candidate is chosen from the book (:mod:`ipam.book`), or is the one that was asked for.
2. One transaction: the pool's key is unchanged, the address's key is absent (or unchanged, when a holder is added);
   it writes the address and the cursor. If it fails, the answer carries both keys as they are, so the next attempt
   needs no read.

Round trips to the store: choosing 1 (and 1 per lost race), claiming what the Swarm's leader chose 1, releasing 1,
gateway 2.
Rejected: blocks of addresses per node (the Swarm's leader chooses addresses without knowing the node), a lock
around the allocation (it protects nobody from a holder that stalled).
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from ipam import rules
from ipam.book import AddressBook
from ipam.uncertain import UncertainGrant, UncertainGrants
from ipam.usage import Usage
from ipam.views import IpamViews
from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.store import Compare, Delete, KeyValue, Op, Put, Store, absent, unchanged
from model.addresses import SWARM_HOLDER, AddressKind, AddressRecord, IPAddress, IPNetwork, PoolRecord, is_node
from model.clock import rfc3339
from model.errors import CasFailed, Conflict, Exhausted, PoolNotFound, StoreError

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 64
_MAX_SKIP: Final = 32
_BEHIND: Final = 4
"""So many lost races in a row call for a fresh listing."""


class Addresses:
    """Grants and releases; one instance per agent. Safe from any thread."""

    def __init__(
        self, store: Store, views: IpamViews, book: AddressBook, usage: Usage, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._views = views
        self._book = book
        self._usage = usage
        self._now = now
        self._random = random.Random()  # noqa: S311  (spreads competitors, keeps no secret)
        self._uncertain = UncertainGrants()

    def gateway(self, pool: IPNetwork, address: IPAddress | None, holder: str) -> IPAddress:
        """The pool's gateway, the same for all nodes; chosen by the first who asks.

        Raises:
            Conflict: another gateway is recorded, or the address asked for is in use.
            PoolNotFound: the pool does not exist.
        """
        if address is not None:
            rules.check_address(pool, address)
        pool_item = self._fresh_pool(pool)
        for _ in range(_ATTEMPTS):
            record = decode(PoolRecord, pool_item.value, key=pool_item.key)
            if record.gateway is not None:
                return _same_gateway(pool, record.gateway, address)
            chosen = self._first_free(pool) if address is None else address
            key = keys.address(pool, chosen)
            granted = AddressRecord(kind=AddressKind.GATEWAY, holders=(holder,), granted_at=rfc3339(self._now()))
            result = self._store.txn(
                [unchanged(pool_item), absent(key)],
                [Put(pool_item.key, encode(replace(record, gateway=chosen))), Put(key, encode(granted))],
            )
            if result.succeeded:
                self._book.take(pool, chosen)
                log.info("gateway recorded", extra={"pool": str(pool), "address": str(chosen), "holder": holder})
                return chosen
            current_pool, current = result.current
            pool_item = _existing(pool, current_pool)
            if current is not None:
                self._book.take(pool, chosen)
                if address is not None and decode(PoolRecord, pool_item.value, key=pool_item.key).gateway is None:
                    raise Conflict(f"{self._describe(pool, chosen, current)}; choose another --gateway for pool {pool}")
        raise _lost(f"the gateway of pool {pool}")

    def choose(self, pool: IPNetwork, sub_pool: IPNetwork | None, holder: str) -> IPAddress:
        """Grant an address that nobody has.

        Raises:
            Exhausted: every address is in use.
            PoolNotFound: the pool does not exist.
        """
        in_doubt = self._settle_one_in_doubt(pool, sub_pool, holder)
        if in_doubt is not None:
            return in_doubt
        pool_item = self._known_pool(pool)
        for lost in range(_ATTEMPTS):
            address = self._candidate(pool, sub_pool, lost)
            current_pool_item = self._grant(pool_item, pool, address, holder)
            if current_pool_item is None:
                return address
            pool_item = current_pool_item
        raise _lost(f"an address of pool {pool}")

    def choose_virtual(
        self, pool: IPNetwork, holder: str, compare: Compare, record: Callable[[IPAddress], Put]
    ) -> int | None:
        """Grant an address that nobody has as a virtual one, and write what has it, both or neither.

        Args:
            pool: of the network.
            holder: what has the address.
            compare: of what has the address, as it was known.
            record: makes it, with the address.

        Returns:
            The store's revision of it; None when ``compare`` does not hold any more: another was faster.

        Raises:
            Exhausted: every address is in use.
            PoolNotFound: the pool does not exist.
        """
        pool_item = self._known_pool(pool)
        granted = AddressRecord(kind=AddressKind.VIP, holders=(holder,), granted_at=rfc3339(self._now()))
        for lost in range(_ATTEMPTS):
            address = self._candidate(pool, None, lost)
            key, taken = keys.address(pool, address), False
            try:
                result = self._store.txn(
                    [unchanged(pool_item), absent(key), compare],
                    [Put(key, encode(granted)), Put(keys.cursor(pool), str(address).encode()), record(address)],
                )
                taken = result.succeeded or result.current[1] is not None
            finally:
                self._book.done(pool, address, taken=taken)
            if result.succeeded:
                self._book.granted(pool, address)
                return result.revision
            current_pool, _, now = result.current
            if (0 if now is None else now.mod_revision) != compare.mod_revision:
                return None
            pool_item = _existing(pool, current_pool)
        raise _lost(f"a virtual address of pool {pool}")

    def claim(self, pool: IPNetwork, address: IPAddress, holder: str) -> IPAddress:
        """Grant the address that was asked for.

        On a node this is ``--ip`` or a task whose address the Swarm's leader has chosen; for the Swarm's allocator it
        is also a new leader that replays what an earlier one was granted, which always succeeds.

        Raises:
            Conflict: another node or an endpoint has it, or it is the gateway or reserved; the message names which.
            InvalidInput: it is not an address of the pool.
            PoolNotFound: the pool does not exist.
        """
        rules.check_address(pool, address)
        key = keys.address(pool, address)
        pool_item = self._known_pool(pool)
        entry = self._views.addresses.get(key)
        item, fresh = (None if entry is None else entry.whole_item()), False
        for _ in range(_ATTEMPTS):
            try:
                ops = self._claim_ops(pool, address, item, holder)
            except Conflict:
                if fresh:
                    raise
                item, fresh = self._store.get(key), True
                continue
            result = self._store.txn([unchanged(pool_item), absent(key) if item is None else unchanged(item)], ops)
            if result.succeeded:
                self._book.take(pool, address)
                return address
            current_pool, item = result.current
            pool_item, fresh = _existing(pool, current_pool), True
        raise _lost(f"address {address} of pool {pool}")

    def release(self, pool: IPNetwork, address: IPAddress, holder: str) -> None:
        """Take a holder off an address; the last one takes the key with it.

        Unknown addresses, other holders' addresses and the gateway (which belongs to the pool) are no error and no
        change.
        """
        key = keys.address(pool, address)
        entry = self._views.addresses.get(key)
        item, fresh = (None if entry is None else entry.whole_item()), False
        for _ in range(_ATTEMPTS):
            record = None if item is None else decode(AddressRecord, item.value, key=key)
            if item is None or record is None or holder not in record.holders:
                if fresh:
                    return
                item, fresh = self._store.get(key), True
                continue
            if record.kind is AddressKind.GATEWAY:
                return
            rest = tuple(other for other in record.holders if other != holder)
            op: Op = Put(key, encode(replace(record, holders=rest))) if rest else Delete(key)
            result = self._store.txn([unchanged(item)], [op])
            if result.succeeded:
                if not rest:
                    self._book.release(pool, address)
                return
            (item,), fresh = result.current, True
        raise _lost(f"the release of address {address} of pool {pool}")

    def forget(self, pool: IPNetwork) -> None:
        """Drop what is remembered of a pool that has been removed."""
        self._book.forget(pool)

    def reserve(self, pool: IPNetwork, address: IPAddress, holder: str) -> None:
        """Record an ``--aux-address``: no container gets it.

        Docker has asked for it like for a container's address before it creates the network, so what this holder alone
        has without an endpoint becomes reserved.

        Raises:
            Conflict: another node, an endpoint or the gateway has it.
            InvalidInput: it is not an address of the pool.
            PoolNotFound: the pool does not exist.
        """
        rules.check_address(pool, address)
        key = keys.address(pool, address)
        pool_item = self._known_pool(pool)
        item = self._store.get(key)
        for _ in range(_ATTEMPTS):
            reserved = self._reserved(pool, address, item, holder)
            if reserved is None:
                return
            compare = absent(key) if item is None else unchanged(item)
            result = self._store.txn([unchanged(pool_item), compare], [Put(key, encode(reserved))])
            if result.succeeded:
                self._book.take(pool, address)
                return
            current_pool, item = result.current
            pool_item = _existing(pool, current_pool)
        raise _lost(f"the reservation of address {address} of pool {pool}")

    def _candidate(self, pool: IPNetwork, sub_pool: IPNetwork | None, lost: int) -> IPAddress:
        """Choose an address for the next attempt, after so many lost races; the caller owes the book an answer.

        Raises:
            Exhausted: every address is in use.
        """
        if lost and lost % _BEHIND == 0:
            # Not other nodes' luck but a book that is far behind: one listing says more than many lost races.
            self._list(pool)
        skip = self._random.randrange(min(1 << lost, _MAX_SKIP)) if lost else 0
        address = self._book.choose(pool, sub_pool, skip=skip)
        if address is None:
            # Only a fresh listing may say that nothing is left.
            items = self._list(pool)
            address = self._book.choose(pool, sub_pool)
            if address is None:
                raise Exhausted(_exhausted(pool, sub_pool, items))
        return address

    def _grant(self, pool_item: KeyValue, pool: IPNetwork, address: IPAddress, holder: str) -> KeyValue | None:
        """Try one candidate; None when it was granted, otherwise the pool's key as it is now."""
        key = keys.address(pool, address)
        record = AddressRecord(kind=AddressKind.ENDPOINT, holders=(holder,), granted_at=rfc3339(self._now()))
        value = encode(record)
        taken = False
        try:
            result = self._store.txn(
                [unchanged(pool_item), absent(key)], [Put(key, value), Put(keys.cursor(pool), str(address).encode())]
            )
            taken = result.succeeded or result.current[1] is not None
        except StoreError:
            self._uncertain.add(UncertainGrant(pool=pool, address=address, holder=holder, value=value))
            raise
        finally:
            self._book.done(pool, address, taken=taken)
        if result.succeeded:
            self._book.granted(pool, address)
            return None
        return _existing(pool, result.current[0])

    def _settle_one_in_doubt(self, pool: IPNetwork, sub_pool: IPNetwork | None, holder: str) -> IPAddress | None:
        while (grant := self._uncertain.take(pool, sub_pool, holder)) is not None:
            try:
                item = self._store.get(keys.address(pool, grant.address))
            except StoreError:
                self._uncertain.add(grant)
                raise
            if item is not None and item.value == grant.value:
                self._book.take(pool, grant.address)
                return grant.address
        return None

    def _claim_ops(self, pool: IPNetwork, address: IPAddress, item: KeyValue | None, holder: str) -> list[Op]:
        """What to write so that the holder has the address; nothing when it has it already.

        Raises:
            Conflict: it must not have it.
        """
        key = keys.address(pool, address)
        if item is None:
            granted = AddressRecord(kind=AddressKind.ENDPOINT, holders=(holder,), granted_at=rfc3339(self._now()))
            return [Put(key, encode(granted))]
        record = decode(AddressRecord, item.value, key=key)
        if not self._may_claim(pool, address, record, holder):
            raise Conflict(f"{self._describe(pool, address, item)}; choose another address of pool {pool}")
        if holder in record.holders:
            return []
        return [Put(key, encode(replace(record, holders=tuple(sorted({*record.holders, holder})))))]

    def _may_claim(self, pool: IPNetwork, address: IPAddress, record: AddressRecord, holder: str) -> bool:
        if record.kind in {AddressKind.GATEWAY, AddressKind.VIP}:
            return False
        if record.kind is AddressKind.RESERVED:
            # Docker asks for auxiliary addresses before it creates the network, for containers only afterwards.
            return not self._usage.holds_network(pool, holder)
        if holder == SWARM_HOLDER:
            return True
        others = set(record.holders) - {holder, SWARM_HOLDER}
        return not others and self._usage.endpoint_at(pool, address) is None

    def _reserved(
        self, pool: IPNetwork, address: IPAddress, item: KeyValue | None, holder: str
    ) -> AddressRecord | None:
        if item is None:
            return AddressRecord(kind=AddressKind.RESERVED, holders=(holder,), granted_at=rfc3339(self._now()))
        record = decode(AddressRecord, item.value, key=item.key)
        if record.kind is AddressKind.RESERVED:
            if holder in record.holders:
                return None
            return replace(record, holders=tuple(sorted({*record.holders, holder})))
        unused = record.kind is AddressKind.ENDPOINT and self._usage.endpoint_at(pool, address) is None
        if not unused or record.holders != (holder,):
            raise Conflict(f"{self._describe(pool, address, item)}; choose another --aux-address for pool {pool}")
        return replace(record, kind=AddressKind.RESERVED)

    def _describe(self, pool: IPNetwork, address: IPAddress, item: KeyValue) -> str:
        record = decode(AddressRecord, item.value, key=item.key)
        match record.kind:
            case AddressKind.GATEWAY:
                return f"address {address} is the gateway of pool {pool}"
            case AddressKind.RESERVED:
                return f"address {address} is reserved by --aux-address on {', '.join(record.holders)}"
            case AddressKind.VIP:
                return f"address {address} is the virtual address of {_readable(record.holders[0])}"
            case AddressKind.ENDPOINT:
                endpoint = self._usage.endpoint_at(pool, address)
                if endpoint is not None:
                    return f"address {address} is in use by endpoint {endpoint.endpoint_id} on node {endpoint.node}"
                return f"address {address} is held by {', '.join(_readable(holder) for holder in record.holders)}"

    def _first_free(self, pool: IPNetwork) -> IPAddress:
        """The first address nobody has: where users expect a gateway. Not limited by an ``--ip-range`` of one node."""
        taken = {keys.parse_address(item.key)[1] for item in self._store.list(keys.addresses_of(pool)).items}
        for number in rules.selectable(pool):
            if (address := rules.to_address(pool, number)) not in taken:
                return address
        raise Exhausted(f"pool {pool} has no address left for its gateway: all {len(taken)} are in use")

    def _list(self, pool: IPNetwork) -> Sequence[KeyValue]:
        items = self._store.list(keys.addresses_of(pool)).items
        self._book.replace(pool, [keys.parse_address(item.key)[1] for item in items])
        return items

    def _known_pool(self, pool: IPNetwork) -> KeyValue:
        """The pool's key from memory; every transaction compares it, so it may be behind."""
        entry = self._views.pools.get(keys.pool(pool))
        return self._fresh_pool(pool) if entry is None else entry.item

    def _fresh_pool(self, pool: IPNetwork) -> KeyValue:
        return _existing(pool, self._store.get(keys.pool(pool)))


def _existing(pool: IPNetwork, item: KeyValue | None) -> KeyValue:
    if item is None:
        raise PoolNotFound(f"pool {pool} does not exist (any more); remove the network and create it again")
    return item


def _same_gateway(pool: IPNetwork, recorded: IPAddress, asked: IPAddress | None) -> IPAddress:
    if asked is not None and asked != recorded:
        raise Conflict(
            f"pool {pool} has gateway {recorded} on all nodes, not {asked}; use --gateway {recorded} or leave it out"
        )
    return recorded


def _exhausted(pool: IPNetwork, sub_pool: IPNetwork | None, items: Sequence[KeyValue]) -> str:
    candidates = rules.selectable(pool, sub_pool)
    inside = [
        decode(AddressRecord, item.value, key=item.key)
        for item in items
        if int(keys.parse_address(item.key)[1]) in candidates
    ]
    kinds = Counter(record.kind for record in inside)
    holders = Counter(_readable(record.holders[0]) for record in inside if record.kind is AddressKind.ENDPOINT)
    by_holder = ", ".join(f"{holder}: {count}" for holder, count in sorted(holders.items()))
    where = f"pool {pool}" if sub_pool is None else f"--ip-range {sub_pool} of pool {pool}"
    # What is granted at this moment by another thread is not in the listing yet, but as good as in use.
    others = kinds[AddressKind.GATEWAY] + kinds[AddressKind.RESERVED] + kinds[AddressKind.VIP]
    count = candidates.stop - candidates.start - others
    virtual = f" and {kinds[AddressKind.VIP]} of services" if kinds[AddressKind.VIP] else ""
    return (
        f"{where}: all {count} addresses are in use ({by_holder or 'none'}; besides "
        f"{kinds[AddressKind.GATEWAY]} gateway and {kinds[AddressKind.RESERVED]} reserved{virtual}); "
        "remove containers, look for leaked ones with «hawse ipam check», or make a network with a larger --subnet"
    )


def _readable(holder: str) -> str:
    if holder == SWARM_HOLDER:
        return "the Swarm's allocator"
    return f"node {holder}" if is_node(holder) else f"service {holder.removeprefix('@')}"


def _lost(what: str) -> CasFailed:
    return CasFailed(f"lost {_ATTEMPTS} races for {what}; try again")
