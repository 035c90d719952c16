"""From policies and label sets to the table that the kernel judges by. Pure: the same inputs give the same table.

1) Selectors become bits, identities masks (:mod:`policy.selection`); rules become ready to be asked
   (:mod:`policy.rule_matching`).
2) For every identity of this host and direction: the policies that select it, their rules
   (:mod:`policy.endpoint_rules`).
3) Identities of the cluster that the same rules match are one class; its entries are settled once
   (:mod:`policy.precedence`) and written for each of them. What matches anyone is one entry, under ``ANY_REMOTE``.

A :class:`PolicyCompiler` that is kept compiles changes fast: it holds new identities against the selectors, and writes
only what another class means for them. It keeps one reference for each entry of the last table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from datapath.api import Direction
from datapath.policy_table import IdentityFlags, PolicyKey, PolicyTable, PolicyVerdict
from model.identities import RESERVED_NAMES
from model.ids import IDENTITY_INIT
from model.labels import Labels
from model.policy_answers import RuleReference
from policy.endpoint_rules import PreparedPolicies
from policy.named_ports import named_ports
from policy.policy_inputs import PolicyInputs
from policy.prefix_cover import PrefixCover, prefixes_of
from policy.remote_entries import Entries, RemoteEntries
from policy.rule_matching import NamedPorts
from policy.selection import SelectorIndex, is_managed

__all__ = ["Compiled", "PolicyCompiler", "PolicyInputs", "compile_table", "prefixes_of"]

_FLAGS: Final[Mapping[Direction, IdentityFlags]] = {
    Direction.INGRESS: IdentityFlags.INGRESS,
    Direction.EGRESS: IdentityFlags.EGRESS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A table, and what explains it."""

    table: PolicyTable
    rules: Mapping[int, RuleReference]
    """Every rule of every policy, by its number."""
    selecting: Mapping[tuple[int, Direction], tuple[str, ...]]
    """For identities of this host, ``init`` included: names of the policies that close the direction, sorted."""


def compile_table(inputs: PolicyInputs) -> Compiled:
    """Compile once, from nothing.

    Raises:
        ValueError: a policy names a prefix that has no identity.
    """
    return PolicyCompiler().compile_table(inputs)


@dataclass(slots=True)
class _Written:
    """What the last table holds of one local identity in one direction."""

    entries: dict[PolicyKey, PolicyVerdict] = field(default_factory=dict)
    remotes: dict[int, Entries] = field(default_factory=dict)

    def rewrite(self, local: int, direction: Direction, remotes: dict[int, Entries]) -> None:
        before = self.remotes
        for remote in before.keys() - remotes.keys():
            self._remove(local, direction, remote)
        for remote, entries in remotes.items():
            if before.get(remote) is not entries:  # equal entries are one object
                if remote in before:
                    self._remove(local, direction, remote)
                for (protocol, port, bits), verdict in entries:
                    self.entries[PolicyKey(local, remote, direction, protocol, port, bits)] = verdict
        self.remotes = remotes

    def _remove(self, local: int, direction: Direction, remote: int) -> None:
        for (protocol, port, bits), _ in self.remotes[remote]:
            del self.entries[PolicyKey(local, remote, direction, protocol, port, bits)]


class PolicyCompiler:
    """Compiles again and again, and remembers what did not change. Not safe for several threads."""

    def __init__(self) -> None:
        self.index = SelectorIndex()
        self._written: dict[tuple[int, Direction], _Written] = {}
        self._remotes: RemoteEntries | None = None
        self._ports: dict[int, tuple[Labels, NamedPorts]] = {}

    def compile_table(self, inputs: PolicyInputs) -> Compiled:
        """Compile; nothing of what was compiled before shows in the answer.

        Raises:
            ValueError: a policy names a prefix that has no identity.
        """
        policies = self.prepare(inputs)
        self._ports = {number: ports for number, ports in self._ports.items() if number in self.index.masks}
        known = self.index.masks.keys() | RESERVED_NAMES.keys()
        flags = dict.fromkeys(sorted(known), IdentityFlags.KNOWN)
        # An identity of this host whose labels nobody can tell gets no flags: it is closed.
        local = sorted((inputs.local & known) | {IDENTITY_INIT})
        selecting: dict[tuple[int, Direction], tuple[str, ...]] = {}
        before, self._written = self._written, {}
        self._remotes = RemoteEntries(self.index.masks, self._named_ports, self._remotes)
        entries: dict[PolicyKey, PolicyVerdict] = {}
        for identity in local:
            flags[identity] |= IdentityFlags.READY
            for direction in Direction:
                rules = policies.of(identity, direction)
                selecting[identity, direction] = rules.closed_by
                if rules.enforced:
                    flags[identity] |= _FLAGS[direction]
                    written = before.get((identity, direction), _Written())
                    written.rewrite(identity, direction, self._remotes.of(rules))
                    self._written[identity, direction] = written
                    entries.update(written.entries)
        return Compiled(
            table=PolicyTable(
                entries=entries, identities=flags, prefixes=dict(inputs.prefix_identities), audit=inputs.audit
            ),
            rules={
                number: RuleReference(
                    policy=place.policy,
                    path=place.path,
                    deny=place.deny,
                    revision=inputs.revisions.get(place.policy, 0),
                )
                for place, number in policies.numbers.items()
            },
            selecting=selecting,
        )

    def prepare(self, inputs: PolicyInputs) -> PreparedPolicies:
        """Make the policies ready to be asked about any of the identities.

        Raises:
            ValueError: a policy names a prefix that has no identity.
        """
        missing = prefixes_of(inputs.policies) - inputs.prefix_identities.keys()
        if missing:
            raise ValueError(f"no identity for the prefixes {', '.join(sorted(map(str, missing)))}")
        self.index.update(inputs.identities, PreparedPolicies.selectors(inputs.policies))
        return PreparedPolicies(inputs.policies, inputs.mode, self.index, PrefixCover(inputs.prefix_identities))

    def _named_ports(self, number: int) -> NamedPorts | None:
        if not is_managed(number):
            return None if number == IDENTITY_INIT else {}
        labels = self.index.labels(number)
        found = self._ports.get(number)
        if found is None or found[0] is not labels:
            found = self._ports[number] = (labels, named_ports(labels))
        return found[1]
