"""Collects what was left behind on this node.

Docker does not always say goodbye: after a dockerd that was killed, no Leave, DeleteEndpoint or ReleaseAddress is
ever sent for a Swarm's networks, and errors of these calls are only logged. What is compared, and what is believed:

====================================  ==============================================  =========================
left over                             how it is noticed                               what is done
====================================  ==============================================  =========================
endpoint record                       its interface is gone from the kernel           record and holds removed
interface in the kernel               it has no record                                interface removed
address hold of this node             no endpoint of this node has the address        hold released
Docker network id of this node        Docker answers and does not know it             network left
pool hold of this node                this node has no network on the pool            hold dropped
====================================  ==============================================  =========================

Each has to last for its grace period first, because the calls of one container come one after the other. Only endpoint
records without an interface go at once when the agent starts (a host that was rebooted), apart from the youngest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cluster.endpoints import EndpointRegistry
from cluster.holds import Holds
from cluster.networks import NetworkRegistry
from datapath.api import Datapath
from model.addresses import IPAddress, IPNetwork
from model.clock import Clock, age_s
from model.endpoints import Endpoint
from model.errors import EndpointNotFound, HawseError
from model.ids import DockerNetworkId, EndpointId, NodeName
from model.overdue import Overdue

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GracePeriods:
    """How long something may look left over."""

    young_s: float = 15.0
    """A record younger than this may still get its interface when the agent starts."""
    interface_s: float = 30.0
    """An endpoint record without an interface, and an interface without a record."""
    hold_s: float = 120.0
    """An address or pool hold that nothing uses, and a network that Docker does not know."""


class LocalGarbage:
    """The collector of one node. Call :meth:`collect` regularly from one thread.

    Args:
        node: this node.
        endpoints: endpoint records.
        networks: networks.
        holds: addresses and pools.
        datapath: the kernel.
        docker_networks: ids of the networks that Docker knows; None when Docker cannot be asked now.
        clock: time.
        grace: how long something may look left over.
    """

    def __init__(
        self,
        node: NodeName,
        *,
        endpoints: EndpointRegistry,
        networks: NetworkRegistry,
        holds: Holds,
        datapath: Datapath,
        docker_networks: Callable[[], frozenset[DockerNetworkId] | None],
        clock: Clock,
        grace: GracePeriods | None = None,
    ) -> None:
        grace = grace or GracePeriods()
        self._node = node
        self._endpoints = endpoints
        self._networks = networks
        self._holds = holds
        self._datapath = datapath
        self._docker_networks = docker_networks
        self._clock = clock
        self._young_s = grace.young_s
        self._first = True
        self._unrecorded: set[EndpointId] = set()
        self._bare_records: Overdue[EndpointId] = Overdue(grace.interface_s, clock.monotonic_s)
        self._stray_interfaces: Overdue[EndpointId] = Overdue(grace.interface_s, clock.monotonic_s)
        self._idle_addresses: Overdue[tuple[IPNetwork, IPAddress]] = Overdue(grace.hold_s, clock.monotonic_s)
        self._unknown_networks: Overdue[DockerNetworkId] = Overdue(grace.hold_s, clock.monotonic_s)
        self._idle_pools: Overdue[IPNetwork] = Overdue(grace.hold_s, clock.monotonic_s)

    def collect(self) -> None:
        """Look once, and remove what is overdue. A failure of one step is logged and does not stop the others."""
        for step in (
            self._collect_endpoints,
            self._collect_addresses,
            self._collect_networks,
            self._collect_pools,
        ):
            try:
                step()
            except HawseError as err:
                log.warning("collection failed, it is tried again", extra={"step": step.__name__, "error": str(err)})

    def _collect_endpoints(self) -> None:
        # Records are read before the kernel: CreateEndpoint writes the record first.
        records = {endpoint.endpoint_id: endpoint for endpoint in self._endpoints.local()}
        interfaces = {local.endpoint_id: local for local in self._datapath.local_endpoints()}
        bare = [ident for ident in records if ident not in interfaces]
        overdue = self._bare_records.look(bare)
        if self._first:
            now = self._clock.now()
            overdue = [ident for ident in bare if age_s(now, records[ident].created_at) >= self._young_s]
            self._first = False
        for ident in overdue:
            self._remove_record(records[ident])
        for ident in self._stray_interfaces.look(interfaces.keys() - records.keys()):
            if not interfaces[ident].in_container:
                self._remove_stray(ident)
            elif ident not in self._unrecorded:
                # Its record is lost, as with etcd's data. The container runs: cutting it off would make it worse.
                self._unrecorded.add(ident)
                log.error("container has an interface without a record, restart it", extra={"endpoint_id": ident})

    def _remove_record(self, endpoint: Endpoint) -> None:
        log.warning(
            "collecting endpoint, its interface is gone",
            extra={"endpoint_id": endpoint.endpoint_id, "addresses": [str(one) for one in endpoint.addresses]},
        )
        # Map entries of an interface that vanished with its namespace are still there.
        self._datapath.remove_endpoint(endpoint.endpoint_id)
        self._endpoints.remove(endpoint.endpoint_id)
        for address in endpoint.addresses:
            self._holds.release_hold(endpoint.network, address, self._node)

    def _remove_stray(self, ident: EndpointId) -> None:
        try:
            self._endpoints.get(ident)
        except EndpointNotFound:
            log.warning("collecting interface, it has no endpoint record", extra={"endpoint_id": ident})
            self._datapath.remove_endpoint(ident)

    def _collect_addresses(self) -> None:
        for pool, address in self._idle_addresses.look(
            held for held in self._holds.held_addresses(self._node) if not self._has_endpoint(*held)
        ):
            log.warning("collecting address, no endpoint has it", extra={"pool": str(pool), "address": str(address)})
            self._holds.release_hold(pool, address, self._node)

    def _has_endpoint(self, pool: IPNetwork, address: IPAddress) -> bool:
        endpoint = self._endpoints.endpoint_at(pool, address)
        return endpoint is not None and endpoint.node == self._node

    def _collect_networks(self) -> None:
        known = self._docker_networks()
        if known is None:
            return
        in_use = {endpoint.docker_network for endpoint in self._endpoints.local()}
        pairs = [pair for network in self._networks.all() for pair in network.docker_ids]
        ours = {ident for holder, ident in pairs if holder == self._node}
        for ident in self._unknown_networks.look(ours - known - in_use):
            log.warning("collecting network, Docker does not know it", extra={"docker_id": ident})
            network = self._networks.leave(ident, holder=self._node)
            if network is not None:
                self._holds.drop_hold(network.pool, self._node)

    def _collect_pools(self) -> None:
        idle = [
            pool for pool in self._holds.held_pools(self._node) if not self._networks.holds_network(pool, self._node)
        ]
        for pool in self._idle_pools.look(idle):
            log.warning("collecting pool hold, no network is on it", extra={"pool": str(pool)})
            self._holds.drop_hold(pool, self._node)
