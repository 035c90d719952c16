"""The number of each rule, by which the kernel names it: the same on every node and after a restart.

It is a hash of where the rule stands. Two that hash to the same number are told apart by going on to the next free one
in the order of their places, so the numbers depend on the set of rules and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from datapath.api import Direction
from datapath.policy_table import FIRST_RULE
from model.policy_answers import RuleReference

_NUMBERS: Final = (1 << 32) - FIRST_RULE


@dataclass(frozen=True, slots=True, order=True)
class RulePlace:
    """Where a rule stands; rules of one place share a number."""

    policy: str
    path: str
    direction: Direction
    deny: bool

    def reference(self, revision: int) -> RuleReference:
        """The same for people; ``revision`` is of the policy's last change."""
        return RuleReference(policy=self.policy, path=self.path, deny=self.deny, revision=revision)


def hashed(place: RulePlace) -> int:
    """The number that a place has unless another one has it too."""
    text = "\0".join((place.policy, place.direction.value, "deny" if place.deny else "allow", place.path))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return FIRST_RULE + int.from_bytes(digest, "big") % _NUMBERS


def number_rules(
    places: Iterable[RulePlace], first_choice: Callable[[RulePlace], int] = hashed
) -> dict[RulePlace, int]:
    """Give every place its own number, :data:`FIRST_RULE` or more."""
    numbers: dict[RulePlace, int] = {}
    taken: set[int] = set()
    for place in sorted(set(places)):
        number = first_choice(place)
        while number in taken:
            number = FIRST_RULE + (number - FIRST_RULE + 1) % _NUMBERS
        taken.add(number)
        numbers[place] = number
    return numbers
