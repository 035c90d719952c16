"""Follows a Swarm's services, tasks and nodes into the store.

1. One agent does it, on a manager: the one that holds :data:`kvstore.keys.SWARM_LEADER`. Agents of other managers look
   every second whether that key is free; agents of workers, and of hosts without a Swarm, ask their engine now and then
   whether they are managers now, and nothing else.
2. The one that leads asks for all services, tasks and nodes, several times a second: of tasks the API has no events. It
   asks at once when the engine tells of a service, a node or a container of its own, and more often for some seconds
   after that and after every change. It spends at most a twentieth of its time on that, a fifth while something changes
   (:class:`Pace`); with a hundred tasks it is a fiftieth.
3. It writes what differs from the store, in transactions that hold only as long as it leads.

**A task is drained in time**, because the Swarm waits 2 s between «desired state: shutdown», which is seen here, and
the signal to the container (ADR 0015).

**What a hand-over takes.**

=====================================  ==========================================================================
the manager is demoted                 at once, with the next question (0.25 to 0.5 s) after its engine has obeyed
                                       (2 s); then up to 1 s
its engine ends or does not answer     3 s from its last answer; then up to 1 s
it was the Swarm's leader, too         until the managers have elected another (10 to 20 s), and up to 4 s: before, none
                                       of them answers, and the Swarm itself decides nothing
its agent ends in order                up to 1 s
its agent is killed                    until it runs again (some 5 s), for it takes its own key at once; else until
                                       the office's lease ends (4 to 6 s)
the host dies                          until the office's lease ends (4 to 6 s); then up to 1 s
=====================================  ==========================================================================

A manager takes the key only after its engine has answered all three questions: one without a majority never leads.
Until then services stay as they are in the store and in the kernels; new tasks get no connections, and tasks that end
are left out because their endpoints go.

Source: https://github.com/moby/moby/blob/docker-v29.7.2/daemon/cluster/executor/container/controller.go (Shutdown:
``defaultGossipConvergeDelay``).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from balancer.registry import LostNodes, ServiceRegistry
from cluster.election import Election
from cluster.views import ClusterViews
from driver.engine_events import SwarmEvent
from driver.event_follower import EventFollower, SendsEvents
from driver.swarm_memory import AsksEngine
from driver.swarm_records import Listing, SwarmNode, SwarmService, SwarmTask
from driver.swarm_state import KnownServices, LostHosts, SwarmLists
from kvstore.watcher import View
from model.clock import Clock
from model.errors import CasFailed, EngineUnavailable, HawseError
from model.services import Service, ServiceSource

log = logging.getLogger(__name__)

_INFO_TIMEOUT_S: Final = 5.0
_DOUBT_TIMEOUT_S: Final = 0.5
_STOP_S: Final = 5.0


class AsksManager(SendsEvents[SwarmEvent], Protocol):
    """:class:`driver.swarm_engine.SwarmEngine`; every method raises EngineUnavailable."""

    def swarm_services(self) -> Listing[SwarmService]:
        """Every service."""
        ...

    def swarm_tasks(self) -> Listing[SwarmTask]:
        """Every task that is meant to run."""
        ...

    def swarm_nodes(self) -> Listing[SwarmNode]:
        """Every node."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often what is asked, in seconds."""

    busy_s: float = 0.25
    """Between questions, while something changes."""
    idle_s: float = 0.5
    """Between questions otherwise."""
    busy_for_s: float = 10.0
    """How long after a change it counts as changing."""
    event_busy_for_s: float = 2.0
    """The same after an event."""
    share: int = 20
    """The time between questions is at least so many times what they take: 5 % of the time is spent on them."""
    busy_share: int = 4
    """The same while something changes, and between questions that events cause: 20 %."""
    silent_s: float = 3.0
    """Who has got no answer for so long gives up the lead."""
    candidate_s: float = 1.0
    """Between looks of another manager at who leads, and of the leader at whether it still does."""
    worker_s: float = 10.0
    """Between questions of a worker to its engine whether it is a manager now."""
    refused_s: float = 10.0
    """Between attempts to write services that the store refused."""
    outside_s: float = 60.0
    """The same of a host without a Swarm."""

    def wait_s(self, took_s: float, *, busy: bool) -> float:
        """How long to wait when questions take ``took_s``."""
        return max(self.busy_s, self.busy_share * took_s) if busy else max(self.idle_s, self.share * took_s)


class SwarmFollower:
    """Keeps services and lost nodes in the store as the Swarm says, while this is the manager to do so.

    One thread, and one for events while it leads.

    Args:
        host: the engine on this host, for its place in the Swarm.
        manager: the same engine, for the Swarm's lists.
        election: of the one who writes.
        services: where services are written.
        lost: where lost nodes are written.
        service_view: view of all services.
        cluster: views of the cluster.
        clock: time.
        pace: how often what is asked.
    """

    def __init__(
        self,
        *,
        host: AsksEngine,
        manager: AsksManager,
        election: Election,
        services: ServiceRegistry,
        lost: LostNodes,
        service_view: View[Service],
        cluster: ClusterViews,
        clock: Clock,
        pace: Pace = Pace(),
    ) -> None:
        self._host = host
        self._manager = manager
        self._election = election
        self._services = services
        self._lost = lost
        self._service_view = service_view
        self._cluster = cluster
        self._clock = clock
        self._pace = pace
        self._problem: str | None = None
        self._warnings: Sequence[str] = ()
        self._leads = False
        self._is_manager = False
        self._hosts = LostHosts()
        self._known = KnownServices()
        self._events: EventFollower[SwarmEvent] | None = None
        self._written: tuple[object, ...] = ()
        self._again_at_s = 0.0
        self._checked_at_s = 0.0
        self._answered_at_s = 0.0
        self._busy_until_s = 0.0
        self._rest_until_s = 0.0
        self._took_s: deque[float] = deque(maxlen=4)
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="swarm services", daemon=True)

    @property
    def leading(self) -> bool:
        """Whether this agent writes the Swarm's services."""
        return self._leads

    @property
    def problem(self) -> str | None:
        """Why the Swarm's services are not followed here, in a sentence; None when they are, or are not to be."""
        return self._problem

    @property
    def warnings(self) -> Sequence[str]:
        """What the one that leads cannot read of the Swarm's lists, a sentence each."""
        return self._warnings

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and give up the lead. Idempotent."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait_s = self._follow() if self._leads else self._stand_by()
            except HawseError as err:
                wait_s = self._failed(str(err))
            except Exception as err:
                log.exception("following the Swarm broke")
                wait_s = self._failed(f"unexpected: {err}")
            self._rest(wait_s)
        if self._leads:
            try:
                self._give_up("the agent ends")
            except HawseError as err:
                log.info("the lead ends with the lease", extra={"reason": str(err)})

    def _rest(self, wait_s: float) -> None:
        if self._woken.wait(wait_s):
            self._woken.clear()
            now_s = self._clock.monotonic_s()
            self._busy_until_s = max(self._busy_until_s, now_s + self._pace.event_busy_for_s)
            # Events come in swarms.
            self._stopping.wait(max(0.0, self._rest_until_s - now_s))

    def _failed(self, reason: str) -> float:
        problem = f"the Swarm's services are not followed: {reason}"
        if problem != self._problem:
            log.warning("the Swarm's services cannot be followed, it is tried again", extra={"reason": reason})
        self._problem = problem
        return self._pace.idle_s

    # While another leads, or nobody.

    def _stand_by(self) -> float:
        if not self._is_manager:
            try:
                info = self._host.info(_INFO_TIMEOUT_S)
            except EngineUnavailable as err:
                # It boots.
                log.debug("engine did not say whether it is a manager", extra={"reason": str(err)})
                return self._pace.candidate_s
            if not info.swarm_manager:
                self._problem = None
                return self._pace.worker_s if info.in_swarm else self._pace.outside_s
            self._is_manager = True
        if not self._election.open():
            self._problem = None
            return self._pace.candidate_s
        try:
            self._ask()
        except EngineUnavailable as err:
            # Nobody leads, and this one cannot: there is no majority of managers, or it was demoted long ago.
            self._failed(str(err))
            self._is_manager = not self._is_demoted()
            return self._pace.candidate_s
        if not self._election.try_to_lead():
            return self._pace.candidate_s
        self._begin()
        return 0.0

    def _begin(self) -> None:
        log.info("this manager writes the Swarm's services")
        self._leads = True
        self._written = ()
        self._hosts = LostHosts()
        self._checked_at_s = self._clock.monotonic_s()
        self._busy_until_s = self._checked_at_s + self._pace.busy_for_s
        self._events = EventFollower(
            self._manager,
            on_stream=self._woken.set,
            on_event=lambda _: self._woken.set(),
            clock=self._clock,
            name="swarm events",
        )
        self._events.start()

    def _end(self) -> None:
        self._leads = False
        self._warnings = ()
        if self._events is not None:
            self._events.stop()
            self._events = None

    def _give_up(self, reason: str) -> None:
        """Leave the lead to another; when the store is away it is tried again."""
        self._election.resign()
        log.warning("this manager gives up writing the Swarm's services", extra={"reason": reason})
        self._end()

    # While this one leads.

    def _follow(self) -> float:
        started_s = self._clock.monotonic_s()
        if started_s >= self._checked_at_s + self._pace.candidate_s:
            if not self._election.try_to_lead():
                log.warning("this manager does not write the Swarm's services any more")
                self._end()
                return self._pace.candidate_s
            self._checked_at_s = started_s
            started_s = self._clock.monotonic_s()
        try:
            said = self._ask()
        except EngineUnavailable as err:
            return self._unanswered(err)
        took_s = self._clock.monotonic_s() - started_s
        took_s += self._write(said)
        # The quickest of the last: what a busy host adds to one of them is no work of ours.
        self._took_s.append(took_s)
        took_s = min(self._took_s)
        self._problem = None
        now_s = self._clock.monotonic_s()
        self._rest_until_s = now_s + self._pace.busy_share * took_s
        return self._pace.wait_s(took_s, busy=now_s < self._busy_until_s)

    def _ask(self) -> SwarmLists:
        # Tasks last: one that is new stands in a service that is known.
        services, nodes = self._manager.swarm_services(), self._manager.swarm_nodes()
        said = SwarmLists.of(services, nodes, self._manager.swarm_tasks())
        self._answered_at_s = self._clock.monotonic_s()
        return said

    def _unanswered(self, err: EngineUnavailable) -> float:
        silent_s = self._clock.monotonic_s() - self._answered_at_s
        self._failed(str(err))
        if silent_s >= self._pace.silent_s:
            self._give_up(f"its engine has not answered for {silent_s:.1f} s")
        elif self._is_demoted():
            self._is_manager = False
            self._give_up("it is no manager any more")
            self._problem = None
        return self._pace.busy_s

    def _is_demoted(self) -> bool:
        try:
            return not self._host.info(_DOUBT_TIMEOUT_S).swarm_manager
        except EngineUnavailable:
            return False

    def _write(self, said: SwarmLists) -> float:
        """Write what differs; returns the seconds that finding out took."""
        views = self._cluster
        basis = (
            said,
            *(view.version for view in (views.networks, views.nodes, views.alive, views.lost, self._service_view)),
        )
        started_s = self._clock.monotonic_s()
        if basis == self._written and not (self._services.problems() and started_s >= self._again_at_s):
            return 0.0
        self._tell(said.warnings())
        services = self._known.look(said, [entry.value for entry in views.networks.items().values()])
        gone = self._hosts.look(
            said.nodes,
            [entry.value for entry in views.nodes.items().values()],
            alive={entry.value for entry in views.alive.items().values()},
            lost=self._lost.names(),
        )
        took_s = self._clock.monotonic_s() - started_s
        guard = [self._election.claim]
        try:
            changed = self._services.replace(ServiceSource.SWARM, services, keeps=said.keeps(), guard=guard)
            changed += self._lost.replace(gone, guard=guard)
        except CasFailed:
            self._checked_at_s = 0.0  # somebody else may lead: look before the next question
            raise
        if changed:
            self._busy_until_s = self._clock.monotonic_s() + self._pace.busy_for_s
        self._written = basis
        self._again_at_s = self._clock.monotonic_s() + self._pace.refused_s
        return took_s

    def _tell(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            if warning not in self._warnings:
                log.warning("an entry of the Swarm's lists cannot be read", extra={"warning": warning})
        self._warnings = warnings
