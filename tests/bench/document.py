"""The figures of a run as one JSON document: samples as measured, and beside them what they come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.figures import Bar, Better, Curve, Part, Point, Row
from tests.bench.ratios import Summary, judge, ratio, summary

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A run."""

    facts: Mapping[str, str]
    """The machine, the kernel, versions, when and how it was run."""
    rows: Sequence[Row]
    bars: Sequence[Bar]
    curves: Sequence[Curve]
    notes: Sequence[str]
    left_out: Sequence[str]
    """What a full run has and this one does not."""

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows] + [curve.name for curve in self.curves]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        unknown = {bar.row for bar in self.bars} - {row.name for row in self.rows}
        if unknown:
            raise ValueError(f"bars of no row: {', '.join(sorted(unknown))}")


def document(facts: Mapping[str, str], parts: Sequence[Part]) -> Document:
    """Put together what suites have measured."""
    versions = {name: version for part in parts for name, version in part.versions.items()}
    return Document(
        facts={**facts, **versions},
        rows=[row for part in parts for row in part.rows],
        bars=[bar for part in parts for bar in part.bars],
        curves=[curve for part in parts for curve in part.curves],
        notes=[note for part in parts for note in part.notes],
        left_out=[one for part in parts for one in part.left_out],
    )


def to_json(made: Document) -> dict[str, Any]:
    """Everything, for ``json.dumps``."""
    return {
        "format": FORMAT,
        "facts": dict(made.facts),
        "rows": [_row(row) for row in made.rows],
        "bars": [_bar(made, bar) for bar in made.bars],
        "curves": [_curve(curve) for curve in made.curves],
        "notes": list(made.notes),
        "left_out": list(made.left_out),
    }


def from_json(raw: Mapping[str, Any]) -> Document:
    """Read a document; what was computed from the samples is computed anew.

    Raises:
        ValueError: it is of another format.
    """
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']}, not {FORMAT}")
    return Document(
        facts=raw["facts"],
        rows=[
            Row(
                name=row["name"],
                title=row["title"],
                unit=row["unit"],
                better=Better(row["better"]),
                samples={name: one["samples"] for name, one in row["contestants"].items()},
                references=tuple(row["references"]),
            )
            for row in raw["rows"]
        ],
        bars=[Bar(**{field.name: bar[field.name] for field in dataclasses.fields(Bar)}) for bar in raw["bars"]],
        curves=[
            Curve(
                name=curve["name"],
                title=curve["title"],
                unit=curve["unit"],
                size_title=curve["size_title"],
                points={
                    name: [Point(size=point["size"], samples=point["samples"]) for point in points]
                    for name, points in curve["contestants"].items()
                },
            )
            for curve in raw["curves"]
        ],
        notes=raw["notes"],
        left_out=raw["left_out"],
    )


def _row(row: Row) -> dict[str, Any]:
    contestants = {}
    for name, samples in row.samples.items():
        ratios = {against: _summed(ratio(row, name, against)) for against in row.references if against != name}
        contestants[name] = {
            "samples": list(samples),
            **dataclasses.asdict(summary(row.measured(name))),
            "ratios": ratios,
        }
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "better": row.better.value,
        "references": list(row.references),
        "contestants": contestants,
    }


def _bar(made: Document, bar: Bar) -> dict[str, Any]:
    row = next(row for row in made.rows if row.name == bar.row)
    judgement = judge(row, bar)
    return {**dataclasses.asdict(bar), "found": _summed(judgement.found), "reached": judgement.reached}


def _summed(found: Summary | None) -> dict[str, Any] | None:
    return None if found is None else dataclasses.asdict(found)


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "title": curve.title,
        "unit": curve.unit,
        "size_title": curve.size_title,
        "contestants": {
            name: [
                {"size": point.size, "samples": list(point.samples), **dataclasses.asdict(summary(point.samples))}
                for point in points
            ]
            for name, points in curve.points.items()
        },
    }
