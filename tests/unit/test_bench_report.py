"""What a reader of the bench sees: text and a chart; and the parts of a run that need no network."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from tests.bench.chart import chart
from tests.bench.document import Document, document
from tests.bench.figures import Bar, Better, Curve, Part, Point, Row
from tests.bench.machine_cpu import busy_of
from tests.bench.report import number, report
from tests.bench.rounds import Collected, schedule, turns
from tests.bench.settling import used_s
from tests.bench.states import FEWEST, policies


def some_document() -> Document:
    rows = [
        Row(
            name="same-udp-64",
            title="64-byte UDP, same host",
            unit="packets/s",
            better=Better.HIGHER,
            samples={"bridge": [100_000, 90_000, 110_000], "hawse": [120_000, 130_000, 143_000]},
            references=("bridge",),
        ),
        Row(
            name="attach",
            title="attachment <p50>",
            unit="ms",
            better=Better.LOWER,
            samples={"hawse": [12.0, 14.0, 16.0]},
        ),
    ]
    bars = [
        Bar(row="same-udp-64", contestant="hawse", against="bridge", limit=1.5),
        Bar(row="attach", contestant="hawse", against=None, limit=15),
        Bar(row="attach", contestant="hawse", against="bridge", limit=1),
    ]
    curve = Curve(
        name="programming",
        title="time to program",
        unit="s",
        size_title="endpoints",
        points={"hawse": [Point(size=size, samples=[size / 1000]) for size in (10, 100, 1000)]},
    )
    part = Part(rows=rows, bars=bars, curves=[curve], notes=["a note"], left_out=["10 000 entries"])
    return document({"cpu": "a fast one"}, [part])


def test_the_report_says_every_figure_with_its_ratio_and_its_bar() -> None:
    text = report(some_document())

    assert "64-byte UDP, same host: packets/s, more is better, 3 rounds" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  hawse   130")] == [
        ["hawse", "130", "000", "120", "000", "143", "000", "1.300", "[1.20-1.44]", "(≥1.500", "NO)"]
    ]
    assert "hawse / bridge: 1.300 [1.20-1.44], asked ≥ 1.500" in text
    assert "hawse: 14.0, asked ≤ 15.0" in text
    assert "hawse / bridge: ?, asked ≤ 1.000" in text
    assert "Bars: 1 of 3 reached" in text
    assert "a note" in text
    assert "Left out in this run\n  10 000 entries" in text
    assert "a fast one" in text


def test_what_is_not_reached_stands_first_among_the_bars() -> None:
    marks = [line.split("  ")[-1] for line in report(some_document()).splitlines() if ", asked " in line]

    assert [mark.strip() for mark in marks if "reached" in mark or "measured" in mark] == [
        "NOT reached",
        "not measured",
        "reached",
    ]


def test_a_curve_is_a_table_by_size() -> None:
    lines = report(some_document()).splitlines()
    place = lines.index("time to program: s")

    assert lines[place + 1].split() == ["endpoints", "10", "100", "1", "000"]
    assert lines[place + 2].split() == ["hawse", "0.0100", "0.100", "1.00"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1 230"),
        (1_234_567, "1 230 000"),
        (-2.5, "-2.50"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_chart_is_an_image_with_every_name_and_figure_in_it() -> None:
    root = ET.fromstring(chart(some_document()))

    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"bridge", "hawse", "130 000", "14.0", "attachment <p50>: ms, less is better"} <= set(texts)


def test_a_curve_is_drawn_with_its_points_between_powers_of_ten() -> None:
    points = {
        "hawse": [Point(size=0, samples=[80.0]), Point(size=10, samples=[88.0]), Point(size=2000, samples=[91.0])]
    }
    curve = Curve(name="memory", title="memory", unit="MB", size_title="endpoints", points=points)

    root = ET.fromstring(chart(document({}, [Part(curves=[curve])])))

    svg = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{svg}text")]
    heights = [float(circle.attrib["cy"]) for circle in root.iter(f"{svg}circle")]
    assert texts[1:] == ["memory: MB, by endpoints", "10", "2 000", "10", "100", "88.0", "91.0", "hawse"]
    # A logarithm has no place for 0, and 3 % more are a small step.
    assert len(heights) == 2
    assert 0 < heights[0] - heights[1] < 5


def test_the_same_document_gives_the_same_chart() -> None:
    assert chart(some_document()) == chart(some_document())


def test_a_chart_of_nothing_is_an_image_too() -> None:
    curve = Curve(name="none", title="none", unit="s", size_title="endpoints", points={"hawse": []})

    ET.fromstring(chart(document({}, [Part(curves=[curve])])))


@pytest.mark.parametrize("count", range(1, 10))
def test_each_follows_every_other_one_as_often(count: int) -> None:
    rounds = count if count % 2 == 0 else 2 * count
    orders = [list(turns(range(count), number)) for number in range(rounds)]

    followed = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert followed == dict.fromkeys(itertools.permutations(range(count), 2), rounds // count)


def test_each_is_the_first_as_often() -> None:
    assert sorted(turns("abcdef", number)[0] for number in range(6)) == list("abcdef")


def test_groups_stay_together_and_their_order_changes() -> None:
    groups, numbers = ["ab", "cd"], [0, 1]

    seen = [group for number in numbers for group, _, _ in schedule(groups, ["tcp", "udp"], number)]

    assert seen == ["ab", "ab", "cd", "cd", "cd", "cd", "ab", "ab"]


def test_each_measurement_of_a_round_has_an_order_of_its_own() -> None:
    seen = [(measurement, order) for _, measurement, order in schedule(["ab"], ["tcp", "udp", "echo"], 4)]

    assert seen == [("tcp", 4), ("udp", 5), ("echo", 6)]


def test_samples_are_kept_by_contestant_whatever_the_order_and_failures_leave_a_hole() -> None:
    collected = Collected("abc")
    seen = []

    def measure(name: str) -> tuple[float, ...] | None:
        seen.append(name)
        return None if name == "b" else (ord(name), len(seen))

    collected.take("abc", 0, measure)
    collected.take("abc", 1, measure)

    assert sorted(seen) == list("aabbcc")
    assert dict(collected.figures(0)) == {"a": [97, 97], "c": [99, 99]}
    assert dict(collected.figures(1))["a"] == [seen.index("a") + 1, len(seen) - seen[::-1].index("a")]


def test_only_the_chosen_are_measured_and_who_is_no_contestant_is_not() -> None:
    collected = Collected("abcd")
    seen: list[str] = []

    def measure(name: str) -> tuple[float, ...]:
        seen.append(name)
        return (1.0,)

    collected.take("bdx", 0, measure)
    collected.take("ac", 0, measure)

    assert sorted(seen[:2]) == ["b", "d"]
    assert sorted(seen[2:]) == ["a", "c"]
    assert {name: len(samples) for name, samples in collected.figures(0)} == dict.fromkeys("abcd", 1)


def test_a_round_that_did_not_come_about_is_a_hole_in_its_place() -> None:
    collected = Collected("ab")

    for place, sample in enumerate([(1.0,), None, (3.0,)]):
        collected.take("ab", place, lambda name, sample=sample: (2.0,) if name == "b" else sample)

    assert dict(collected.figures(0)) == {"a": [1.0, None, 3.0], "b": [2.0, 2.0, 2.0]}


def test_the_machine_was_busy_with_everything_but_waiting_and_what_others_took() -> None:
    stat = "cpu  1 2 4 1000 1000 8 16 1000 1000 1000\ncpu0 9 9 9 9 9 9 9 9 9 9\n"

    assert busy_of(stat) == 1 + 2 + 4 + 8 + 16


@pytest.mark.parametrize("entries", [FEWEST, 10, 11, 1000, 10_000])
def test_policies_have_one_port_for_each_entry_and_open_what_is_measured(entries: int) -> None:
    made = [json.loads(text) for text in policies(entries).split("\n---\n")]

    ports = [
        [
            int(port["port"])
            for rule in document["spec"][direction]
            for each in rule["toPorts"]
            for port in each["ports"]
        ]
        for document, direction in zip(made, ("ingress", "egress"), strict=True)
    ]
    assert sum(map(len, ports)) == entries
    for opened in ports:
        assert {5201, 7001, 7002, 7003} <= set(opened)
        assert len(opened) == len(set(opened))
        assert max(opened) < 65536
        # Two in a row could become one prefix, and that one entry.
        assert not {port + 1 for port in opened if port > 20000} & set(opened)


def test_fewer_entries_than_the_traffic_needs_are_refused() -> None:
    with pytest.raises(ValueError, match=str(FEWEST)):
        policies(FEWEST - 1)


def test_the_time_of_a_control_group_is_read_in_seconds() -> None:
    assert used_s("usage_usec 41567666\nuser_usec 15322226\n") == 41.567666
    with pytest.raises(ValueError, match="usage_usec"):
        used_s("user_usec 1\n")
