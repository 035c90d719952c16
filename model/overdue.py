"""Conditions that have lasted too long."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Overdue(Generic[T]):
    """Remembers since when a condition holds of each subject.

    A subject that is missing from one look starts anew. What was seen before the agent started is not known, so
    nothing is overdue before the agent has run that long.
    """

    def __init__(self, limit_s: float, monotonic_s: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._monotonic_s = monotonic_s
        self._since_s: dict[T, float] = {}

    def look(self, subjects: Iterable[T]) -> list[T]:
        """Say of whom the condition holds now; returns those of whom it has held for the limit."""
        now_s = self._monotonic_s()
        self._since_s = {subject: self._since_s.get(subject, now_s) for subject in subjects}
        return [subject for subject, since_s in self._since_s.items() if now_s - since_s >= self._limit_s]
