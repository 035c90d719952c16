"""The resyncing view, on a store in memory and on a real etcd that is killed, compacted and wiped under it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.etcd import EtcdStore
from kvstore.memory import MemoryStore
from kvstore.store import Delete, KeyValue, Op, Put, Store, unchanged
from kvstore.watcher import Change, View
from model.errors import InvalidInput, StoreUnavailable
from tests.support.etcd import EtcdServer
from tests.support.wait import until

QUICK = Backoff(first_s=0.01, limit_s=0.1)
WAIT_S = 20.0


class World(Protocol):
    """A store and the bad days it can have."""

    store: Store

    def break_watches(self) -> None: ...
    def compact(self) -> None: ...
    def go_away(self) -> None: ...
    def come_back(self) -> None: ...
    def lose_everything(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.store: Store = self.memory

    def break_watches(self) -> None:
        self.memory.break_watches()

    def compact(self) -> None:
        self.memory.compact()

    def go_away(self) -> None:
        self.memory.fail_with(StoreUnavailable("away"))
        self.memory.break_watches()

    def come_back(self) -> None:
        self.memory.fail_with(None)

    def lose_everything(self) -> None:
        self.memory.lose_everything()


class EtcdWorld:
    def __init__(self, server: EtcdServer) -> None:
        self.server = server
        self.store: Store = EtcdStore(server.config)

    def break_watches(self) -> None:
        self.server.kill()
        self.server.start()

    def compact(self) -> None:
        self.server.compact()

    def go_away(self) -> None:
        self.server.kill()

    def come_back(self) -> None:
        self.server.start()

    def lose_everything(self) -> None:
        self.server.kill()
        self.server.wipe()
        self.server.start()


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    with EtcdServer(tmp_path) as server:
        made = EtcdWorld(server)
        yield made
        made.store.close()


class Told:
    """A subscriber: what a faithful one believes, and a check that no change is told twice or out of nothing."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.state: dict[str, str] = {}
        self.changes: list[Change[str]] = []
        self.wrong: list[Change[str]] = []

    def __call__(self, changes: Sequence[Change[str]]) -> None:
        with self.changed:
            for change in changes:
                self.changes.append(change)
                if self.state.get(change.key) != change.old or change.old == change.new:
                    self.wrong.append(change)
                if change.new is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.new
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, WAIT_S)


def text(item: KeyValue) -> str:
    value = item.value.decode()
    if value.startswith("!"):
        raise InvalidInput(f"{item.key} is broken")
    return value


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def view(world: World, told: Told) -> Iterator[View[str]]:
    made = View(world.store, "/v/", text, backoff=QUICK)
    made.subscribe(told)
    yield made
    made.stop()


def write(world: World, *ops: Op) -> int:
    return world.store.txn([], ops).revision


def values(view: View[str]) -> dict[str, str]:
    return {key: entry.value for key, entry in view.items().items()}


def follows_again(view: View[str], world: World) -> bool:
    """Write a mark and see it come through."""
    revision = write(world, Put("/v/mark", str(random.random()).encode()))
    return view.wait_delivered(revision, WAIT_S) and view.wait_synced(WAIT_S)


def test_the_snapshot_is_told_and_readable(world: World, view: View[str], told: Told) -> None:
    revision = write(world, Put("/v/a", b"1"), Put("/v/b", b"2"), Put("/w/a", b"3"))
    view.start()

    assert view.wait_delivered(revision, WAIT_S)
    assert view.wait_synced(WAIT_S)
    assert {"/v/a": "1", "/v/b": "2"} == values(view) == told.state
    entry = view.get("/v/a")
    assert entry is not None
    assert revision == entry.item.mod_revision
    assert view.get("/w/a") is None
    assert view.resyncs == 0


def test_a_view_without_bytes_knows_values_and_revisions(world: World) -> None:
    view = View(world.store, "/v/", text, backoff=QUICK, keep_bytes=False)
    told: list[Change[str]] = []
    view.subscribe(told.extend)
    revision = write(world, Put("/v/a", b"1"), Put("/v/b", b"2"))
    view.start()
    try:
        assert view.wait_delivered(revision, WAIT_S)
        entry = view.get("/v/a")
        assert entry is not None
        assert ("1", b"", revision) == (entry.value, entry.item.value, entry.item.mod_revision)
        assert encode("1") == entry.whole_item().value
        assert world.store.txn([unchanged(entry.item)], [Put("/v/b", b"3")]).succeeded

        world.break_watches()
        assert follows_again(view, world)
        assert {"/v/a": "1", "/v/b": "3"} == {key: value for key, value in values(view).items() if key != "/v/mark"}
        assert 1 == sum(change.key == "/v/a" for change in told)
    finally:
        view.stop()


def test_a_write_of_ones_own_is_read(world: World, view: View[str], told: Told) -> None:
    view.start()
    for number in range(20):
        revision = write(world, Put("/v/a", str(number).encode()))

        assert view.wait_delivered(revision, WAIT_S)
        entry = view.get("/v/a")
        assert entry is not None
        assert str(number) == entry.value == told.state["/v/a"]
    assert [] == told.wrong


def test_a_revision_elsewhere_can_be_waited_for(world: World, view: View[str]) -> None:
    view.start()
    write(world, Put("/v/a", b"1"))
    revision = write(world, Put("/w/a", b"1"))

    assert view.wait_revision(revision, WAIT_S)
    assert {"/v/a": "1"} == values(view)
    later = write(world, Delete("/v/a"))
    assert view.wait_revision(later, WAIT_S)
    assert {} == values(view)


def test_a_revision_elsewhere_is_waited_for_without_reading_all(world: World, view: View[str]) -> None:
    view.start()
    write(world, *(Put(f"/v/{number}", b"!" if number % 3 else b"1") for number in range(30)))
    write(world, Delete("/v/7"), Put("/v/8", b"2"))
    assert view.wait_synced(WAIT_S)

    def refuse(prefix: str) -> NoReturn:
        raise AssertionError(f"all of {prefix} is read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.store, "list", refuse)
        for _ in range(3):
            assert view.wait_revision(write(world, Put("/w/a", b"1")), WAIT_S)


@pytest.mark.parametrize("hidden", [Put("/v/b", b"1"), Put("/v/a", b"2"), Delete("/v/a")], ids=repr)
def test_a_revision_is_not_visible_before_what_is_below_it(world: World, view: View[str], hidden: Op) -> None:
    """While events are held up, what the store says of itself must not make a revision look as if it were here."""
    view.start()
    assert view.wait_delivered(write(world, Put("/v/a", b"1")), WAIT_S)
    held = threading.Event()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "_apply", lambda batch: (held.wait(WAIT_S), View._apply(view, batch)))
        write(world, hidden)
        later = write(world, Put("/w/a", b"1"))

        assert not view.wait_revision(later, 0.5)
        held.set()
        assert view.wait_revision(later, WAIT_S)


def test_a_revision_that_does_not_come_is_waited_for_in_vain(world: World, view: View[str]) -> None:
    view.start()
    assert view.wait_synced(WAIT_S)

    assert not view.wait_revision(view.revision + 1, 0.2)
    assert not view.wait_delivered(view.revision + 1, 0.01)


def test_a_broken_value_is_absent_and_logged_once(
    world: World, view: View[str], told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    revision = write(world, Put("/v/a", b"1"), Put("/v/b", b"!"))
    view.start()
    assert view.wait_delivered(revision, WAIT_S)
    broken = write(world, Put("/v/a", b"!"))
    assert view.wait_delivered(broken, WAIT_S)

    assert {} == values(view) == told.state
    world.break_watches()
    assert follows_again(view, world)
    logged = [vars(record) for record in caplog.records if "cannot be read" in record.message]
    assert [("/v/b", revision), ("/v/a", broken)] == [(record["key"], record["revision"]) for record in logged]

    mended = write(world, Put("/v/a", b"2"))
    assert view.wait_delivered(mended, WAIT_S)
    assert told.state["/v/a"] == "2"
    assert [] == told.wrong


def test_changes_during_an_outage_are_told_as_the_difference(world: World, view: View[str], told: Told) -> None:
    revision = write(world, Put("/v/same", b"1"), Put("/v/gone", b"1"), Put("/v/other", b"1"))
    view.start()
    assert view.wait_delivered(revision, WAIT_S)
    before = len(told.changes)

    world.break_watches()
    revision = write(world, Delete("/v/gone"), Put("/v/other", b"2"), Put("/v/new", b"1"))
    assert view.wait_delivered(revision, WAIT_S)

    expected = {Change("/v/gone", "1", None), Change("/v/other", "1", "2"), Change("/v/new", None, "1")}
    assert expected == set(told.changes[before:])
    assert view.resyncs >= 1
    assert [] == told.wrong


def test_a_store_that_is_away_leaves_what_was_known(world: World, view: View[str], told: Told) -> None:
    view.start()
    assert view.wait_delivered(write(world, Put("/v/a", b"1")), WAIT_S)
    assert view.wait_synced(WAIT_S)

    world.go_away()
    with view._changed:
        assert view._changed.wait_for(lambda: not view._synced, WAIT_S)
    assert {"/v/a": "1"} == values(view)
    world.come_back()

    assert follows_again(view, world)
    assert [] == told.wrong


def test_a_store_that_is_absent_at_start_is_waited_for(world: World, view: View[str], told: Told) -> None:
    write(world, Put("/v/a", b"1"))
    world.go_away()
    view.start()
    assert not view.wait_synced(0.1)
    world.come_back()

    assert view.wait_synced(WAIT_S)
    assert told.wait(lambda: told.state == {"/v/a": "1"})


def test_compaction_while_the_watch_is_broken_loses_nothing(world: World, view: View[str], told: Told) -> None:
    view.start()
    revision = write(world, Put("/v/a", b"1"), Put("/v/b", b"1"))
    assert view.wait_delivered(revision, WAIT_S)

    world.break_watches()
    write(world, Delete("/v/a"))
    write(world, Put("/v/c", b"1"))
    revision = write(world, Delete("/v/c"))
    world.compact()

    assert view.wait_delivered(revision, WAIT_S)
    assert {"/v/b": "1"} == values(view) == told.state
    assert [] == told.wrong


def test_compaction_under_a_running_view_is_not_noticed(world: World, view: View[str], told: Told) -> None:
    view.start()
    assert view.wait_delivered(write(world, Put("/v/a", b"1")), WAIT_S)
    assert view.wait_synced(WAIT_S)
    world.compact()

    assert view.wait_delivered(write(world, Put("/v/a", b"2")), WAIT_S)
    assert {"/v/a": "2"} == told.state


def test_an_empty_cluster_at_the_same_address_is_noticed(world: World, view: View[str], told: Told) -> None:
    view.start()
    revision = max(write(world, Put(f"/v/{number}", b"1")) for number in range(10))
    assert view.wait_delivered(revision, WAIT_S)

    world.lose_everything()
    write(world, Put("/v/3", b"1"), Put("/v/4", b"2"))

    assert told.wait(lambda: told.state == {"/v/3": "1", "/v/4": "2"})
    assert view.revision < revision
    assert [] == told.wrong


def test_a_subscriber_that_raises_gets_its_changes_again_and_disturbs_nobody(
    world: World, view: View[str], told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    faithful = Told()
    failures = iter(range(3))

    def fragile(changes: Sequence[Change[str]]) -> None:
        for _ in failures:
            raise RuntimeError("not now")
        faithful(changes)

    view.subscribe(fragile)
    view.start()
    revision = write(world, Put("/v/a", b"1"))

    assert view.wait_delivered(revision, WAIT_S)
    assert {"/v/a": "1"} == told.state == faithful.state
    assert [] == told.wrong + faithful.wrong
    assert view.resyncs == 0
    record = next(record for record in caplog.records if "a subscriber failed" in record.message)
    assert vars(record)["keys"] == ["/v/a"]
    assert record.exc_info


def test_changes_wait_for_a_slow_subscriber_and_are_merged(world: World, view: View[str]) -> None:
    entered, leave = threading.Event(), threading.Event()
    batches: list[Sequence[Change[str]]] = []

    def slow(changes: Sequence[Change[str]]) -> None:
        batches.append(changes)
        entered.set()
        leave.wait(WAIT_S)

    view.subscribe(slow)
    view.start()
    write(world, Put("/v/a", b"1"))
    assert entered.wait(WAIT_S)
    for number in range(2, 10):
        write(world, Put("/v/a", str(number).encode()), Put("/v/b", b"1"))
    revision = write(world, Delete("/v/b"))
    assert view.wait_revision(revision, WAIT_S)
    leave.set()

    assert view.wait_delivered(revision, WAIT_S)
    assert [(Change("/v/a", None, "1"),), (Change("/v/a", "1", "9"),)] == batches


def test_a_value_written_again_unchanged_is_not_told(world: World, view: View[str], told: Told) -> None:
    view.start()
    write(world, Put("/v/a", b"1"))
    revision = write(world, Put("/v/a", b"1"))

    assert view.wait_delivered(revision, WAIT_S)
    assert [Change("/v/a", None, "1")] == told.changes
    entry = view.get("/v/a")
    assert entry is not None
    assert revision == entry.item.mod_revision


def test_every_write_is_told_of_also_one_that_came_to_nothing(world: World, view: View[str]) -> None:
    first = write(world, Put("/v/a", b"1"))
    seen: list[tuple[int, int]] = []
    view.subscribe_writes(lambda: seen.append((view.revision, view.written_revision)))
    view.start()
    assert view.wait_synced(WAIT_S)
    assert [first] == [written for _, written in seen]

    for op in (Put("/v/a", b"1"), Put("/v/a", b"!"), Put("/v/b", b"1"), Delete("/v/b")):
        revision = write(world, op)
        until("the write is told of", lambda at=revision: seen[-1] >= (at, at), timeout_s=WAIT_S)
        assert revision == view.written_revision
    told = len(seen)
    world.break_watches()
    until("the new snapshot is told of", lambda: len(seen) > told, timeout_s=WAIT_S)

    assert revision == view.written_revision


def test_stop_is_prompt_and_what_was_known_stays(world: World, view: View[str]) -> None:
    view.start()
    assert view.wait_revision(write(world, Put("/v/a", b"1")), WAIT_S)

    view.stop()
    view.stop()

    assert not view._thread.is_alive()
    assert not view._delivery._thread.is_alive()
    assert {"/v/a": "1"} == values(view)


def test_a_view_that_was_never_started_can_be_stopped(view: View[str]) -> None:
    view.stop()

    assert not view.synced


def test_nothing_is_lost_or_told_twice_when_watches_break_under_load(world: World, view: View[str], told: Told) -> None:
    view.start()
    assert view.wait_synced(WAIT_S)
    written = threading.Semaphore(0)

    def churn(seed: int) -> None:
        rng = random.Random(seed)
        for number in range(300):
            key = f"/v/{rng.randrange(30)}"
            op = Delete(key) if rng.random() < 0.3 else Put(key, f"{seed}.{number}".encode())
            try:
                world.store.txn([], [op])
            except StoreUnavailable:
                continue
            finally:
                written.release()

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(churn, seed) for seed in range(4)]
        for _ in range(3):
            for _ in range(200):
                assert written.acquire(timeout=WAIT_S)
            world.break_watches()
        for writer in writers:
            writer.result()

    world.compact()
    revision = write(world, Put("/v/last", b""))
    assert view.wait_delivered(revision, WAIT_S)
    stored = {item.key: item.value.decode() for item in world.store.list("/v/").items}
    assert stored == values(view) == told.state
    assert view.resyncs >= 1
    assert [] == told.wrong
