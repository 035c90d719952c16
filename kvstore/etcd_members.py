"""Connections to the members of an etcd cluster, and which of them is asked.

1. One gRPC channel per member; all calls go to one member until it fails, then to the next.
2. A call that failed is made again, at the next member, while its time lasts, if it may be: reads always; a write only
   when it certainly was not done (no connection came up, or the member refused it because it has no leader). A write
   that broke on its way has an unknown outcome; repeating a compare-and-swap that did succeed would report it as lost.
3. So an election (1 to 2 s) and a restart of etcd are waited out by the calls made meanwhile: they cost time, no error.

gRPC's own backoff would keep a returned member unused for up to two minutes; it is set to half a second.

Source: https://github.com/grpc/grpc/blob/v1.60.0/doc/connection-backoff.md, etcd clientv3/retry_interceptor.go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import grpc
from pyetcd import etcdrpc

from kvstore.etcd_config import EtcdConfig
from model.deadline import remaining_s
from model.errors import Compacted, HawseError, NotFound, StoreError, StoreUnavailable

T = TypeVar("T")

NEEDS_LEADER: Final = (("hasleader", "true"),)
"""Metadata: a member that has no leader refuses the call and ends the stream, instead of answering from the past."""

_PAUSE_S: Final = 0.05

_CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # By its name a pause, in fact the time limit of one attempt to connect.
    ("grpc.min_reconnect_backoff_ms", 1000),
    # A host that is gone sends no reset. etcd closes connections that ping more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The one above is not enough: by default this one lets a silent peer live for another minute.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The first snapshot of a large cluster is larger than the usual 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)

_ERRORS: Final[Mapping[grpc.StatusCode, type[HawseError]]] = {
    grpc.StatusCode.UNAVAILABLE: StoreUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: StoreUnavailable,
    grpc.StatusCode.CANCELLED: StoreUnavailable,
    grpc.StatusCode.ABORTED: StoreUnavailable,
    grpc.StatusCode.INTERNAL: StoreUnavailable,
    grpc.StatusCode.UNKNOWN: StoreUnavailable,
    grpc.StatusCode.OUT_OF_RANGE: Compacted,
    grpc.StatusCode.NOT_FOUND: NotFound,
}
"""Everything else (no space, no permission, a malformed request) is a StoreError that repeating does not mend."""

_NOT_DONE: Final = ("failed to connect to all addresses", "etcdserver: no leader")
"""How an error begins that came before the call was carried out. Should gRPC change its text, a write during a failover
fails with StoreUnavailable once; ``tests/contract/test_etcd_cluster.py`` would tell."""


class Member:
    """One member's channel and the calls it offers."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.target = target
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            self.channel = grpc.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
        self.kv = etcdrpc.KVStub(self.channel)
        self.watch = etcdrpc.WatchStub(self.channel)
        self.lease = etcdrpc.LeaseStub(self.channel)
        self.maintenance = etcdrpc.MaintenanceStub(self.channel)

    def error(self, error: grpc.RpcError) -> HawseError:
        """Translate an error of a call to this member."""
        kind = _ERRORS.get(error.code(), StoreError)
        return kind(f"etcd at {self.target}: {error.details() or error.code().name.lower()}")


class EtcdMembers:
    """The cluster's members; thread safe. Making it neither blocks nor needs a member that runs."""

    def __init__(self, config: EtcdConfig) -> None:
        credentials = _credentials(config)
        self._members = tuple(Member(target, credentials) for target in config.targets)
        self._timeout_s = config.timeout_s
        self._lock = threading.Lock()
        self._preferred = 0
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed.is_set()

    @property
    def current(self) -> Member:
        """The member to ask next.

        Raises:
            StoreUnavailable: closed.
        """
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        with self._lock:
            return self._members[self._preferred]

    def leave(self, member: Member) -> None:
        """Ask the next member from now on, unless somebody has already turned away from this one."""
        with self._lock:
            if self._members[self._preferred] is member:
                self._preferred = (self._preferred + 1) % len(self._members)

    def call(self, send: Callable[[Member, float], T], *, repeatable: bool) -> T:
        """Have a member do something.

        Args:
            send: makes the call with a member and a time limit in seconds.
            repeatable: whether doing it twice is the same as doing it once.

        Raises:
            StoreUnavailable: no member did it in time.
            StoreError: a member refused it.
            DeadlineExceeded: the caller's time was over before.
        """
        budget_s = remaining_s(self._timeout_s)
        ends = time.monotonic() + budget_s
        # A member that hangs must leave time for another one; a write cannot be repeated, so it gets all there is.
        share_s = budget_s / len(self._members) if repeatable else budget_s
        failures = 0
        while True:
            member = self.current
            try:
                return send(member, min(share_s, max(0.0, ends - time.monotonic())))
            except grpc.RpcError as err:
                error = member.error(err)
                if not isinstance(error, StoreUnavailable):
                    raise error from err
                self.leave(member)
                failures += 1
                pause_s = 0.0 if failures % len(self._members) else _PAUSE_S
                again = repeatable or _was_not_done(err)
                if not again or ends - time.monotonic() <= pause_s or self._closed.wait(pause_s):
                    raise error from err
            except ValueError as err:
                # What gRPC says when another thread has closed the channel.
                raise StoreUnavailable(f"the store is closed: {err}") from err

    def close(self) -> None:
        """Close all channels; calls and streams that run end with an error. Idempotent."""
        self._closed.set()
        for member in self._members:
            member.channel.close()


def _was_not_done(error: grpc.RpcError) -> bool:
    return bool((error.details() or "").startswith(_NOT_DONE))


def _credentials(config: EtcdConfig) -> Any:
    if config.ca is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=config.ca.read_bytes(),
        private_key=None if config.key is None else config.key.read_bytes(),
        certificate_chain=None if config.cert is None else config.cert.read_bytes(),
    )
