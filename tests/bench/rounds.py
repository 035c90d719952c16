"""Round by round, each contestant in turn: what disturbs the machine for a while disturbs all of them alike.

Who comes after whom changes with each round: of ``n`` contestants each follows every other one once within ``n`` rounds
(an even number) or twice within ``2 * n`` (an odd one). So nobody is always measured in the wake of the same one.

Source: E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

C = TypeVar("C")
M = TypeVar("M")


def turns(contestants: Sequence[C], number: int) -> Sequence[C]:
    """Order one round."""
    count = len(contestants)
    # 0, 1, last, 2, last but one, …: all distances between neighbours are different.
    zigzag = [(place + 1) // 2 if place % 2 else -place // 2 for place in range(count)]
    turn = [contestants[(place + number) % count] for place in zigzag]
    return turn[::-1] if count % 2 and number // count % 2 else turn


@dataclass(slots=True)
class Collected(Generic[C]):
    """Samples of one measurement as they come in, by contestant.

    Whoever runs a round takes a sample of each contestant once, in any order.
    """

    contestants: Sequence[C]
    samples: list[list[tuple[float, ...] | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.samples = [[] for _ in self.contestants]

    def take(self, chosen: Sequence[C], number: int, measure: Callable[[C], tuple[float, ...] | None]) -> None:
        """Measure some of them once, in the order of this round; None: it did not come about, which leaves a hole."""
        places = [place for place, contestant in enumerate(self.contestants) if contestant in chosen]
        for place in turns(places, number):
            self.samples[place].append(measure(self.contestants[place]))

    def figures(self, place_in_sample: int) -> Iterator[tuple[C, Sequence[float | None]]]:
        """Each contestant that has samples, with one of the figures of each round."""
        for contestant, samples in zip(self.contestants, self.samples, strict=True):
            if any(sample is not None for sample in samples):
                yield contestant, [None if sample is None else sample[place_in_sample] for sample in samples]


def schedule(
    groups: Sequence[Sequence[C]], measurements: Sequence[M], number: int
) -> Iterator[tuple[Sequence[C], M, int]]:
    """What to measure one after the other in a round: a group, a measurement, and the number of the order within it.

    All that is measured of one group comes before the next one, because it takes its time to go from one to another.
    """
    for group in turns(groups, number):
        for place, measurement in enumerate(measurements):
            # Another order for each measurement as well.
            yield group, measurement, number + place
