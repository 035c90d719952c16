"""What IPAM asks of the rest of the agent: who still uses a pool or an address."""

from __future__ import annotations

from typing import Protocol

from model.addresses import IPAddress, IPNetwork
from model.endpoints import Endpoint


class Usage(Protocol):
    """Knowledge of the network and endpoint registries; answered from memory.

    An agent that has just started waits for its first look at the store. Both methods raise:
        StoreUnavailable: nothing has been read from the store yet; that nobody uses something is never guessed.
    """

    def holds_network(self, pool: IPNetwork, holder: str) -> bool:
        """Whether this holder still has a Docker network on the pool.

        Docker sends ``ReleasePool`` before ``DeleteNetwork``; as long as this is true the pool has to stay.
        """
        ...

    def endpoint_at(self, pool: IPNetwork, address: IPAddress) -> Endpoint | None:
        """The container interface, on any node, that has this address."""
        ...
