"""Medians, spreads and ratios: of medians of the same run, never of single rounds."""

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
    value: float | None
    """A ratio, or a median; None: one of the two contestants has none in this run, or the divisor is 0."""

    @property
    def reached(self) -> bool | None:
        """Whether it was; None: nobody knows."""
        if self.value is None:
            return None
        return self.value >= self.bar.limit if self.better is Better.HIGHER else self.value <= self.bar.limit


def summary(samples: Sequence[float]) -> Summary:
    """Sum up the rounds of one contestant."""
    return Summary(median=statistics.median(samples), least=min(samples), most=max(samples), rounds=len(samples))


def ratio(row: Row, contestant: str, against: str) -> float | None:
    """Divide one contestant's median by another's; None where one of them is missing, or the divisor is 0."""
    if contestant not in row.samples or against not in row.samples:
        return None
    divisor = statistics.median(row.samples[against])
    return statistics.median(row.samples[contestant]) / divisor if divisor else None


def judge(row: Row, bar: Bar) -> Judgement:
    """Hold a row against one of its bars."""
    if bar.against is not None:
        value = ratio(row, bar.contestant, bar.against)
    else:
        samples = row.samples.get(bar.contestant)
        value = statistics.median(samples) if samples else None
    return Judgement(bar=bar, better=row.better, value=value)


def as_fast(row: Row, factor: float) -> float:
    """The limit of a bar that says «at least ``factor`` times as good»: of times the reciprocal.

    Of «at least 0.97 on every row» a rate must be at least 0.97 times the other one, a time at most 1/0.97 times.
    """
    return factor if row.better is Better.HIGHER else 1 / factor
