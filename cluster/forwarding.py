"""Keeps the kernel's idea of the other nodes equal to the cluster's.

1. The views of endpoints, nodes and networks say what changed; a thread of its own writes it to the datapath. Changes
   that come while it writes are written together the next time.
2. A changed endpoint costs its own entries, and nothing when those are as before. A changed node or network, a node
   that the Swarm gives up or finds again, an error, and the passing of ``resync_s`` cost a full comparison:
   ``replace_nodes`` (packets of a node are accepted before anything is sent to it), ``replace_remotes``, then
   ``replace_networks``.
3. Nothing is written before all views have been read once: an agent that starts without etcd leaves the kernel as it
was.
4. An error is followed by a backoff and a full comparison, at once when something changes, until it works.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.remotes import RemoteTable
from datapath.api import Datapath, NetworkSpec
from kvstore.backoff import Backoff
from kvstore.view_worker import ViewWorker
from model.clock import Clock, SystemClock
from model.ids import NodeName

if TYPE_CHECKING:
    from kvstore.watcher import Change, View
    from model.endpoints import Endpoint
    from model.networks import Network
    from model.nodes import Node
    from model.services import LostNode

_DELIVERED_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingHealth:
    """How the datapath follows the cluster."""

    applied_revision: int
    """Every endpoint change up to this store revision is in the kernel; 0 before the first time."""
    failures: int
    """Errors in a row; 0 when all is well."""
    error: str
    """The last error while there are failures, otherwise empty."""


class ForwardingController:
    """Writes remote endpoints and nodes to the datapath.

    Args:
        datapath: the kernel of this node.
        endpoints: view of all endpoints; not started yet.
        nodes: view of all nodes; not started yet.
        networks: view of all networks; not started yet.
        node: this node.
        lost: view of the lost nodes; not started yet.
        resync_s: at least this often everything is compared.
        backoff: waits after an error.
        clock: time.
    """

    def __init__(
        self,
        datapath: Datapath,
        endpoints: View[Endpoint],
        nodes: View[Node],
        networks: View[Network],
        node: NodeName,
        *,
        lost: View[LostNode],
        resync_s: float = 60.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        clock: Clock | None = None,
    ) -> None:
        self._datapath = datapath
        self._endpoints = endpoints
        self._nodes = nodes
        self._networks = networks
        self._lost = lost
        self._table = RemoteTable(node)
        self._dirty_lock = threading.Lock()
        self._dirty: set[str] = set()
        self._applied = threading.Condition()
        self._applied_revision = 0
        self._worker = ViewWorker(
            "forwarding",
            self._apply,
            (endpoints, nodes, networks, lost),
            clock=clock or SystemClock(),
            resync_s=resync_s,
            backoff=backoff,
        )
        endpoints.subscribe(self._on_endpoints)
        nodes.subscribe(self._on_nodes)
        networks.subscribe(self._on_networks)
        lost.subscribe(self._on_lost)

    def start(self) -> None:
        """Begin to write; the datapath has to be started."""
        self._worker.start()

    def stop(self) -> None:
        """Write no more; the kernel stays as it is."""
        self._worker.stop()

    @property
    def health(self) -> ForwardingHealth:
        """How it goes."""
        work = self._worker.health
        return ForwardingHealth(applied_revision=self.applied_revision, failures=work.failures, error=work.error)

    @property
    def applied_revision(self) -> int:
        """Every endpoint change up to this store revision is in the kernel."""
        with self._applied:
            return self._applied_revision

    def wait_applied(self, revision: int, timeout_s: float) -> bool:
        """Wait until every endpoint change up to a store revision is in the kernel."""
        with self._applied:
            return self._applied.wait_for(lambda: self._applied_revision >= revision, timeout_s)

    def resync(self) -> None:
        """Compare everything as soon as possible."""
        self._worker.mark(everything=True)

    def _on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        with self._dirty_lock:
            self._dirty.update(change.key for change in changes)
        self._worker.mark()

    def _on_nodes(self, changes: Sequence[Change[Node]]) -> None:
        if any(
            change.old is None or change.new is None or change.old.address != change.new.address for change in changes
        ):
            self.resync()

    def _on_networks(self, changes: Sequence[Change[Network]]) -> None:
        if any(
            change.old is None or change.new is None or _open(change.old) != _open(change.new) for change in changes
        ):
            self.resync()

    def _on_lost(self, changes: Sequence[Change[LostNode]]) -> None:
        if any(change.old is None or change.new is None for change in changes):
            self.resync()

    def _apply(self, *, everything: bool) -> None:
        revision = self._endpoints.revision
        told = self._endpoints.wait_delivered(revision, _DELIVERED_S)
        with self._dirty_lock:
            dirty, self._dirty = self._dirty, set()
        if everything:
            self._compare_all()
        else:
            self._write(dirty)
        with self._applied:
            if told:
                self._applied_revision = revision
                self._applied.notify_all()
            behind = self._applied_revision < self._endpoints.revision
        if behind:
            # What came meanwhile may have been written with the rest; it has to be told of, too.
            self._worker.mark()

    def _compare_all(self) -> None:
        self._table.set_nodes(entry.value for entry in self._nodes.items().values())
        self._table.set_lost(entry.value.node for entry in self._lost.items().values())
        self._table.set_endpoints({key: entry.value for key, entry in self._endpoints.items().items()})
        self._datapath.replace_nodes(self._table.tunnels())
        self._datapath.replace_remotes(self._table.remotes())
        networks = [entry.value for entry in self._networks.items().values()]
        self._datapath.replace_networks(
            {
                network.pool: NetworkSpec(vni=network.vni, routed=not network.masquerade)
                for network in networks
                if _open(network)
            }
        )

    def _write(self, dirty: set[str]) -> None:
        concerned = set()
        for key in dirty:
            # The view is ahead of the changes it tells: what holds now counts.
            entry = self._endpoints.get(key)
            concerned |= self._table.set_endpoint(key, None if entry is None else entry.value)
        found = {place: self._table.remote(place) for place in concerned}
        upserts = {place: remote for place, remote in found.items() if remote is not None}
        deletes = [place for place, remote in found.items() if remote is None]
        if upserts or deletes:
            self._datapath.update_remotes(upserts, deletes)


def _open(network: Network) -> bool:
    """Whether a network reaches the hosts of its containers."""
    return not network.internal and network.gateway is not None
