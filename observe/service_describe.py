"""From the agent's state to the documents of ``/v1/services``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from model.errors import StoreError
from model.service_answers import BackendAnswer, BackendState, ServiceAnswer
from model.services import ServicePort
from observe.order import network_order
from observe.service_document import (
    ServiceBackendDocument,
    ServiceDocument,
    ServiceNetworkDocument,
    ServicePortDocument,
    ServicesDocument,
    ServiceStatusDocument,
)
from observe.service_question import by_id, find_service
from observe.state import AgentState, DatapathStatus


class ServiceQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``/v1/services/{service}``."""

    service: Annotated[str, Meta(description="Name, id or virtual address; or the first characters of its id.")]


def services(state: AgentState) -> ServicesDocument:
    """Describe every service, by name."""
    found = sorted(
        by_id(state.balancing.services()).values(), key=lambda answers: (answers[0].name, answers[0].service_id)
    )
    return ServicesDocument(services=[_service(answers) for answers in found], warning=state.staleness())


def service(state: AgentState, question: ServiceQuestion) -> ServiceDocument:
    """Describe one service."""
    return _service(find_service(state.balancing.services(), question.service))


def service_status(state: AgentState, datapath: DatapathStatus) -> ServiceStatusDocument:
    """Describe services and published ports as this node's kernel has them, in short; answers without the store."""
    here = state.node()
    health = state.balancing.health()
    try:
        published_here = sum(len(one.published) for one in state.endpoints() if one.node == here)
    except StoreError:
        published_here = None
    return ServiceStatusDocument(
        translation=None if datapath.translation is None else datapath.translation.value,
        translation_reason=datapath.translation_reason,
        services=health.services,
        frontends=health.frontends,
        backends=health.backends,
        published_here=published_here,
        revision=health.applied_revision,
        failures=health.failures,
        last_apply_s=health.last_apply_s,
    )


def _service(answers: Sequence[ServiceAnswer]) -> ServiceDocument:
    first = answers[0]
    backends = [backend for answer in answers for backend in answer.backends]
    return ServiceDocument(
        id=first.service_id,
        name=first.name,
        source=first.source.value,
        ports=[_port(port) for port in first.ports],
        affinity=first.affinity,
        containers=len({_container(backend) for backend in backends}),
        active=len({_container(backend) for backend in backends if backend.state is BackendState.ACTIVE}),
        networks=[_network(answer) for answer in sorted(answers, key=lambda answer: network_order(answer.network))],
    )


def _container(backend: BackendAnswer) -> str:
    """Name a container so that it is the same one in every network."""
    return f"{backend.node} {backend.name}" if backend.name else str(backend.address)


def _port(port: ServicePort) -> ServicePortDocument:
    return ServicePortDocument(port=port.port, protocol=port.protocol, target_port=port.target_port)


def _network(answer: ServiceAnswer) -> ServiceNetworkDocument:
    return ServiceNetworkDocument(
        network=str(answer.network),
        vip=str(answer.vip),
        problem=answer.problem or None,
        backends=[_backend(backend) for backend in answer.backends],
    )


def _backend(backend: BackendAnswer) -> ServiceBackendDocument:
    return ServiceBackendDocument(
        name=backend.name or None,
        node=backend.node or None,
        address=str(backend.address),
        port=backend.port or None,
        state=backend.state.value,
        share=backend.share,
    )
