"""Names for what the kernel reports as numbers: endpoints by address, labels, rules and policies by number."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

from datapath.api import Direction
from kvstore.watcher import Change, View
from model.addresses import IPAddress
from model.clock import Clock
from model.endpoints import Endpoint
from model.identities import CIDR_IDENTITY_BASE, reserved_labels
from model.ids import IDENTITY_INIT, IDENTITY_WORLD, IdentityId
from model.keys_by_address import KeysByAddress
from model.labels import Labels
from model.policy_answers import RuleReference
from model.services import Service
from observe.flow import KnownEndpoint, ServiceName

REMEMBER_S: Final = 600.0
"""How long an endpoint that is gone still gives packets its name."""
REMEMBER_MAX: Final = 4096
"""How many of them at most."""


class FlowNames(Protocol):
    """Who has an address."""

    def endpoint_at(self, vni: int, address: IPAddress, identity: int) -> KnownEndpoint | None:
        """Find the endpoint that a packet of this network, address and identity is of.

        For a while one that is gone is found too. Asked for both ends of every reported packet, so it has to be cheap.
        """
        ...


class ServiceNames(Protocol):
    """Which service has an address."""

    def service_at(self, address: IPAddress) -> ServiceName | None:
        """Find the service whose virtual address it is, or one of whose tasks has it; as cheap as above."""
        ...


class RuleNames(Protocol):
    """What the policy's numbers stand for. All methods may be called from any thread and answer from memory."""

    def rule(self, number: int) -> RuleReference | None:
        """Find a rule; None when it is not known."""
        ...

    def selecting(self, identity: int, direction: Direction) -> tuple[str, ...]:
        """Name the policies that select an identity and close this direction for it."""
        ...

    def labels_of(self, identity: int) -> Labels:
        """Find the labels of an identity, reserved ones too; empty when they are not known."""
        ...


def identity_labels(rules: RuleNames, identity: int) -> Labels:
    """Find the labels of an identity; those of an address prefix that have no name are the world's."""
    labels = rules.labels_of(identity)
    if labels:
        return labels
    return reserved_labels(IDENTITY_WORLD if identity >= CIDR_IDENTITY_BASE else IdentityId(identity))


class EndpointNames:
    """The endpoints of the cluster by address, those that are gone included for :data:`REMEMBER_S`.

    A container's last packets are reported after its endpoint has been removed, and its address may already be
    another's: of two, the one with the packet's identity is meant.

    Args:
        view: of the endpoints' keys; not started yet.
        clock: says when something is forgotten.
    """

    def __init__(self, view: View[Endpoint], clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = KeysByAddress()
        self._known: dict[str, KnownEndpoint] = {}
        """Those that were asked for; few of a large cluster send packets to this node."""
        self._gone: dict[tuple[int, IPAddress], tuple[KnownEndpoint, float]] = {}
        view.subscribe(self.on_endpoints)

    def endpoint_at(self, vni: int, address: IPAddress, identity: int) -> KnownEndpoint | None:
        """See :meth:`FlowNames.endpoint_at`."""
        present = self._present(vni, address)
        if present is not None and present.endpoint.identity == identity:
            return present
        # No lock: the interpreter reads and writes one entry of a dict at once, and one entry is all that is asked.
        found = self._gone.get((vni, address))
        if found is None or self._clock.monotonic_s() - found[1] > REMEMBER_S:
            return present
        gone, _ = found
        # A new endpoint is `init` at first; that an old one was it too says nothing.
        if present is None or (identity != IDENTITY_INIT and gone.endpoint.identity == identity):
            return gone
        return present

    def on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        """Take changes of the endpoint records."""
        with self._lock:
            for change in changes:
                self._take(change)
            self._forget()

    def _take(self, change: Change[Endpoint]) -> None:
        # In this order: who asks meanwhile, without the lock, finds the endpoint here or among those that are gone.
        kept = () if change.new is None else change.new.addresses
        self._keys.put(change.key, kept)
        known = self._known.get(change.key)
        if known is not None and change.new is not None:
            known.endpoint = change.new
        if change.old is not None:
            if change.new is None:
                self._leave(change.key, change.old)
            self._keys.discard(change.key, [address for address in change.old.addresses if address not in kept])

    def _present(self, vni: int, address: IPAddress) -> KnownEndpoint | None:
        for key in reversed(self._keys.at(address)):
            known = self._known.get(key) or self._look_up(key, address)
            if known is not None and known.endpoint.vni == vni and address in known.endpoint.addresses:
                return known
        return None

    def _look_up(self, key: str, address: IPAddress) -> KnownEndpoint | None:
        with self._lock:
            # Unless it has just been removed, or found by another thread.
            if key in self._keys.at(address) and key not in self._known:
                entry = self._view.get(key)
                if entry is not None:
                    self._known[key] = KnownEndpoint(entry.value)
            return self._known.get(key)

    def _leave(self, key: str, endpoint: Endpoint) -> None:
        known = self._known.pop(key, None) or KnownEndpoint(endpoint)
        now_s = self._clock.monotonic_s()
        for address in known.endpoint.addresses:
            position = (known.endpoint.vni, address)
            # Again at the end: the order is that of leaving.
            self._gone.pop(position, None)
            self._gone[position] = (known, now_s)

    def _forget(self) -> None:
        oldest_s = self._clock.monotonic_s() - REMEMBER_S
        while self._gone:
            position, (_, left_s) = next(iter(self._gone.items()))
            if left_s >= oldest_s and len(self._gone) <= REMEMBER_MAX:
                return
            del self._gone[position]


class ServiceAddresses(ServiceNames):
    """The addresses of the services: their own, and those of the tasks of the Swarm's.

    Addresses are those of one cluster, so none is of two networks. Containers that answer because of their labels say
    so in their endpoints.

    Args:
        view: of the services' keys; not started yet.
    """

    def __init__(self, view: View[Service]) -> None:
        self._names: dict[IPAddress, tuple[str, ServiceName]] = {}
        """With the key that says so. Replaced one by one, by the view's thread only: readers need no lock."""
        self._addresses: dict[str, frozenset[IPAddress]] = {}
        """Those of each key."""
        view.subscribe(self.on_services)

    def service_at(self, address: IPAddress) -> ServiceName | None:
        """See :meth:`ServiceNames.service_at`."""
        found = self._names.get(address)
        return None if found is None else found[1]

    def on_services(self, changes: Sequence[Change[Service]]) -> None:
        """Take changes of the services' records."""
        for change in changes:
            names = {} if change.new is None else _service_names(change.new)
            before = self._addresses.pop(change.key, frozenset())
            for address in before - names.keys():
                # By now it may be another service's.
                if self._names.get(address, ("",))[0] == change.key:
                    del self._names[address]
            self._names.update({address: (change.key, name) for address, name in names.items()})
            if names:
                self._addresses[change.key] = frozenset(names)


def _service_names(service: Service) -> dict[IPAddress, ServiceName]:
    task = ServiceName(name=service.name, virtual=False)
    own = ServiceName(name=service.name, virtual=True)
    names = dict.fromkeys((address for one in service.tasks for address in one.addresses), task)
    return names | dict.fromkeys((virtual.address for virtual in service.addresses), own)
