"""The documents of ``/v1/endpoints``: what fills them is in ``observe/endpoint_describe.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from observe.document_fields import Address, Closed, IdentityNumber, LabelSet, Staleness, Time


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationDocument:
    """A port of the endpoint's host that leads to its container."""

    port: Annotated[int, Meta(description="Of the container.")]
    protocol: Annotated[str, Meta(description="tcp, udp or sctp.")]
    host_port: int
    host_address: Annotated[str | None, Meta(description="Null: every IPv4 address of the host.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDocument:
    """A container's interface in a network."""

    id: Annotated[str, Meta(description="Docker's id of the endpoint.")]
    node: str
    container: Annotated[str | None, Meta(description="Name of the container; null while it is not known.")]
    network: Annotated[
        str | None, Meta(description="The network's pool; null when only the kernel is known, because etcd is away.")
    ]
    docker_network: Annotated[str | None, Meta(description="Docker's id of the network; null like network.")]
    vni: int
    addresses: list[Address]
    mac: str
    identity: IdentityNumber
    labels: Annotated[
        LabelSet | None, Meta(description="The labels that make its identity; null while they are not known.")
    ]
    namespace: Annotated[
        str | None, Meta(description="Swarm stack, Compose project or default; null while the labels are not known.")
    ]
    ingress_enforced: Closed
    egress_enforced: Closed
    status: Annotated[str, Meta(description="ready, or what it waits for.")]
    interface: Annotated[
        str | None, Meta(description="Host end of its veth pair; null on another node, or when the kernel has none.")
    ]
    sandbox: Annotated[str | None, Meta(description="The container's network namespace, once it has joined.")]
    this_node: bool
    published: Annotated[
        list[PublicationDocument], Meta(description="By port of the host; empty too while only the kernel is known.")
    ]
    created_at: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointsDocument:
    """The endpoints of the cluster."""

    endpoints: list[EndpointDocument]
    warning: Staleness
