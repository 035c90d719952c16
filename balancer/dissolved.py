"""What a Swarm has left behind that is no more; removed by the cluster's leader.

Only a manager's agent writes what the Swarm says, so after the last manager has left nobody would take anything away:
hosts would stay lost, and names and addresses taken.

1. Nobody has followed the Swarm for a minute (a hand-over takes half of that): a host whose agent runs is not lost.
2. Nobody has for ten minutes: services go that no container answers for. A Swarm whose managers have no majority is
   followed by nobody either, but its containers run, and their services stay; one that goes for want of containers is
   written again when the Swarm is followed again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balancer.registry import LostNodes, ServiceRegistry
from kvstore import keys
from kvstore.store import Store, absent
from model.overdue import Overdue
from model.services import LostNode, Service, ServiceSource

if TYPE_CHECKING:
    from kvstore.watcher import View
    from model.clock import Clock
    from model.endpoints import Endpoint
    from model.ids import NodeName

log = logging.getLogger(__name__)

LOST_S: Final = 60.0
"""How long after the Swarm was followed last a host whose agent runs stays lost."""
SERVICES_S: Final = 600.0
"""How long after that services stay that no container answers for."""


class DissolvedSwarm:
    """The collector. Call :meth:`collect` regularly from one thread, while this node leads.

    Args:
        store: the cluster's state.
        services: where services are written.
        lost: where lost nodes are written.
        service_view: view of all services.
        lost_view: view of all lost nodes.
        alive: view of the nodes whose agent runs.
        endpoints: view of all endpoints.
        clock: time.
    """

    def __init__(
        self,
        store: Store,
        *,
        services: ServiceRegistry,
        lost: LostNodes,
        service_view: View[Service],
        lost_view: View[LostNode],
        alive: View[NodeName],
        endpoints: View[Endpoint],
        clock: Clock,
    ) -> None:
        self._store = store
        self._services = services
        self._lost = lost
        self._service_view = service_view
        self._lost_view = lost_view
        self._alive = alive
        self._endpoints = endpoints
        self._clock = clock
        self._unfollowed: dict[float, Overdue[str]] = {
            limit_s: Overdue(limit_s, clock.monotonic_s) for limit_s in (LOST_S, SERVICES_S)
        }
        self._looked_at_s: float | None = None

    def collect(self) -> None:
        """Look once. Does nothing while a view may be out of date.

        Raises:
            StoreError: etcd is away; it is for the next look.
            CasFailed: somebody follows the Swarm again.
        """
        now_s = self._clock.monotonic_s()
        if self._looked_at_s is not None and now_s - self._looked_at_s > LOST_S:
            # This node has not led, or not known: nobody knows who followed the Swarm meanwhile.
            self._look(followed=True)
        if not all(view.synced for view in (self._service_view, self._lost_view, self._alive, self._endpoints)):
            return
        followed = not self._has_left_something() or self._store.get(keys.SWARM_LEADER) is not None
        self._looked_at_s = now_s
        overdue = self._look(followed=followed)
        guard = [absent(keys.SWARM_LEADER)]
        if LOST_S in overdue:
            names = self._lost.names()
            back = names & {entry.value for entry in self._alive.items().values()}
            if back and self._lost.replace(names - back, guard=guard):
                log.warning(
                    "nobody follows the Swarm, hosts that are there are not lost", extra={"nodes": sorted(back)}
                )
        if SERVICES_S in overdue:
            removed = self._services.replace(ServiceSource.SWARM, (), keeps=self._answered(), guard=guard)
            if removed:
                log.warning("collecting services, nobody follows the Swarm", extra={"services": removed})

    def _has_left_something(self) -> bool:
        return bool(self._lost_view.items()) or any(
            entry.value.source is ServiceSource.SWARM for entry in self._service_view.items().values()
        )

    def _look(self, *, followed: bool) -> set[float]:
        """Which of the limits are over."""
        subjects = () if followed else (keys.SWARM_LEADER,)
        return {limit_s for limit_s, one in self._unfollowed.items() if one.look(subjects)}

    def _answered(self) -> Callable[[Service], bool]:
        """Whether a container of a service is there. The address alone may be another one's by now."""
        containers = defaultdict(set)
        for entry in self._endpoints.items().values():
            for address in entry.value.addresses:
                containers[address].add(entry.value.container)

        def answered(service: Service) -> bool:
            return any(
                not name or task.task_id in name or name.startswith(f"{service.name}.")
                for task in service.tasks
                for address in task.addresses
                for name in containers.get(address, ())
            )

        return answered
