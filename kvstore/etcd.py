"""The store in etcd, by its gRPC interface.

Of the library ``etcd-sdk-python`` only the generated messages and stubs are used: its watcher loses callbacks when a
stream breaks, and its client keeps a failed endpoint unused for minutes. What is where: ``etcd_config.py`` settings and
their rules, ``etcd_members.py`` connections, failover and errors, ``etcd_watch.py`` watches.

Source: https://etcd.io/docs/v3.4/learning/api/
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from pyetcd import etcdrpc

from kvstore.etcd_config import EtcdConfig
from kvstore.etcd_members import NEEDS_LEADER, EtcdMembers, Member
from kvstore.etcd_watch import EtcdWatch, key_value
from kvstore.rules import refuse_repeated_keys, refuse_start
from kvstore.store import Compare, KeyValue, LeaseId, Newest, Op, Put, Snapshot, StoreStatus, TxnResult, Watch
from model.deadline import deadline
from model.errors import HawseError, NotFound

__all__ = ["EtcdConfig", "EtcdStore"]

_STATUS_TIMEOUT_S: Final = 1.0


class EtcdStore:
    """The Store Protocol on an etcd cluster.

    Making it does not block and needs no etcd that runs: calls wait for one, within their time.
    """

    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        self._members = EtcdMembers(config)

    def get(self, key: str) -> KeyValue | None:
        """See :meth:`kvstore.store.Store.get`."""
        response = self._range(etcdrpc.RangeRequest(key=key.encode()))
        return key_value(response.kvs[0]) if response.kvs else None

    def list(self, prefix: str) -> Snapshot:
        """See :meth:`kvstore.store.Store.list`."""
        response = self._range(etcdrpc.RangeRequest(key=prefix.encode(), range_end=_range_end(prefix)))
        return Snapshot(tuple(key_value(raw) for raw in response.kvs), response.header.revision)

    def newest(self, prefix: str) -> Newest:
        """See :meth:`kvstore.store.Store.newest`."""
        request = etcdrpc.RangeRequest(
            key=prefix.encode(),
            range_end=_range_end(prefix),
            sort_target=etcdrpc.RangeRequest.MOD,
            sort_order=etcdrpc.RangeRequest.DESCEND,
            limit=1,
            keys_only=True,
        )
        response = self._range(request)
        item = key_value(response.kvs[0]) if response.kvs else None
        return Newest(response.count, item, response.header.revision)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        """See :meth:`kvstore.store.Store.txn`."""
        refuse_repeated_keys(ops)
        request = etcdrpc.TxnRequest(
            compare=[_comparison(item) for item in compare],
            success=[_operation(op) for op in ops],
            failure=[etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=item.key.encode())) for item in compare],
        )
        response = self._members.call(
            lambda member, timeout_s: member.kv.Txn(request, timeout=timeout_s, metadata=NEEDS_LEADER),
            # Without operations it is a read; comparisons alone change nothing.
            repeatable=not ops,
        )
        current: tuple[KeyValue | None, ...] = ()
        if not response.succeeded:
            found = [answer.response_range.kvs for answer in response.responses]
            current = tuple(key_value(kvs[0]) if kvs else None for kvs in found)
        return TxnResult(succeeded=response.succeeded, revision=response.header.revision, current=current)

    def watch(self, prefix: str, start_revision: int) -> Watch:
        """See :meth:`kvstore.store.Store.watch`."""
        refuse_start(start_revision)
        return EtcdWatch(self._members, prefix.encode(), _range_end(prefix), start_revision)

    def grant_lease(self, ttl_s: int) -> LeaseId:
        """See :meth:`kvstore.store.Store.grant_lease`. One that was granted but not heard of ends by itself."""
        request = etcdrpc.LeaseGrantRequest(TTL=ttl_s)
        response = self._members.call(
            lambda member, timeout_s: member.lease.LeaseGrant(request, timeout=timeout_s, metadata=NEEDS_LEADER),
            repeatable=True,
        )
        return LeaseId(response.ID)

    def renew_lease(self, lease: LeaseId) -> bool:
        """See :meth:`kvstore.store.Store.renew_lease`."""
        response = self._members.call(lambda member, timeout_s: _renew(member, lease, timeout_s), repeatable=True)
        return bool(response.TTL > 0)

    def revoke_lease(self, lease: LeaseId) -> None:
        """See :meth:`kvstore.store.Store.revoke_lease`."""
        request = etcdrpc.LeaseRevokeRequest(ID=lease)
        with contextlib.suppress(NotFound):
            self._members.call(
                lambda member, timeout_s: member.lease.LeaseRevoke(request, timeout=timeout_s, metadata=NEEDS_LEADER),
                repeatable=True,
            )

    def status(self) -> StoreStatus:
        """See :meth:`kvstore.store.Store.status`. Waits a second at most: an operator is looking."""
        try:
            with deadline(_STATUS_TIMEOUT_S):
                response, target = self._members.call(
                    lambda member, timeout_s: (
                        member.maintenance.Status(etcdrpc.StatusRequest(), timeout=timeout_s),
                        member.target,
                    ),
                    repeatable=True,
                )
        except HawseError as err:
            return StoreStatus(healthy=False, detail=str(err), endpoints=self._config.endpoints)
        return StoreStatus(
            healthy=response.leader != 0,
            detail=f"{target}, etcd {response.version}" + ("" if response.leader else ", has no leader"),
            endpoints=self._config.endpoints,
            revision=response.header.revision,
            db_size_bytes=response.dbSize,
        )

    def close(self) -> None:
        """See :meth:`kvstore.store.Store.close`."""
        self._members.close()

    def _range(self, request: Any) -> Any:
        return self._members.call(
            lambda member, timeout_s: member.kv.Range(request, timeout=timeout_s, metadata=NEEDS_LEADER),
            repeatable=True,
        )


def _renew(member: Member, lease: LeaseId, timeout_s: float) -> Any:
    # Keepalive is a stream in etcd's interface; one request and its answer are enough of it.
    stream = member.lease.LeaseKeepAlive(
        iter((etcdrpc.LeaseKeepAliveRequest(ID=lease),)), timeout=timeout_s, metadata=NEEDS_LEADER
    )
    try:
        return next(stream)
    finally:
        stream.cancel()


def _comparison(item: Compare) -> Any:
    return etcdrpc.Compare(
        key=item.key.encode(),
        target=etcdrpc.Compare.MOD,
        result=etcdrpc.Compare.EQUAL,
        mod_revision=item.mod_revision,
    )


def _operation(op: Op) -> Any:
    if isinstance(op, Put):
        put = etcdrpc.PutRequest(key=op.key.encode(), value=op.value, lease=op.lease or 0)
        return etcdrpc.RequestOp(request_put=put)
    return etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=op.key.encode()))


def _range_end(prefix: str) -> bytes:
    """The first key behind all keys with this prefix (which is UTF-8, so its last byte can always be raised)."""
    raw = prefix.encode()
    return raw[:-1] + bytes((raw[-1] + 1,))
