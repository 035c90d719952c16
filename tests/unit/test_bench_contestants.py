"""Who takes part in a quick run, and how contestants of one state are kept together."""

from __future__ import annotations

from typing import cast

import pytest

from tests.bench import contestants as who
from tests.bench.contestants import Contestant, is_quick
from tests.bench.data_path import BARS, by_state
from tests.bench.figures import Bar
from tests.bench.measurements import Pair
from tests.bench.states import DEFAULT, State

NOWHERE = cast("Pair", None)
TEN_THOUSAND = State(entries=10_000)


def a_contestant(name: str, path: str = who.SAME, state: State | None = None) -> Contestant:
    return Contestant(name=name, path=path, pair=NOWHERE, state=state)


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.row} {bar.against}")
def test_a_quick_run_has_everybody_that_a_bar_of_a_path_is_about(bar: Bar) -> None:
    path = bar.row.split("-")[0]

    assert is_quick(a_contestant(bar.contestant, path, DEFAULT))
    assert bar.against is not None
    assert is_quick(a_contestant(bar.against, path))


def test_a_quick_run_has_hawse_in_its_default_state_only() -> None:
    assert not is_quick(a_contestant(who.TEN_THOUSAND, state=TEN_THOUSAND))
    assert not is_quick(a_contestant(who.FOLLOWED, state=State(entries=DEFAULT.entries, followed=True)))


def test_contestants_without_a_state_are_measured_next_to_the_default_one() -> None:
    hawse, many = a_contestant(who.HAWSE, state=DEFAULT), a_contestant(who.TEN_THOUSAND, state=TEN_THOUSAND)
    bridge, veth = a_contestant(who.BRIDGE), a_contestant(who.VETH)

    assert by_state([bridge, hawse, many, veth]) == [[bridge, hawse, veth], [many]]
