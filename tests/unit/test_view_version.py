"""A view has another version whenever it shows something else, even of another store at the same revision."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Self, cast

from kvstore.backoff import Backoff
from kvstore.store import Event, EventKind, KeyValue, Snapshot, WatchBatch
from kvstore.watcher import View
from model.errors import StoreUnavailable
from tests.support.wait import until

REVISION = 5
WAIT_S = 10


def snapshot(value: bytes) -> Snapshot:
    return Snapshot((KeyValue("/v/a", value, REVISION, REVISION, None),), REVISION)


class Replaced:
    """A store that is made anew from a backup, and written to until it has the revision that it had."""

    def __init__(self) -> None:
        self.snapshots = [snapshot(b"before"), snapshot(b"after")]
        self.batches: list[WatchBatch] = []
        self.go_on = threading.Event()

    def list(self, _prefix: str) -> Snapshot:
        return self.snapshots.pop(0)

    def watch(self, _prefix: str, _revision: int) -> Replaced:
        return self

    def cancel(self) -> None:
        self.go_on.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[WatchBatch]:
        assert self.go_on.wait(WAIT_S)
        self.go_on.clear()
        while self.batches:
            yield self.batches.pop(0)
        raise StoreUnavailable("made anew")


def a_view(store: Replaced) -> View[bytes]:
    return View(cast("Any", store), "/v/", lambda item: item.value, backoff=Backoff(first_s=0.01, limit_s=0.02))


def test_other_content_at_the_same_revision_is_another_version() -> None:
    store = Replaced()
    view = a_view(store)
    view.start()
    assert view.wait_synced(WAIT_S)
    before = view.version

    store.go_on.set()
    until("the new store is read", lambda: view.items()["/v/a"].value == b"after", timeout_s=WAIT_S)

    assert view.revision == REVISION
    assert view.version != before
    view.stop()


def test_same_content_again_is_the_same_version() -> None:
    store = Replaced()
    store.snapshots = [snapshot(b"before"), snapshot(b"before"), snapshot(b"before")]
    gone = Event(EventKind.DELETE, KeyValue("/v/unknown", b"", REVISION + 1, 0, None))
    store.batches = [WatchBatch((gone,), REVISION + 1)]
    view = a_view(store)
    view.start()
    assert view.wait_synced(WAIT_S)
    before = view.version

    store.go_on.set()
    until("it is read again", lambda: view.resyncs and view.synced, timeout_s=WAIT_S)

    assert view.version == before
    view.stop()
