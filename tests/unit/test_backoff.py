from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.backoff import Backoff


@pytest.mark.parametrize(("failures", "delay_s"), [(1, 1), (2, 2), (3, 4), (4, 5), (100_000, 5)])
def test_the_delay_doubles_up_to_its_limit(failures: int, delay_s: float) -> None:
    backoff = Backoff(first_s=1, limit_s=5, jitter=lambda: 1.0)

    assert delay_s == backoff.delay_s(failures)


@given(st.integers(1, 10_000))
def test_chance_takes_half_of_the_delay_at_most(failures: int) -> None:
    whole = Backoff(jitter=lambda: 1.0).delay_s(failures)

    assert whole / 2 <= Backoff().delay_s(failures) <= whole
