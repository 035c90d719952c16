"""What the collectors need of IPAM; implemented by :class:`ipam.service.Ipam`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from model.addresses import IPAddress, IPNetwork


class Holds(Protocol):
    """Pools and addresses and who holds them."""

    @property
    def synced(self) -> bool:
        """Whether what is known is up to date."""
        ...

    def holders(self) -> set[str]:
        """Everyone who holds a pool or an address for an endpoint."""
        ...

    def held_addresses(self, holder: str) -> Sequence[tuple[IPNetwork, IPAddress]]:
        """Addresses for endpoints that this holder has; no gateways and no reserved ones."""
        ...

    def held_pools(self, holder: str) -> Sequence[IPNetwork]:
        """Pools that this holder has."""
        ...

    def release_hold(self, pool: IPNetwork, address: IPAddress, holder: str) -> None:
        """Take a holder off an address; idempotent."""
        ...

    def drop_hold(self, pool: IPNetwork, holder: str) -> None:
        """Take a holder that has no network on the pool off it, with its addresses there; idempotent."""
        ...

    def sweep(self) -> None:
        """Delete addresses of pools that do not exist."""
        ...
