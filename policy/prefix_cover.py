"""Which identities of address prefixes a CIDR peer stands for.

Every prefix that a policy names, and every one it excludes, has an identity; an address has that of the longest prefix
around it. So a peer stands for the prefixes inside its own that are not inside an excluded one, and an address is one
of the peer's exactly when its identity is.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping

from model.addresses import IPNetwork
from model.policies import CidrPeer, Policy


def prefixes_of(policies: Iterable[Policy]) -> frozenset[IPNetwork]:
    """Every address prefix that a policy names, excluded ones too: what needs an identity."""
    found: set[IPNetwork] = set()
    for policy in policies:
        for rule in (*policy.ingress, *policy.egress):
            for peer in rule.peers or ():
                if isinstance(peer, CidrPeer):
                    found.add(peer.cidr)
                    found.update(peer.excluded)
    return frozenset(found)


class PrefixCover:
    """The identities of address prefixes, in order of address.

    Attributes:
        identities: all of them.
        everything: their numbers.
    """

    def __init__(self, prefix_identities: Mapping[IPNetwork, int]) -> None:
        self.identities = dict(prefix_identities)
        self.everything = frozenset(prefix_identities.values())
        self._known: dict[CidrPeer, frozenset[int]] = {}
        self._spans = sorted((*_span(prefix), number) for prefix, number in prefix_identities.items())

    def covered(self, peer: CidrPeer) -> frozenset[int]:
        """The identities of prefixes whose addresses are the peer's."""
        found = self._known.get(peer)
        if found is None:
            found = self._inside(peer.cidr).difference(*map(self._inside, peer.excluded))
            self._known[peer] = found
        return found

    def _inside(self, prefix: IPNetwork) -> frozenset[int]:
        version, first, last = _span(prefix)
        begin = bisect.bisect_left(self._spans, (version, first))
        end = bisect.bisect_right(self._spans, (version, last + 1))
        return frozenset(number for _, _, its_last, number in self._spans[begin:end] if its_last <= last)


def _span(prefix: IPNetwork) -> tuple[int, int, int]:
    """IP version, first address and last address."""
    return prefix.version, int(prefix.network_address), int(prefix.broadcast_address)
