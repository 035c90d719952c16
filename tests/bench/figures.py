"""What the bench measures, as values: rows of contestants, curves over a size, and the bars that they are held against.

A suite (the data path, the control plane, the scale) returns one :class:`Part`; the document, the table and the charts
know nothing else of it. In all of them a contestant is named by a short text, and those that others are compared with
(Docker's own driver, the limit of the kernel) are the ``references`` of the row.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Better(enum.StrEnum):
    """Which figures are good ones."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of several contestants that were measured in turn, round by round."""

    name: str
    """Unique in a document, of lower-case words with dashes."""
    title: str
    unit: str
    better: Better
    samples: Mapping[str, Sequence[float | None]]
    """Of each contestant one value a round, in the order in which they are shown; None: it did not come about."""
    references: Sequence[str] = ()
    """Contestants that the others are divided by, round by round."""

    def __post_init__(self) -> None:
        unknown = set(self.references) - self.samples.keys()
        if unknown:
            raise ValueError(f"row {self.name}: references without samples: {', '.join(sorted(unknown))}")
        silent = [contestant for contestant in self.samples if not self.measured(contestant)]
        if silent:
            raise ValueError(f"row {self.name}: no samples of {', '.join(silent)}")
        if len(set(map(len, self.samples.values()))) > 1:
            raise ValueError(f"row {self.name}: not all contestants have as many rounds")

    def measured(self, contestant: str) -> Sequence[float]:
        """The samples of a contestant that came about."""
        return [sample for sample in self.samples.get(contestant, ()) if sample is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a contestant has to reach in a row: at least ``limit`` where more is better, else at most."""

    row: str
    contestant: str
    against: str | None
    """The contestant that it is divided by, round by round; None: the limit is in the row's unit."""
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A figure at one size."""

    size: float
    samples: Sequence[float]

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"no samples at size {self.size:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How a figure grows with a size."""

    name: str
    """Unique in a document, of lower-case words with dashes."""
    title: str
    unit: str
    size_title: str
    """What the size counts: endpoints, policy entries."""
    points: Mapping[str, Sequence[Point]]
    """Of each contestant, by size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one suite has measured."""

    rows: Sequence[Row] = ()
    bars: Sequence[Bar] = ()
    """Each names a row of the same part."""
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()
    """What a reader of the figures must know, of this run: a measurement that did not come about, for one."""
    left_out: Sequence[str] = ()
    """What a full run has and this one does not."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the programs that were measured and measured with, by name."""
