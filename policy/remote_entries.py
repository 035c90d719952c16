"""The entries of one local identity in one direction, for each remote identity.

Remotes that the same rules match, and that mean the same by the named ports in them, are one class; its entries are
settled once. What matches anyone stands under ``ANY_REMOTE``; only a named port that an anyone-rule opens towards
others has to be written for each destination, because each has its own number for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from datapath.api import Direction
from datapath.policy_table import ANY_REMOTE, PolicyVerdict
from model.ids import IDENTITY_INIT
from policy.endpoint_rules import EndpointRules
from policy.port_prefixes import PortKey
from policy.precedence import Verdicts, settle
from policy.rule_matching import NamedPorts, PreparedRule

Entries: TypeAlias = tuple[tuple[PortKey, PolicyVerdict], ...]
"""The entries of one remote, in order of their keys."""


class RemoteEntries:
    """Makes the entries; equal ones are one object for as long as it lives.

    Args:
        masks: the identities of the cluster, with the selectors that select them.
        ports: the named ports of any identity, None when its labels are not known.
        previous: makes equal entries the same objects as those of an earlier one.
    """

    def __init__(
        self,
        masks: Mapping[int, int],
        ports: Callable[[int], NamedPorts | None],
        previous: RemoteEntries | None = None,
    ) -> None:
        self._masks = masks
        self._ports = ports
        self._before: Mapping[Entries, Entries] = previous._distinct if previous else {}  # noqa: SLF001
        self._distinct: dict[Entries, Entries] = {}

    def of(self, rules: EndpointRules) -> dict[int, Entries]:
        """The entries for every remote that has some."""
        judge = _Judge(rules, self._ports)
        anyone = judge.anyone()
        found = {ANY_REMOTE: self._one(anyone)}
        settled: dict[tuple[object, ...], Entries] = {}

        def settle_once(matching: Sequence[PreparedRule], remote: int) -> Entries:
            same = (*map(id, matching), *judge.meant(remote))
            if same not in settled:
                settled[same] = self._one(judge.settle(matching, remote, anyone))
            return settled[same]

        classes: dict[tuple[object, ...], Entries] = {}
        for remote, mask in self._masks.items():
            seen = (mask & judge.relevant, *judge.meant(remote))
            entries = classes.get(seen)
            if entries is None:
                entries = settle_once([rule for rule in judge.special if rule.matches_labels(mask)], remote)
                classes[seen] = entries
            found[remote] = entries
        found.update((remote, settle_once(matching, remote)) for remote, matching in judge.others().items())
        return {remote: entries for remote, entries in found.items() if entries}

    def _one(self, verdicts: Verdicts) -> Entries:
        entries = tuple(sorted(verdicts.items()))
        return self._distinct.setdefault(entries, self._before.get(entries, entries))


class _Judge:
    """The rules of one endpoint and direction, and the ports that they mean.

    Attributes:
        special: the rules that say something of some remotes and not of all.
        relevant: the selectors in them.
    """

    def __init__(self, rules: EndpointRules, ports: Callable[[int], NamedPorts | None]) -> None:
        self._rules = rules.rules if rules.opening is None else (*rules.rules, rules.opening)
        self._towards_remote = rules.direction is Direction.EGRESS
        self._own_ports = ports(rules.local)
        self._ports = ports
        self.special = [rule for rule in self._rules if not rule.anyone or (self._towards_remote and rule.names)]
        self.relevant = 0
        for rule in self.special:
            self.relevant |= rule.selectors
        names = {name for rule in self.special for name, _ in rule.names} if self._towards_remote else ()
        self._names = sorted(names)

    def anyone(self) -> Verdicts:
        """What holds for every remote."""
        return settle(
            (rule.verdict, rule.keys if self._towards_remote else rule.keys.union(rule.named_keys(self._own_ports)))
            for rule in self._rules
            if rule.anyone
        )

    def settle(self, matching: Iterable[PreparedRule], remote: int, anyone: Verdicts) -> Verdicts:
        """What holds for a remote that these rules match."""
        return settle(((rule.verdict, self._keys(rule, remote)) for rule in matching), anyone)

    def meant(self, remote: int) -> tuple[object, ...]:
        """What a remote means by the named ports that matter; to be unknown differs from having none."""
        if not self._names:
            return ()
        ports = self._ports(remote)
        return (False,) if ports is None else (True, *(ports.get(name) for name in self._names))

    def others(self) -> Mapping[int, Sequence[PreparedRule]]:
        """Reserved identities and those of prefixes, with the rules that match them."""
        found: dict[int, list[PreparedRule]] = {}
        for rule in self.special:
            # Of these only `init` may have named ports, so no other needs an entry of its own.
            for number in (IDENTITY_INIT,) if rule.anyone else rule.others:
                found.setdefault(number, []).append(rule)
        return found

    def _keys(self, rule: PreparedRule, remote: int) -> frozenset[PortKey]:
        named = frozenset(rule.named_keys(self._ports(remote) if self._towards_remote else self._own_ports))
        return named if rule.anyone else rule.keys | named
