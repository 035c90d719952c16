"""Something that is released when the agent stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Closing:
    """A service that has nothing to start, only to release."""

    release: Sequence[Callable[[], None]]

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Release, in order."""
        for release in self.release:
            release()
