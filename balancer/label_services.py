"""Services that the label ``hawse.service`` makes, without a Swarm.

1. Every node works out what the labels of all endpoints say (:mod:`balancer.label_plan`), and writes the records of
   those services of which it has an endpoint itself. Nodes that know the same write the same.
2. A record is made together with its address, in one transaction that succeeds only if there is no record yet: two
   nodes that come at once end with one address.
3. Record and address stay as long as an endpoint says the name, and ten minutes longer: whoever replaces a container
   finds the address that clients know. Then the cluster's leader removes both.
4. A record whose address is not its own any more (its network was removed, and made again) gets a new address at once;
   so does one that cannot be read.

Rejected: an address that follows from the name (it may be a container's already); a lock for the writer (a
transaction on what was read says the same, and nobody has to wait for a lock that a dead node has).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from balancer.label_plan import LabelPlan, WantedService, plan_services
from balancer.views import read_service
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.store import Compare, Delete, KeyValue, Op, Put, Store, absent, unchanged
from kvstore.view_worker import ViewWorker
from kvstore.watcher import Change, Entry, View
from model.addresses import IPAddress, IPNetwork, service_holder
from model.clock import Clock, SystemClock
from model.endpoints import Endpoint
from model.errors import Conflict, HawseError, InvalidInput, StoreError
from model.ids import NodeName, ServiceId
from model.labels import AFFINITY_LABEL, SERVICE_LABEL
from model.networks import Network
from model.overdue import Overdue
from model.services import Service, ServiceSource, VirtualAddress

log = logging.getLogger(__name__)

GRACE_S: Final = 600.0
"""How long a service stays of which no container says the name."""


class VirtualAddresses(Protocol):
    """:class:`ipam.service.Ipam`; every method raises StoreError."""

    def request_virtual(
        self, pool: IPNetwork, holder: str, compare: Compare, record: Callable[[IPAddress], Put]
    ) -> int | None:
        """Grant a virtual address together with a record; None when the record is not what it was.

        Raises:
            Exhausted: no address is left.
            PoolNotFound: the pool does not exist.
        """
        ...

    def virtual_item(self, pool: IPNetwork, address: IPAddress, holder: str) -> KeyValue | None:
        """The key of a virtual address, if this holder has it."""
        ...

    def virtual_addresses(self) -> Sequence[tuple[IPNetwork, IPAddress, str]]:
        """All virtual addresses, each with its holder."""
        ...

    def release_hold(self, pool: IPNetwork, address: IPAddress, holder: str) -> None:
        """Take a holder off an address."""
        ...


class LabelServices:
    """Writes the records of services of labels.

    Args:
        store: the cluster's state.
        services: view of all services; not started yet.
        endpoints: view of all endpoints; not started yet.
        networks: view of all networks; not started yet.
        addresses: where virtual addresses come from.
        node: this node.
        grace_s: how long a service stays of which no container says the name.
        backoff: waits after an error.
        clock: time.
    """

    def __init__(
        self,
        store: Store,
        services: View[Service],
        endpoints: View[Endpoint],
        networks: View[Network],
        *,
        addresses: VirtualAddresses,
        node: NodeName,
        grace_s: float = GRACE_S,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._store = store
        self._services = services
        self._endpoints = endpoints
        self._networks = networks
        self._addresses = addresses
        self._node = node
        self._unused: Overdue[ServiceId] = Overdue(grace_s, clock.monotonic_s)
        self._orphans: Overdue[tuple[IPNetwork, IPAddress, str]] = Overdue(grace_s, clock.monotonic_s)
        self._plan = LabelPlan()
        self._failures: tuple[str, ...] = ()
        self._worker = ViewWorker(
            "services of labels", self._write, (services, endpoints, networks), clock=clock, backoff=backoff
        )
        services.subscribe(lambda _: self._worker.mark())
        endpoints.subscribe(self._on_endpoints)

    def start(self) -> None:
        """Begin to write."""
        self._worker.start()

    def stop(self) -> None:
        """Write no more."""
        self._worker.stop()

    def warnings(self) -> Sequence[str]:
        """What is wrong with labels of the cluster's containers, a sentence each."""
        return self._plan.warnings

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        work = self._worker.health
        if work.failures and not self._failures:
            return [f"services of labels are not recorded: {work.error}"]
        return self._failures

    def collect(self) -> None:
        """Remove services whose name no container has said for a while, and addresses that no service has.

        For the leader, regularly.

        Raises:
            StoreError: etcd is away; it is for the next look.
        """
        if not (self._services.synced and self._endpoints.synced and self._networks.synced):
            return
        wanted = self._work_out().services
        known = {
            entry.value.service_id: entry
            for entry in self._services.items().values()
            if entry.value.source is ServiceSource.LABEL and entry.value.service_id not in wanted
        }
        overdue = set(self._unused.look(known))
        for ident, entry in known.items():
            # With its network the address went too.
            if ident in overdue or not self._has_network(entry.value):
                self._remove(entry)
        # Somebody may have deleted a record by hand.
        used = {
            (virtual.network, virtual.address, service_holder(entry.value.service_id))
            for entry in self._services.items().values()
            for virtual in entry.value.addresses
        }
        held = self._addresses.virtual_addresses()
        for pool, address, holder in self._orphans.look(one for one in held if one not in used):
            log.warning("releasing address, no service has it", extra={"address": str(address), "holder": holder})
            self._addresses.release_hold(pool, address, holder)

    def _on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        if any(_labels(change.old) != _labels(change.new) for change in changes):
            self._worker.mark()

    def _work_out(self) -> LabelPlan:
        swarm = {
            (virtual.network, entry.value.name)
            for entry in self._services.items().values()
            if entry.value.source is ServiceSource.SWARM
            for virtual in entry.value.addresses
        }
        return plan_services((entry.value for entry in self._endpoints.items().values()), swarm)

    def _write(self, *, everything: bool) -> None:  # noqa: ARG002  # all is looked at anyway
        self._plan = self._work_out()
        failures = []
        error: HawseError | None = None
        for wanted in self._plan.services.values():
            if self._node not in wanted.nodes:
                continue
            try:
                self._ensure(wanted)
            except StoreError:
                self._failures = ()
                raise
            except HawseError as err:
                # One that cannot be made keeps no other from being made.
                failures.append(f"service {wanted.name} in network {wanted.network} is not served: {err}")
                error = err
        self._failures = tuple(failures)
        if error is not None:
            raise error

    def _ensure(self, wanted: WantedService) -> None:
        key = keys.service(wanted.service_id)
        entry = self._services.get(key)
        if entry is None:
            compare = self._unreadable_or_absent(key)
            if compare is not None and not self._make(wanted, compare) and compare != absent(key):
                # One that cannot be read comes as no change when somebody else has changed it.
                raise Conflict(f"its record {key} cannot be read, and was changed just now")
            return
        if not self._has_address(entry.value):
            self._make(wanted, unchanged(entry.item))
            return
        service = replace(entry.value, ports=wanted.ports, affinity=wanted.affinity)
        if service == entry.value or service.source is not ServiceSource.LABEL:
            return
        # When another was faster, its write comes as a change, and this is looked at again.
        if self._store.txn([unchanged(entry.item)], [Put(key, encode(service))]).succeeded:
            log.info("service of labels changed", extra={"service": service.service_id})

    def _unreadable_or_absent(self, key: str) -> Compare | None:
        """What a record is that the view does not show; None: it is a good one, and comes as a change."""
        item = self._store.get(key)
        if item is None:
            return absent(key)
        try:
            read_service(item)
        except InvalidInput:
            # Nobody else would put it right.
            return unchanged(item)
        return None

    def _make(self, wanted: WantedService, compare: Compare) -> bool:
        def record(address: IPAddress) -> Put:
            service = Service(
                service_id=wanted.service_id,
                name=wanted.name,
                source=ServiceSource.LABEL,
                addresses=(VirtualAddress(network=wanted.network, address=address),),
                ports=wanted.ports,
                affinity=wanted.affinity,
            )
            return Put(compare.key, encode(service))

        holder = service_holder(wanted.service_id)
        made = self._addresses.request_virtual(wanted.network, holder, compare, record) is not None
        if made:
            log.info("service of labels made", extra={"service": wanted.service_id})
        return made

    def _has_address(self, service: Service) -> bool:
        holder = service_holder(service.service_id)
        return service.source is not ServiceSource.LABEL or all(
            self._addresses.virtual_item(virtual.network, virtual.address, holder) is not None
            for virtual in service.addresses
        )

    def _has_network(self, service: Service) -> bool:
        return any(self._networks.get(keys.network(virtual.network)) is not None for virtual in service.addresses)

    def _remove(self, entry: Entry[Service]) -> None:
        """Remove record and address in one moment, unless somebody has changed either."""
        compare, gone = [unchanged(entry.item)], [Delete(entry.item.key)]
        holder = service_holder(entry.value.service_id)
        for virtual in entry.value.addresses:
            item = self._addresses.virtual_item(virtual.network, virtual.address, holder)
            if item is not None:
                compare.append(unchanged(item))
                gone.append(Delete(item.key))
        ops: list[Op] = [*gone]
        if self._store.txn(compare, ops).succeeded:
            log.info("collecting service, no container says its name", extra={"service": entry.value.service_id})


def _labels(endpoint: Endpoint | None) -> object:
    """What counts of an endpoint here."""
    if endpoint is None or endpoint.labels is None or SERVICE_LABEL not in endpoint.labels:
        return None
    labels = endpoint.labels
    return labels[SERVICE_LABEL], labels.get(AFFINITY_LABEL), endpoint.container
