"""What IPAM reads from memory instead of asking the store."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from kvstore import keys
from kvstore.codec import decode
from kvstore.store import KeyValue, Store
from kvstore.watcher import View
from model.addresses import AddressRecord, IPAddress, PoolRecord
from model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class IpamViews:
    """The views of IPAM's keys; made stopped, because subscriptions come before :meth:`start`."""

    pools: View[PoolRecord]
    addresses: View[AddressRecord]
    cursors: View[IPAddress]

    @classmethod
    def of(cls, store: Store) -> IpamViews:
        """Views of one store."""
        return cls(
            pools=View(store, keys.POOLS, _pool),
            addresses=View(store, keys.ADDRESSES, _address, keep_bytes=False),
            cursors=View(store, keys.CURSORS, _cursor),
        )

    def start(self) -> None:
        """Begin to follow the store."""
        for view in (self.pools, self.addresses, self.cursors):
            view.start()

    def stop(self) -> None:
        """Stop following; what was seen stays readable."""
        for view in (self.pools, self.addresses, self.cursors):
            view.stop()


def _pool(item: KeyValue) -> PoolRecord:
    keys.parse_pool(item.key)
    return decode(PoolRecord, item.value, key=item.key)


def _address(item: KeyValue) -> AddressRecord:
    keys.parse_address(item.key)
    return decode(AddressRecord, item.value, key=item.key)


def _cursor(item: KeyValue) -> IPAddress:
    keys.parse_pool_segment(item.key.removeprefix(keys.CURSORS))
    try:
        return ipaddress.ip_address(item.value.decode())
    except ValueError as err:
        raise InvalidInput(f"etcd key {item.key} does not hold an address") from err
