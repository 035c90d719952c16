"""Services and lost nodes in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from balancer.record_set import RecordSet
from balancer.views import read_service
from kvstore import keys
from kvstore.codec import decode
from kvstore.store import Compare, KeyValue, Store
from kvstore.watcher import View
from model.clock import Clock, rfc3339
from model.errors import NotFound
from model.ids import NodeName, ServiceId
from model.services import LostNode, Service, ServiceSource

log = logging.getLogger(__name__)


class ServiceRegistry:
    """The services of the cluster. Safe from any thread.

    Who writes: the Swarm's services one manager, the elected one; a service of labels every node that has it.

    Args:
        store: the cluster's state.
        view: of the services' keys.
    """

    def __init__(self, store: Store, view: View[Service]) -> None:
        self._records = RecordSet(store, view, read_service, "services")

    def problems(self) -> Sequence[str]:
        """Which services could not be written the last time, a sentence each."""
        return self._records.problems()

    def all(self) -> Sequence[Service]:
        """Every service, sorted by name and id.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        return sorted(self._records.all().values(), key=lambda service: (service.name, service.service_id))

    def get(self, ident: ServiceId) -> Service:
        """Find a service by its id.

        Raises:
            NotFound: there is none.
            StoreUnavailable: nothing has been read from the store yet.
        """
        service = self._records.all().get(keys.service(ident))
        if service is None:
            raise NotFound(f"there is no service {ident[:80]}")
        return service

    def put(self, service: Service) -> bool:
        """Write one service; False when it stands so already, or its id is another source's.

        Raises:
            CasFailed: others changed it, again and again.
            StoreUnavailable: nothing has been read from the store yet, or it cannot be written.
        """
        wanted = {keys.service(service.service_id): service}
        return bool(self._records.write(wanted, owned=_of(service.source)))

    def remove(self, ident: ServiceId, source: ServiceSource) -> bool:
        """Remove one service of a source; False when there is none.

        Raises:
            CasFailed: others changed it, again and again.
            StoreUnavailable: nothing has been read from the store yet, or it cannot be written.
        """
        return bool(self._records.write({keys.service(ident): None}, owned=_of(source)))

    def replace(
        self,
        source: ServiceSource,
        services: Iterable[Service],
        *,
        keeps: Callable[[Service], bool] = lambda _: False,
        guard: Sequence[Compare] = (),
    ) -> int:
        """Make these all the services of a source; returns how many records were written or removed.

        Services of other sources are not touched.

        Args:
            source: whose services these are.
            services: all of them.
            keeps: whether a record stays as it is, whatever ``services`` say of it.
            guard: nothing is written unless this holds as well: that this node is still the one to write.

        Raises:
            CasFailed: ``guard`` does not hold, or others changed the same services, again and again.
            StoreUnavailable: nothing has been read from the store yet, or it cannot be written.
        """
        known = {key: service for key, service in self._records.all().items() if service.source is source}
        wanted: dict[str, Service | None] = dict.fromkeys(known)
        wanted |= {keys.service(service.service_id): service for service in services}
        kept = {key for key, service in known.items() if keeps(service)}
        changes = {key: service for key, service in wanted.items() if key not in kept} if kept else wanted
        return self._records.write(changes, owned=_of(source), guard=guard)


class LostNodes:
    """The hosts that the Swarm has given up. Safe from any thread.

    Args:
        store: the cluster's state.
        view: of their keys.
        clock: for the time in records.
    """

    def __init__(self, store: Store, view: View[LostNode], clock: Clock) -> None:
        self._records = RecordSet(store, view, _read_lost, "lost nodes")
        self._clock = clock

    def names(self) -> frozenset[NodeName]:
        """Every node that is lost.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        return frozenset(lost.node for lost in self._records.all().values())

    def replace(self, names: Collection[NodeName], *, guard: Sequence[Compare] = ()) -> int:
        """Make these all the lost nodes; returns how many records were written or removed.

        Raises:
            CasFailed: ``guard`` does not hold, or others changed the same records, again and again.
            StoreUnavailable: nothing has been read from the store yet, or it cannot be written.
        """
        known = self._records.all()
        since = rfc3339(self._clock.now())
        wanted: dict[str, LostNode | None] = dict.fromkeys(known)
        for name in names:
            key = keys.lost(name)
            wanted[key] = known.get(key) or LostNode(node=name, since=since)
        written = self._records.write(wanted, guard=guard)
        if written:
            log.warning("the Swarm's view of hosts has changed", extra={"lost": sorted(names)})
        return written


def _of(source: ServiceSource) -> Callable[[Service], bool]:
    return lambda service: service.source is source


def _read_lost(item: KeyValue) -> LostNode:
    return decode(LostNode, item.value, key=item.key)
