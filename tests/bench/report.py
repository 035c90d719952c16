"""A document as text: every row with its contestants, their spread, their ratios, and the bars beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from tests.bench.document import Document
from tests.bench.figures import Bar, Better, Curve, Row
from tests.bench.ratios import Judgement, Summary, judge, ratio, summary

_MARK = {True: "reached", False: "NOT reached", None: "not measured"}


def report(made: Document) -> str:
    """Everything, ready to be printed."""
    blocks = [_facts(made)]
    if made.left_out:
        blocks.append("Left out in this run\n" + "\n".join(f"  {one}" for one in made.left_out))
    blocks += [_row(row, [bar for bar in made.bars if bar.row == row.name]) for row in made.rows]
    blocks += [_curve(curve) for curve in made.curves]
    if made.bars:
        blocks.append(_bars(made))
    if made.notes:
        blocks.append("Notes\n" + "\n".join(f"  {note}" for note in made.notes))
    return "\n\n".join(blocks) + "\n"


def number(value: float) -> str:
    """Three digits that count, with thousands set apart: 0.0123, 1.23, 12.3, 123, 1 230 000."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}".replace(",", " ")


def _facts(made: Document) -> str:
    width = max((len(name) for name in made.facts), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in made.facts.items())


def _row(row: Row, bars: Sequence[Bar]) -> str:
    head = ["", "median", "least", "most", *(f"/ {name}" for name in row.references)]
    lines = []
    for name in row.samples:
        summed = summary(row.measured(name))
        cells = [name, number(summed.median), number(summed.least), number(summed.most)]
        for against in row.references:
            found = ratio(row, name, against) if against != name else None
            cells.append("" if found is None else f"{_ratio(found)}{_beside(row, bars, name, against)}")
        lines.append(cells)
    better = "more is better" if row.better is Better.HIGHER else "less is better"
    rounds = max(len(samples) for samples in row.samples.values())
    title = f"{row.title}: {row.unit}, {better}, {rounds} round{'s' * (rounds != 1)}"
    plain = [f"  {_bar_text(judge(row, bar))}" for bar in bars if bar.against is None]
    return "\n".join([title, *_table([head, *lines]), *plain])


def _beside(row: Row, bars: Sequence[Bar], contestant: str, against: str) -> str:
    found = [judge(row, bar) for bar in bars if (bar.contestant, bar.against) == (contestant, against)]
    return "".join(f" ({_sign(one)}{_times(one.bar.limit)} {'yes' if one.reached else 'NO'})" for one in found)


def _curve(curve: Curve) -> str:
    sizes = sorted({point.size for points in curve.points.values() for point in points})
    lines = []
    for name, points in curve.points.items():
        at = {point.size: number(summary(point.samples).median) for point in points}
        lines.append([name, *(at.get(size, "") for size in sizes)])
    head = [curve.size_title, *(f"{size:,g}".replace(",", " ") for size in sizes)]
    return "\n".join([f"{curve.title}: {curve.unit}", *_table([head, *lines])])


def _bars(made: Document) -> str:
    rows = {row.name: row for row in made.rows}
    judged = [judge(rows[bar.row], bar) for bar in made.bars]
    reached = sum(one.reached is True for one in judged)
    lines = [
        [rows[one.bar.row].title, _bar_text(one), _MARK[one.reached]]
        for one in sorted(judged, key=lambda one: one.reached is True)
    ]
    return "\n".join([f"Bars: {reached} of {len(judged)} reached", *_table(lines, left=(0, 1, 2))])


def _bar_text(judgement: Judgement) -> str:
    bar = judgement.bar
    value = "?" if judgement.found is None else _found(judgement.found, bar)
    divided = "" if bar.against is None else f" / {bar.against}"
    return f"{bar.contestant}{divided}: {value}, asked {_sign(judgement)} {_value(bar.limit, bar)}"


def _found(found: Summary, bar: Bar) -> str:
    return number(found.median) if bar.against is None else _ratio(found)


def _ratio(found: Summary) -> str:
    return f"{_times(found.median)} [{found.least:.2f}-{found.most:.2f}]"


def _value(value: float, bar: Bar) -> str:
    return number(value) if bar.against is None else _times(value)


def _times(value: float) -> str:
    return f"{value:.3f}"


def _sign(judgement: Judgement) -> str:
    return "≥" if judgement.better is Better.HIGHER else "≤"


def _table(rows: Sequence[Sequence[str]], *, left: Iterable[int] = (0,)) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    to_the_left = set(left)
    for row in rows:
        cells = (
            f"{cell:<{width}}" if column in to_the_left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()
