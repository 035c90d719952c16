"""What policy needs to know of the endpoints, followed change by change: a cluster has many, and few of them change.

Costs one entry for each endpoint of this node, and one for each identity of the cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Self

from kvstore import keys
from kvstore.watcher import Change
from model.endpoints import Endpoint
from model.identities import is_cluster_identity
from model.ids import EndpointId, IdentityId, NodeName
from model.labels import Labels


class EndpointIndex:
    """Endpoints of a node, and what endpoints of the whole cluster say of identities. Safe from any thread.

    Args:
        node: whose endpoints are counted one by one.
    """

    def __init__(self, node: NodeName) -> None:
        self._own_prefix: Final = keys.endpoints_of(node)
        self._lock = threading.Lock()
        self._here: dict[EndpointId, IdentityId] = {}
        self._labels: dict[IdentityId, dict[Labels, int]] = {}
        self._labels_version = 0

    @classmethod
    def of(cls, node: NodeName, endpoints: Mapping[str, Endpoint]) -> Self:
        """The index of these endpoints, by key."""
        made = cls(node)
        made.on_endpoints([Change(key, None, endpoint) for key, endpoint in endpoints.items()])
        return made

    def on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        """Follow the view of endpoints."""
        with self._lock:
            for change in changes:
                if change.key.startswith(self._own_prefix):
                    self._place(change)
                old, new = _said(change.old), _said(change.new)
                if old != new:
                    self._count(new, 1)
                    self._count(old, -1)

    @property
    def labels_version(self) -> int:
        """Another number whenever :meth:`labels` may answer something else."""
        with self._lock:
            return self._labels_version

    def here(self) -> Mapping[EndpointId, IdentityId]:
        """Endpoints of the node, as they are recorded."""
        with self._lock:
            return dict(self._here)

    def labels(self) -> Mapping[IdentityId, Labels]:
        """The labels of identities that endpoints have; should endpoints differ, the same for all who ask."""
        with self._lock:
            return {
                identity: next(iter(said)) if len(said) == 1 else _first(said)
                for identity, said in self._labels.items()
            }

    def _place(self, change: Change[Endpoint]) -> None:
        if change.old is not None:
            self._here.pop(change.old.endpoint_id, None)
        if change.new is not None:
            self._here[change.new.endpoint_id] = change.new.identity

    def _count(self, said: tuple[IdentityId, Labels] | None, step: int) -> None:
        if said is None:
            return
        identity, labels = said
        counts = self._labels.setdefault(identity, {})
        before = counts.get(labels, 0)
        counts[labels] = before + step
        if before + step <= 0:
            del counts[labels]
        if not counts:
            del self._labels[identity]
        if not before or before + step <= 0:
            self._labels_version += 1


def _said(endpoint: Endpoint | None) -> tuple[IdentityId, Labels] | None:
    if endpoint is None or endpoint.labels is None or not is_cluster_identity(endpoint.identity):
        return None
    return endpoint.identity, endpoint.labels


def _first(said: Iterable[Labels]) -> Labels:
    return min(said, key=lambda labels: labels.pairs)
