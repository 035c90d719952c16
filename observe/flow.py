"""One reported packet with the names that were known when it was read."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from datapath.flow_event import FlowEvent
from model.addresses import IPAddress
from model.endpoints import Endpoint
from model.ids import IDENTITY_INIT
from model.labels import SERVICE_LABEL, Labels
from model.policies import PORT_PROTOCOLS
from model.policy_answers import RuleReference


class KnownEndpoint:
    """What is known of one endpoint; the same object as long as it exists and while flows of it are kept.

    Attributes:
        endpoint: its newest record; the last one of an endpoint that is gone. Replaced as a whole.
    """

    __slots__ = ("endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceName:
    """Whose address it is."""

    name: str
    """Of the service."""
    virtual: bool
    """Whether it is the service's own address; otherwise it is that of a container that answers for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a flow."""

    identity: int
    """As the kernel judged it; 0 = not known."""
    labels: Labels
    endpoint: Endpoint | None
    """None: no container of the cluster, or not known."""
    address: IPAddress | None
    port: int | None
    """None: the protocol has no ports."""
    services: tuple[str, ...] = ()
    """Names of the services that it answers for, or is the address of."""
    virtual: bool = False
    """Whether it is no container but a service's own address."""


# Not a dataclass: tens of thousands are made in a second, and msgspec makes one in a fifth of the time.
class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One reported packet, numbered, with the names that go with it."""

    number: int
    """Counts what the kernel wanted to report since the agent's start; missing numbers are lost reports."""
    time_us: int
    """Microseconds since 1970 in UTC."""
    event: FlowEvent
    source_endpoint: KnownEndpoint | None
    destination_endpoint: KnownEndpoint | None
    source_labels: Labels
    destination_labels: Labels
    """Of the identities; empty when not known."""
    source_service: ServiceName | None = None
    destination_service: ServiceName | None = None
    """Of the addresses; None when they are of no service of the records."""
    rule: RuleReference | None
    """The rule of ``event.rule``; None when no rule decided, or it is not known any more."""
    other_rule: RuleReference | None
    """The rule of ``event.other_rule``."""
    selecting: tuple[str, ...]
    """Of a flow that a policy stopped: names of the policies that close its direction for the end that was judged."""

    @property
    def source(self) -> End:
        """Where the packet came from."""
        event = self.event
        return _end(
            event,
            identity=event.source_identity,
            labels=self.source_labels,
            known=self.source_endpoint,
            service=self.source_service,
            address=event.source,
            port=event.source_port,
        )

    @property
    def destination(self) -> End:
        """Where the packet was going."""
        event = self.event
        return _end(
            event,
            identity=event.destination_identity,
            labels=self.destination_labels,
            known=self.destination_endpoint,
            service=self.destination_service,
            address=event.destination,
            port=event.destination_port,
        )

    @property
    def judged(self) -> End:
        """The end whose policy decided."""
        return self.source if self.event.judged_at_source else self.destination

    @property
    def peer(self) -> End:
        """The end that the policy decided about."""
        return self.destination if self.event.judged_at_source else self.source


def _end(
    event: FlowEvent,
    *,
    identity: int,
    labels: Labels,
    known: KnownEndpoint | None,
    service: ServiceName | None,
    address: IPAddress | None,
    port: int,
) -> End:
    endpoint = None if known is None else known.endpoint
    if identity == IDENTITY_INIT and endpoint is not None and endpoint.labels:
        # It was judged without its labels; who looks for its packets knows it by them.
        labels = Labels.of({**labels, **endpoint.labels})
    return End(
        identity=identity,
        labels=labels,
        endpoint=endpoint,
        address=address,
        port=port if event.protocol in PORT_PROTOCOLS else None,
        services=_services(endpoint, service),
        virtual=service is not None and service.virtual,
    )


def _services(endpoint: Endpoint | None, service: ServiceName | None) -> tuple[str, ...]:
    named = [service.name] if service else []
    if endpoint is not None and endpoint.labels and SERVICE_LABEL in endpoint.labels:
        items = endpoint.labels[SERVICE_LABEL].split(",")
        named += [name for name, colon, _ in (item.strip().partition(":") for item in items) if name and colon]
    return tuple(dict.fromkeys(named))
