"""One watch on one member of etcd: a gRPC stream of its own, so that nothing is shared between watches.

1. The watch begins one revision early and leaves that revision out. Debian's etcd (3.4.23) forgets a deletion at the
   very revision it compacts to, and lets a watch begin there without a word; begun one earlier, that is Compacted.
2. ``header.revision`` of a batch is the store's, which may be ahead of events still to come; the revision of a batch is
   that of its last event. Only a progress notification, sent to a watch that is up to date, counts with the header's.
3. Progress is not asked for: the answer to a request overtakes events there.

Source: https://github.com/etcd-io/etcd/issues/18089 (1), https://github.com/etcd-io/etcd/issues/15220 (3).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

import grpc
from pyetcd import etcdrpc
from pyetcd.etcdrpc import kv_pb2

from kvstore.etcd_members import NEEDS_LEADER, EtcdMembers
from kvstore.store import Event, EventKind, KeyValue, LeaseId, WatchBatch
from model.errors import Compacted, HawseError, StoreUnavailable

_TEXT_ERRORS: Final = "backslashreplace"


def key_value(raw: Any) -> KeyValue:
    """Translate a key from etcd's message; a key that is no UTF-8 is not hawse's and only has to be printable."""
    return KeyValue(
        key=raw.key.decode(errors=_TEXT_ERRORS),
        value=raw.value,
        mod_revision=raw.mod_revision,
        create_revision=raw.create_revision,
        lease=LeaseId(raw.lease) if raw.lease else None,
    )


class EtcdWatch:
    """See :class:`kvstore.store.Watch`."""

    def __init__(self, members: EtcdMembers, key: bytes, range_end: bytes, start_revision: int) -> None:
        self._members = members
        self._start_revision = start_revision
        self._cancelled = False
        self._over = threading.Event()
        self._member = members.current
        create = etcdrpc.WatchCreateRequest(
            key=key, range_end=range_end, start_revision=max(1, start_revision - 1), progress_notify=True
        )
        try:
            self._stream = self._member.watch.Watch(self._requests(create), metadata=NEEDS_LEADER)
        except ValueError as err:
            raise StoreUnavailable(f"the store is closed: {err}") from err

    def __iter__(self) -> Iterator[WatchBatch]:
        try:
            for response in self._stream:
                batch = self._batch(response)
                if batch is not None:
                    yield batch
        except grpc.RpcError as err:
            self._over.set()
            if self._cancelled or self._members.closed:
                return
            self._members.leave(self._member)
            raise self._member.error(err) from err
        except HawseError:
            self.cancel()
            raise
        self._over.set()
        if not self._cancelled:
            raise StoreUnavailable(f"etcd at {self._member.target} ended the watch")

    def cancel(self) -> None:
        """See :meth:`kvstore.store.Watch.cancel`."""
        self._cancelled = True
        self._over.set()
        self._stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _requests(self, create: Any) -> Iterator[Any]:
        yield etcdrpc.WatchRequest(create_request=create)
        # The stream lasts as long as its requests do. gRPC runs this in a thread of its own, which ends with it.
        self._over.wait()

    def _batch(self, response: Any) -> WatchBatch | None:
        if response.compact_revision:
            raise Compacted(
                f"revision {self._start_revision} is compacted, the oldest is {response.compact_revision + 1}"
            )
        if response.canceled:
            raise StoreUnavailable(f"etcd at {self._member.target} ended the watch: {response.cancel_reason}")
        if response.created:
            # Less than the snapshot had: another cluster, or a member that is behind; its events need not follow.
            if response.header.revision < self._start_revision - 1:
                raise StoreUnavailable(
                    f"etcd at {self._member.target} is at revision {response.header.revision}, "
                    f"behind {self._start_revision - 1}"
                )
            return None
        if not response.events:
            return WatchBatch((), response.header.revision)
        events = tuple(_event(raw) for raw in response.events if raw.kv.mod_revision >= self._start_revision)
        return WatchBatch(events, events[-1].item.mod_revision) if events else None


def _event(raw: Any) -> Event:
    return Event(EventKind.DELETE if raw.type == kv_pb2.Event.DELETE else EventKind.PUT, key_value(raw.kv))
