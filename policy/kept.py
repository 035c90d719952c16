"""A value that is made again only when what it is made from has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """One value and what it was made from. For one thread.

    Attributes:
        latest: the value; None before the first time.
        version: another number for each value.
    """

    def __init__(self) -> None:
        self.latest: T | None = None
        self.version = 0
        self._basis: tuple[object, ...] | None = None

    def get(self, basis: tuple[object, ...], make: Callable[[], T]) -> T:
        """The value; made when it was not made from this basis. What ``make`` raises leaves everything as it was."""
        if self.latest is None or self._basis != basis:
            self.latest = make()
            self.version += 1
            self._basis = basis
        return self.latest
