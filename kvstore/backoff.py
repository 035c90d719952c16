"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential delays, half of each by chance, so that a cluster's agents do not all come back at the same moment.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    first_s: float = 0.05
    limit_s: float = 5.0
    factor: float = 2.0
    jitter: Callable[[], float] = random.random
    """Draws from 0 … 1; a test gives a constant."""

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 or more); at least half of the exponential delay."""
        # The exponent is bounded: a float overflows after a thousand failures.
        delay_s: float = min(self.limit_s, self.first_s * self.factor ** min(failures - 1, 32))
        return delay_s * (0.5 + self.jitter() / 2)
