"""Which identities a selector selects, and an index that knows it for thousands of them.

1) Every distinct selector is one bit; every identity of the cluster has the mask of the selectors that select it.
   Rules then ask ``mask & bit``, and identities with the same mask are one class to whoever compiles.
2) A new selector is answered by sets: who has this label, who has it with this value, who is in this namespace.
3) A new identity is held against every selector once. Nothing else is ever looked at again.

Cost: one integer for each identity, with one bit for each distinct selector; 5 000 identities and 1 000 selectors are
less than 1 MB. Rejected: a set of identities for each selector, which every rule of every endpoint would have to walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias, TypeVar

from model.identities import CIDR_IDENTITY_BASE, IDENTITY_MIN, RESERVED_NAMES, reserved_labels
from model.ids import IDENTITY_INIT, IdentityId
from model.labels import RESERVED_PREFIX, Labels
from model.policies import NAMESPACE_NAME_LABEL, Operator, Requirement, Selector

_RESERVED: Final[Mapping[int, dict[str, str]]] = {number: dict(reserved_labels(number)) for number in RESERVED_NAMES}

EVERY_LABEL_SET: Final = 1
"""The bit that every identity of the cluster has, whatever its labels."""

_NOBODY: Final[frozenset[int]] = frozenset()

_K = TypeVar("_K")

_Facts: TypeAlias = tuple[dict[str, str], dict[str, str]]
"""Labels of an identity, and labels of its namespace."""


def is_managed(number: int) -> bool:
    """Whether the number stands for a set of labels: neither reserved nor an address prefix."""
    return IDENTITY_MIN <= number < CIDR_IDENTITY_BASE


def selects_labels(selector: Selector, labels: Labels) -> bool:
    """Whether an endpoint with these labels is selected."""
    return _holds(selector, _facts(labels))


def selects_reserved(selector: Selector, number: int, *, deny: bool) -> bool:
    """Whether a reserved identity is selected; it has to be named by its ``reserved:`` label.

    The labels of ``init`` are not known yet. To denies (``deny``) any selector may turn out to select it, and does; of
    the others the empty one does as well, which every label set will meet.
    """
    if number == IDENTITY_INIT and (deny or not (selector.labels or selector.namespace)):
        return True
    labels = _RESERVED.get(number)
    if labels is None:
        return False
    named = any(requirement.key in labels for requirement in selector.labels)
    return named and _holds(selector, (labels, {}))


class SelectorIndex:
    """Which selectors select which identities of the cluster; kept from one compilation to the next.

    Not safe for several threads.

    Attributes:
        evaluations: how often a selector was held against a new identity so far.
    """

    def __init__(self) -> None:
        self.evaluations = 0
        self._labels: dict[int, Labels] = {}
        self._facts: dict[int, _Facts] = {}
        self._masks: dict[int, int] = {}
        self._bits: dict[Selector, int] = {}
        self._free_bits: list[int] = []
        self._by_label = _LabelSets()
        self._by_namespace = _LabelSets()

    @property
    def masks(self) -> Mapping[int, int]:
        """For every identity the bits of the selectors that select it, and :data:`EVERY_LABEL_SET`."""
        return self._masks

    def labels(self, number: int) -> Labels:
        """The labels of an identity that it knows."""
        return self._labels[number]

    def bit(self, selector: Selector) -> int:
        """The bit of a selector, a power of two; it is one of those given to :meth:`update`."""
        return self._bits[selector]

    def matching(self, selector: Selector) -> frozenset[int]:
        """The identities that the selector selects."""
        bit = self._bits[selector]
        return frozenset(number for number, mask in self._masks.items() if mask & bit)

    def update(self, identities: Mapping[IdentityId, Labels], selectors: Iterable[Selector]) -> None:
        """Know exactly these identities and selectors from now on; of the former, those that stand for labels."""
        wanted = set(selectors)
        self._forget_selectors(self._bits.keys() - wanted)
        # A number that is used again for other labels is another identity.
        gone = [number for number, labels in self._labels.items() if identities.get(IdentityId(number)) != labels]
        for number in gone:
            self._forget_identity(number)
        for number, labels in identities.items():
            if number not in self._labels and is_managed(number):
                self._learn_identity(number, labels)
        for selector in wanted - self._bits.keys():
            self._learn_selector(selector)

    def _learn_identity(self, number: int, labels: Labels) -> None:
        facts = _facts(labels)
        self._labels[number] = labels
        self._facts[number] = facts
        self._by_label.add(number, facts[0])
        self._by_namespace.add(number, facts[1])
        mask = EVERY_LABEL_SET
        for selector, bit in self._bits.items():
            if _holds(selector, facts):
                mask |= bit
        self._masks[number] = mask
        self.evaluations += len(self._bits)

    def _forget_identity(self, number: int) -> None:
        labels, namespace = self._facts.pop(number)
        del self._labels[number], self._masks[number]
        self._by_label.remove(number, labels)
        self._by_namespace.remove(number, namespace)

    def _learn_selector(self, selector: Selector) -> None:
        bit = self._free_bits.pop() if self._free_bits else EVERY_LABEL_SET << len(self._bits) + 1
        self._bits[selector] = bit
        selected = self._by_namespace.narrow(
            self._by_label.narrow(self._masks.keys(), selector.labels), selector.namespace
        )
        for number in selected:
            self._masks[number] |= bit

    def _forget_selectors(self, selectors: Iterable[Selector]) -> None:
        gone = [self._bits.pop(selector) for selector in list(selectors)]
        if gone:
            self._free_bits += gone
            kept = ~sum(gone)
            for number, mask in self._masks.items():
                self._masks[number] = mask & kept


class _LabelSets:
    """Who has a label, and who has it with a certain value."""

    def __init__(self) -> None:
        self._with_value: dict[tuple[str, str], set[int]] = {}
        self._with_key: dict[str, set[int]] = {}

    def add(self, number: int, labels: Mapping[str, str]) -> None:
        for key, value in labels.items():
            self._with_value.setdefault((key, value), set()).add(number)
            self._with_key.setdefault(key, set()).add(number)

    def remove(self, number: int, labels: Mapping[str, str]) -> None:
        for key, value in labels.items():
            _discard(self._with_value, (key, value), number)
            _discard(self._with_key, key, number)

    def narrow(self, numbers: AbstractSet[int], requirements: Iterable[Requirement]) -> AbstractSet[int]:
        """Those of the numbers whose labels meet every requirement."""
        for requirement in requirements:
            match requirement.operator:
                case Operator.IN:
                    numbers &= self._one_of(requirement)
                case Operator.NOT_IN:
                    numbers -= self._one_of(requirement)
                case Operator.EXISTS:
                    numbers &= self._with_key.get(requirement.key, _NOBODY)
                case Operator.DOES_NOT_EXIST:
                    numbers -= self._with_key.get(requirement.key, _NOBODY)
        return numbers

    def _one_of(self, requirement: Requirement) -> AbstractSet[int]:
        found = [self._with_value.get((requirement.key, value), _NOBODY) for value in requirement.values]
        return found[0] if len(found) == 1 else _NOBODY.union(*found)


def _facts(labels: Labels) -> _Facts:
    # A reserved label on a container would make it selected as what it is not, so it counts for nothing here either,
    # whoever let it in.
    own = {key: value for key, value in labels.pairs if not key.startswith(RESERVED_PREFIX)}
    return own, {NAMESPACE_NAME_LABEL: labels.namespace}


def _holds(selector: Selector, facts: _Facts) -> bool:
    return _all_hold(selector.labels, facts[0]) and _all_hold(selector.namespace, facts[1])


def _all_hold(requirements: tuple[Requirement, ...], labels: dict[str, str]) -> bool:
    return all(requirement.holds(labels) for requirement in requirements)


def _discard(index: dict[_K, set[int]], key: _K, number: int) -> None:
    index[key].discard(number)
    if not index[key]:
        del index[key]
