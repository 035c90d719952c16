from __future__ import annotations

import threading

import pytest

from model.deadline import deadline, remaining_s
from model.errors import DeadlineExceeded


def test_without_a_deadline_there_is_the_time_asked_for() -> None:
    assert remaining_s(3) == 3


def test_inside_a_deadline_there_is_no_more_than_it_leaves() -> None:
    with deadline(2):
        assert 1 < remaining_s(60) <= 2
        assert remaining_s(0.5) == 0.5


def test_a_nested_deadline_only_shortens() -> None:
    with deadline(2):
        with deadline(60):
            assert remaining_s(60) <= 2
        with deadline(1):
            assert remaining_s(60) <= 1
        assert remaining_s(60) > 1
    assert remaining_s(60) == 60


def test_a_deadline_that_is_over_is_an_error() -> None:
    with deadline(0), pytest.raises(DeadlineExceeded, match="repeated"):
        remaining_s(3)


def test_the_deadline_is_gone_after_an_error() -> None:
    with pytest.raises(KeyError), deadline(1):
        raise KeyError

    assert remaining_s(60) == 60


def test_a_deadline_holds_in_its_own_thread_only() -> None:
    seen: list[float] = []
    with deadline(1):
        thread = threading.Thread(target=lambda: seen.append(remaining_s(60)))
        thread.start()
        thread.join()

    assert seen == [60]
