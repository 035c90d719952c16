"""Grants whose answer was lost: the store may have them, and nobody would ever release them.

Docker does not learn the address and asks again, without saying that it asks again. So the next search looks at such an
address first: when its key holds exactly what was written then, that grant was done, and it is the answer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ipam import rules
from model.addresses import IPAddress, IPNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class UncertainGrant:
    """One address that may have been granted."""

    pool: IPNetwork
    address: IPAddress
    holder: str
    value: bytes
    """What the address's key holds if it was."""


class UncertainGrants:
    """The grants of one agent that are in doubt. Safe from any thread; lost when the agent ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grants: list[UncertainGrant] = []

    def add(self, grant: UncertainGrant) -> None:
        """Remember a grant in doubt."""
        with self._lock:
            self._grants.append(grant)

    def take(self, pool: IPNetwork, sub_pool: IPNetwork | None, holder: str) -> UncertainGrant | None:
        """Hand a grant in doubt that would be an answer to one thread, which settles it or adds it again."""
        candidates = rules.selectable(pool, sub_pool)
        with self._lock:
            for position, grant in enumerate(self._grants):
                if grant.pool == pool and grant.holder == holder and int(grant.address) in candidates:
                    return self._grants.pop(position)
        return None
