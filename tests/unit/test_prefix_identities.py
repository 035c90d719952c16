"""Numbers of address prefixes stay with their prefix."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.addresses import IPNetwork
from model.errors import Exhausted
from model.identities import CIDR_IDENTITY_BASE
from policy.prefix_identities import PrefixIdentities


def prefix(number: int) -> IPNetwork:
    return ipaddress.ip_network((0x0A000000 + (number << 8), 24))


def test_numbers_start_above_those_of_the_cluster_and_differ() -> None:
    given_out = PrefixIdentities().assign([prefix(1), prefix(2), ipaddress.ip_network("2001:db8::/32")])

    assert {CIDR_IDENTITY_BASE, CIDR_IDENTITY_BASE + 1, CIDR_IDENTITY_BASE + 2} == set(given_out.values())


def test_prefix_keeps_its_number_while_others_come_and_go() -> None:
    identities = PrefixIdentities()
    first = identities.assign([prefix(5)])

    assert first[prefix(5)] == identities.assign([prefix(1), prefix(5), prefix(9)])[prefix(5)]
    assert first == identities.assign([prefix(5)])


def test_prefix_that_comes_back_gets_its_number_again() -> None:
    identities = PrefixIdentities()
    first = identities.assign([prefix(1), prefix(2)])
    identities.assign([prefix(2)])
    identities.assign([prefix(2), prefix(3)])

    assert first[prefix(1)] == identities.assign([prefix(1), prefix(2), prefix(3)])[prefix(1)]


def test_number_of_a_prefix_that_is_gone_is_given_to_another_only_when_all_are_used() -> None:
    identities = PrefixIdentities(capacity=4)
    first = identities.assign([prefix(1), prefix(2)])
    identities.assign([prefix(2)])
    later = identities.assign([prefix(2), prefix(3), prefix(4)])
    assert first[prefix(1)] not in later.values()

    last = identities.assign([prefix(2), prefix(3), prefix(4), prefix(5)])

    assert first[prefix(1)] == last[prefix(5)]


def test_number_that_was_free_for_longest_is_given_first() -> None:
    identities = PrefixIdentities(capacity=3)
    first = identities.assign([prefix(1), prefix(2), prefix(3)])
    identities.assign([prefix(1), prefix(3)])
    identities.assign([prefix(3)])

    assert first[prefix(2)] == identities.assign([prefix(3), prefix(7)])[prefix(7)]


def test_more_prefixes_than_numbers_are_refused_and_nothing_changes() -> None:
    identities = PrefixIdentities(capacity=2)
    first = identities.assign([prefix(1), prefix(2)])

    with pytest.raises(Exhausted, match="3 different address prefixes"):
        identities.assign([prefix(3), prefix(4), prefix(5)])
    assert first == identities.assign([prefix(1), prefix(2)])


def test_numbers_of_before_a_restart_are_kept_and_not_given_to_others() -> None:
    kernel = {prefix(8): CIDR_IDENTITY_BASE + 3, prefix(9): CIDR_IDENTITY_BASE}
    identities = PrefixIdentities(kernel, capacity=6)

    given_out = identities.assign([prefix(1), prefix(9)])

    assert CIDR_IDENTITY_BASE == given_out[prefix(9)]
    assert CIDR_IDENTITY_BASE + 4 == given_out[prefix(1)]
    assert CIDR_IDENTITY_BASE + 3 == identities.assign([prefix(1), prefix(8)])[prefix(8)]


def test_numbers_of_another_kind_in_the_kernel_are_not_taken_over() -> None:
    kernel = {prefix(1): 300, prefix(2): CIDR_IDENTITY_BASE, prefix(3): CIDR_IDENTITY_BASE}

    given_out = PrefixIdentities(kernel).assign(kernel)

    assert 3 == len(set(given_out.values()))
    assert all(number >= CIDR_IDENTITY_BASE for number in given_out.values())


@given(
    st.lists(st.sets(st.integers(min_value=0, max_value=9), max_size=6), max_size=20),
    st.integers(min_value=0, max_value=20),
)
def test_every_prefix_has_one_number_and_no_two_the_same(steps: list[set[int]], restart_at: int) -> None:
    identities = PrefixIdentities(capacity=6)
    before: dict[IPNetwork, int] = {}
    for index, step in enumerate(steps):
        if index == restart_at:
            identities = PrefixIdentities(before, capacity=6)
        now = dict(identities.assign(map(prefix, step)))

        assert set(map(prefix, step)) == now.keys()
        assert len(now) == len(set(now.values()))
        assert all(CIDR_IDENTITY_BASE <= number < CIDR_IDENTITY_BASE + 6 for number in now.values())
        assert all(number == before[one] for one, number in now.items() if one in before)
        before = now
