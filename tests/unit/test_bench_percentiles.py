"""A percentile is one of the samples."""

from __future__ import annotations

import pytest

from tests.bench.percentiles import percentile


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.51, 51), (0.99, 99), (0.995, 100), (1.0, 100)])
def test_of_a_hundred(share: float, expected: int) -> None:
    assert expected == percentile(list(range(100, 0, -1)), share)


def test_of_one() -> None:
    assert percentile([7.5], 0.99) == 7.5
