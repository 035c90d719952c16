"""The thread that collects what was left behind, on this node and, on the leader, in the cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from cluster.departed import DepartedNodes
from cluster.election import Election
from cluster.holds import Holds
from cluster.local_garbage import LocalGarbage
from cluster.nodes import NodeRegistry
from cluster.views import ClusterViews
from model.errors import HawseError

log = logging.getLogger(__name__)

_STOP_S: Final = 2.0


class GarbageCollector:
    """Looks every ``interval_s`` seconds. Nothing is collected while a view may be out of date.

    Args:
        views: what is known of the cluster.
        holds: addresses and pools.
        nodes: nodes, whose own is registered again if it was lost.
        local: the collector of this node.
        departed: the collector of nodes that are gone.
        election: says whether this node leads.
        node_steps: what else every node does at each look; their names are in the log when they fail.
        leader_steps: what else the leader does.
        interval_s: seconds between looks.
    """

    def __init__(
        self,
        *,
        views: ClusterViews,
        holds: Holds,
        nodes: NodeRegistry,
        local: LocalGarbage,
        departed: DepartedNodes,
        election: Election,
        node_steps: Sequence[Callable[[], None]] = (),
        leader_steps: Sequence[Callable[[], None]] = (),
        interval_s: float = 10.0,
    ) -> None:
        self._views = views
        self._holds = holds
        self._nodes = nodes
        self._local = local
        self._election = election
        self._node_steps = tuple(node_steps)
        self._leader_steps = (departed.collect, *leader_steps)
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="garbage", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def look(self) -> bool:
        """Look once; False when the views are not up to date and nothing was done."""
        if not (self._views.wait_synced(0) and self._holds.synced):
            return False
        self._attempt(self._nodes.refresh)
        self._local.collect()
        for step in self._node_steps:
            self._attempt(step)
        self._attempt(self._lead)
        return True

    def _lead(self) -> None:
        if self._election.try_to_lead():
            for step in self._leader_steps:
                self._attempt(step)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except HawseError as err:
            log.warning("collection failed, it is tried again", extra={"step": step.__qualname__, "error": str(err)})

    def _run(self) -> None:
        # The first look comes as soon as the cluster is known: endpoints of before a reboot go at once.
        while not self._stopping.is_set():
            try:
                looked = self.look()
            except Exception:
                # A mistake of ours must not end the thread: nothing would be collected any more.
                log.exception("collection broke")
                looked = True
            self._stopping.wait(self._interval_s if looked else min(1.0, self._interval_s))
