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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datapath.api import Direction
from datapath.policy_table import IdentityFlags, PolicyKey, PolicyTable, PolicyVerdict
from model.identities import RESERVED_NAMES
from model.ids import IDENTITY_INIT
from model.labels import Labels
from model.policy_answers import RuleReference
from policy.endpoint_rules import PreparedPolicies
from policy.named_ports import named_ports
from policy.policy_inputs import PolicyInputs
from policy.port_prefixes import PortKey
from policy.prefix_cover import PrefixCover, prefixes_of
from policy.remote_entries import RemoteEntries
from policy.rule_matching import NamedPorts, PreparedRule
from policy.selection import SelectorIndex, is_managed
from policy.table_lookup import CLOSED_FLAGS

__all__ = ["Compiled", "PolicyCompiler", "PolicyInputs", "compile_table", "prefixes_of"]


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


class PolicyCompiler:
    """Compiles again and again, and remembers what did not change. Not safe for several threads."""

    def __init__(self) -> None:
        self._index = SelectorIndex()
        self._policies: PreparedPolicies | None = None
        self._prefixes = PrefixCover({})
        self._entries: dict[tuple[int, Direction], RemoteEntries] = {}
        self._ports: dict[int, tuple[Labels, NamedPorts]] = {}

    def compile_table(self, inputs: PolicyInputs) -> Compiled:
        """Compile; nothing of what was compiled before shows in the answer.

        Raises:
            ValueError: a policy names a prefix that has no identity.
        """
        policies = self._prepare(inputs)
        known = self._index.masks.keys() | RESERVED_NAMES.keys()
        flags = dict.fromkeys(sorted(known), IdentityFlags.KNOWN)
        selecting: dict[tuple[int, Direction], tuple[str, ...]] = {}
        before, self._entries = self._entries, {}
        entries: dict[PolicyKey, PolicyVerdict] = {}
        # An identity of this host whose labels nobody can tell gets no flags: it is closed.
        for identity in sorted((inputs.local & known) | {IDENTITY_INIT}):
            flags[identity] |= IdentityFlags.READY
            for direction in Direction:
                rules = policies.of(identity, direction)
                selecting[identity, direction] = rules.closed_by
                if rules.enforced:
                    flags[identity] |= CLOSED_FLAGS[direction]
                    written = before.get((identity, direction)) or RemoteEntries()
                    written.update(rules, self._index.masks, self._named_ports)
                    self._entries[identity, direction] = written
                    entries.update(written.entries)
        return Compiled(
            table=PolicyTable(
                entries=entries, identities=flags, prefixes=dict(inputs.prefix_identities), audit=inputs.audit
            ),
            rules={
                number: place.reference(inputs.revisions.get(place.policy, 0))
                for place, number in policies.numbers.items()
            },
            selecting=selecting,
        )

    def rules_between(
        self, local: int, remote: int, direction: Direction
    ) -> Sequence[tuple[PreparedRule, frozenset[PortKey]]]:
        """The rules that match a pair of identities, and the ports that they mean there; whether enforced or not.

        Of what was compiled last: ``local`` is reserved or was among its identities. Denies first.
        """
        if self._policies is None:
            return ()
        destination = self._named_ports(remote if direction is Direction.EGRESS else local)
        mask = self._index.masks.get(remote)
        return [
            (rule, rule.keys.union(rule.named_keys(destination)))
            for rule in self._policies.of(local, direction).rules
            if (rule.matches_other(remote) if mask is None else rule.matches_labels(mask))
        ]

    def _prepare(self, inputs: PolicyInputs) -> PreparedPolicies:
        """Make the policies ready to be asked about any of the identities.

        Raises:
            ValueError: a policy names a prefix that has no identity.
        """
        missing = prefixes_of(inputs.policies) - inputs.prefix_identities.keys()
        if missing:
            raise ValueError(f"no identity for the prefixes {', '.join(sorted(map(str, missing)))}")
        if self._prefixes.identities != inputs.prefix_identities:
            self._prefixes = PrefixCover(inputs.prefix_identities)
        # Whatever fails from here on, nothing that belongs to another state of the index is used again.
        previous, self._policies = self._policies, None
        self._index.update(inputs.identities, PreparedPolicies.selectors(inputs.policies))
        self._policies = PreparedPolicies(inputs.policies, inputs.mode, self._index, self._prefixes, previous)
        return self._policies

    def _named_ports(self, number: int) -> NamedPorts | None:
        if not is_managed(number):
            return None if number == IDENTITY_INIT else {}
        labels = self._index.labels(number)
        found = self._ports.get(number)
        if found is None or found[0] is not labels:
            found = self._ports[number] = (labels, named_ports(labels))
        return found[1]
