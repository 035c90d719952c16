"""Keys under a lease that is kept, on both stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvstore.backoff import Backoff
from kvstore.lease import LeaseKeeper
from kvstore.memory import MemoryStore
from kvstore.store import Delete, EventKind, Put, Store, absent
from model.errors import StoreUnavailable


@pytest.fixture
def keeper(store: Store, prefix: str) -> Iterator[LeaseKeeper]:
    made = LeaseKeeper(store, {prefix + "a": b"1"}, ttl_s=3, backoff=Backoff(first_s=0.01))
    made.start()
    yield made
    made.stop()


def test_the_keys_are_put_under_a_lease(keeper: LeaseKeeper, store: Store, prefix: str) -> None:
    assert keeper.wait_kept(5)

    item = store.get(prefix + "a")
    assert item is not None
    assert item.value == b"1"
    assert item.lease is not None
    assert item.lease == keeper.lease


def test_stop_deletes_the_keys(keeper: LeaseKeeper, store: Store, prefix: str) -> None:
    assert keeper.wait_kept(5)
    keeper.stop()
    keeper.stop()

    assert () == store.list(prefix).items
    assert keeper.lease is None


def test_the_lease_outlives_its_time_because_it_is_renewed(keeper: LeaseKeeper, store: Store, prefix: str) -> None:
    assert keeper.wait_kept(5)
    lease = keeper.lease
    other = store.grant_lease(4)
    revision = store.txn([], [Put("/elsewhere" + prefix, b"", other)]).revision

    with store.watch("/elsewhere" + prefix, revision + 1) as watch:
        next(batch for batch in watch if batch.events)

    assert lease == keeper.lease
    assert store.get(prefix + "a") is not None


def test_a_lost_lease_is_replaced_and_the_keys_put_again(keeper: LeaseKeeper, store: Store, prefix: str) -> None:
    assert keeper.wait_kept(5)
    lease = keeper.lease
    assert lease is not None
    revision = store.list(prefix).revision

    with store.watch(prefix, revision + 1) as watch:
        store.revoke_lease(lease)
        kinds = []
        for batch in watch:
            kinds += [event.kind for event in batch.events]
            if len(kinds) == 2:
                break

    assert [EventKind.DELETE, EventKind.PUT] == kinds
    assert keeper.wait_kept(5)
    assert lease != keeper.lease


def test_a_key_deleted_by_another_is_put_again(keeper: LeaseKeeper, store: Store, prefix: str) -> None:
    assert keeper.wait_kept(5)
    with store.watch(prefix, store.list(prefix).revision + 1) as watch:
        store.txn([], [Delete(prefix + "a")])
        back = next(event for batch in watch for event in batch.events if event.kind is EventKind.PUT)

    assert back.item.key == prefix + "a"


def test_another_value_is_written_at_once(keeper: LeaseKeeper, store: Store, prefix: str) -> None:
    assert keeper.wait_kept(5)
    keeper.put(prefix + "b", b"2")
    keeper.put(prefix + "a", b"3")
    assert keeper.wait_kept(1)

    assert {prefix + "a": b"3", prefix + "b": b"2"} == {item.key: item.value for item in store.list(prefix).items}


def test_of_two_keepers_one_becomes_the_leader_and_the_other_follows(store: Store, prefix: str) -> None:
    one, two = LeaseKeeper(store, {}, ttl_s=3), LeaseKeeper(store, {}, ttl_s=3)
    one.start()
    two.start()
    assert one.wait_kept(5)
    assert two.wait_kept(5)

    assert store.txn([absent(prefix + "leader")], [Put(prefix + "leader", b"one", one.lease)]).succeeded
    lost = store.txn([absent(prefix + "leader")], [Put(prefix + "leader", b"two", two.lease)])
    one.stop()
    won = store.txn([absent(prefix + "leader")], [Put(prefix + "leader", b"two", two.lease)])
    two.stop()

    assert not lost.succeeded
    assert won.succeeded


def test_a_lease_that_may_have_ended_is_not_told_while_the_store_is_away() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0])
    keeper = LeaseKeeper(store, {"/a": b""}, ttl_s=30, clock=lambda: now[0])
    keeper.start()
    assert keeper.wait_kept(5)

    store.fail_with(StoreUnavailable("away"))
    now[0] = 29.0
    before = keeper.lease
    now[0] = 30.0
    after = keeper.lease
    keeper.stop()

    assert before is not None
    assert after is None


def test_the_keys_come_when_the_store_does() -> None:
    store = MemoryStore()
    store.fail_with(StoreUnavailable("away"))
    keeper = LeaseKeeper(store, {"/a": b""}, ttl_s=30, backoff=Backoff(first_s=0.01))
    keeper.start()
    assert not keeper.wait_kept(0.05)

    store.fail_with(None)

    assert keeper.wait_kept(5)
    keeper.stop()
    assert store.get("/a") is None
