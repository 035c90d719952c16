"""The ring: numbers, what is lost, who waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from datapath.api import Direction
from model.errors import DatapathError, Exhausted
from observe import flow_ring
from observe.flow_ring import MAX_WAITING, PAGE_FLOWS, FlowPage
from tests.support.flow_world import STARTED_S, FlowWorld, an_event, flow_world
from tests.support.wait import until


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    with flow_world(capacity=8) as made:
        yield made


def _ports(page: FlowPage) -> list[int]:
    return [flow.event.source_port for flow in page.flows]


def _happen(world: FlowWorld, first: int, last: int, *, lost: int = 0) -> None:
    world.happen(*(an_event(source_port=port) for port in range(first, last + 1)), lost=lost)


def test_an_empty_log_answers_where_to_go_on(world: FlowWorld) -> None:
    assert world.log.read() == FlowPage(flows=(), next=0, lost=0, more=False)


def test_flows_come_in_the_order_of_the_kernel_and_once(world: FlowWorld) -> None:
    _happen(world, 1, 3)
    first = world.log.read()
    _happen(world, 4, 5)
    second = world.log.read(since=first.next)
    third = world.log.read(since=second.next)

    assert (_ports(first), _ports(second), _ports(third)) == ([1, 2, 3], [4, 5], [])
    assert (first.lost, second.lost, third.lost) == (0, 0, 0)
    assert third.next == 5


def test_last_are_the_newest_that_match(world: FlowWorld) -> None:
    _happen(world, 1, 6)

    page = world.log.read(last=2, predicate=lambda flow: flow.event.source_port % 2 == 1)

    assert _ports(page) == [3, 5]
    assert page.next == 6


def test_last_none_says_only_where_the_log_is_now(world: FlowWorld) -> None:
    _happen(world, 1, 6)

    page = world.log.read(last=0, wait_s=30)

    assert (page.flows, page.next) == ((), 6)


def test_overwritten_flows_are_counted_as_lost(world: FlowWorld) -> None:
    _happen(world, 1, 3)
    position = world.log.read().next
    _happen(world, 4, 14)

    page = world.log.read(since=position)

    assert _ports(page) == list(range(7, 15))
    assert page.lost == 3


def test_more_than_fits_in_one_batch_is_lost_as_well(world: FlowWorld) -> None:
    _happen(world, 1, 20)

    page = world.log.read(since=0)

    assert _ports(page) == list(range(13, 21))
    assert (page.lost, page.next) == (12, 20)


def test_reports_that_the_kernel_could_not_make_are_lost(world: FlowWorld) -> None:
    _happen(world, 1, 1)
    position = world.log.read().next
    _happen(world, 2, 2, lost=100)
    _happen(world, 3, 3)

    page = world.log.read(since=position)

    assert _ports(page) == [2, 3]
    assert (page.lost, page.next) == (100, 103)
    assert world.log.lost == 100


def test_loss_alone_is_told_without_a_flow(world: FlowWorld) -> None:
    world.happen(lost=7)

    page = world.log.read(since=0)

    assert (page.flows, page.lost, page.next) == ((), 7, 7)


def test_who_asks_for_the_last_ones_is_told_what_is_missing_between_them(world: FlowWorld) -> None:
    _happen(world, 1, 2)
    _happen(world, 3, 3, lost=5)

    assert world.log.read(last=1).lost == 0
    assert world.log.read(last=2).lost == 5


def test_position_of_another_agent_begins_anew(world: FlowWorld) -> None:
    _happen(world, 1, 3)

    assert _ports(world.log.read(since=2, epoch=world.log.epoch)) == [3]
    assert _ports(world.log.read(since=2, epoch="of another life")) == [1, 2, 3]
    assert _ports(world.log.read(since=4711)) == [1, 2, 3]


def test_long_answers_are_cut_and_go_on_where_they_were_cut() -> None:
    with flow_world() as world:
        _happen(world, 1, PAGE_FLOWS + 5)

        first = world.log.read(since=0)
        second = world.log.read(since=first.next)

    assert (len(first.flows), first.more, first.next, first.lost) == (PAGE_FLOWS, True, PAGE_FLOWS, 0)
    assert (len(second.flows), second.more, second.lost) == (5, False, 0)


def test_time_is_that_of_the_packet(world: FlowWorld) -> None:
    # Taken 296 ms later, by a monotonic clock that began elsewhere.
    world.happen(an_event())

    (flow,) = world.log.read().flows

    assert flow.time_us == round(STARTED_S * 1e6) + 1_204_000


def test_a_reader_waits_for_the_next_flow(world: FlowWorld) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(world.log.read, since=0, wait_s=30)
        _happen(world, 1, 1)

        assert _ports(waiting.result(timeout=10)) == [1]


def test_a_reader_waits_for_a_flow_that_matches_and_counts_what_was_lost_meanwhile(world: FlowWorld) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(world.log.read, since=0, wait_s=30, predicate=lambda flow: flow.event.source_port == 3)
        _happen(world, 1, 1)
        _happen(world, 2, 2, lost=4)
        _happen(world, 3, 3)
        page = waiting.result(timeout=10)

    assert _ports(page) == [3]
    assert (page.next, page.lost) == (7, 4)


def test_waiting_ends_when_the_time_is_over(world: FlowWorld) -> None:
    assert world.log.read(since=0, wait_s=0.01).flows == ()


def test_waiting_ends_when_the_log_stops(world: FlowWorld) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(world.log.read, since=0, wait_s=60)
        world.log.stop()

        assert waiting.result(timeout=10).flows == ()


def test_too_many_waiting_readers_are_refused_and_others_are_not(world: FlowWorld) -> None:
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(world.log.read, since=0, wait_s=60) for _ in range(MAX_WAITING)]
        until("all wait", lambda: world.log._places._value == 0, timeout_s=10)  # type: ignore[attr-defined]

        with pytest.raises(Exhausted, match="16 requests wait for flows already"):
            world.log.read(since=0, wait_s=60)
        assert world.log.read(since=0).flows == ()
        _happen(world, 1, 1)

        assert [_ports(one.result(timeout=10)) for one in waiting] == [[1]] * MAX_WAITING
    assert _ports(world.log.read(since=0, wait_s=60)) == [1]


def test_the_thread_takes_what_the_kernel_reports(world: FlowWorld) -> None:
    world.kernel.reported.append(an_event(source_port=9))

    world.log.start()

    assert _ports(world.log.read(since=0, wait_s=30)) == [9]


@pytest.mark.parametrize("error", [DatapathError("the ring is gone"), RuntimeError("a fault")])
def test_the_thread_survives_an_error_and_says_it_meanwhile(
    world: FlowWorld, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(flow_ring, "_RETRY_S", 0.01)
    said: list[str | None] = []
    again = threading.Event()
    take = world.kernel.flow_events

    def fails_once() -> object:
        if not said:
            said.append(world.log.problem)
            raise error
        said.append(world.log.problem)
        again.set()
        return take()

    monkeypatch.setattr(world.kernel, "flow_events", fails_once)
    world.kernel.reported.append(an_event(source_port=9))

    world.log.start()

    assert again.wait(10)
    assert _ports(world.log.read(since=0, wait_s=30)) == [9]
    assert said[0] is None
    assert said[1] is not None
    assert said[1].startswith("flows cannot be")
    assert until("the problem is over", lambda: world.log.problem is None, timeout_s=10)


def test_policies_are_asked_once_for_a_batch_of_the_same(world: FlowWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Direction]] = []

    def selecting(identity: int, direction: Direction) -> tuple[str, ...]:
        asked.append((identity, direction))
        return ("deny-all",)

    monkeypatch.setattr(world.rules, "selecting", selecting)

    _happen(world, 1, 8)

    assert asked == [(1040, Direction.INGRESS)]
    assert world.log.read().flows[-1].selecting == ("deny-all",)


def test_stopping_twice_or_before_the_start_is_no_error() -> None:
    with flow_world() as world:
        world.log.stop()
        world.log.stop()
