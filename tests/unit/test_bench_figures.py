"""What the bench makes of its samples: medians, ratios round by round, bars, and one JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.bench.document import Document, document, from_json, to_json
from tests.bench.figures import Bar, Better, Curve, Part, Point, Row
from tests.bench.ratios import Summary, as_fast, judge, ratio, summary


def a_row(*, better: Better = Better.HIGHER, **samples: Sequence[float | None]) -> Row:
    return Row(
        name="a-row", title="a row", unit="packets/s", better=better, samples=samples, references=tuple(samples)[:1]
    )


def test_one_wild_round_moves_the_spread_and_not_the_median() -> None:
    summed = summary([10, 11, 900, 12, 9])

    assert (11, 9, 900, 5) == (summed.median, summed.least, summed.most, summed.rounds)


def test_a_ratio_is_of_one_round_and_their_median_counts() -> None:
    row = a_row(bridge=[1, 2, 100], hawse=[4, 3, 50])

    # Of the medians it would be 2.
    assert ratio(row, "hawse", "bridge") == Summary(median=1.5, least=0.5, most=4.0, rounds=3)


def test_a_machine_that_becomes_slower_changes_no_ratio() -> None:
    slower = [1.0, 0.9, 0.5, 0.4]
    row = a_row(bridge=[10 * factor for factor in slower], hawse=[15 * factor for factor in slower])

    found = ratio(row, "hawse", "bridge")

    assert found is not None
    assert (found.least, found.median, found.most) == pytest.approx((1.5, 1.5, 1.5))


def test_a_round_in_which_one_of_the_two_has_a_hole_gives_no_ratio() -> None:
    row = a_row(bridge=[1, None, 4, 0, 2], hawse=[2, 7, None, 5, 6])

    assert ratio(row, "hawse", "bridge") == Summary(median=2.5, least=2, most=3, rounds=2)
    assert summary(row.measured("hawse")) == Summary(median=5.5, least=2, most=7, rounds=4)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(a_row(hawse=[1.0]), id="nobody to compare with"),
        pytest.param(a_row(bridge=[1.0]), id="nobody to compare"),
        pytest.param(a_row(bridge=[0.0], hawse=[1.0]), id="compared with nothing"),
        pytest.param(a_row(bridge=[None, 1.0], hawse=[1.0, None]), id="never in the same round"),
    ],
)
def test_a_ratio_that_cannot_be_is_none_and_its_bar_neither_reached_nor_missed(row: Row) -> None:
    judgement = judge(row, Bar(row="a-row", contestant="hawse", against="bridge", limit=1.5))

    assert judgement.value is None
    assert judgement.reached is None


@pytest.mark.parametrize(
    ("better", "limit", "reached"),
    [
        pytest.param(Better.HIGHER, 1.5, True, id="more, just"),
        pytest.param(Better.HIGHER, 1.51, False, id="more, not"),
        pytest.param(Better.LOWER, 1.5, True, id="less, just"),
        pytest.param(Better.LOWER, 1.49, False, id="less, not"),
    ],
)
def test_a_bar_of_a_ratio_is_held_in_the_rows_direction(better: Better, limit: float, *, reached: bool) -> None:
    row = a_row(better=better, bridge=[2.0], hawse=[3.0])

    assert judge(row, Bar(row="a-row", contestant="hawse", against="bridge", limit=limit)).reached is reached


def test_a_bar_without_another_contestant_is_in_the_rows_unit() -> None:
    row = a_row(better=Better.LOWER, hawse=[14.0, 16.0, 13.0])

    assert judge(row, Bar(row="a-row", contestant="hawse", against=None, limit=15)).reached is True
    assert judge(row, Bar(row="a-row", contestant="hawse", against=None, limit=13)).reached is False


def test_as_fast_turns_around_where_less_is_better() -> None:
    assert as_fast(a_row(hawse=[1.0]), 0.8) == 0.8
    assert as_fast(a_row(better=Better.LOWER, hawse=[1.0]), 0.8) == 1.25


def test_a_row_refers_only_to_contestants_that_it_has() -> None:
    with pytest.raises(ValueError, match="bridge"):
        Row(name="a-row", title="", unit="", better=Better.HIGHER, samples={"hawse": [1]}, references=("bridge",))


def test_a_contestant_without_samples_is_left_out_or_refused() -> None:
    with pytest.raises(ValueError, match="hawse"):
        a_row(hawse=[])
    with pytest.raises(ValueError, match="hawse"):
        a_row(bridge=[1], hawse=[None])


def test_contestants_of_a_row_have_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="as many rounds"):
        a_row(bridge=[1, 2], hawse=[1])


def some_document() -> Document:
    row = a_row(bridge=[1.0, 2.0, None], hawse=[4.0, 4.0, 4.0])
    curve = Curve(
        name="a-curve",
        title="time to program",
        unit="s",
        size_title="endpoints",
        points={"hawse": [Point(size=10, samples=[0.1]), Point(size=100, samples=[0.9, 1.1])]},
    )
    bars = [Bar(row="a-row", contestant="hawse", against="bridge", limit=1.5)]
    parts = [
        Part(rows=[row], bars=bars, notes=["a note"], versions={"docker": "20.10"}),
        Part(curves=[curve], left_out=["the rest"], versions={"etcd": "3.4"}),
    ]
    return document({"cpu": "a fast one"}, parts)


def test_a_document_survives_json() -> None:
    made = some_document()

    assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_json_says_what_the_samples_come_to() -> None:
    raw = to_json(some_document())

    (row,) = raw["rows"]
    assert row["contestants"]["hawse"] == {
        "samples": [4.0, 4.0, 4.0],
        "median": 4.0,
        "least": 4.0,
        "most": 4.0,
        "rounds": 3,
        "ratios": {"bridge": {"median": 3.0, "least": 2.0, "most": 4.0, "rounds": 2}},
    }
    assert row["contestants"]["bridge"]["samples"] == [1.0, 2.0, None]
    assert row["contestants"]["bridge"]["median"] == 1.5
    (bar,) = raw["bars"]
    assert bar["found"] == {"median": 3.0, "least": 2.0, "most": 4.0, "rounds": 2}
    assert bar["reached"] is True
    assert raw["curves"][0]["contestants"]["hawse"][1]["median"] == 1.0
    assert raw["facts"] == {"cpu": "a fast one", "docker": "20.10", "etcd": "3.4"}


def test_names_are_unique_and_bars_are_of_a_row() -> None:
    row = a_row(hawse=[1.0])

    with pytest.raises(ValueError, match="a-row"):
        document({}, [Part(rows=[row]), Part(rows=[row])])
    with pytest.raises(ValueError, match="other"):
        document({}, [Part(rows=[row], bars=[Bar(row="other", contestant="hawse", against=None, limit=1)])])


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        from_json({"format": 0})
