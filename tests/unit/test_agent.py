"""The agent's life: what is started when, what waits for what."""

from __future__ import annotations

import threading

import pytest

from model.errors import DeadlineExceeded, StoreUnavailable
from plugin.agent import Agent, Step

PATIENCE_S = 5.0


class Recorder:
    """A service that writes down what happens to it."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.started = threading.Event()
        self._name = name
        self._journal = journal

    def start(self) -> None:
        self._journal.append(f"start {self._name}")
        self.started.set()

    def stop(self) -> None:
        self._journal.append(f"stop {self._name}")


def test_followers_start_at_once_and_workers_after_the_last_step() -> None:
    journal: list[str] = []
    worker = Recorder("worker", journal)
    agent = Agent(
        followers=[Recorder("follower", journal)],
        steps=[Step("one", lambda: journal.append("one")), Step("two", lambda: journal.append("two"))],
        workers=[worker],
    )

    agent.start()

    assert worker.started.wait(PATIENCE_S)
    agent.stop()
    assert journal == ["start follower", "one", "two", "start worker", "stop worker", "stop follower"]


def test_a_step_is_repeated_until_it_succeeds_and_says_meanwhile_what_is_missing() -> None:
    attempts: list[int] = []
    seen: list[str | None] = []

    def fails_twice() -> None:
        attempts.append(1)
        seen.append(agent.waiting_for)
        if len(attempts) < 3:
            raise StoreUnavailable("etcd at http://127.0.0.1:2379 does not answer")

    step = Step("register the node", fails_twice)
    agent = Agent(followers=[], steps=[step], workers=[])
    agent.start()

    agent.wait_for(step, PATIENCE_S)

    assert len(attempts) == 3
    assert seen[-1] == "register the node: etcd at http://127.0.0.1:2379 does not answer"
    agent.stop()


def test_a_call_that_waits_for_a_step_in_vain_is_told_what_is_missing() -> None:
    tried = threading.Event()

    def never() -> None:
        tried.set()
        raise StoreUnavailable("etcd does not answer")

    step = Step("datapath", never)
    agent = Agent(followers=[], steps=[step], workers=[])
    agent.start()
    assert tried.wait(PATIENCE_S)

    with pytest.raises(DeadlineExceeded, match=r"hawse is not ready: .*; try again, or see «hawse status»"):
        agent.wait_for(step, 0.01)

    agent.stop()


def test_a_fault_of_its_own_is_logged_shown_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def fault() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ZeroDivisionError

    step = Step("datapath", fault)
    agent = Agent(followers=[], steps=[step], workers=[])
    agent.start()

    agent.wait_for(step, PATIENCE_S)

    assert "ZeroDivisionError" in caplog.text
    agent.stop()


def test_stopping_while_a_step_waits_ends_promptly_and_starts_no_worker() -> None:
    journal: list[str] = []
    tried = threading.Event()

    def never() -> None:
        tried.set()
        raise StoreUnavailable("etcd does not answer")

    agent = Agent(followers=[], steps=[Step("store", never)], workers=[Recorder("worker", journal)])
    agent.start()
    assert tried.wait(PATIENCE_S)

    agent.stop()

    assert "start worker" not in journal
