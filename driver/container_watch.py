"""Learns whose an endpoint is, from Docker's events and lists.

dockerd tells a driver nothing of the container (CreateEndpoint and Join carry an endpoint id and a namespace), and a
driver may not ask while it is called. What there is instead, measured on 20.10 and 28.5:

==========================  ============================================================================
event ``container create``  at once; the container list has labels and names of networks, no endpoint id
Join                        70 to 200 ms before the process's first instruction
event ``network connect``   330 ms (20.10) or 12 ms (28.5) before the process's first instruction.
                            Container and network, no endpoint id
``GET /networks/<id>``      from ``network connect`` on: container id → endpoint id, in 1 to 4 ms, also
                            with many containers; takes no container's lock. From Join until then:
                            endpoint id → name
event ``container start``   10 ms after the first instruction; from then on the container list has the
                            endpoint id
==========================  ============================================================================

So:

1. on ``create`` the labels are read from the list, and their identity is allocated, so that the whole cluster knows it
   when the endpoint comes (:mod:`driver.head_start`);
2. at Join the container is found by its name, under conditions that make the name certain (:mod:`driver.arrival`);
3. on ``network connect`` the network says which endpoint is whose. It is the engine's own record, keyed by two ids that
   are never used again; what was found by name is compared with it. With many containers starting at once in one
   network nothing has to be guessed;
4. whether it can answer (for services) is read of the list when it was started, paused or unpaused, and when its
   health check says something else than before;
5. whenever the stream of events stands anew, something failed, or some minutes have passed, everything is compared with
   the container list.

An endpoint that is not found stays ``init``.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from driver.arrival import ShowsArrivals, find_arriving
from driver.engine_events import ContainerAction, ContainerEvent, Event, NetworkAction
from driver.engine_records import Container, ContainerId
from driver.event_follower import BACKOFF, EventFollower, SendsEvents
from driver.head_start import HeadStart, waits_with_policy
from driver.labelling import Labelling
from kvstore.backoff import Backoff
from model.clock import Clock, age_s
from model.endpoints import Endpoint
from model.errors import HawseError, InvalidInput
from model.ids import DockerNetworkId, EndpointId

log = logging.getLogger(__name__)

RESYNC_S: Final = 300.0
"""Everything is compared this often, although no event is missed."""
UNKNOWN_S: Final = 30.0
"""An endpoint whose container is not known for so long is a problem."""
_RETRY: Final = Backoff(first_s=0.5, limit_s=30.0)
_STOP_S: Final = 2.0

_Task: TypeAlias = Callable[[], None]


class WatchedEngine(SendsEvents[Event], ShowsArrivals, Protocol):
    """:class:`driver.engine.Engine`; every method raises EngineUnavailable."""

    def containers(self) -> Sequence[Container]:
        """All containers."""
        ...

    def network_names(self) -> Mapping[str, str]:
        """Names of all networks by id."""
        ...


class ContainerWatch:
    """Gives every endpoint of this node its container's labels.

    One thread follows the events, another does the work, in their order; new containers are prepared in a third.

    Args:
        engine: the engine on this host.
        labelling: what is done with what is found out.
        clock: time.
        resync_s: how often everything is compared.
        backoff: waits before events are followed again.
        retry: waits before everything is compared after a failure.
    """

    def __init__(
        self,
        engine: WatchedEngine,
        labelling: Labelling,
        *,
        clock: Clock,
        resync_s: float = RESYNC_S,
        backoff: Backoff = BACKOFF,
        retry: Backoff = _RETRY,
    ) -> None:
        self._engine = engine
        self._labelling = labelling
        self._clock = clock
        self._resync_s = resync_s
        self._retry = retry
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._known: dict[ContainerId, Container] = {}
        self._by_name: dict[EndpointId, ContainerId] = {}
        """Endpoints whose container was found by name, until the engine has confirmed it."""
        self._faults: dict[EndpointId, str] = {}
        self._failure: str | None = None
        self._failures = 0
        self._resync_at_s = clock.monotonic_s() + resync_s
        self._listed = threading.Event()
        self._head_start = HeadStart(
            engine, labelling, look=self._look, on_failure=lambda: self._tasks.put(self._retry_soon)
        )
        self._follower = EventFollower(
            engine,
            on_stream=lambda: self._tasks.put(self._resync),
            on_event=self._take,
            clock=clock,
            backoff=backoff,
        )
        self._thread = threading.Thread(target=self._work, name="container labels", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()
        self._head_start.start()
        self._follower.start()

    def stop(self) -> None:
        """End. Idempotent."""
        self._follower.stop()
        self._head_start.stop()
        self._tasks.put(None)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def await_prepared(self, timeout_s: float) -> bool:
        """Wait until the rules of every container are in the kernel that the engine has told of up to now.

        False when not in time, and at once while the engine tells nothing.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        if self._follower.problem is not None or not self._listed.wait(timeout_s):
            return False
        return self._head_start.await_done(max(0.0, ends_s - self._clock.monotonic_s()))

    def joined(self, endpoint_id: EndpointId, docker_network: DockerNetworkId) -> None:
        """Look for an endpoint's container at Join already; returns at once."""
        self._tasks.put(functools.partial(self._match_arriving, endpoint_id, docker_network))

    def problems(self) -> Sequence[str]:
        """Everything that keeps endpoints from getting their labels, a sentence each."""
        general = (self._follower.problem, self._failure)
        return [*filter(None, general), *sorted(set(self._faults.copy().values()))]

    def _work(self) -> None:
        while True:
            wait_s = max(0.0, self._resync_at_s - self._clock.monotonic_s())
            try:
                task = self._tasks.get(timeout=wait_s)
            except queue.Empty:
                task = self._resync
            if task is None:
                return
            try:
                task()
            except HawseError as err:
                self._failed(str(err))
            except Exception as err:
                log.exception("watching containers failed")
                self._failed(f"unexpected: {err}")

    def _take(self, event: Event) -> None:
        if isinstance(event, ContainerEvent) and event.action is ContainerAction.CREATE:
            self._head_start.created(event.container_id)
        else:
            self._tasks.put(functools.partial(self._on_event, event))

    def _on_event(self, event: Event) -> None:
        if not isinstance(event, ContainerEvent):
            if event.action is NetworkAction.CONNECT:
                self._match([event.docker_network])
            else:
                self._forget_gone()
            return
        match event.action:
            case ContainerAction.START:
                self._match({endpoint.docker_network for endpoint in self._labelling.unlabelled().values()})
                self._look_again(event.container_id)
            case (
                ContainerAction.RENAME
                | ContainerAction.PAUSE
                | ContainerAction.UNPAUSE
                | ContainerAction.HEALTHY
                | ContainerAction.UNHEALTHY
            ):
                self._look_again(event.container_id)
            case ContainerAction.DIE:
                self._forget_gone()
            case ContainerAction.DESTROY:
                self._known.pop(event.container_id, None)

    def _look_again(self, container_id: ContainerId) -> None:
        container = self._look(container_id)
        if container is not None:
            for endpoint_id in container.endpoints:
                self._label(endpoint_id, container)

    def _look(self, container_id: ContainerId) -> Container | None:
        container = self._engine.container(container_id)
        if container is None:
            self._known.pop(container_id, None)
        elif not (container.created_only and container_id in self._known):
            # The answer to an early question may come late: from another thread, when the container runs already.
            self._known[container_id] = container
        return container

    def _match(self, networks: Iterable[DockerNetworkId]) -> None:
        """Label the endpoints of these networks that are not labelled yet, and confirm what was found by name."""
        unlabelled = self._labelling.unlabelled()
        for network in networks:
            wanted = {ident for ident, endpoint in unlabelled.items() if endpoint.docker_network == network}
            if not wanted and not self._by_name:
                continue
            for endpoint_id, container_id in self._engine.residents(network).containers.items():
                named = self._by_name.pop(endpoint_id, container_id)
                if named != container_id:
                    log.error(
                        "endpoint was labelled as another container's",
                        extra={"endpoint_id": endpoint_id, "container": container_id, "labelled_as": named},
                    )
                elif endpoint_id not in wanted:
                    continue
                container = self._known.get(container_id) or self._look(container_id)
                if container is not None:
                    self._label(endpoint_id, container)

    def _match_arriving(self, endpoint_id: EndpointId, network: DockerNetworkId) -> None:
        if endpoint_id not in self._labelling.unlabelled():
            return
        container = find_arriving(self._engine, network, endpoint_id)
        if container is not None:
            self._by_name[endpoint_id] = container.container_id
            self._label(endpoint_id, container)

    def _resync(self) -> None:
        """Compare everything; whose endpoint is of a container that is being started, the networks tell."""
        self._resync_at_s = self._clock.monotonic_s() + self._resync_s
        containers = self._engine.containers()
        self._known = {container.container_id: container for container in containers}
        self._forget_gone()
        failures = self._failures
        for container in filter(waits_with_policy, containers):
            if not self._head_start.prepare(container):
                self._retry_soon()
        self._listed.set()
        for container in containers:
            for endpoint_id in container.endpoints:
                self._by_name.pop(endpoint_id, None)
                self._label(endpoint_id, container)
        self._match({endpoint.docker_network for endpoint in self._labelling.unlabelled().values()})
        self._report_unknown(self._labelling.unlabelled())
        self._failure = None
        if self._failures == failures:
            self._failures = 0

    def _label(self, endpoint_id: EndpointId, container: Container) -> None:
        try:
            self._labelling.label(endpoint_id, container.name, container.labels, container.readiness)
        except HawseError as err:
            fault = f"container {container.name}: its endpoint stays without labels: {err}"
            if self._faults.get(endpoint_id) != fault:
                log.warning(
                    "endpoint cannot be labelled",
                    extra={"endpoint_id": endpoint_id, "container": container.name, "reason": str(err)},
                )
            self._faults[endpoint_id] = fault
            if not isinstance(err, InvalidInput):
                self._retry_soon()
        else:
            self._faults.pop(endpoint_id, None)

    def _report_unknown(self, unlabelled: Mapping[EndpointId, Endpoint]) -> None:
        now = self._clock.now()
        for endpoint in unlabelled.values():
            waits = endpoint.sandbox_key is not None and not endpoint.own_labels
            if not waits or endpoint.endpoint_id in self._faults:
                continue
            if age_s(now, endpoint.created_at) >= UNKNOWN_S:
                self._faults[endpoint.endpoint_id] = (
                    f"endpoint {endpoint.endpoint_id[:12]} stays without labels: Docker knows no container of it"
                )
            else:
                self._retry_soon()

    def _forget_gone(self) -> None:
        """Drop what is kept of endpoints that are gone, and the problems of those that have been found."""
        present = self._labelling.endpoint_ids()
        self._by_name = {ident: container for ident, container in self._by_name.items() if ident in present}
        waiting = self._labelling.unlabelled()
        self._faults = {ident: fault for ident, fault in self._faults.items() if ident in waiting}

    def _failed(self, reason: str) -> None:
        failure = f"labels of containers cannot be read: {reason}"
        if failure != self._failure:
            log.warning("labels of containers cannot be read, it is tried again", extra={"reason": reason})
        self._failure = failure
        self._retry_soon()

    def _retry_soon(self) -> None:
        self._failures += 1
        retry_at_s = self._clock.monotonic_s() + self._retry.delay_s(self._failures)
        self._resync_at_s = min(self._resync_at_s, retry_at_s)
