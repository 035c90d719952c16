"""The entries of one local identity in one direction, kept from one compilation to the next.

Remotes that the same rules match, and that mean the same by the named ports in them, are one class; its entries are
settled once. What matches anyone stands under ``ANY_REMOTE``; only a named port that an anyone-rule opens towards
others has to be written for each destination, because each has its own number for it.

As long as the rules stay the same objects, a class stays settled, and a remote that stays in its class costs nothing
but the look at its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias

from datapath.api import Direction
from datapath.policy_table import ANY_REMOTE, PolicyKey, PolicyVerdict
from model.ids import IDENTITY_INIT
from policy.endpoint_rules import EndpointRules
from policy.port_prefixes import PortKey
from policy.precedence import Verdicts, settle
from policy.rule_matching import NamedPorts, PreparedRule
from policy.selection import EVERY_LABEL_SET

PortsOf: TypeAlias = Callable[[int], NamedPorts | None]
"""The named ports of an identity, None when its labels are not known."""

_Entries: TypeAlias = tuple[tuple[PortKey, PolicyVerdict], ...]
"""The entries of one remote, in order of their keys."""


class RemoteEntries:
    """What the table holds of one local identity in one direction.

    Attributes:
        entries: as they stand in the table.
    """

    def __init__(self) -> None:
        self.entries: dict[PolicyKey, PolicyVerdict] = {}
        self._remotes: dict[int, _Entries] = {}
        self._classes: _Classes | None = None

    def update(self, rules: EndpointRules, masks: Mapping[int, int], ports: PortsOf) -> None:
        """Follow the rules, which are of the same identity and direction each time, and the remotes there are now.

        Args:
            rules: what judges.
            masks: the identities of the cluster, with the selectors that select them.
            ports: what they and the others mean by named ports.
        """
        own_ports = ports(rules.local)
        if self._classes is None or not self._classes.judge_by(rules, own_ports):
            self._classes = _Classes(rules, own_ports, self._remotes.values())
        self._rewrite(rules.local, rules.direction, self._classes.entries(masks, ports))

    def _rewrite(self, local: int, direction: Direction, remotes: dict[int, _Entries]) -> None:
        before, self._remotes = self._remotes, remotes
        for remote, entries in before.items():
            if remotes.get(remote) is not entries:  # equal ones are one object
                for (protocol, port, bits), _ in entries:
                    del self.entries[PolicyKey(local, remote, direction, protocol, port, bits)]
        for remote, entries in remotes.items():
            if before.get(remote) is not entries:
                for (protocol, port, bits), verdict in entries:
                    self.entries[PolicyKey(local, remote, direction, protocol, port, bits)] = verdict


class _Classes:
    """The classes of remotes under certain rules; ``known`` entries are used again where new ones are equal."""

    def __init__(self, rules: EndpointRules, own_ports: NamedPorts | None, known: Iterable[_Entries]) -> None:
        self._rules = rules
        self._own_ports = own_ports
        self._towards_remote = rules.direction is Direction.EGRESS
        self._distinct = {entries: entries for entries in known}
        self._classes: dict[Hashable, _Entries] = {}
        self._settled: dict[Hashable, _Entries] = {}
        every = rules.rules if rules.opening is None else (*rules.rules, rules.opening)
        # Rules that say something of some remotes and not of all.
        special = [rule for rule in every if not rule.anyone or (self._towards_remote and rule.names)]
        self._special = [(EVERY_LABEL_SET if rule.anyone else rule.selectors, rule) for rule in special]
        self._relevant = 0
        for selectors, _ in self._special:
            self._relevant |= selectors
        self._names = sorted({name for rule in special for name, _ in rule.names} if self._towards_remote else ())
        self._anyone = settle(
            (rule.verdict, rule.keys if self._towards_remote else rule.keys.union(rule.named_keys(own_ports)))
            for rule in every
            if rule.anyone
        )
        self._others: dict[int, list[PreparedRule]] = {}
        for rule in special:
            # Of these only `init` may have named ports, so no other needs an entry of its own.
            for number in (IDENTITY_INIT,) if rule.anyone else rule.others:
                self._others.setdefault(number, []).append(rule)

    def judge_by(self, rules: EndpointRules, own_ports: NamedPorts | None) -> bool:
        """Whether they are made from exactly this."""
        return rules == self._rules and own_ports == self._own_ports

    def entries(self, masks: Mapping[int, int], ports: PortsOf) -> dict[int, _Entries]:
        """The entries for every remote that has some."""
        found = {ANY_REMOTE: self._one(self._anyone)}
        for remote, mask in masks.items():
            seen: Hashable = mask & self._relevant
            if self._names:
                seen = seen, self._meant(ports(remote))
            entries = self._classes.get(seen)
            if entries is None:
                matching = [rule for selectors, rule in self._special if selectors & mask]
                entries = self._classes[seen] = self._settle(matching, ports(remote))
            found[remote] = entries
        for remote, matching in self._others.items():
            found[remote] = self._settle(matching, ports(remote))
        return {remote: entries for remote, entries in found.items() if entries}

    def _settle(self, matching: Sequence[PreparedRule], remote_ports: NamedPorts | None) -> _Entries:
        same = (*map(id, matching), self._meant(remote_ports))
        entries = self._settled.get(same)
        if entries is None:
            destination = remote_ports if self._towards_remote else self._own_ports
            said = ((rule.verdict, self._keys(rule, destination)) for rule in matching)
            entries = self._settled[same] = self._one(settle(said, self._anyone))
        return entries

    def _meant(self, ports: NamedPorts | None) -> Hashable:
        """What a remote means by the named ports that matter; to be unknown differs from having none."""
        return None if ports is None else tuple(ports.get(name) for name in self._names)

    @staticmethod
    def _keys(rule: PreparedRule, destination: NamedPorts | None) -> frozenset[PortKey]:
        named = frozenset(rule.named_keys(destination))
        return named if rule.anyone else rule.keys | named

    def _one(self, verdicts: Verdicts) -> _Entries:
        entries = tuple(sorted(verdicts.items()))
        return self._distinct.setdefault(entries, entries)
