"""Round by round, each contestant in turn: what disturbs the machine for a while disturbs all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

C = TypeVar("C")


def turns(contestants: Sequence[C], number: int) -> Sequence[C]:
    """Order one round: every second one goes backwards, so that nobody always comes after the same one."""
    return contestants if number % 2 == 0 else list(reversed(contestants))


@dataclass(slots=True)
class Collected(Generic[C]):
    """Samples of one measurement as they come in, by contestant."""

    contestants: Sequence[C]
    samples: list[list[tuple[float, ...]]] = field(init=False)

    def __post_init__(self) -> None:
        self.samples = [[] for _ in self.contestants]

    def run_round(self, number: int, measure: Callable[[C], tuple[float, ...] | None]) -> None:
        """Measure each of them once; None: it did not come about."""
        for place in turns(range(len(self.contestants)), number):
            sample = measure(self.contestants[place])
            if sample is not None:
                self.samples[place].append(sample)

    def figures(self, place_in_sample: int) -> Iterator[tuple[C, Sequence[float]]]:
        """Each contestant that has samples, with one of the figures of each."""
        for contestant, samples in zip(self.contestants, self.samples, strict=True):
            if samples:
                yield contestant, [sample[place_in_sample] for sample in samples]
