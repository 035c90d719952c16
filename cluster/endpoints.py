"""Endpoint records: what the cluster knows of each container interface."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from cluster.address_index import AddressIndex
from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.first_read import FirstRead
from kvstore.own_writes import wait_visible
from kvstore.store import Delete, KeyValue, Put, Store, absent, unchanged
from kvstore.watcher import View
from model.addresses import IPAddress, IPNetwork
from model.endpoints import Endpoint, Publication
from model.errors import CasFailed, Conflict, EndpointNotFound
from model.ids import EndpointId, IdentityId, NodeName
from model.labels import Labels

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 16

_Found: TypeAlias = tuple[Endpoint, KeyValue]
"""A record, and the key as it was then; of one that a view shows without its bytes."""


class EndpointRegistry:
    """The endpoints of the cluster; those of this node can be written. Safe from any thread.

    Args:
        store: the cluster's state.
        view: of the endpoints' keys; not started yet.
        node: this node.
    """

    def __init__(self, store: Store, view: View[Endpoint], node: NodeName) -> None:
        self._store = store
        self._view = view
        self._node = node
        self._index = AddressIndex()
        self._lock = threading.Lock()
        self._putting: dict[tuple[IPNetwork, IPAddress], EndpointId] = {}
        self._on_its_way: dict[str, _Found] = {}
        self._read = FirstRead(view, "endpoints")
        view.subscribe(self._index.on_endpoints)

    def put(self, endpoint: Endpoint) -> Endpoint:
        """Record an endpoint of this node, and wait until it is seen here; see :meth:`recording`."""
        with self.recording(endpoint) as recorded:
            return recorded

    @contextlib.contextmanager
    def recording(self, endpoint: Endpoint) -> Iterator[Endpoint]:
        """Record an endpoint of this node. The same content again is no change and keeps what was learned since.

        Yields the record as it is in the store then. What is done inside is done while the record is on its way back
        to this node; at the end it is seen here.

        Raises:
            Conflict: another content is recorded under its id, or another endpoint has one of its addresses; nothing
                was written.
        """
        key = keys.endpoint(self._node, endpoint.endpoint_id)
        with self._being_put(endpoint):
            for address in endpoint.addresses:
                other = self.endpoint_at(endpoint.network, address)
                if other is not None and other.endpoint_id != endpoint.endpoint_id and self._still_has(other, address):
                    raise _taken(address, endpoint, other.endpoint_id, other.node)
            result = self._store.txn([absent(key)], [Put(key, encode(endpoint))])
            if result.succeeded:
                try:
                    yield endpoint
                finally:
                    wait_visible(self._view, result.revision)
                return
        found = _decoded(result.current[0])
        if found is None:
            raise CasFailed(f"endpoint {endpoint.endpoint_id} was removed while it was recorded; try again")
        if _differs(found[0], endpoint):
            raise Conflict(f"endpoint {endpoint.endpoint_id} is recorded with another network, address or MAC address")
        yield found[0]

    def set_sandbox(self, endpoint_id: EndpointId, sandbox_key: str | None) -> None:
        """Record the network namespace that an endpoint of this node is used in; None: in none.

        Nobody acts on it, so this does not wait until the view shows it; :meth:`get` and all that changes the record
        know it at once.

        Raises:
            EndpointNotFound: it is not recorded.
        """
        found = self._found(keys.endpoint(self._node, endpoint_id))
        self._update_from(found, endpoint_id, lambda known: replace(known, sandbox_key=sandbox_key), seen=False)

    def set_identity(
        self,
        endpoint_id: EndpointId,
        *,
        identity: IdentityId,
        labels: Labels | None,
        container: str,
        unhealthy: bool | None = None,
    ) -> Endpoint:
        """Record what was learned of an endpoint of this node after it was made; the same again is no change.

        Args:
            endpoint_id: which endpoint.
            identity: the identity of ``labels``.
            labels: the labels that make the identity; None: they are not known.
            container: name of the container; empty: not known.
            unhealthy: whether its container cannot answer; None: as before.

        Returns:
            The record as it is now.

        Raises:
            EndpointNotFound: it is not recorded.
        """
        return self._update(
            endpoint_id,
            lambda known: replace(
                known,
                identity=identity,
                labels=labels,
                container=container,
                unhealthy=known.unhealthy if unhealthy is None else unhealthy,
            ),
        )

    def set_published(self, endpoint_id: EndpointId, published: tuple[Publication, ...]) -> int:
        """Record which ports of this node lead to an endpoint of this node; returns the store revision that says so.

        The view has that revision, unless it does not follow the store at the moment.

        Raises:
            EndpointNotFound: it is not recorded.
        """
        # What the view shows may be older than a write of which this agent never heard whether it was done.
        found = self._stored(keys.endpoint(self._node, endpoint_id))
        _, revision = self._update_from(found, endpoint_id, lambda known: replace(known, published=published))
        return revision

    def remove(self, endpoint_id: EndpointId) -> Endpoint | None:
        """Remove an endpoint of this node; None when it was not recorded."""
        return self.remove_from(self._node, endpoint_id)

    def remove_from(self, node: NodeName, endpoint_id: EndpointId) -> Endpoint | None:
        """Remove an endpoint of any node; for the collector of nodes that are gone."""
        key = keys.endpoint(node, endpoint_id)
        found = self._found(key)
        for _ in range(_ATTEMPTS):
            if found is None:
                return None
            known, item = found
            result = self._store.txn([unchanged(item)], [Delete(key)])
            if result.succeeded:
                self._on_its_way.pop(key, None)
                wait_visible(self._view, result.revision)
                return known
            found = _decoded(result.current[0])
        raise CasFailed(f"endpoint {endpoint_id} changed {_ATTEMPTS} times during its removal; try again")

    def get(self, endpoint_id: EndpointId) -> Endpoint:
        """Find an endpoint of this node.

        Raises:
            EndpointNotFound: it is neither known here nor in the store.
        """
        found = self._found(keys.endpoint(self._node, endpoint_id))
        if found is None:
            raise _not_found(endpoint_id, self._node)
        return found[0]

    def seen(self, endpoint_id: EndpointId) -> Endpoint | None:
        """Find an endpoint of this node without a question to the store; None also when it is not known here yet."""
        entry = self._view.get(keys.endpoint(self._node, endpoint_id))
        return None if entry is None else entry.value

    def local(self) -> Sequence[Endpoint]:
        """All endpoints of this node.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        return self.on_node(self._node)

    def on_node(self, node: NodeName) -> Sequence[Endpoint]:
        """All endpoints of a node.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._read.require()
        entries = (self._view.get(key) for key in self._index.on_node(node))
        return [entry.value for entry in entries if entry is not None]

    def nodes(self) -> frozenset[NodeName]:
        """Nodes that have endpoints."""
        return self._index.nodes()

    def all(self) -> Sequence[Endpoint]:
        """All endpoints of the cluster, sorted by node and id."""
        return [entry.value for _, entry in sorted(self._view.items().items())]

    def identities(self) -> frozenset[IdentityId]:
        """Identities that endpoints of the cluster have."""
        return frozenset(entry.value.identity for entry in self._view.items().values())

    def endpoint_at(self, pool: IPNetwork, address: IPAddress) -> Endpoint | None:
        """The endpoint, on any node, that has this address.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._read.require()
        for key in self._index.at(address):
            entry = self._view.get(key)
            if entry is not None and entry.value.network == pool and address in entry.value.addresses:
                return entry.value
        return None

    def _update(self, endpoint_id: EndpointId, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        known, _ = self._update_from(self._found(keys.endpoint(self._node, endpoint_id)), endpoint_id, change)
        return known

    def _update_from(
        self,
        found: _Found | None,
        endpoint_id: EndpointId,
        change: Callable[[Endpoint], Endpoint],
        *,
        seen: bool = True,
    ) -> tuple[Endpoint, int]:
        """Returns the record as it is now, and the store revision since when it is so; waits until it is ``seen``."""
        key = keys.endpoint(self._node, endpoint_id)
        for _ in range(_ATTEMPTS):
            if found is None:
                raise _not_found(endpoint_id, self._node)
            known, item = found
            wanted = change(known)
            if wanted == known:
                return known, item.mod_revision
            result = self._store.txn([unchanged(item)], [Put(key, encode(wanted))])
            if result.succeeded:
                if seen:
                    wait_visible(self._view, result.revision)
                else:
                    self._on_its_way[key] = (wanted, replace(item, value=b"", mod_revision=result.revision))
                return wanted, result.revision
            found = _decoded(result.current[0])
        raise CasFailed(f"endpoint {endpoint_id} changed {_ATTEMPTS} times during the update; try again")

    @contextlib.contextmanager
    def _being_put(self, endpoint: Endpoint) -> Iterator[None]:
        """Keep the addresses from another endpoint until the index knows this one.

        One address is held by one node, so two endpoints with the same address can only meet in this agent.
        """
        places = {(endpoint.network, address) for address in endpoint.addresses}
        with self._lock:
            for place in places:
                other = self._putting.get(place)
                if other is not None and other != endpoint.endpoint_id:
                    raise _taken(place[1], endpoint, other, self._node)
            self._putting.update(dict.fromkeys(places, endpoint.endpoint_id))
        try:
            yield
        finally:
            with self._lock:
                for place in places:
                    self._putting.pop(place, None)

    def _still_has(self, endpoint: Endpoint, address: IPAddress) -> bool:
        """Whether an endpoint that the view shows is in the store with this address.

        The view that says to whom an address is granted may be ahead of this one: the endpoint's node has removed it,
        released the address, and this node was granted it.
        """
        found = self._stored(keys.endpoint(endpoint.node, endpoint.endpoint_id))
        return found is not None and found[0].network == endpoint.network and address in found[0].addresses

    def _found(self, key: str) -> _Found | None:
        """As this node wrote it last or as the view shows it, else as it is in the store.

        What is older than the store's is refused there, and read again.
        """
        written = self._on_its_way.get(key)
        if written is not None:
            if self._view.revision < written[1].mod_revision:
                return written
            self._on_its_way.pop(key, None)
        entry = self._view.get(key)
        return self._stored(key) if entry is None else (entry.value, entry.item)

    def _stored(self, key: str) -> _Found | None:
        return _decoded(self._store.get(key))


def _decoded(item: KeyValue | None) -> _Found | None:
    return None if item is None else (decode(Endpoint, item.value, key=item.key), item)


def _differs(known: Endpoint, wanted: Endpoint) -> bool:
    """Whether a repeated call says something else; what is learned later or at another moment does not count."""
    same = replace(
        wanted,
        identity=known.identity,
        labels=known.labels,
        container=known.container,
        sandbox_key=known.sandbox_key,
        created_at=known.created_at,
        published=known.published,
        unhealthy=known.unhealthy,
    )
    return same != known


def _taken(address: IPAddress, endpoint: Endpoint, other: EndpointId, node: NodeName) -> Conflict:
    return Conflict(
        f"address {address} of endpoint {endpoint.endpoint_id} is in use by endpoint {other} on node {node}"
    )


def _not_found(endpoint_id: EndpointId, node: NodeName) -> EndpointNotFound:
    return EndpointNotFound(f"endpoint {endpoint_id} is not recorded on node {node}")
