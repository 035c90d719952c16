"""Everything :func:`ipam.check.check` compares, read from the store in one call and so as it stood at one moment."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from ipam.check import DockerNetworks, Records
from kvstore import keys
from kvstore.codec import decode
from kvstore.store import KeyValue, Store
from model.addresses import AddressRecord, PoolRecord
from model.endpoints import Endpoint
from model.errors import InvalidInput
from model.networks import Network
from model.nodes import Node
from model.services import Service

T = TypeVar("T")


def read_records(store: Store, *, now: datetime, docker: DockerNetworks | None) -> Records:
    """Read all records, linearizable. A value that cannot be read is noted, not raised.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    items = store.list(keys.ROOT).items
    unreadable: dict[str, str] = {}

    def below(prefix: str, kind: type[T]) -> dict[str, T]:
        found: dict[str, T] = {}
        for item in items:
            if item.key.startswith(prefix):
                _read(item, kind, found, unreadable)
        return found

    addresses = {}
    for key, record in below(keys.ADDRESSES, AddressRecord).items():
        try:
            addresses[keys.parse_address(key)] = record
        except InvalidInput as err:
            unreadable[key] = str(err)
    return Records(
        now=now,
        pools=list(below(keys.POOLS, PoolRecord).values()),
        addresses=addresses,
        networks=list(below(keys.NETWORKS, Network).values()),
        endpoints=list(below(keys.ENDPOINTS, Endpoint).values()),
        services=list(below(keys.SERVICES, Service).values()),
        nodes=frozenset(node.name for node in below(keys.NODES, Node).values()),
        docker=docker,
        unreadable=unreadable,
    )


def _read(item: KeyValue, kind: type[T], found: dict[str, T], unreadable: dict[str, str]) -> None:
    try:
        found[item.key] = decode(kind, item.value, key=item.key)
    except InvalidInput as err:
        unreadable[item.key] = str(err)
