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

    Those of one group come after one another in each round, because it takes its time to go from one to another.
    """

    groups: Sequence[Sequence[C]]
    samples: list[tuple[C, list[tuple[float, ...] | None]]] = field(init=False)

    def __post_init__(self) -> None:
        self.samples = [(contestant, []) for group in self.groups for contestant in group]

    def run_round(self, number: int, measure: Callable[[C], tuple[float, ...] | None]) -> None:
        """Measure each of them once; None: it did not come about, and its round has a hole."""
        for group in turns(range(len(self.groups)), number):
            first = sum(map(len, self.groups[:group]))
            for place in turns(range(first, first + len(self.groups[group])), number):
                contestant, samples = self.samples[place]
                samples.append(measure(contestant))

    def figures(self, place_in_sample: int) -> Iterator[tuple[C, Sequence[float | None]]]:
        """Each contestant that has samples, with one of the figures of each round."""
        for contestant, samples in self.samples:
            if any(sample is not None for sample in samples):
                yield contestant, [None if sample is None else sample[place_in_sample] for sample in samples]
