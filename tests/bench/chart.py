"""A document as one SVG: a panel of bars for each row, a panel of lines for each curve.

Written by hand: bars and lines are rectangles and a path, and the alternative brings ten packages (numpy among them)
into the locked requirements of a test run. The same document always gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape

from tests.bench.document import Document
from tests.bench.figures import Better, Curve, Row
from tests.bench.ratios import summary
from tests.bench.report import number

_WIDTH = 640
_LABELS = 170
_FIGURES = 90
_LINE = 18
_HEAD = 34
_GAP = 22
_CURVE_HEIGHT = 240
_INSET = 24
_COLUMNS = 2
_FACTS = ("cpu", "cores", "kernel", "docker", "iperf3", "sockperf", "hawse", "begun", "kind")
_REFERENCE, _MEASURED = "#9aa5b1", "#2f6fb2"
_LINES = ("#2f6fb2", "#c2572f", "#3d8f56", "#7a4fa3", "#9aa5b1", "#b08c1e")


def chart(made: Document) -> str:
    """Everything; figures and their spread are text too, so that it can be read without colours."""
    panels: list[tuple[int, Callable[[float, float], Iterator[str]]]] = []
    panels += [(_row_height(row), partial(_row, row)) for row in made.rows]
    panels += [(_CURVE_HEIGHT, partial(_curve, curve)) for curve in made.curves]
    shapes: list[str] = []
    top = float(_GAP)
    shapes.append(_text(_GAP, top, "  ·  ".join(f"{name} {made.facts[name]}" for name in _FACTS if name in made.facts)))
    top += _GAP
    for first in range(0, len(panels), _COLUMNS):
        line = panels[first : first + _COLUMNS]
        for column, (_, draw) in enumerate(line):
            shapes += draw(_GAP + column * (_WIDTH + _GAP), top)
        top += max(height for height, _ in line) + _GAP
    width = _COLUMNS * (_WIDTH + _GAP) + _GAP
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top:g}" width="{width}" {style}>'
    return "\n".join([head, f'<rect width="{width}" height="{top:g}" fill="#ffffff"/>', *shapes, "</svg>"]) + "\n"


def _row_height(row: Row) -> int:
    return _HEAD + len(row.samples) * _LINE


def _row(row: Row, x: float, y: float) -> Iterator[str]:
    better = "more" if row.better is Better.HIGHER else "less"
    yield _text(x, y + 12, f"{row.title}: {row.unit}, {better} is better", weight="bold")
    room = _WIDTH - _LABELS - _FIGURES
    summed = {name: summary(row.measured(name)) for name in row.samples}
    most = max(one.most for one in summed.values()) or 1.0
    for place, (name, one) in enumerate(summed.items()):
        middle = y + _HEAD + place * _LINE
        left = x + _LABELS
        colour = _MEASURED if name.startswith("hawse") or name not in row.references else _REFERENCE
        yield _text(left - 6, middle + 4, name, anchor="end")
        yield _box(left, middle - 6, room * one.median / most, 12, colour)
        ends = [left + room * value / most for value in (one.least, one.most)]
        yield f'<path d="M{ends[0]:.1f} {middle:g}H{ends[1]:.1f}" stroke="#1f2933" stroke-width="1.5"/>'
        yield _text(left + room + 6, middle + 4, number(one.median))


def _curve(curve: Curve, x: float, y: float) -> Iterator[str]:
    yield _text(x, y + 12, f"{curve.title}: {curve.unit}, by {curve.size_title}", weight="bold")
    points = {
        name: [(point.size, summary(point.samples).median) for point in points if point.size > 0]
        for name, points in curve.points.items()
    }
    drawn = [(size, value) for line in points.values() for size, value in line if value > 0]
    if not drawn:
        return
    left, right, bottom, upper = x + 60, x + _WIDTH - 170, y + _CURVE_HEIGHT - 30, y + _HEAD
    across = _scale([size for size, _ in drawn], left + _INSET, right - _INSET)
    decades = _decades([value for _, value in drawn])
    upwards = _scale(decades, bottom, upper)
    yield f'<path d="M{left:g} {upper:g}V{bottom:g}H{right:g}" stroke="#9aa5b1" fill="none"/>'
    for size in sorted({size for size, _ in drawn}):
        yield _text(across(size), bottom + 16, f"{size:,g}".replace(",", " "), anchor="middle")
    for value in decades:
        yield _text(left - 6, upwards(value) + 4, f"{value:g}", anchor="end")
    for place, (name, line) in enumerate(points.items()):
        colour = _LINES[place % len(_LINES)]
        places = [(across(size), upwards(value), value) for size, value in line if value > 0]
        way = " ".join(f"{right_of:.1f},{above:.1f}" for right_of, above, _ in places)
        yield f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for right_of, above, value in places:
            yield f'<circle cx="{right_of:.1f}" cy="{above:.1f}" r="3" fill="{colour}"/>'
            yield _text(right_of, above - 7, number(value), anchor="middle")
        yield _box(right + 12, upper + place * _LINE - 5, 10, 10, colour)
        yield _text(right + 28, upper + place * _LINE + 4, name)


def _decades(values: Sequence[float]) -> Sequence[float]:
    """Powers of ten around them: between the least and the most of them alone, a rise by a hundredth looks like one."""
    least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(least, max(most, least + 1) + 1)]


def _scale(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    """Place values between two ends by their logarithm."""
    least, most = math.log10(min(values)), math.log10(max(values))
    span = most - least or 1.0
    return lambda value: first + (math.log10(value) - least) / span * (last - first)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" fill="{colour}"/>'
