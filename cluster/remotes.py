"""Which addresses are on which other node: computed from the records of endpoints and nodes. Not thread-safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from datapath.api import IpcacheKey, RemoteEndpoint
from model.addresses import IPAddress
from model.endpoints import Endpoint
from model.ids import NodeName
from model.keys_by_address import KeysByAddress
from model.nodes import Node


class RemoteTable:
    """What the ipcache of one node must say of the other nodes' endpoints.

    Two endpoints on one address are a mistake that collection ends (an endpoint of a container that died unnoticed,
    and its successor); until then the newer one counts.
    """

    def __init__(self, own: NodeName) -> None:
        self._own = own
        self._tunnels: dict[NodeName, IPAddress] = {}
        self._lost: frozenset[NodeName] = frozenset()
        self._endpoints: dict[str, Endpoint] = {}
        self._at = KeysByAddress()

    def set_nodes(self, nodes: Iterable[Node]) -> None:
        """Replace what is known of the nodes."""
        self._tunnels = {node.name: node.address for node in nodes if node.name != self._own}

    def set_lost(self, nodes: Iterable[NodeName]) -> None:
        """Replace what is known of the nodes that the Swarm has given up."""
        self._lost = frozenset(nodes)

    def set_endpoints(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Replace what is known of the endpoints; keyed by their key in the store."""
        self._endpoints.clear()
        self._at.clear()
        self._endpoints.update(endpoints)
        for key, endpoint in endpoints.items():
            self._at.put(key, endpoint.addresses)

    def set_endpoint(self, key: str, endpoint: Endpoint | None) -> set[IpcacheKey]:
        """Replace one endpoint; None: it is gone. Returns the destinations that are somewhere else now.

        Most changes of a record are none of these: an endpoint of this node, or one that is used, published or named.
        """
        old = self._endpoints.get(key)
        before = {place: self.remote(place) for one in (old, endpoint) if one is not None for place in _places(one)}
        if old is not None:
            del self._endpoints[key]
            self._at.discard(key, old.addresses)
        if endpoint is not None:
            self._endpoints[key] = endpoint
            self._at.put(key, endpoint.addresses)
        return {place for place, remote in before.items() if self.remote(place) != remote}

    def tunnels(self) -> set[IPAddress]:
        """Underlay addresses of the other nodes."""
        return set(self._tunnels.values())

    def remote(self, place: IpcacheKey) -> RemoteEndpoint | None:
        """Where a destination is; None when it is on this node, nowhere, or on a node that is not registered."""
        here = ((key, self._endpoints[key]) for key in self._at.at(place.address))
        endpoints = [(one.created_at, key) for key, one in here if place in _places(one)]
        if not endpoints:
            return None
        endpoint = self._endpoints[max(endpoints)[1]]
        tunnel = self._tunnels.get(endpoint.node)
        return None if tunnel is None else RemoteEndpoint(tunnel, endpoint.identity, endpoint.node in self._lost)

    def remotes(self) -> dict[IpcacheKey, RemoteEndpoint]:
        """Every destination on another node."""
        places = (place for endpoint in self._endpoints.values() for place in _places(endpoint))
        found = ((place, self.remote(place)) for place in places)
        # Many are on one node and have one identity.
        shared: dict[RemoteEndpoint, RemoteEndpoint] = {}
        return {place: shared.setdefault(remote, remote) for place, remote in found if remote is not None}


def _places(endpoint: Endpoint) -> list[IpcacheKey]:
    return [IpcacheKey(endpoint.vni, address) for address in endpoint.addresses]
