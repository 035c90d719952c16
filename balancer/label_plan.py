"""Which services the labels of the cluster's containers make: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from balancer.service_labels import describe, label_service_id, read_labels
from model.addresses import IPNetwork
from model.endpoints import Endpoint
from model.ids import NodeName, ServiceId
from model.labels import AFFINITY_LABEL, SERVICE_LABEL
from model.services import ServicePort


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedService:
    """A service as labels say it."""

    service_id: ServiceId
    name: str
    network: IPNetwork
    ports: tuple[ServicePort, ...]
    """Sorted."""
    affinity: bool
    nodes: frozenset[NodeName]
    """Who has a container that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """What all labels together say."""

    services: Mapping[ServiceId, WantedService] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What an operator should correct, a sentence each; sorted."""


@dataclass(slots=True)
class _Draft:
    name: str
    first: Endpoint
    affinity: bool
    ports: dict[tuple[int, str], tuple[ServicePort, Endpoint]] = field(default_factory=dict)
    nodes: set[NodeName] = field(default_factory=set)


def plan_services(
    endpoints: Iterable[Endpoint], swarm_services: Collection[tuple[IPNetwork, str]] = frozenset()
) -> LabelPlan:
    """Work out the services of a set of endpoints.

    Where containers contradict each other the one counts that was created first.

    Args:
        endpoints: all endpoints of the cluster.
        swarm_services: networks and names of the Swarm's services; those names are not for labels.
    """
    drafts: dict[ServiceId, _Draft] = {}
    warnings: set[str] = set()
    labelled = [one for one in endpoints if one.labels and SERVICE_LABEL in one.labels]
    for endpoint in sorted(labelled, key=lambda one: (one.created_at, one.endpoint_id)):
        labels = read_labels(endpoint)
        warnings.update(f"{_whose(endpoint)}: {problem}" for problem in labels.problems)
        if not isinstance(endpoint.network, IPv4Network):
            warnings.add(f"{_whose(endpoint)}: {SERVICE_LABEL} does not count in {endpoint.network}, services are IPv4")
            continue
        for one in labels.ports:
            if (endpoint.network, one.name) in swarm_services:
                warnings.add(
                    f"{_whose(endpoint)}: {SERVICE_LABEL} names {one.name}, which is a service of the Swarm in "
                    f"network {endpoint.network}; the label does not count, choose another name"
                )
                continue
            ident = label_service_id(endpoint.network, one.name)
            draft = drafts.setdefault(ident, _Draft(one.name, endpoint, labels.affinity))
            draft.nodes.add(endpoint.node)
            if draft.affinity != labels.affinity:
                warnings.add(
                    f"{_whose(endpoint)}: service {one.name} has {_affinity(draft.affinity)}, as "
                    f"{_whose(draft.first)} says, which was created first, not {_affinity(labels.affinity)}"
                )
            port, said_by = draft.ports.setdefault((one.port.port, one.port.protocol), (one.port, endpoint))
            if port != one.port:
                warnings.add(
                    f"{_whose(endpoint)}: {describe(one)} leads to port {port.target_port}, as {_whose(said_by)} says, "
                    f"which was created first, not to {one.port.target_port}; this container gets no connections there"
                )
    return LabelPlan(
        services={ident: _service(ident, draft) for ident, draft in drafts.items()}, warnings=tuple(sorted(warnings))
    )


def _service(ident: ServiceId, draft: _Draft) -> WantedService:
    ports = sorted((port for port, _ in draft.ports.values()), key=lambda port: (port.port, port.protocol))
    return WantedService(
        service_id=ident,
        name=draft.name,
        network=draft.first.network,
        ports=tuple(ports),
        affinity=draft.affinity,
        nodes=frozenset(draft.nodes),
    )


def _whose(endpoint: Endpoint) -> str:
    name = f"container {endpoint.container}" if endpoint.container else f"endpoint {endpoint.endpoint_id[:12]}"
    return f"{name} on node {endpoint.node}"


def _affinity(affinity: bool) -> str:  # noqa: FBT001
    return f"{AFFINITY_LABEL}={str(affinity).lower()}"
