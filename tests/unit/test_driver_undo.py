"""Undo, its time, and the locks that order calls for one id."""

from __future__ import annotations

import threading

import pytest

from driver.locks import KeyedLocks
from driver.undo import UNDO_TIMEOUT_S, WORK_TIMEOUT_S, undone_on_error
from model.deadline import deadline, remaining_s
from model.errors import DeadlineExceeded, StoreUnavailable


def test_steps_are_undone_in_reverse_and_the_first_error_is_told(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def fail() -> None:
        raise StoreUnavailable("still no leader")

    def work() -> None:
        with undone_on_error() as undo:
            undo.push("record", lambda: done.append("record"))
            undo.push("broken", fail)
            undo.push("interface", lambda: done.append("interface"))
            raise StoreUnavailable("no leader now")

    with pytest.raises(StoreUnavailable, match="no leader now"):
        work()

    assert ["interface", "record"] == done
    [record] = [record for record in caplog.records if record.message == "undo failed"]
    assert "broken" == record.__dict__["step"]


def test_success_undoes_nothing() -> None:
    done = []

    with undone_on_error() as undo:
        undo.push("record", lambda: done.append("record"))

    assert [] == done


def test_what_was_forgotten_is_not_undone() -> None:
    done = []

    def work() -> None:
        with undone_on_error() as undo:
            undo.push("record", lambda: done.append("record"))
            undo.forget()
            raise StoreUnavailable("no")

    with pytest.raises(StoreUnavailable):
        work()

    assert [] == done


def test_undo_has_time_when_the_work_has_none_left() -> None:
    left = []

    def work() -> None:
        with deadline(0), undone_on_error() as undo:
            undo.push("record", lambda: left.append(remaining_s(3600)))
            remaining_s(1)

    with pytest.raises(DeadlineExceeded):
        work()

    assert 0 < left[0] <= UNDO_TIMEOUT_S


def test_work_and_undo_fit_into_a_handler() -> None:
    with deadline(10), undone_on_error():
        assert remaining_s(3600) <= WORK_TIMEOUT_S

    assert WORK_TIMEOUT_S + UNDO_TIMEOUT_S <= 10


def test_one_key_is_held_by_one_thread_at_a_time() -> None:
    locks = KeyedLocks()
    entered, release = threading.Event(), threading.Event()
    order = []

    def first() -> None:
        with locks.hold("a"):
            entered.set()
            release.wait(10)
            order.append("first")

    def second() -> None:
        with locks.hold("a"):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    with locks.hold("b"):
        order.append("another key")
    release.set()
    for thread in threads:
        thread.join(10)

    assert ["another key", "first", "second"] == order
    assert {} == locks._entries


def test_waiting_for_a_key_ends_with_the_deadline() -> None:
    locks = KeyedLocks()
    refused = []

    def impatient() -> None:
        with deadline(0.01):
            try:
                with locks.hold("a"):
                    refused.append("two calls held one key")
            except DeadlineExceeded as err:
                refused.append(str(err))

    with locks.hold("a"):
        thread = threading.Thread(target=impatient)
        thread.start()
        thread.join(10)

    assert ["another call for a is still running; this one may be repeated"] == refused
    assert {} == locks._entries
