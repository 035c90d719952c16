"""Subscribers are told of changes, and whoever waits for that waits no longer than it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from kvstore.backoff import Backoff
from kvstore.delivery import Change, Delivery

WAIT_S = 5.0


@pytest.fixture
def delivery() -> Iterator[Delivery[int]]:
    made: Delivery[int] = Delivery("test", Backoff(first_s=0.001, limit_s=0.01))
    yield made
    made.stop(WAIT_S)


def test_changes_that_keep_coming_hold_up_nobody_who_waits_for_earlier_ones(delivery: Delivery[int]) -> None:
    first_begun, go_on, second_begun, end = (threading.Event() for _ in range(4))

    def slow(changes: Sequence[Change[int]]) -> None:
        if changes[0].key == "first":
            first_begun.set()
            go_on.wait(WAIT_S)
        else:
            second_begun.set()
            end.wait(WAIT_S)

    delivery.subscribe(slow)
    delivery.start()
    delivery.offer([Change("first", None, 1)], 1)
    assert first_begun.wait(WAIT_S)
    assert not delivery.wait(1, 0.01)
    delivery.offer([Change("second", None, 1)], 2)
    go_on.set()
    assert second_begun.wait(WAIT_S)

    assert delivery.wait(1, WAIT_S)
    assert not delivery.wait(2, 0.01)
    end.set()
    assert delivery.wait(2, WAIT_S)


def test_what_was_not_taken_is_not_delivered(delivery: Delivery[int]) -> None:
    broken = threading.Event()
    broken.set()
    tried = threading.Event()

    def failing(_: Sequence[Change[int]]) -> None:
        tried.set()
        if broken.is_set():
            raise ValueError("not now")

    delivery.subscribe(lambda _: None)
    delivery.subscribe(failing)
    delivery.start()
    delivery.offer([Change("a", None, 1)], 1)
    assert tried.wait(WAIT_S)
    assert not delivery.wait(1, 0.01)

    broken.clear()
    assert delivery.wait(1, WAIT_S)


def test_a_generation_without_changes_is_delivered_at_once(delivery: Delivery[int]) -> None:
    delivery.subscribe(lambda _: None)
    delivery.start()
    delivery.offer([], 1)

    assert delivery.wait(1, WAIT_S)
