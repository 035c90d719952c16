"""Rules made ready to be asked: whom does it match, and on which ports?

A rule is prepared once for all endpoints that it concerns. Its peers are a mask over the selector index for identities
of the cluster, and a set for the few others. Who is a destination decides what a named port means, so those are
answered for a pair of local and remote identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from datapath.api import Direction
from datapath.policy_table import PORT_BITS, PolicyVerdict
from model.identities import RESERVED_NAMES
from model.ids import (
    IDENTITY_HEALTH,
    IDENTITY_HOST,
    IDENTITY_INIT,
    IDENTITY_REMOTE_NODE,
    IDENTITY_UNMANAGED,
    IDENTITY_WORLD,
)
from model.policies import PORT_MAX, PORT_PROTOCOLS, CidrPeer, Entity, Peer, PortMatch, Protocol, Rule, Selector
from policy.port_prefixes import ANY_PORT_KEY, PortKey, range_prefixes
from policy.prefix_cover import PrefixCover
from policy.rule_numbers import RulePlace
from policy.selection import EVERY_LABEL_SET, SelectorIndex, selects_reserved

NamedPorts: TypeAlias = Mapping[str, tuple[Protocol, int]]
"""The ports that an endpoint gives names to."""

_ONE_RESERVED: Final[Mapping[Entity, frozenset[int]]] = {
    Entity.HOST: frozenset({IDENTITY_HOST}),
    Entity.REMOTE_NODE: frozenset({IDENTITY_REMOTE_NODE}),
    Entity.WORLD: frozenset({IDENTITY_WORLD}),
    Entity.INIT: frozenset({IDENTITY_INIT}),
    Entity.UNMANAGED: frozenset({IDENTITY_UNMANAGED}),
    Entity.HEALTH: frozenset({IDENTITY_HEALTH}),
    Entity.CLUSTER: frozenset(RESERVED_NAMES) - {IDENTITY_WORLD},
    Entity.ALL: frozenset(),
    Entity.NONE: frozenset(),
}
"""Reserved identities of each entity; «all» is not a set of peers but no condition on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRule:
    """One rule of one direction of one policy."""

    place: RulePlace
    verdict: PolicyVerdict
    anyone: bool
    """Matches every peer."""
    selectors: int
    """Bits of the selectors among its peers, in the index that it was made with; one that all have for «cluster»."""
    others: frozenset[int]
    """Reserved identities and those of address prefixes that it matches."""
    keys: frozenset[PortKey]
    """Protocols and ports, except named ones."""
    names: frozenset[tuple[str, Protocol | None]]
    """Named ports."""

    def matches_labels(self, mask: int) -> bool:
        """Whether it matches an identity of the cluster that has this mask of selectors."""
        return self.anyone or bool(self.selectors & mask)

    def matches_other(self, number: int) -> bool:
        """Whether it matches a reserved identity or that of a prefix."""
        return self.anyone or number in self.others

    def named_keys(self, destination: NamedPorts | None) -> Iterator[PortKey]:
        """What its named ports mean at a destination that names these, None = one whose labels are not known yet.

        Who cannot be asked is denied every port that the name may turn out to mean, and is allowed none.
        """
        for name, protocol in self.names:
            if destination is not None:
                meant = destination.get(name)
                if meant is not None and protocol in {None, meant[0]}:
                    yield int(meant[0]), meant[1], PORT_BITS
            elif self.verdict.deny:
                for one in PORT_PROTOCOLS if protocol is None else (protocol,):
                    yield int(one), 0, 0


def prepare(rule: Rule, place: RulePlace, number: int, index: SelectorIndex, prefixes: PrefixCover) -> PreparedRule:
    """Make a rule ready; its selectors are in the index and its prefixes among ``prefixes``."""
    peers = () if rule.peers is None else rule.peers
    return PreparedRule(
        place=place,
        verdict=PolicyVerdict(deny=rule.deny, rule=number),
        anyone=rule.peers is None or Entity.ALL in peers,
        selectors=_bits(peers, index),
        others=frozenset().union(*(_others(peer, prefixes, deny=rule.deny) for peer in peers)),
        keys=frozenset({ANY_PORT_KEY} if rule.ports is None else _keys(rule.ports)),
        names=frozenset((match.name, match.protocol) for match in rule.ports or () if match.name is not None),
    )


def selectors_of(rules: Iterable[Rule]) -> Iterator[Selector]:
    """The selectors among the peers of rules."""
    for rule in rules:
        for peer in rule.peers or ():
            if isinstance(peer, Selector):
                yield peer


def place_of(policy: str, direction: Direction, rule: Rule) -> RulePlace:
    """Where a rule of a policy stands."""
    return RulePlace(policy=policy, path=rule.path, direction=direction, deny=rule.deny)


def _bits(peers: Iterable[Peer], index: SelectorIndex) -> int:
    mask = 0
    for peer in peers:
        if isinstance(peer, Selector):
            mask |= index.bit(peer)
        elif peer is Entity.CLUSTER:
            mask |= EVERY_LABEL_SET
    return mask


def _others(peer: Peer, prefixes: PrefixCover, *, deny: bool) -> frozenset[int]:
    match peer:
        case Selector():
            found = frozenset(number for number in RESERVED_NAMES if selects_reserved(peer, number, deny=deny))
            # An address does not leave the world because some policy names a prefix around it.
            return found | prefixes.everything if IDENTITY_WORLD in found else found
        case CidrPeer():
            return prefixes.covered(peer)
        case Entity():
            return _ONE_RESERVED[peer] | prefixes.everything if peer is Entity.WORLD else _ONE_RESERVED[peer]


def _keys(ports: Iterable[PortMatch]) -> Iterator[PortKey]:
    for match in ports:
        if match.name is not None:
            continue
        for protocol in PORT_PROTOCOLS if match.protocol is None else (match.protocol,):
            if (match.first, match.last) == (0, PORT_MAX):
                yield int(protocol), 0, 0
            else:
                for port, bits in range_prefixes(match.first, match.last):
                    yield int(protocol), port, bits
