"""Which endpoints are at a place, for a hundred thousand of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


class KeysByPlace(Generic[P]):
    """Keys by place, in the order in which they came. Without a lock; iterating gives the places that have keys."""

    def __init__(self) -> None:
        # Nearly always one: a tuple takes a quarter of the memory of a set.
        self._keys: dict[P, tuple[str, ...]] = {}

    def __iter__(self) -> Iterator[P]:
        return iter(self._keys)

    def at(self, place: P) -> tuple[str, ...]:
        """Keys at a place; one, unless something went wrong."""
        return self._keys.get(place, ())

    def put(self, key: str, places: Iterable[P]) -> None:
        """Say that a key is at places; again is no change but of the order."""
        for place in places:
            self._keys[place] = (*self._without(key, place), key)

    def discard(self, key: str, places: Iterable[P]) -> None:
        """Say that a key is at places no more; again is no change."""
        for place in places:
            others = self._without(key, place)
            if others:
                self._keys[place] = others
            else:
                self._keys.pop(place, None)

    def clear(self) -> None:
        """Forget all."""
        self._keys.clear()

    def _without(self, key: str, place: P) -> tuple[str, ...]:
        return tuple(other for other in self.at(place) if other != key)
