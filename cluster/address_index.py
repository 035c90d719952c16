"""Which endpoints have an address, and which endpoints are on a node: found without walking through all of them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from model.addresses import IPAddress
from model.endpoints import Endpoint
from model.ids import NodeName
from model.keys_by_address import KeysByAddress

if TYPE_CHECKING:
    from kvstore.watcher import Change


class AddressIndex:
    """Keys of endpoints by address and by node; follows a view. Safe from any thread.

    It says where to look; whether the endpoint (still) has the address is in the view.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_address = KeysByAddress()
        self._by_node: dict[NodeName, set[str]] = defaultdict(set)

    def on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        """Follow the view of endpoints."""
        with self._lock:
            for change in changes:
                if change.old is not None:
                    self._by_address.discard(change.key, change.old.addresses)
                    self._leave(change.old.node, change.key)
                if change.new is not None:
                    self._by_address.put(change.key, change.new.addresses)
                    self._by_node[change.new.node].add(change.key)

    def at(self, address: IPAddress) -> Sequence[str]:
        """Keys of the endpoints with this address, in any network: one, unless something went wrong."""
        with self._lock:
            return sorted(self._by_address.at(address))

    def on_node(self, node: NodeName) -> Sequence[str]:
        """Keys of the endpoints on a node."""
        with self._lock:
            return sorted(self._by_node.get(node, ()))

    def nodes(self) -> frozenset[NodeName]:
        """Nodes that have endpoints."""
        with self._lock:
            return frozenset(self._by_node)

    def _leave(self, node: NodeName, key: str) -> None:
        keys = self._by_node.get(node)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._by_node[node]
