"""Removes what a node left behind that does not come back; done by the cluster's leader."""

from __future__ import annotations

import logging

from cluster.endpoints import EndpointRegistry
from cluster.holds import Holds
from cluster.networks import NetworkRegistry
from cluster.nodes import NodeRegistry
from model.addresses import SWARM_HOLDER
from model.clock import Clock
from model.ids import NodeName
from model.overdue import Overdue

log = logging.getLogger(__name__)


class DepartedNodes:
    """The collector for the cluster. Call :meth:`collect` regularly from one thread, while this node leads.

    A node whose agent does not run may well be forwarding, so the limit is long. A new leader starts to count anew.

    Args:
        nodes: nodes and which are alive.
        endpoints: endpoint records.
        networks: networks.
        holds: addresses and pools.
        clock: time.
        absence_s: how long a node may be away; 0: for ever.
    """

    def __init__(
        self,
        *,
        nodes: NodeRegistry,
        endpoints: EndpointRegistry,
        networks: NetworkRegistry,
        holds: Holds,
        clock: Clock,
        absence_s: float = 24 * 3600.0,
    ) -> None:
        self._nodes = nodes
        self._endpoints = endpoints
        self._networks = networks
        self._holds = holds
        self._absence_s = absence_s
        self._absent: Overdue[NodeName] = Overdue(absence_s, clock.monotonic_s)

    def collect(self) -> None:
        """Look once; remove nodes that have been away for too long, and addresses of pools that are gone."""
        self._holds.sweep()
        if not self._absence_s:
            return
        alive = self._nodes.alive()
        for name in self._absent.look(self._named() - alive):
            self._remove(name)

    def _named(self) -> set[NodeName]:
        """Every node that is registered or has left something, as after a removal that was cut short."""
        holders = {holder for network in self._networks.all() for holder, _ in network.docker_ids}
        holders |= self._holds.holders()
        holders.discard(SWARM_HOLDER)
        return {*(node.name for node in self._nodes.all()), *self._endpoints.nodes(), *map(NodeName, holders)}

    def _remove(self, name: NodeName) -> None:
        # The node goes first: that transaction compares that it is not alive, and its peers stop accepting its packets.
        if not self._nodes.remove(name):
            return
        log.warning("collecting node, it has been away for too long", extra={"node": name})
        for endpoint in self._endpoints.on_node(name):
            self._endpoints.remove_from(name, endpoint.endpoint_id)
            for address in endpoint.addresses:
                self._holds.release_hold(endpoint.network, address, name)
        for network in self._networks.all():
            for holder, docker_id in network.docker_ids:
                if holder == name:
                    self._networks.leave(docker_id, holder=holder)
        for pool, address in self._holds.held_addresses(name):
            self._holds.release_hold(pool, address, name)
        for pool in self._holds.held_pools(name):
            self._holds.drop_hold(pool, name)
