"""The controls of the store in memory; what it shares with etcd is in tests/contract/test_store.py."""

from __future__ import annotations

import pytest

from kvstore.memory import MemoryStore
from kvstore.store import Event, EventKind, KeyValue, Put, WatchBatch
from model.errors import Compacted, StoreError, StoreUnavailable


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def put(store: MemoryStore, key: str) -> int:
    return store.txn([], [Put(key, b"")]).revision


def test_every_call_fails_with_the_error_until_it_is_taken_back(store: MemoryStore) -> None:
    lease = store.grant_lease(10)
    store.fail_with(StoreUnavailable("away"))

    for call in (
        lambda: store.get("/a"),
        lambda: store.list("/"),
        lambda: store.txn([], []),
        lambda: store.watch("/", 1),
        lambda: store.grant_lease(1),
        lambda: store.renew_lease(lease),
        lambda: store.revoke_lease(lease),
    ):
        with pytest.raises(StoreUnavailable, match="away"):
            call()
    assert store.status().detail == "away"
    assert not store.status().healthy

    store.fail_with(None)
    assert store.get("/a") is None
    assert store.status().healthy


def test_running_watches_go_on_when_calls_fail(store: MemoryStore) -> None:
    watch = store.watch("/", 1)
    store.fail_with(StoreUnavailable("away"))
    store.report_progress()

    assert WatchBatch((), 1) == next(iter(watch))


@pytest.mark.parametrize("error", [None, Compacted("gone")], ids=str)
def test_a_broken_watch_delivers_what_was_written_and_then_its_error(
    store: MemoryStore, error: StoreError | None
) -> None:
    watch = store.watch("/", 1)
    revision = put(store, "/a")
    store.break_watches(error)
    put(store, "/b")

    batches = iter(watch)
    assert WatchBatch((Event(EventKind.PUT, KeyValue("/a", b"", revision, revision)),), revision) == next(batches)
    with pytest.raises(type(error) if error else StoreUnavailable):
        next(batches)


def test_a_lease_ends_by_the_injected_clock() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0])
    lease = store.grant_lease(10)
    store.txn([], [Put("/a", b"", lease)])
    watch = store.watch("/", store.list("/").revision + 1)

    now[0] = 9.0
    assert store.renew_lease(lease)
    now[0] = 18.9
    assert store.get("/a") is not None
    now[0] = 19.0
    store.expire_leases()

    batch = next(iter(watch))
    assert [(EventKind.DELETE, "/a")] == [(event.kind, event.item.key) for event in batch.events]
    assert not store.renew_lease(lease)


def test_only_the_history_up_to_the_compacted_revision_is_gone(store: MemoryStore) -> None:
    first, second = put(store, "/a"), put(store, "/a")
    store.compact(first)

    with store.watch("/", first) as watch, pytest.raises(Compacted):
        next(iter(watch))
    with store.watch("/", second) as watch:
        assert next(iter(watch)).revision == second


def test_a_store_that_lost_everything_is_a_new_one(store: MemoryStore) -> None:
    lease = store.grant_lease(10)
    put(store, "/a")
    watch = store.watch("/", 1)
    next(iter(watch))

    store.lose_everything()

    with pytest.raises(StoreUnavailable):
        next(iter(watch))
    assert store.list("/") == MemoryStore().list("/")
    assert not store.renew_lease(lease)
