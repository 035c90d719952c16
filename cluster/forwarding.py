"""Keeps the kernel's idea of the other nodes equal to the cluster's.

1. The views of endpoints, nodes and networks say what changed; a thread of its own writes it to the datapath. Changes
   that come while it writes are written together the next time.
2. A changed endpoint costs its own entries, and nothing when those are as before. A changed node or network, a node
   that the Swarm gives up or finds again, an error, and the passing of ``resync_s`` cost a full comparison:
   ``replace_nodes`` (packets of a node are accepted before anything is sent to it), ``replace_remotes``, then
   ``replace_networks``.
3. Nothing is written before all views have been read once: an agent that starts without etcd leaves the kernel as it
was.
4. An error is followed by a backoff and a full comparison, until it works.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cluster.remotes import RemoteTable
from datapath.api import Datapath, NetworkSpec
from kvstore.backoff import Backoff
from model.clock import Clock, SystemClock
from model.errors import DatapathError
from model.ids import NodeName

if TYPE_CHECKING:
    from kvstore.watcher import Change, View
    from model.endpoints import Endpoint
    from model.networks import Network
    from model.nodes import Node
    from model.services import LostNode

log = logging.getLogger(__name__)

_DELIVERED_S: Final = 1.0
_STOP_S: Final = 2.0


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
        self._resync_s = resync_s
        self._backoff = backoff
        self._clock = clock or SystemClock()
        self._table = RemoteTable(node)
        self._changed = threading.Condition()
        self._dirty: set[str] = set()
        self._all_dirty = True
        self._stopping = False
        self._behind = False
        self._compared_at_s = 0.0
        self._health = ForwardingHealth(applied_revision=0, failures=0, error="")
        self._thread = threading.Thread(target=self._run, name="forwarding", daemon=True)
        endpoints.subscribe(self._on_endpoints)
        nodes.subscribe(self._on_nodes)
        networks.subscribe(self._on_networks)
        lost.subscribe(self._on_lost)

    def start(self) -> None:
        """Begin to write; the datapath has to be started."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more; the kernel stays as it is."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    @property
    def health(self) -> ForwardingHealth:
        """How it goes."""
        with self._changed:
            return self._health

    @property
    def applied_revision(self) -> int:
        """Every endpoint change up to this store revision is in the kernel."""
        return self.health.applied_revision

    def wait_applied(self, revision: int, timeout_s: float) -> bool:
        """Wait until every endpoint change up to a store revision is in the kernel."""
        with self._changed:
            return self._changed.wait_for(lambda: self._health.applied_revision >= revision, timeout_s)

    def resync(self) -> None:
        """Compare everything as soon as possible."""
        with self._changed:
            self._all_dirty = True
            self._changed.notify_all()

    def _on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        with self._changed:
            self._dirty.update(change.key for change in changes)
            self._changed.notify_all()

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

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._apply()
            except DatapathError as err:
                self._failed(err)
            except Exception as err:
                # A mistake of ours must not end the thread: the cluster would drift away from the kernel unnoticed.
                log.exception("forwarding broke")
                self._failed(err)

    def _wait_for_work(self) -> bool:
        """Wait for a change or the next comparison; False when it is time to end."""
        views: tuple[View[Any], ...] = (self._endpoints, self._nodes, self._networks, self._lost)
        while not all(view.revision for view in views):
            if self._stopping:
                return False
            for view in views:
                view.wait_synced(0.5)
        with self._changed:
            left_s = self._compared_at_s + self._resync_s - self._clock.monotonic_s()
            self._changed.wait_for(
                lambda: self._stopping or self._dirty or self._all_dirty or self._behind, max(0.0, left_s)
            )
            if self._clock.monotonic_s() >= self._compared_at_s + self._resync_s:
                self._all_dirty = True
            return not self._stopping

    def _apply(self) -> None:
        revision = self._endpoints.revision
        told = self._endpoints.wait_delivered(revision, _DELIVERED_S)
        with self._changed:
            dirty, self._dirty = self._dirty, set()
            everything, self._all_dirty = self._all_dirty, False
            self._behind = False
        if everything:
            self._compare_all()
        else:
            self._write(dirty)
        with self._changed:
            applied = revision if told else self._health.applied_revision
            self._health = ForwardingHealth(applied_revision=applied, failures=0, error="")
            # What came meanwhile may have been written with the rest; it has to be told of, too.
            self._behind = applied < self._endpoints.revision
            self._changed.notify_all()

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
        self._compared_at_s = self._clock.monotonic_s()

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

    def _failed(self, err: Exception) -> None:
        with self._changed:
            failures = self._health.failures + 1
            self._health = ForwardingHealth(
                applied_revision=self._health.applied_revision, failures=failures, error=str(err)
            )
            self._all_dirty = True
            delay_s = self._backoff.delay_s(failures)
            log.error(
                "datapath does not follow the cluster",
                extra={"error": str(err), "failures": failures, "retry_in_s": round(delay_s, 3)},
            )
            self._changed.wait_for(lambda: self._stopping, delay_s)


def _open(network: Network) -> bool:
    """Whether a network reaches the hosts of its containers."""
    return not network.internal and network.gateway is not None
