"""What IPAM must know of its node and of the operator's wishes."""

from __future__ import annotations

from dataclasses import dataclass

from model.addresses import IPNetwork
from model.errors import InvalidInput
from model.ids import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamConfig:
    """Settings of IPAM, checked at birth."""

    node: NodeName
    default_pools: tuple[IPNetwork, ...]
    """Ranges that networks without ``--subnet`` are cut from, in this order (``DEFAULT_POOLS``)."""
    default_pool_prefix: int
    """Prefix length of such a network (``DEFAULT_POOL_PREFIX``)."""
    address_quarantine_s: float = 60.0
    """A released address is not given out again for this long unless nothing else is free."""

    def __post_init__(self) -> None:
        for pool in self.default_pools:
            if not pool.prefixlen <= self.default_pool_prefix <= pool.max_prefixlen - 2:
                raise InvalidInput(
                    f"DEFAULT_POOL_PREFIX={self.default_pool_prefix} does not fit DEFAULT_POOLS={pool}: "
                    f"choose {pool.prefixlen} to {pool.max_prefixlen - 2}"
                )
        if self.address_quarantine_s < 0:
            raise InvalidInput(f"address quarantine of {self.address_quarantine_s} s is negative; choose 0 or more")
