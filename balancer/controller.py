"""Keeps the kernel's services equal to what the cluster's records say.

1. The views of services, endpoints, networks and lost hosts say what changed; a thread of its own works out what that
   means (:mod:`balancer.service_table`) and hands the datapath all services. Only services that a change concerns are
   worked out anew, and only tables that change are written.
2. Nothing is written before all views have been read once: an agent that starts without etcd leaves the kernel as it
   was, and so does one that stops.
3. An error (also a map that is full) is followed by a backoff and by another attempt, at once when something changes.
   Until it works the kernel spreads connections as before.

Costs one table of Maglev for each service whose backends change, half a microsecond for each of its slots.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from balancer.service_table import Served, ServiceTable
from datapath.api import Balancing, Datapath, Frontend
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.view_worker import ViewWorker
from kvstore.watcher import Change, View
from model.clock import Clock, SystemClock
from model.endpoints import Endpoint
from model.errors import StoreUnavailable
from model.ids import ServiceId
from model.networks import Network
from model.service_answers import ServiceAnswer, ServiceHealth
from model.services import LostNode, Service

log = logging.getLogger(__name__)

_DELIVERED_S: Final = 1.0


class ServiceController:
    """Writes services to the datapath, and answers who answers. Safe from any thread.

    Args:
        datapath: the kernel of this node.
        services: view of all services; not started yet.
        endpoints: view of all endpoints; not started yet.
        networks: view of all networks; not started yet.
        lost: view of the lost hosts; not started yet.
        resync_s: at least this often everything is looked at.
        backoff: waits after an error.
        clock: time.
    """

    def __init__(
        self,
        datapath: Datapath,
        services: View[Service],
        endpoints: View[Endpoint],
        networks: View[Network],
        lost: View[LostNode],
        *,
        resync_s: float = 60.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        clock: Clock | None = None,
    ) -> None:
        self._datapath = datapath
        self._services = services
        self._endpoints = endpoints
        self._networks = networks
        self._lost = lost
        self._lock = threading.Lock()
        """Of what has changed."""
        self._changed_services: set[str] = set()
        self._changed_endpoints: set[str] = set()
        self._table_lock = threading.Lock()
        self._table = ServiceTable()
        self._served: dict[ServiceId, Served] = {}
        self._written: dict[Frontend, Balancing] = {}
        """What the kernel was told last."""
        self._applied = threading.Condition()
        self._applied_revision = 0
        self._worker = ViewWorker(
            "services",
            self._apply,
            (services, endpoints, networks, lost),
            clock=clock or SystemClock(),
            resync_s=resync_s,
            backoff=backoff,
        )
        services.subscribe(self._on_services)
        endpoints.subscribe(self._on_endpoints)
        networks.subscribe(self._on_networks)
        lost.subscribe(lambda _: self._worker.mark(everything=True))

    def start(self) -> None:
        """Begin to write; the datapath has to be started."""
        self._worker.start()

    def stop(self) -> None:
        """Write no more; the kernel stays as it is."""
        self._worker.stop()

    def services(self) -> Sequence[ServiceAnswer]:
        """Every service of the cluster, one answer for each of its networks, sorted by name.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        if not self._services.revision:
            raise StoreUnavailable("services are not known yet: the store has not been reached since the agent started")
        with self._table_lock:
            return self._table.answers(self._served)

    def health(self) -> ServiceHealth:
        """How the kernel follows, in figures."""
        work = self._worker.health
        with self._applied:
            applied_revision = self._applied_revision
        with self._table_lock:
            written = self._written
        return ServiceHealth(
            services=len({(frontend.address, frontend.vni) for frontend in written}),
            frontends=len(written),
            backends=sum(len(balancing.backends) for balancing in written.values()),
            applied_revision=applied_revision,
            failures=work.failures,
            error=work.error,
            last_apply_s=work.last_s,
        )

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        work = self._worker.health
        with self._table_lock:
            found = [problem for served in self._served.values() for problem in served.problems]
        if work.failures:
            found.append(
                f"services are not in the kernel as they stand, it spreads connections as before: {work.error}"
            )
        return sorted(found)

    def wait_applied(self, revision: int, timeout_s: float) -> bool:
        """Wait until every change of services up to a store revision is in the kernel."""
        with self._applied:
            return self._applied.wait_for(lambda: self._applied_revision >= revision, timeout_s)

    def resync(self) -> None:
        """Look at everything as soon as possible."""
        self._worker.mark(everything=True)

    def _on_services(self, changes: Sequence[Change[Service]]) -> None:
        with self._lock:
            self._changed_services.update(change.key for change in changes)
        self._worker.mark()

    def _on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        with self._lock:
            self._changed_endpoints.update(change.key for change in changes)
        self._worker.mark()

    def _on_networks(self, changes: Sequence[Change[Network]]) -> None:
        if any(change.old is None or change.new is None or change.old.vni != change.new.vni for change in changes):
            self._worker.mark(everything=True)

    def _apply(self, *, everything: bool) -> None:
        revision = self._services.revision
        told = self._services.wait_delivered(revision, _DELIVERED_S)
        with self._lock:
            services, self._changed_services = self._changed_services, set()
            endpoints, self._changed_endpoints = self._changed_endpoints, set()
        with self._table_lock:
            concerned = self._learn_all() if everything else self._learn(services, endpoints)
            changed = self._work_out(concerned)
            wanted = self._frontends() if changed or everything else self._written
        if changed or everything:
            self._datapath.replace_services(wanted)
            with self._table_lock:
                self._written = wanted
        if told:
            with self._applied:
                self._applied_revision = revision
                self._applied.notify_all()

    def _learn_all(self) -> set[ServiceId]:
        self._table.set_networks(entry.value for entry in self._networks.items().values())
        self._table.set_lost(entry.value.node for entry in self._lost.items().values())
        self._table.set_endpoints({key: entry.value for key, entry in self._endpoints.items().items()})
        self._table.set_services(
            {keys.parse_service(key): entry.value for key, entry in self._services.items().items()}
        )
        return {*self._table.services(), *self._served}

    def _learn(self, services: set[str], endpoints: set[str]) -> set[ServiceId]:
        concerned = set()
        for key in services:
            # The views are ahead of the changes they tell: what holds now counts.
            service = self._services.get(key)
            ident = keys.parse_service(key)
            self._table.set_service(ident, None if service is None else service.value)
            concerned.add(ident)
        for key in endpoints:
            endpoint = self._endpoints.get(key)
            concerned |= self._table.set_endpoint(key, None if endpoint is None else endpoint.value)
        return concerned

    def _work_out(self, concerned: set[ServiceId]) -> bool:
        """Work out what the kernel is to be told of some services; returns whether anything is new."""
        present = set(self._table.services())
        changed = False
        for ident in concerned:
            before = self._served.get(ident)
            if ident not in present:
                changed = self._served.pop(ident, None) is not None or changed
                continue
            after = self._table.serve(ident, before)
            self._served[ident] = after
            changed = changed or before is None or not _same(before.frontends, after.frontends)
        return changed

    def _frontends(self) -> dict[Frontend, Balancing]:
        return {
            frontend: balancing for served in self._served.values() for frontend, balancing in served.frontends.items()
        }


def _same(before: Mapping[Frontend, Balancing], after: Mapping[Frontend, Balancing]) -> bool:
    """Whether nothing has changed; what has not is the same object."""
    return before.keys() == after.keys() and all(before[frontend] is one for frontend, one in after.items())
