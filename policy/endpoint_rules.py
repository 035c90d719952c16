"""What the policies say of one endpoint in one direction: is it closed, by whom, and which rules judge it?

Endpoints whose labels are not known yet (``init``) are treated as if any policy may turn out to select them, and none
surely does: every policy closes them and denies, but allows come only from policies that select every endpoint or name
``reserved:init``.

A policy that denies without closing (``enableDefaultDeny: false``) leaves open what it does not deny, as long as no
other policy closes the direction. The kernel knows «closed» and «not judged» only, so this is an entry that allows
anyone, of a rule that stands at :data:`OPEN_PATH`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from datapath.api import Direction
from datapath.policy_table import PolicyVerdict
from model.identities import RESERVED_NAMES
from model.policies import Policy, PolicyMode, Rule, Selector
from policy.port_prefixes import ANY_PORT_KEY
from policy.prefix_cover import PrefixCover
from policy.rule_matching import PreparedRule, place_of, prepare, selectors_of
from policy.rule_numbers import RulePlace, number_rules
from policy.selection import SelectorIndex, selects_reserved

OPEN_PATH: Final = "spec.enableDefaultDeny"
"""Path of the rule that stands for a policy which denies, and otherwise leaves open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRules:
    """One identity in one direction."""

    local: int
    direction: Direction
    enforced: bool
    """Whether anything is judged."""
    closed_by: tuple[str, ...]
    """Names of the policies that select it and close the direction, whatever the mode; sorted."""
    rules: tuple[PreparedRule, ...]
    """Enforced or not; denies first, among equals by the name of the policy and the path. Without :attr:`opening`."""
    opening: PreparedRule | None
    """Allows anyone, where policies deny and none closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """The rules of one direction of a policy, and what they were made from."""

    policy: Policy
    prefixes: PrefixCover
    numbers: tuple[int, ...]
    rules: tuple[PreparedRule, ...]


class PreparedPolicies:
    """The policies of one moment, every rule made ready once.

    The index knows all of :meth:`selectors` and every identity that is asked for.

    Args:
        policies: in any order; names are unique.
        mode: who is closed by default.
        index: who is selected.
        prefixes: which prefixes a CIDR stands for.
        previous: of the compilation before, with the same index; rules that are still the same are its objects.
    """

    def __init__(
        self,
        policies: Sequence[Policy],
        mode: PolicyMode,
        index: SelectorIndex,
        prefixes: PrefixCover,
        previous: PreparedPolicies | None = None,
    ) -> None:
        self._policies = sorted(policies, key=lambda policy: policy.name)
        self._mode = mode
        self._index = index
        self._prefixes = prefixes
        self.numbers: Mapping[RulePlace, int] = number_rules(_places(self._policies))
        self._prepared: dict[tuple[str, Direction], _Prepared] = {}
        self._before = {} if previous is None else previous._prepared  # noqa: SLF001

    @staticmethod
    def selectors(policies: Iterable[Policy]) -> Iterator[Selector]:
        """What the index has to know."""
        for policy in policies:
            yield policy.subject
            yield from selectors_of((*policy.ingress, *policy.egress))

    def of(self, local: int, direction: Direction) -> EndpointRules:
        """What they say of an identity; reserved, or in the index."""
        concerned = [policy for policy in self._policies if self._selects(policy, local, deny=True)]
        closed_by = tuple(policy.name for policy in concerned if _closes(policy, direction))
        rules = [
            rule
            for policy in concerned
            for rule in self._rules(policy, direction)
            if rule.verdict.deny or self._selects(policy, local, deny=False)
        ]
        denies = [rule for rule in rules if rule.verdict.deny]
        opening = None
        if self._mode is PolicyMode.DEFAULT and not closed_by and denies:
            opening = self._opening(denies[0].place)
        enforced = {
            PolicyMode.DEFAULT: bool(closed_by) or opening is not None,
            PolicyMode.ALWAYS: True,
            PolicyMode.NEVER: False,
        }[self._mode]
        rules.sort(key=lambda rule: (not rule.verdict.deny, rule.place))
        return EndpointRules(
            local=local,
            direction=direction,
            enforced=enforced,
            closed_by=closed_by,
            rules=tuple(rules),
            opening=opening,
        )

    def _selects(self, policy: Policy, local: int, *, deny: bool) -> bool:
        if local in RESERVED_NAMES:
            return selects_reserved(policy.subject, local, deny=deny)
        return bool(self._index.masks[local] & self._index.bit(policy.subject))

    def _rules(self, policy: Policy, direction: Direction) -> tuple[PreparedRule, ...]:
        key = policy.name, direction
        if key not in self._prepared:
            self._prepared[key] = self._prepare(policy, direction, self._before.get(key))
        return self._prepared[key].rules

    def _prepare(self, policy: Policy, direction: Direction, before: _Prepared | None) -> _Prepared:
        places = [place_of(policy.name, direction, rule) for rule in _rules(policy, direction)]
        numbers = tuple(self.numbers[place] for place in places)
        if before and (before.policy, before.prefixes, before.numbers) == (policy, self._prefixes, numbers):
            return before
        rules = tuple(
            prepare(rule, place, number, self._index, self._prefixes)
            for rule, place, number in zip(_rules(policy, direction), places, numbers, strict=True)
        )
        if before and before.rules == rules:
            rules = before.rules
        return _Prepared(policy=policy, prefixes=self._prefixes, numbers=numbers, rules=rules)

    def _opening(self, deny: RulePlace) -> PreparedRule:
        place = _open_place(deny.policy, deny.direction)
        return PreparedRule(
            place=place,
            verdict=PolicyVerdict(deny=False, rule=self.numbers[place]),
            anyone=True,
            selectors=0,
            others=frozenset(),
            keys=frozenset({ANY_PORT_KEY}),
            names=frozenset(),
        )


def _rules(policy: Policy, direction: Direction) -> tuple[Rule, ...]:
    return policy.ingress if direction is Direction.INGRESS else policy.egress


def _closes(policy: Policy, direction: Direction) -> bool:
    return policy.enforce_ingress if direction is Direction.INGRESS else policy.enforce_egress


def _open_place(policy: str, direction: Direction) -> RulePlace:
    return RulePlace(policy=policy, path=OPEN_PATH, direction=direction, deny=False)


def _places(policies: Iterable[Policy]) -> Iterator[RulePlace]:
    for policy in policies:
        for direction in Direction:
            rules = _rules(policy, direction)
            yield from (place_of(policy.name, direction, rule) for rule in rules)
            if not _closes(policy, direction) and any(rule.deny for rule in rules):
                yield _open_place(policy.name, direction)
