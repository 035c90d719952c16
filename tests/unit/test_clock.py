"""Two clocks, read together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from model.clock import Clock, SystemClock, zero_of_monotonic_us


class InterruptedClock(Clock):
    """Whoever reads it is made to wait, each time before and after it has read the time of day."""

    def __init__(self, waits_s: Iterable[tuple[float, float]]) -> None:
        self._waits_s = iter(waits_s)
        self._monotonic_s = 100.0

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def now(self) -> datetime:
        before_s, after_s = next(self._waits_s, (0.0, 0.0))
        self._monotonic_s += before_s
        read = datetime.fromtimestamp(self._monotonic_s + 1_000, UTC)
        self._monotonic_s += after_s
        return read


@pytest.mark.parametrize(
    "waits_s",
    [
        pytest.param([], id="never"),
        pytest.param([(0.0, 0.25)], id="after"),
        pytest.param([(0.25, 0.0)], id="before"),
        pytest.param([(0.25, 0.0), (0.0, 1.0), (3.0, 0.1)], id="several-times"),
    ],
)
def test_a_pause_between_two_readings_does_not_count(waits_s: list[tuple[float, float]]) -> None:
    assert zero_of_monotonic_us(InterruptedClock(waits_s)) == 1_000_000_000


def test_the_shortest_pause_counts_when_there_is_always_one() -> None:
    waits_s = [(0.2 * number, 0.0) for number in range(20, 0, -1)]
    waits_s[4] = (0.001, 0.0)

    assert zero_of_monotonic_us(InterruptedClock(waits_s)) == 1_000_000_500


def test_the_clocks_of_this_host_agree_with_themselves() -> None:
    clock = SystemClock()

    zero_us = zero_of_monotonic_us(clock)
    before_us = clock.now().timestamp() * 1e6
    between_us = zero_us + clock.monotonic_s() * 1e6
    after_us = clock.now().timestamp() * 1e6

    assert before_us - 1000 <= between_us <= after_us + 1000
