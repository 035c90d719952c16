"""The entries of a large map that were used last: only so many are kept and decoded, however many there are."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

T = TypeVar("T")
E = TypeVar("E")
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Newest(Sequence[T], Generic[T]):
    """Entries, and how many others there are that were used less lately."""

    entries: Sequence[T]
    left_out: int = 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """An entry."""
        return self.entries[index]

    def __len__(self) -> int:
        """How many entries are here, without those that are left out."""
        return len(self.entries)


def newest(found: Iterable[tuple[N, E]], limit: int | None, decode: Callable[[N, E], T]) -> Newest[T]:
    """Keep the entries that were idle for the shortest time, in that order.

    Args:
        found: entries, each with the time that it has been idle for; read once, never held together.
        limit: how many to keep; None: all.
        decode: makes what is returned of an entry that is kept.
    """
    seen = 0

    def counted() -> Iterator[tuple[N, E]]:
        nonlocal seen
        for seen, one in enumerate(found, start=1):  # noqa: B007  # read by the one who asked
            yield one

    by_time = operator.itemgetter(0)
    kept = sorted(counted(), key=by_time) if limit is None else heapq.nsmallest(limit, counted(), key=by_time)
    return Newest([decode(idle, entry) for idle, entry in kept], seen - len(kept))
