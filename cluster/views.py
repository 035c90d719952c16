"""What the agent knows of the cluster without asking the store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kvstore import keys
from kvstore.codec import decode
from kvstore.store import KeyValue, Store
from kvstore.watcher import View
from model.endpoints import Endpoint
from model.errors import InvalidInput
from model.ids import NodeName
from model.networks import Network
from model.nodes import Node
from model.services import LostNode


@dataclass(frozen=True, slots=True)
class ClusterViews:
    """The views of the cluster's keys; made stopped, because subscriptions come before :meth:`start`."""

    networks: View[Network]
    endpoints: View[Endpoint]
    nodes: View[Node]
    alive: View[NodeName]
    lost: View[LostNode]

    @classmethod
    def of(cls, store: Store) -> ClusterViews:
        """Views of one store."""
        return cls(
            networks=View(store, keys.NETWORKS, _network),
            endpoints=View(store, keys.ENDPOINTS, _endpoint, keep_bytes=False),
            nodes=View(store, keys.NODES, _node),
            alive=View(store, keys.ALIVE, _alive),
            lost=View(store, keys.LOST, _lost),
        )

    def start(self) -> None:
        """Begin to follow the store; returns at once."""
        for view in self._all():
            view.start()

    def stop(self) -> None:
        """Stop following; what was seen stays readable."""
        for view in self._all():
            view.stop()

    def wait_synced(self, timeout_s: float) -> bool:
        """Wait until all have been read and are followed."""
        ends = time.monotonic() + timeout_s
        return all(view.wait_synced(max(0.0, ends - time.monotonic())) for view in self._all())

    def _all(self) -> tuple[View[Any], ...]:
        return (self.nodes, self.alive, self.networks, self.endpoints, self.lost)


def _network(item: KeyValue) -> Network:
    network = decode(Network, item.value, key=item.key)
    if keys.parse_network(item.key) != network.pool:
        raise InvalidInput(f"etcd key {item.key} holds the network of another pool, {network.pool}")
    return network


def _endpoint(item: KeyValue) -> Endpoint:
    endpoint = decode(Endpoint, item.value, key=item.key)
    if keys.parse_endpoint(item.key) != (endpoint.node, endpoint.endpoint_id):
        raise InvalidInput(f"etcd key {item.key} holds another endpoint, {endpoint.endpoint_id} on {endpoint.node}")
    return endpoint


def _node(item: KeyValue) -> Node:
    node = decode(Node, item.value, key=item.key)
    if keys.parse_node(item.key) != node.name:
        raise InvalidInput(f"etcd key {item.key} holds another node, {node.name}")
    return node


def _alive(item: KeyValue) -> NodeName:
    return keys.parse_node(item.key)


def _lost(item: KeyValue) -> LostNode:
    lost = decode(LostNode, item.value, key=item.key)
    if keys.parse_lost(item.key) != lost.node:
        raise InvalidInput(f"etcd key {item.key} holds another lost node, {lost.node}")
    return lost
