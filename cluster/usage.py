"""What the registries tell IPAM: who still uses a pool or an address (``ipam.usage.Usage``)."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.endpoints import EndpointRegistry
from cluster.networks import NetworkRegistry
from model.addresses import IPAddress, IPNetwork
from model.endpoints import Endpoint


@dataclass(frozen=True, slots=True)
class RegistryUsage:
    """Answers from the registries' memory."""

    networks: NetworkRegistry
    endpoints: EndpointRegistry

    def holds_network(self, pool: IPNetwork, holder: str) -> bool:
        """Whether this holder has a Docker network on the pool."""
        return self.networks.holds_network(pool, holder)

    def endpoint_at(self, pool: IPNetwork, address: IPAddress) -> Endpoint | None:
        """The container interface, on any node, that has this address."""
        return self.endpoints.endpoint_at(pool, address)
