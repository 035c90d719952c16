"""The documents of ``/v1/services``: what fills them is in ``observe/service_describe.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from observe.document_fields import Address, Cidr, Revision, Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePortDocument:
    """A port that a service is asked for at."""

    port: int
    protocol: Annotated[str, Meta(description="tcp, udp or sctp.")]
    target_port: Annotated[int, Meta(description="Port of the containers.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBackendDocument:
    """A container that answers for a service, did so, or is about to."""

    name: Annotated[str | None, Meta(description="Of the task or the container; null while it is not known.")]
    node: Annotated[str | None, Meta(description="Its host; null when nobody knows.")]
    address: Address
    port: Annotated[int | None, Meta(description="Null: the port that the client asked for.")]
    state: Annotated[
        Literal["active", "starting", "unhealthy", "draining", "gone"],
        Meta(description="Only active ones get new connections; connections to gone ones are reset."),
    ]
    share: Annotated[float, Meta(description="Part of the new connections that it gets, 0 to 1.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNetworkDocument:
    """A service in one of its networks."""

    network: Cidr
    vip: Annotated[Address, Meta(description="The virtual address that the service's name stands for here.")]
    problem: Annotated[str | None, Meta(description="Why it does not answer as it should; null when all is well.")]
    backends: list[ServiceBackendDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDocument:
    """One service."""

    id: Annotated[str, Meta(description="Of the Swarm its own; of container labels label-<pool>-<name>.")]
    name: str
    source: Annotated[
        Literal["swarm", "label"], Meta(description="A service of the Swarm, or the label hawse.service of containers.")
    ]
    ports: Annotated[list[ServicePortDocument], Meta(description="Empty: every port, as it is.")]
    affinity: Annotated[bool, Meta(description="Whether a client keeps its backend.")]
    containers: Annotated[int, Meta(description="That answer for it, did so, or are about to; in all its networks.")]
    active: Annotated[int, Meta(description="Those of them that get new connections.")]
    networks: Annotated[list[ServiceNetworkDocument], Meta(description="By pool.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesDocument:
    """The services of the cluster, by name."""

    services: list[ServiceDocument]
    warning: Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatusDocument:
    """Services and published ports as this node's kernel has them."""

    translation: Annotated[
        Literal["socket", "packet"] | None,
        Meta(description="Where virtual addresses are translated: at connect and sendmsg, or in every packet."),
    ]
    translation_reason: Annotated[str, Meta(description="Why not at sockets; empty when it is there.")]
    services: Annotated[int, Meta(description="In the kernel; one in several networks counts for each.")]
    frontends: Annotated[int, Meta(description="Virtual addresses with their ports.")]
    backends: Annotated[int, Meta(description="That get new connections; in several services they count for each.")]
    published_here: Annotated[
        int | None, Meta(description="Ports of this host that lead to containers; null when it is not known yet.")
    ]
    revision: Annotated[Revision, Meta(description="Every change of services up to it is in the kernel; 0: none yet.")]
    failures: Annotated[int, Meta(description="How often in a row they could not be written; 0 when all is well.")]
    last_apply_s: Annotated[float, Meta(description="Seconds from the last change until it was in the kernel.")]
