"""The Maglev table: even shares, few moves, the same everywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer import maglev

SETS = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=40)
SIZES = st.sampled_from(maglev.SIZES[:4])


def owners(names: Sequence[str], slots: int) -> list[str]:
    return [names[place] for place in maglev.table(names, slots)]


def plainly(names: Sequence[str], slots: int) -> list[str]:
    """The algorithm as the paper has it."""
    orders = {name: maglev._order(name, slots) for name in sorted(names)}
    reached = dict.fromkeys(orders, 0)
    found: dict[int, str] = {}
    while True:
        for name, (first, step) in orders.items():
            while (slot := (first + reached[name] * step) % slots) in found:
                reached[name] += 1
            found[slot] = name
            if len(found) == slots:
                return [found[slot] for slot in range(slots)]


def test_a_table_without_backends_is_empty() -> None:
    assert not maglev.table([], 251)


def test_one_backend_has_everything() -> None:
    assert [0] * 251 == list(maglev.table(["10.1.0.2"], 251))


@pytest.mark.parametrize(
    ("backends", "slots"),
    [(0, 251), (1, 251), (2, 251), (3, 509), (20, 2039), (100, 16381), (655, 65521), (900, 65521)],
)
def test_a_table_has_a_hundred_slots_for_each_backend_as_long_as_there_are_so_many(backends: int, slots: int) -> None:
    assert slots == maglev.slots_for(backends)


@pytest.mark.parametrize("slots", maglev.SIZES)
def test_sizes_are_primes(slots: int) -> None:
    assert all(slots % divisor for divisor in range(2, int(slots**0.5) + 1))


@given(names=SETS.filter(bool), slots=SIZES)
def test_it_is_the_table_of_the_paper(names: list[str], slots: int) -> None:
    assert plainly(names, slots) == owners(names, slots)


def test_it_is_the_table_of_the_paper_with_many_backends() -> None:
    names = [f"10.1.{number // 250}.{number % 250}" for number in range(300)]

    assert plainly(names, 509) == owners(names, 509)


@given(names=SETS.filter(bool), slots=SIZES)
def test_shares_differ_by_one_slot_at_most(names: list[str], slots: int) -> None:
    shares = Counter(maglev.table(names, slots))

    assert set(range(len(names))) == set(shares)
    assert max(shares.values()) - min(shares.values()) <= 1


@given(data=st.data(), names=SETS, slots=SIZES)
def test_the_order_of_the_names_does_not_matter(data: st.DataObject, names: list[str], slots: int) -> None:
    shuffled = data.draw(st.permutations(names))

    assert owners(names, slots) == owners(shuffled, slots)


def test_the_table_is_the_same_in_every_version() -> None:
    """Another table would lead a client to another backend after an update."""
    assert [2, 2, 0, 1, 2, 2] == list(maglev.table(["10.1.0.2", "10.1.0.3", "10.1.0.4"], 509))[:6]


def test_a_hundred_backends_have_even_shares() -> None:
    slots = maglev.slots_for(100)

    shares = Counter(maglev.table([f"10.1.0.{number}" for number in range(100)], slots))

    furthest = max(abs(share * 100 / slots - 1) for share in shares.values())
    print(f"100 backends, {slots} slots: no share is further from even than {furthest:.2%}")  # noqa: T201
    assert furthest < 0.02


def test_one_of_a_hundred_that_leaves_moves_few_slots_of_the_others() -> None:
    names = [f"10.1.0.{number}" for number in range(100)]
    before = owners(names, maglev.slots_for(100))
    moved = []
    for gone in names[::7]:
        rest = [name for name in names if name != gone]
        after = owners(rest, len(before))
        kept = [(old, new) for old, new in zip(before, after, strict=True) if old != gone]
        moved.append(sum(old != new for old, new in kept) / len(kept))

    print(f"1 of 100 backends leaves: {max(moved):.2%} of the others' slots move at most, of {len(moved)} tries")  # noqa: T201
    assert max(moved) < 0.02


def test_500_services_of_20_backends_are_worked_out_in_seconds() -> None:
    services = [[f"10.{one // 250}.{one % 250}.{number}" for number in range(20)] for one in range(500)]
    started_s = time.process_time()

    for names in services:
        maglev.table(names, maglev.slots_for(20))

    took_s = time.process_time() - started_s
    print(f"500 tables of 20 backends and {maglev.slots_for(20)} slots: {took_s:.2f} s")  # noqa: T201
    assert took_s < 5
