"""Who answers for which service, worked out of what the cluster's records say: pure, but for what it remembers.

A backend is an endpoint whose record is there, on any node: who has an address is never taken from the Swarm alone.

==========  =================================================================================================
source      gets new connections
==========  =================================================================================================
Swarm       a task that the Swarm calls active, at whose address there is an endpoint that is not ``unhealthy``
label       an endpoint in the service's network whose label says so and that is not ``unhealthy``
both        unless its host is lost
==========  =================================================================================================

What is known is kept by address and by service, so that a change costs the services that it concerns.
"""

from __future__ import annotations

import functools
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final, TypeAlias, TypeVar

from balancer import maglev
from balancer.service_labels import label_service_id, names_of, read_labels
from datapath.api import Backend, Balancing, Frontend
from model.addresses import IPAddress, IPNetwork
from model.endpoints import Endpoint
from model.ids import NodeName, ServiceId, Vni
from model.networks import Network
from model.policies import PORT_PROTOCOLS
from model.service_answers import BackendAnswer, BackendState, ServiceAnswer
from model.services import Service, ServicePort, ServiceSource, ServiceTask, VirtualAddress

K = TypeVar("K")
V = TypeVar("V")

Place: TypeAlias = tuple[IPNetwork, IPAddress]

EVERY_PORT: Final = ServicePort(port=0, protocol="", target_port=0)
"""Of a service that lists none."""

_PROTOCOLS: Final = {protocol.name.lower(): protocol.value for protocol in PORT_PROTOCOLS}
_PORTS: Final = range(1, 65536)

_BEFORE_IT_RUNS: Final = frozenset(
    {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"}
)
"""A task's states; https://docs.docker.com/engine/swarm/how-swarm-mode-works/swarm-task-states/"""
_STILL_RUNS: Final = frozenset({"running", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """Who may answer at one port of a service."""

    name: str
    node: str
    address: IPAddress
    port: int
    state: BackendState


@dataclass(frozen=True, slots=True)
class Served:
    """What the kernel is told of one service."""

    frontends: Mapping[Frontend, Balancing] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class ServiceTable:
    """Services, endpoints and networks as they are known. Not safe from several threads."""

    def __init__(self) -> None:
        self._services: dict[ServiceId, Service] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._vnis: dict[IPNetwork, Vni] = {}
        self._lost: frozenset[NodeName] = frozenset()
        self._at: defaultdict[Place, set[str]] = defaultdict(set)
        """Keys of endpoints by their addresses."""
        self._labelled: defaultdict[ServiceId, set[str]] = defaultdict(set)
        """Keys of endpoints by the services that their labels name."""
        self._concerned: defaultdict[Place, set[ServiceId]] = defaultdict(set)
        """Services by the addresses of their tasks, and by their own."""

    def services(self) -> Iterable[ServiceId]:
        """Every service that is known."""
        return self._services.keys()

    def set_networks(self, networks: Iterable[Network]) -> None:
        """Know exactly these networks."""
        self._vnis = {network.pool: network.vni for network in networks}

    def set_lost(self, nodes: Iterable[NodeName]) -> None:
        """Know exactly these hosts to be lost."""
        self._lost = frozenset(nodes)

    def set_services(self, services: Mapping[ServiceId, Service]) -> None:
        """Know exactly these services."""
        for ident in [*self._services]:
            if ident not in services:
                self.set_service(ident, None)
        for ident, service in services.items():
            self.set_service(ident, service)

    def set_service(self, ident: ServiceId, service: Service | None) -> None:
        """Know a service as it is now; None: there is none."""
        known = self._services.pop(ident, None)
        if known is not None:
            for place in _places(known):
                _discard(self._concerned, place, ident)
        if service is not None:
            self._services[ident] = service
            for place in _places(service):
                self._concerned[place].add(ident)

    def set_endpoints(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Know exactly these endpoints, by key."""
        for key in [*self._endpoints]:
            if key not in endpoints:
                self.set_endpoint(key, None)
        for key, endpoint in endpoints.items():
            self.set_endpoint(key, endpoint)

    def set_endpoint(self, key: str, endpoint: Endpoint | None) -> set[ServiceId]:
        """Know an endpoint as it is now; None: there is none. Returns the services that this may concern."""
        known = self._endpoints.pop(key, None)
        if endpoint is not None:
            self._endpoints[key] = endpoint
        if known == endpoint:
            return set()
        concerned = set()
        if known is not None:
            for place in _own_places(known):
                _discard(self._at, place, key)
                concerned |= self._concerned.get(place, set())
            for ident in _labelled_services(known):
                _discard(self._labelled, ident, key)
                concerned.add(ident)
        if endpoint is not None:
            for place in _own_places(endpoint):
                self._at[place].add(key)
                concerned |= self._concerned.get(place, set())
            for ident in _labelled_services(endpoint):
                self._labelled[ident].add(key)
                concerned.add(ident)
        return concerned & self._services.keys()

    def serve(self, ident: ServiceId, before: Served | None = None) -> Served:
        """Work out what the kernel is to be told of a service; what is as it was ``before`` is the same object."""
        service = self._services.get(ident)
        if service is None:
            return Served()
        frontends: dict[Frontend, Balancing] = {}
        problems = []
        for virtual in service.addresses:
            vni = self._vnis.get(virtual.network)
            if vni is None or not isinstance(virtual.address, IPv4Address):
                continue
            problem = self._taken(service, virtual)
            if problem:
                problems.append(problem)
                continue
            for port in _ports(service):
                frontend = Frontend(
                    address=virtual.address, vni=vni, port=port.port, protocol=_protocol_number(port.protocol)
                )
                backends = _backends(self._candidates(service, virtual, port))
                known = before.frontends.get(frontend) if before else None
                if known is None or (known.backends, known.affinity) != (backends, service.affinity):
                    known = _balancing(backends, affinity=service.affinity)
                frontends[frontend] = known
        return Served(frontends, tuple(problems))

    def answers(self, served: Mapping[ServiceId, Served]) -> Sequence[ServiceAnswer]:
        """Say of every service, in each of its networks, who answers; sorted by name and network."""
        found = [
            self._answer(service, virtual, served.get(ident, Served()))
            for ident, service in self._services.items()
            for virtual in service.addresses
        ]
        return sorted(found, key=lambda answer: (answer.name, answer.network.version, answer.network, answer.vip))

    def _answer(self, service: Service, virtual: VirtualAddress, served: Served) -> ServiceAnswer:
        backends: list[BackendAnswer] = []
        for port in _ports(service):
            shares = _shares(served, virtual, port)
            backends += [
                BackendAnswer(
                    name=one.name,
                    node=one.node,
                    address=one.address,
                    port=one.port,
                    state=one.state,
                    share=shares.get(one.address, 0.0) if one.state is BackendState.ACTIVE else 0.0,
                )
                for one in self._candidates(service, virtual, port)
            ]
        problem = self._taken(service, virtual)
        if virtual.network not in self._vnis:
            problem = f"there is no hawse network {virtual.network}"
        elif not problem and not any(one.state is BackendState.ACTIVE for one in backends):
            problem = "nobody answers, connections are refused"
        return ServiceAnswer(
            service_id=service.service_id,
            name=service.name,
            source=service.source,
            network=virtual.network,
            vip=virtual.address,
            ports=service.ports,
            affinity=service.affinity,
            backends=tuple(sorted(backends, key=_answer_order)),
            problem=problem,
        )

    def _taken(self, service: Service, virtual: VirtualAddress) -> str:
        """Why an address must not be served; empty: it may."""
        keys = self._at.get((virtual.network, virtual.address))
        if not keys:
            return ""
        endpoint = self._endpoints[min(keys)]
        whose = endpoint.container or f"endpoint {endpoint.endpoint_id[:12]}"
        return (
            f"service {service.name} in network {virtual.network} is not served: its address {virtual.address} is "
            f"that of {whose} on node {endpoint.node}"
        )

    def _candidates(self, service: Service, virtual: VirtualAddress, port: ServicePort) -> Iterator[_Candidate]:
        match service.source:
            case ServiceSource.SWARM:
                yield from self._tasks(service, virtual, port)
            case ServiceSource.LABEL:
                yield from self._labelled_ones(service, virtual, port)

    def _tasks(self, service: Service, virtual: VirtualAddress, port: ServicePort) -> Iterator[_Candidate]:
        for task in service.tasks:
            for address in task.addresses:
                if address in virtual.network:
                    endpoint = self._endpoint_at(virtual.network, address)
                    yield _Candidate(
                        name=task.name,
                        node=task.node,
                        address=address,
                        port=port.target_port,
                        state=self._task_state(task, endpoint),
                    )

    def _labelled_ones(self, service: Service, virtual: VirtualAddress, port: ServicePort) -> Iterator[_Candidate]:
        for key in self._labelled.get(service.service_id, ()):
            endpoint = self._endpoints[key]
            if any(one.name == service.name and one.port == port for one in read_labels(endpoint).ports):
                for address in endpoint.addresses:
                    if address in virtual.network:
                        yield _Candidate(
                            name=endpoint.container or endpoint.endpoint_id[:12],
                            node=endpoint.node,
                            address=address,
                            port=port.target_port,
                            state=self._endpoint_state(endpoint),
                        )

    def _task_state(self, task: ServiceTask, endpoint: Endpoint | None) -> BackendState:
        if task.active:
            return BackendState.GONE if endpoint is None else self._endpoint_state(endpoint)
        if task.state in _BEFORE_IT_RUNS:
            return BackendState.STARTING
        # Of a task that has ended the address may be another's by now.
        ended = task.state not in _STILL_RUNS or endpoint is None or endpoint.node in self._lost
        return BackendState.GONE if ended else BackendState.DRAINING

    def _endpoint_state(self, endpoint: Endpoint) -> BackendState:
        if endpoint.node in self._lost:
            return BackendState.GONE
        return BackendState.UNHEALTHY if endpoint.unhealthy else BackendState.ACTIVE

    def _endpoint_at(self, network: IPNetwork, address: IPAddress) -> Endpoint | None:
        # Of two the newer one counts, as in cluster.remotes: the other was left over.
        keys = self._at.get((network, address), ())
        return max((self._endpoints[key] for key in keys), key=_age, default=None)


def _ports(service: Service) -> tuple[ServicePort, ...]:
    """The ports that it is asked for at; what another version or a hand has written and nobody knows is left out."""
    known = (
        port
        for port in service.ports
        if port.protocol in _PROTOCOLS and port.port in _PORTS and port.target_port in _PORTS
    )
    return tuple(known) if service.ports else (EVERY_PORT,)


def _protocol_number(protocol: str) -> int:
    return _PROTOCOLS.get(protocol, 0)


def _backends(candidates: Iterable[_Candidate]) -> tuple[Backend, ...]:
    active = {
        Backend(one.address, one.port)
        for one in candidates
        if one.state is BackendState.ACTIVE and isinstance(one.address, IPv4Address)
    }
    return tuple(sorted(active, key=lambda backend: backend.address))


def _balancing(backends: tuple[Backend, ...], *, affinity: bool) -> Balancing:
    table = _table(tuple(str(backend.address) for backend in backends))
    return Balancing(backends=backends, table=table, affinity=affinity)


@functools.lru_cache(maxsize=64)
def _table(addresses: tuple[str, ...]) -> array[int]:
    """By address, so that a client that keeps its backend keeps it at all ports; the ports of a service share it."""
    return maglev.table(addresses, maglev.slots_for(len(addresses)))


def _shares(served: Served, virtual: VirtualAddress, port: ServicePort) -> dict[IPAddress, float]:
    for frontend, balancing in served.frontends.items():
        asked = (frontend.address, frontend.port, frontend.protocol)
        if asked == (virtual.address, port.port, _protocol_number(port.protocol)) and balancing.table:
            counted = Counter(balancing.table)
            return {
                backend.address: counted[place] / len(balancing.table)
                for place, backend in enumerate(balancing.backends)
            }
    return {}


def _answer_order(answer: BackendAnswer) -> tuple[str, int, int, int]:
    return answer.name, answer.address.version, int(answer.address), answer.port


def _age(endpoint: Endpoint) -> tuple[str, str, str]:
    return endpoint.created_at, endpoint.node, endpoint.endpoint_id


def _places(service: Service) -> Iterator[Place]:
    """Addresses at which an endpoint concerns a service: those of its tasks, and its own."""
    for virtual in service.addresses:
        yield virtual.network, virtual.address
        for task in service.tasks:
            for address in task.addresses:
                if address in virtual.network:
                    yield virtual.network, address


def _own_places(endpoint: Endpoint) -> Iterator[Place]:
    for address in endpoint.addresses:
        yield endpoint.network, address


def _labelled_services(endpoint: Endpoint) -> list[ServiceId]:
    if not isinstance(endpoint.network, IPv4Network):
        return []
    return [label_service_id(endpoint.network, name) for name in names_of(read_labels(endpoint))]


def _discard(index: defaultdict[K, set[V]], key: K, value: V) -> None:
    known = index.get(key)
    if known is not None:
        known.discard(value)
        if not known:
            del index[key]
