"""Medians, spreads and ratios.

A ratio is of two samples of the same round, and what counts is the median of these: what slows a machine down for as
long as a round takes is in both of them, and not in their ratio. A ratio of two medians has it, because the medians may
be of different rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.figures import Bar, Better, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What several rounds come to."""

    median: float
    least: float
    most: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A bar beside what was reached."""

    bar: Bar
    better: Better
    found: Summary | None
    """Of ratios, or of samples; None: one of the two contestants has none in this run, or the divisor is 0."""

    @property
    def value(self) -> float | None:
        """The median."""
        return None if self.found is None else self.found.median

    @property
    def reached(self) -> bool | None:
        """Whether it was; None: nobody knows."""
        if self.value is None:
            return None
        return self.value >= self.bar.limit if self.better is Better.HIGHER else self.value <= self.bar.limit


def summary(samples: Sequence[float]) -> Summary:
    """Sum up the rounds of one contestant."""
    return Summary(median=statistics.median(samples), least=min(samples), most=max(samples), rounds=len(samples))


def ratio(row: Row, contestant: str, against: str) -> Summary | None:
    """Divide one contestant by another in each round; None where no round has both, or the divisor is 0 in all."""
    pairs = zip(row.samples.get(contestant, ()), row.samples.get(against, ()), strict=False)
    found = [sample / divisor for sample, divisor in pairs if sample is not None and divisor]
    return summary(found) if found else None


def judge(row: Row, bar: Bar) -> Judgement:
    """Hold a row against one of its bars."""
    if bar.against is not None:
        found = ratio(row, bar.contestant, bar.against)
    else:
        samples = row.measured(bar.contestant)
        found = summary(samples) if samples else None
    return Judgement(bar=bar, better=row.better, found=found)


def as_fast(row: Row, factor: float) -> float:
    """The limit of a bar that says «at least ``factor`` times as good»: of times the reciprocal.

    Of «at least 0.97 on every row» a rate must be at least 0.97 times the other one, a time at most 1/0.97 times.
    """
    return factor if row.better is Better.HIGHER else 1 / factor
