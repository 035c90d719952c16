"""The thread that works when a view has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from kvstore.backoff import Backoff
from kvstore.memory import MemoryStore
from kvstore.view_worker import ViewWorker
from kvstore.watcher import View
from model.clock import SystemClock
from model.errors import DatapathError, StoreUnavailable
from tests.support.wait import until


class Bench:
    """A worker that notes what it was asked to do."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.view: View[bytes] = View(self.store, "/x/", lambda item: item.value, backoff=Backoff(first_s=0.001))
        self.calls: list[bool] = []
        self.errors: list[Exception] = []
        """Raised one after the other."""
        self.may_work = threading.Event()
        self.may_work.set()
        self.works = threading.Event()
        self.workers: list[ViewWorker] = []

    def worker(self, *, resync_s: float = 60.0, backoff_s: float = 0.001) -> ViewWorker:
        worker = ViewWorker(
            "bench",
            self.work,
            [self.view],
            clock=SystemClock(),
            resync_s=resync_s,
            backoff=Backoff(first_s=backoff_s, limit_s=backoff_s),
        )
        self.workers.append(worker)
        worker.start()
        return worker

    def work(self, *, everything: bool) -> None:
        self.works.set()
        assert self.may_work.wait(5)
        self.calls.append(everything)
        if self.errors:
            raise self.errors.pop(0)

    def await_calls(self, count: int) -> None:
        until(f"{count} calls", lambda: len(self.calls) >= count, timeout_s=5, interval_s=0.002)

    def stop(self) -> None:
        self.may_work.set()
        for worker in self.workers:
            worker.stop()
        self.view.stop()
        self.store.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


def test_it_looks_at_everything_first(bench: Bench) -> None:
    bench.view.start()

    worker = bench.worker()

    bench.await_calls(1)
    worker.mark()
    bench.await_calls(2)
    worker.mark(everything=True)
    bench.await_calls(3)
    assert [True, False, True] == bench.calls


def test_nothing_is_done_before_the_views_have_been_read(bench: Bench) -> None:
    bench.store.fail_with(StoreUnavailable("etcd is away"))
    bench.view.start()
    worker = bench.worker()
    worker.mark()
    until("the store was asked", lambda: bench.view.resyncs, timeout_s=5)
    assert [] == bench.calls

    bench.store.fail_with(None)

    bench.await_calls(1)


def test_changes_during_the_work_are_taken_together(bench: Bench) -> None:
    bench.view.start()
    worker = bench.worker()
    bench.await_calls(1)
    bench.may_work.clear()
    bench.works.clear()
    worker.mark()
    assert bench.works.wait(5)

    for _ in range(10):
        worker.mark()
    bench.may_work.set()

    bench.await_calls(3)
    worker.stop()
    assert 3 == len(bench.calls)


@pytest.mark.parametrize("error", [DatapathError("no"), ValueError("a mistake of ours")])
def test_an_error_is_tried_again_with_everything(bench: Bench, error: Exception) -> None:
    bench.view.start()
    worker = bench.worker()
    bench.await_calls(1)
    bench.errors = [error]

    worker.mark()

    bench.await_calls(3)
    assert [True, False, True] == bench.calls[:3]
    until("all is well", lambda: not worker.health.failures, timeout_s=5)
    assert not worker.health.error


def test_health_tells_of_errors(bench: Bench) -> None:
    bench.view.start()
    bench.errors = [DatapathError("no")]

    worker = bench.worker(backoff_s=60)

    until("the failure", lambda: worker.health.failures, timeout_s=5)
    assert (1, "no") == (worker.health.failures, worker.health.error)
    worker.mark()
    until("a change ends the wait", lambda: not worker.health.failures, timeout_s=5)


def test_everything_is_looked_at_now_and_then(bench: Bench) -> None:
    bench.view.start()

    bench.worker(resync_s=0.01)

    bench.await_calls(3)
    assert [True, True, True] == bench.calls[:3]


@pytest.mark.parametrize("prepare", [lambda bench: None, lambda bench: bench.view.start()], ids=["unread", "read"])
def test_it_can_be_stopped_at_any_time(bench: Bench, prepare: Callable[[Bench], None]) -> None:
    prepare(bench)
    worker = bench.worker()

    worker.stop()

    assert not worker._thread.is_alive()
