"""What every Store must do; run against the memory and against a real etcd."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvstore.memory import MemoryStore
from kvstore.store import (
    Delete,
    Event,
    EventKind,
    KeyValue,
    LeaseId,
    Put,
    Store,
    WatchBatch,
    absent,
    unchanged,
)
from model.deadline import deadline
from model.errors import Compacted, DeadlineExceeded, InvalidInput, NotFound, StoreUnavailable
from tests.support.etcd import EtcdServer


def put(store: Store, key: str, value: bytes = b"v", lease: LeaseId | None = None) -> int:
    return store.txn([], [Put(key, value, lease)]).revision


def take(watch: Iterator[WatchBatch], count: int) -> list[Event]:
    events: list[Event] = []
    while len(events) < count:
        events += next(watch).events
    return events


def compact(store: Store, request: pytest.FixtureRequest) -> None:
    if isinstance(store, MemoryStore):
        store.compact()
    else:
        server: EtcdServer = request.getfixturevalue("etcd")
        server.compact()


def test_a_missing_key_is_none(store: Store, prefix: str) -> None:
    assert store.get(prefix + "a") is None


def test_a_key_is_read_as_it_was_written(store: Store, prefix: str) -> None:
    first = put(store, prefix + "a", b"1")
    second = put(store, prefix + "a", b"\x00\xff")

    assert KeyValue(prefix + "a", b"\x00\xff", second, first) == store.get(prefix + "a")
    assert second > first


def test_a_list_is_sorted_and_keeps_to_its_prefix(store: Store, prefix: str) -> None:
    for name in ("b/2", "b/10", "b/1", "c", "b", "b0"):
        put(store, prefix + name)

    snapshot = store.list(prefix + "b/")

    assert [prefix + "b/1", prefix + "b/10", prefix + "b/2"] == [item.key for item in snapshot.items]
    assert snapshot.revision >= max(item.mod_revision for item in snapshot.items)


def test_a_list_of_nothing_has_a_revision(store: Store, prefix: str) -> None:
    snapshot = store.list(prefix)

    assert () == snapshot.items
    assert snapshot.revision >= 1


def test_the_newest_of_many_is_found_without_reading_them(store: Store, prefix: str) -> None:
    assert store.newest(prefix).count == 0
    assert store.newest(prefix).item is None
    for name in ("b/2", "b/10", "b/1", "c", "b"):
        put(store, prefix + name, b"value")
    created = store.get(prefix + "b/10")
    assert created is not None
    again = put(store, prefix + "b/10", b"other")
    elsewhere = put(store, prefix + "c")

    newest = store.newest(prefix + "b/")

    assert newest.count == 3
    assert newest.item == KeyValue(prefix + "b/10", b"", again, created.create_revision)
    assert newest.revision >= elsewhere
    store.txn([], [Delete(prefix + "b/10")])
    left = store.newest(prefix + "b/")
    assert left.count == 2
    assert left.item is not None
    assert left.item.key == prefix + "b/1"


def test_a_key_with_any_letters_is_kept(store: Store, prefix: str) -> None:
    put(store, prefix + "größe/日本")

    assert [prefix + "größe/日本"] == [item.key for item in store.list(prefix).items]


def test_create_succeeds_once(store: Store, prefix: str) -> None:
    first = store.txn([absent(prefix + "a")], [Put(prefix + "a", b"1")])
    second = store.txn([absent(prefix + "a")], [Put(prefix + "a", b"2")])

    assert first.succeeded
    assert () == first.current
    assert not second.succeeded
    assert (KeyValue(prefix + "a", b"1", first.revision, first.revision),) == second.current
    assert first.revision == second.revision


def test_a_swap_needs_the_revision_that_was_read(store: Store, prefix: str) -> None:
    put(store, prefix + "a", b"1")
    read = store.get(prefix + "a")
    assert read is not None

    assert store.txn([unchanged(read)], [Put(prefix + "a", b"2")]).succeeded
    assert not store.txn([unchanged(read)], [Put(prefix + "a", b"3")]).succeeded
    now = store.get(prefix + "a")
    assert now is not None
    assert now.value == b"2"


def test_a_failed_transaction_writes_nothing_and_shows_the_compared_keys_in_order(store: Store, prefix: str) -> None:
    put(store, prefix + "b", b"1")

    result = store.txn(
        [absent(prefix + "a"), absent(prefix + "b"), absent(prefix + "c")],
        [Put(prefix + "a", b"2"), Delete(prefix + "b")],
    )

    assert not result.succeeded
    assert [None, b"1", None] == [item.value if item else None for item in result.current]
    assert store.get(prefix + "a") is None
    assert store.get(prefix + "b") is not None


def test_all_operations_of_a_transaction_have_one_revision(store: Store, prefix: str) -> None:
    put(store, prefix + "c")

    result = store.txn([], [Put(prefix + "a", b"1"), Put(prefix + "b", b"2"), Delete(prefix + "c")])

    assert {(prefix + "a", result.revision), (prefix + "b", result.revision)} == {
        (item.key, item.mod_revision) for item in store.list(prefix).items
    }


def test_a_transaction_that_changes_nothing_makes_no_revision(store: Store, prefix: str) -> None:
    before = put(store, prefix + "a")

    result = store.txn([], [Delete(prefix + "b")])
    empty = store.txn([], [])

    assert result.succeeded
    assert before == result.revision == empty.revision


def test_a_key_written_again_after_deletion_is_a_new_one(store: Store, prefix: str) -> None:
    put(store, prefix + "a")
    old = store.get(prefix + "a")
    assert old is not None
    store.txn([], [Delete(prefix + "a")])
    again = put(store, prefix + "a")

    new = store.get(prefix + "a")
    assert new is not None
    assert again == new.create_revision == new.mod_revision
    assert not store.txn([unchanged(old)], [Delete(prefix + "a")]).succeeded


def test_a_key_twice_in_one_transaction_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        store.txn([], [Put(prefix + "a", b"1"), Delete(prefix + "a")])


def test_of_many_writers_one_wins(store: Store, prefix: str) -> None:
    def create(number: int) -> bool:
        return store.txn([absent(prefix + "a")], [Put(prefix + "a", str(number).encode())]).succeeded

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(create, range(64)))

    assert outcomes.count(True) == 1
    winner = store.get(prefix + "a")
    assert winner is not None
    assert str(outcomes.index(True)).encode() == winner.value


def test_a_counter_by_compare_and_swap_counts_right(store: Store, prefix: str) -> None:
    put(store, prefix + "n", b"0")

    def increment(_: int) -> None:
        current = store.get(prefix + "n")
        while current is not None:
            value = str(int(current.value) + 1).encode()
            result = store.txn([unchanged(current)], [Put(prefix + "n", value)])
            if result.succeeded:
                return
            current = result.current[0]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(40)))

    final = store.get(prefix + "n")
    assert final is not None
    assert final.value == b"40"


def test_a_watch_delivers_history_then_the_present(store: Store, prefix: str) -> None:
    start = store.list(prefix).revision + 1
    first = put(store, prefix + "a", b"1")
    with store.watch(prefix, start) as watch:
        batches = iter(watch)
        second = put(store, prefix + "a", b"2")
        third = store.txn([], [Delete(prefix + "a")]).revision

        events = take(batches, 3)

    assert [
        Event(EventKind.PUT, KeyValue(prefix + "a", b"1", first, first)),
        Event(EventKind.PUT, KeyValue(prefix + "a", b"2", second, first)),
        Event(EventKind.DELETE, KeyValue(prefix + "a", b"", third, 0)),
    ] == events


def test_a_watch_begins_at_its_revision(store: Store, prefix: str) -> None:
    put(store, prefix + "a", b"1")
    second = put(store, prefix + "a", b"2")

    with store.watch(prefix, second) as watch:
        events = take(iter(watch), 1)

    assert [b"2"] == [event.item.value for event in events]


def test_a_watch_keeps_to_its_prefix(store: Store, prefix: str) -> None:
    start = store.list(prefix).revision + 1
    with store.watch(prefix + "b/", start) as watch:
        put(store, prefix + "a")
        put(store, prefix + "b")
        put(store, prefix + "b0")
        last = put(store, prefix + "b/1")

        batch = next(batch for batch in watch if batch.events)

    assert [prefix + "b/1"] == [event.item.key for event in batch.events]
    assert last == batch.revision


def test_a_batch_holds_whole_revisions(store: Store, prefix: str) -> None:
    start = store.list(prefix).revision + 1
    revision = store.txn([], [Put(f"{prefix}{number}", b"") for number in range(100)]).revision
    with store.watch(prefix, start) as watch:
        batch = next(batch for batch in watch if batch.events)

    assert len(batch.events) == 100
    assert revision == batch.revision


def test_a_watch_delivers_thousands_of_revisions_in_order(store: Store, prefix: str) -> None:
    start = store.list(prefix).revision + 1
    with ThreadPoolExecutor(8) as pool:
        revisions = sorted(pool.map(lambda number: put(store, f"{prefix}{number}"), range(2500)))

    with store.watch(prefix, start) as watch:
        seen: list[int] = []
        for batch in watch:
            seen += [event.item.mod_revision for event in batch.events]
            assert seen[-1] <= batch.revision
            if len(seen) >= len(revisions):
                break

    assert revisions == seen


def test_cancelling_ends_an_iteration_that_waits(store: Store, prefix: str) -> None:
    watch = store.watch(prefix, store.list(prefix).revision + 1)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: list(watch))
        put(store, "/elsewhere" + prefix)
        watch.cancel()
        watch.cancel()

        assert [] == ended.result(5)


def test_two_watches_see_the_same(store: Store, prefix: str) -> None:
    start = store.list(prefix).revision + 1
    with store.watch(prefix, start) as one, store.watch(prefix, start) as two:
        for number in range(10):
            put(store, f"{prefix}{number}")

        assert take(iter(one), 10) == take(iter(two), 10)


def test_closing_the_store_ends_its_watches(store: Store, prefix: str) -> None:
    watch = store.watch(prefix, store.list(prefix).revision + 1)
    started = threading.Event()

    def follow() -> list[WatchBatch]:
        started.set()
        return list(watch)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(follow)
        assert started.wait(5)
        store.close()
        store.close()

        assert [] == ended.result(5)
    with pytest.raises(StoreUnavailable, match="closed"):
        store.get(prefix)
    assert not store.status().healthy


def test_a_watch_of_a_compacted_revision_is_told_so(store: Store, prefix: str, request: pytest.FixtureRequest) -> None:
    first = put(store, prefix + "a", b"1")
    put(store, prefix + "a", b"2")
    compact(store, request)

    with store.watch(prefix, first) as watch, pytest.raises(Compacted):
        next(iter(watch))


def test_a_deletion_at_the_compacted_revision_is_not_lost_in_silence(
    store: Store, prefix: str, request: pytest.FixtureRequest
) -> None:
    put(store, prefix + "a")
    snapshot = store.list(prefix)
    store.txn([], [Delete(prefix + "a")])
    compact(store, request)

    with store.watch(prefix, snapshot.revision + 1) as watch, pytest.raises(Compacted):
        next(iter(watch))


def test_a_watch_after_the_compacted_revision_works(store: Store, prefix: str, request: pytest.FixtureRequest) -> None:
    put(store, prefix + "a")
    snapshot = store.list(prefix)
    compact(store, request)

    with store.watch(prefix, snapshot.revision + 1) as watch:
        last = put(store, prefix + "b")

        assert [last] == [event.item.mod_revision for event in take(iter(watch), 1)]


def test_compaction_does_not_end_a_watch_that_is_up_to_date(
    store: Store, prefix: str, request: pytest.FixtureRequest
) -> None:
    with store.watch(prefix, store.list(prefix).revision + 1) as watch:
        batches = iter(watch)
        put(store, prefix + "a", b"1")
        take(batches, 1)
        compact(store, request)
        put(store, prefix + "a", b"2")

        assert [b"2"] == [event.item.value for event in take(batches, 1)]


def test_a_watch_beyond_what_the_store_has_is_refused(store: Store, prefix: str) -> None:
    revision = store.list(prefix).revision

    with store.watch(prefix, revision + 1000) as watch, pytest.raises(StoreUnavailable, match="behind"):
        next(iter(watch))


def test_a_watch_from_revision_zero_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(InvalidInput, match=r"snapshot\.revision \+ 1"):
        store.watch(prefix, 0)


def test_revoking_a_lease_deletes_its_keys_in_one_revision(store: Store, prefix: str) -> None:
    lease = store.grant_lease(30)
    put(store, prefix + "a", lease=lease)
    put(store, prefix + "b", lease=lease)
    last = put(store, prefix + "c")
    held = store.get(prefix + "a")
    assert held is not None
    assert lease == held.lease

    with store.watch(prefix, last + 1) as watch:
        store.revoke_lease(lease)
        store.revoke_lease(lease)
        events = take(iter(watch), 2)

    assert [prefix + "c"] == [item.key for item in store.list(prefix).items]
    assert {(EventKind.DELETE, last + 1)} == {(event.kind, event.item.mod_revision) for event in events}


def test_a_lease_that_is_not_renewed_ends_and_its_key_goes(store: Store, prefix: str) -> None:
    lease = store.grant_lease(1)
    revision = put(store, prefix + "a", lease=lease)

    with store.watch(prefix, revision + 1) as watch:
        events = take(iter(watch), 1)

    assert [EventKind.DELETE] == [event.kind for event in events]
    assert not store.renew_lease(lease)


def test_a_renewed_lease_lives(store: Store, prefix: str) -> None:
    lease = store.grant_lease(30)
    put(store, prefix + "a", lease=lease)

    assert store.renew_lease(lease)
    assert store.get(prefix + "a") is not None
    store.revoke_lease(lease)
    assert not store.renew_lease(lease)


def test_a_put_without_the_lease_takes_the_key_out_of_it(store: Store, prefix: str) -> None:
    lease = store.grant_lease(30)
    put(store, prefix + "a", b"1", lease=lease)
    put(store, prefix + "a", b"2")

    store.revoke_lease(lease)

    kept = store.get(prefix + "a")
    assert kept is not None
    assert kept.lease is None


def test_a_put_with_a_lease_that_is_gone_is_refused_and_nothing_is_written(store: Store, prefix: str) -> None:
    lease = store.grant_lease(30)
    store.revoke_lease(lease)

    with pytest.raises(NotFound, match="lease"):
        store.txn([], [Put(prefix + "a", b""), Put(prefix + "b", b"", lease)])

    assert () == store.list(prefix).items


def test_a_call_after_the_deadline_is_not_made(store: Store, prefix: str) -> None:
    with deadline(0), pytest.raises(DeadlineExceeded):
        store.txn([], [Put(prefix + "a", b"")])

    assert store.get(prefix + "a") is None


def test_the_status_tells_revision_and_size(store: Store, prefix: str) -> None:
    revision = put(store, prefix + "a")

    status = store.status()

    assert status.healthy
    assert revision == status.revision
    assert status.db_size_bytes
    assert status.endpoints
    assert status.detail
