"""Numbers of address prefixes: identities that only this node knows.

1. A prefix keeps its number for as long as a policy names it, and gets the same one again when it comes back soon.
2. A number whose prefix is gone is given to another prefix only when all others are used up, the one that has been free
   for longest first: what was judged under it (a connection, a report on its way) is not taken for somebody else's.
3. After a restart the numbers are those that the kernel has; anything else would change the meaning of its entries.

Costs about 200 bytes per number that was ever used, at most :data:`CAPACITY` of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from model.addresses import IPNetwork
from model.errors import Exhausted
from model.identities import CIDR_IDENTITY_BASE

CAPACITY: Final = 1 << 17
"""How many numbers there are; far more than prefixes fit into the kernel's map."""


class PrefixIdentities:
    """Gives numbers to prefixes. For one thread.

    Args:
        known: what is in use already (:meth:`datapath.api.Datapath.policy_prefixes`).
        capacity: how many numbers there are.
    """

    def __init__(self, known: Mapping[IPNetwork, int] | None = None, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        numbers = range(CIDR_IDENTITY_BASE, CIDR_IDENTITY_BASE + capacity)
        self._used: dict[IPNetwork, int] = {}
        taken: set[int] = set()
        for prefix, number in (known or {}).items():
            # A number twice, or one of another kind, can only come from another version: its prefix gets a new one.
            if number in numbers and number not in taken:
                self._used[prefix] = number
                taken.add(number)
        self._next = max(taken, default=CIDR_IDENTITY_BASE - 1) + 1
        # Longest free first: numbers below the highest one that nobody has, then those that become free from now on.
        self._never_used = iter([number for number in range(CIDR_IDENTITY_BASE, self._next) if number not in taken])
        self._free: dict[IPNetwork, int] = {}

    def assign(self, prefixes: Iterable[IPNetwork]) -> Mapping[IPNetwork, int]:
        """Give every prefix its number; those that are not named any more lose theirs.

        Raises:
            Exhausted: there are more prefixes than numbers; nothing has changed.
        """
        wanted = sorted(set(prefixes), key=_order)
        if len(wanted) > self._capacity:
            raise Exhausted(
                f"policies name {len(wanted)} different address prefixes, this node has numbers for {self._capacity}"
            )
        for prefix in sorted(self._used.keys() - set(wanted), key=_order):
            self._free[prefix] = self._used.pop(prefix)
        # Those that come back first, so that nobody else gets their number.
        for prefix in wanted:
            if prefix not in self._used and prefix in self._free:
                self._used[prefix] = self._free.pop(prefix)
        for prefix in wanted:
            if prefix not in self._used:
                self._used[prefix] = self._new_number()
        return dict(self._used)

    def _new_number(self) -> int:
        if self._next < CIDR_IDENTITY_BASE + self._capacity:
            self._next += 1
            return self._next - 1
        number = next(self._never_used, None)
        if number is not None:
            return number
        return self._free.pop(next(iter(self._free)))


def _order(prefix: IPNetwork) -> tuple[int, int, int]:
    """Any order that is the same in every run: numbers do not depend on the hash of an address."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen
