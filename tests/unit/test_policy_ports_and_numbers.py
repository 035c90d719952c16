from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapath.api import Direction
from datapath.policy_table import ANY_PROTOCOL, FIRST_RULE
from model.policies import Protocol
from policy.port_prefixes import ANY_PORT_KEY, covering, last_port, range_prefixes
from policy.rule_numbers import RulePlace, hashed, number_rules

PORTS = st.integers(0, 65535)


@pytest.mark.parametrize(
    ("first", "last", "prefixes"),
    [
        (5432, 5432, [(5432, 16)]),
        (0, 65535, [(0, 0)]),
        (0, 1023, [(0, 6)]),
        (1, 7, [(1, 16), (2, 15), (4, 14)]),
        (8000, 8080, [(8000, 10), (8064, 12), (8080, 16)]),
        (65535, 65535, [(65535, 16)]),
        (0, 0, [(0, 16)]),
    ],
)
def test_range_is_cut_into_the_fewest_prefixes(first: int, last: int, prefixes: list[tuple[int, int]]) -> None:
    assert tuple(prefixes) == range_prefixes(first, last)


def test_no_range_needs_more_than_30_prefixes() -> None:
    assert len(range_prefixes(1, 65534)) == 30


@settings(max_examples=300, deadline=None)
@given(st.tuples(PORTS, PORTS).map(sorted))
def test_prefixes_are_the_range_without_gap_or_overlap(edges: list[int]) -> None:
    first, last = edges

    keys = [(int(Protocol.TCP), port, bits) for port, bits in range_prefixes(first, last)]

    assert [first, *(last_port(key) + 1 for key in keys[:-1])] == [port for _, port, _ in keys]
    assert last_port(keys[-1]) == last
    assert all(port % (1 << (16 - bits)) == 0 for _, port, bits in keys)


def test_a_key_is_covered_by_its_prefixes_the_protocol_and_everything() -> None:
    wider = covering((6, 0b1010_0000_0000_0000, 3))

    assert wider == (ANY_PORT_KEY, (6, 0, 0), (6, 1 << 15, 1), (6, 1 << 15, 2))
    assert covering(ANY_PORT_KEY) == ()
    assert ANY_PORT_KEY[0] == ANY_PROTOCOL


def place(policy: str, *, path: str = "spec.ingress[0]", deny: bool = False) -> RulePlace:
    return RulePlace(policy=policy, path=path, direction=Direction.INGRESS, deny=deny)


def test_rule_number_depends_on_its_place_only() -> None:
    alone = number_rules([place("db")])[place("db")]

    among_others = number_rules([place("a"), place("db"), place("db", deny=True), place("z")])

    assert alone == among_others[place("db")] == hashed(place("db"))
    assert len(set(among_others.values())) == 4


def test_rule_numbers_never_change_between_versions() -> None:
    """They are in flows that were recorded, and compared among nodes of different versions."""
    assert hashed(place("db-from-api")) == 1368795916


def test_rules_that_hash_alike_get_different_numbers_in_any_order() -> None:
    places = [place("a"), place("b"), place("c")]

    numbers = number_rules(places, first_choice=lambda _: 0xFFFF_FFFF)

    assert {places[0]: 0xFFFF_FFFF, places[1]: FIRST_RULE, places[2]: FIRST_RULE + 1} == numbers
    assert numbers == number_rules(reversed(places), first_choice=lambda _: 0xFFFF_FFFF)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.booleans())
def test_rule_number_is_never_a_reserved_one(policy: str, path: str, deny: bool) -> None:  # noqa: FBT001
    assert FIRST_RULE <= hashed(place(policy, path=path, deny=deny)) <= 0xFFFF_FFFF
