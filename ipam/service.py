"""IPAM as the driver sees it: what each ``IpamDriver`` call does.

Every call may be repeated: the same question by the same holder gets the same answer, releasing twice is releasing
once. Docker names neither network nor container, only the pool and, by the address space, who asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ipam import rules
from ipam.addresses import Addresses
from ipam.book import AddressBook
from ipam.config import IpamConfig
from ipam.pool_id import AddressSpace, PoolId
from ipam.pools import Pools
from ipam.usage import Usage
from ipam.views import IpamViews
from kvstore import keys
from kvstore.codec import decode
from kvstore.store import Compare, KeyValue, Put, Store
from model.addresses import AddressKind, AddressRecord, IPAddress, IPInterface, IPNetwork, PoolRecord
from model.clock import Clock, SystemClock
from model.errors import InvalidInput

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAddress:
    """One address as the operator sees it."""

    pool: IPNetwork
    address: IPAddress
    record: AddressRecord


class Ipam:
    """Pools and addresses of one agent. Safe from any thread.

    Args:
        store: the cluster's state.
        usage: who still uses a pool or an address.
        config: settings.
        views: made with :meth:`IpamViews.of`, not started yet; :meth:`start` starts them.
        clock: time.
    """

    def __init__(
        self,
        store: Store,
        usage: Usage,
        config: IpamConfig,
        *,
        views: IpamViews | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._store = store
        self._usage = usage
        self._node = config.node
        self._views = views or IpamViews.of(store)
        book = AddressBook(quarantine_s=config.address_quarantine_s, monotonic_s=clock.monotonic_s)
        self._views.addresses.subscribe(book.on_addresses)
        self._views.cursors.subscribe(book.on_cursors)
        self._pools = Pools(store, config, clock.now)
        self._addresses = Addresses(store, self._views, book, usage, clock.now)

    def start(self) -> None:
        """Begin to follow the store; returns at once. Calls before the first snapshot work, with more round trips."""
        self._views.start()

    def stop(self) -> None:
        """Stop following the store."""
        self._views.stop()

    def wait_synced(self, timeout_s: float) -> bool:
        """Wait until pools, addresses and cursors have been read."""
        views = (self._views.pools, self._views.addresses, self._views.cursors)
        return all(view.wait_synced(timeout_s) for view in views)

    def request_pool(self, *, space: AddressSpace, pool: IPNetwork | None, sub_pool: IPNetwork | None) -> PoolId:
        """Create a pool or join it; without ``pool`` a new one from the default ranges at every call.

        Raises:
            Conflict: it overlaps another pool without being equal to it; the message names that one and its holders.
            Exhausted: nothing is left of the default ranges.
            InvalidInput: containers cannot use such a pool, or ``sub_pool`` is not a part of it.
        """
        holder = space.holder(self._node)
        if pool is None:
            if sub_pool is not None:
                raise InvalidInput(f"--ip-range {sub_pool} needs a --subnet that contains it")
            return PoolId(space=space, pool=self._pools.create_default(holder))
        rules.check_pool(pool, sub_pool)
        self._pools.ensure(pool, holder)
        return PoolId(space=space, pool=pool, sub_pool=sub_pool)

    def release_pool(self, pool_id: PoolId) -> None:
        """Leave a pool, unless the holder still has a network on it.

        Docker releases the pool before it deletes the network; the hold then goes with :meth:`drop_hold`.
        """
        self.drop_hold(pool_id.pool, pool_id.space.holder(self._node))

    def drop_hold(self, pool: IPNetwork, holder: str) -> None:
        """Leave a pool, with every address that the holder has there; the last holder's leaving removes the pool.

        Does nothing while the holder has another network on the pool. Unknown pools are no error.
        """
        if self._usage.holds_network(pool, holder):
            return
        if self._pools.leave(pool, holder):
            self._addresses.forget(pool)
            return
        for held in self.addresses(pool):
            if holder in held.record.holders and not self._in_use_by(held, holder):
                self._addresses.release(pool, held.address, holder)

    def request_address(self, pool_id: PoolId, *, address: IPAddress | None, gateway: bool) -> IPInterface:
        """Grant an address, with the pool's prefix length.

        Raises:
            Conflict: the address asked for is taken; the message names by whom.
            Exhausted: no address is left.
            InvalidInput: the address asked for is not one of the pool.
            PoolNotFound: the pool does not exist.
        """
        pool, holder = pool_id.pool, pool_id.space.holder(self._node)
        if gateway:
            granted = self._addresses.gateway(pool, address, holder)
        elif address is not None:
            granted = self._addresses.claim(pool, address, holder)
        else:
            granted = self._addresses.choose(pool, pool_id.sub_pool, holder)
        return rules.on_network(pool, granted)

    def request_virtual(
        self, pool: IPNetwork, holder: str, compare: Compare, record: Callable[[IPAddress], Put]
    ) -> int | None:
        """Grant a virtual address together with the record of what has it: both are written or neither.

        Args:
            pool: of the network.
            holder: what has the address (:func:`model.addresses.service_holder`).
            compare: that record, as it was known.
            record: makes the record, with the address.

        Returns:
            The store's revision of the record; None when it is not what it was: another was faster.

        Raises:
            Exhausted: no address is left.
            PoolNotFound: the pool does not exist.
        """
        return self._addresses.choose_virtual(pool, holder, compare, record)

    def virtual_item(self, pool: IPNetwork, address: IPAddress, holder: str) -> KeyValue | None:
        """The key of a virtual address, if this holder has it; from the store when it is not known here."""
        key = keys.address(pool, address)
        entry = self._views.addresses.get(key)
        if entry is not None and _is_virtual(entry.value, holder):
            return entry.whole_item()
        item = self._store.get(key)
        return item if item is not None and _is_virtual(decode(AddressRecord, item.value, key=key), holder) else None

    def virtual_addresses(self) -> Sequence[tuple[IPNetwork, IPAddress, str]]:
        """All virtual addresses, each with its holder."""
        return [
            (*keys.parse_address(key), holder)
            for key, entry in self._views.addresses.items().items()
            if entry.value.kind is AddressKind.VIP
            for holder in entry.value.holders
        ]

    def release_address(self, pool_id: PoolId, address: IPAddress) -> None:
        """Give up an address. Gateways, unknown addresses and repeated releases are no error and no change.

        When this node still has an endpoint on the address (removing it has failed), the hold stays until that
        endpoint is collected: an address must not be granted again while packets still reach its old owner.
        """
        holder = pool_id.space.holder(self._node)
        endpoint = self._usage.endpoint_at(pool_id.pool, address)
        if endpoint is not None and endpoint.node == holder:
            log.warning(
                "address released while its endpoint exists, it stays held",
                extra={"pool": str(pool_id.pool), "address": str(address), "endpoint_id": endpoint.endpoint_id},
            )
            return
        self._addresses.release(pool_id.pool, address, holder)

    def reserve(self, pool: IPNetwork, addresses: Iterable[IPAddress]) -> None:
        """Record ``--aux-address`` of a network: no container gets these.

        Raises:
            Conflict: one is in use.
            InvalidInput: one is not an address of the pool.
            PoolNotFound: the pool does not exist.
        """
        for address in dict.fromkeys(addresses):
            self._addresses.reserve(pool, address, self._node)

    def release_hold(self, pool: IPNetwork, address: IPAddress, holder: str) -> None:
        """Take a holder off an address, whoever that is; for the garbage collector, which has removed the endpoint."""
        self._addresses.release(pool, address, holder)

    def sweep(self) -> None:
        """Delete addresses of pools that do not exist any more; left when an agent ends half-way through a removal."""
        known = self._views.pools.items()
        segments = {key.removeprefix(keys.ADDRESSES).partition("/")[0] for key in self._views.addresses.items()}
        for pool in map(keys.parse_pool_segment, segments):
            if keys.pool(pool) not in known:
                self._pools.sweep_addresses(pool)

    def holds_pool(self, pool: IPNetwork, holder: str) -> bool:
        """Whether the holder has requested this very pool; read from the store, so it sees what was just written."""
        item = self._store.get(keys.pool(pool))
        return item is not None and holder in decode(PoolRecord, item.value, key=item.key).holders

    @property
    def synced(self) -> bool:
        """Whether pools and addresses are known and followed."""
        return self._views.pools.synced and self._views.addresses.synced

    def holders(self) -> set[str]:
        """Everyone who holds a pool or an address for an endpoint."""
        pools = {holder for record in self.pools() for holder in record.holders}
        return pools | {holder for _, record in self._endpoint_records() for holder in record.holders}

    def held_addresses(self, holder: str) -> Sequence[tuple[IPNetwork, IPAddress]]:
        """Addresses for endpoints that this holder has; no gateways and no reserved ones."""
        return [keys.parse_address(key) for key, record in self._endpoint_records() if holder in record.holders]

    def held_pools(self, holder: str) -> Sequence[IPNetwork]:
        """Pools that this holder has."""
        return [record.pool for record in self.pools() if holder in record.holders]

    def pools(self) -> Sequence[PoolRecord]:
        """All pools, sorted."""
        records = [entry.value for entry in self._views.pools.items().values()]
        return sorted(records, key=lambda record: (record.pool.version, record.pool))

    def addresses(self, pool: IPNetwork | None = None) -> Sequence[HeldAddress]:
        """All addresses that are in use (of one pool), sorted."""
        prefix = keys.ADDRESSES if pool is None else keys.addresses_of(pool)
        held = []
        for key, entry in self._views.addresses.items().items():
            if key.startswith(prefix):
                of_pool, address = keys.parse_address(key)
                held.append(HeldAddress(pool=of_pool, address=address, record=entry.value))
        return sorted(held, key=lambda one: (one.pool.version, one.pool, one.address))

    def _endpoint_records(self) -> Iterator[tuple[str, AddressRecord]]:
        """Keys and records of addresses for endpoints; the keys are not parsed, because this walks through all."""
        for key, entry in self._views.addresses.items().items():
            if entry.value.kind is AddressKind.ENDPOINT:
                yield key, entry.value

    def _in_use_by(self, held: HeldAddress, holder: str) -> bool:
        if held.record.kind is not AddressKind.ENDPOINT:
            return False
        endpoint = self._usage.endpoint_at(held.pool, held.address)
        return endpoint is not None and endpoint.node == holder


def _is_virtual(record: AddressRecord, holder: str) -> bool:
    return record.kind is AddressKind.VIP and holder in record.holders
