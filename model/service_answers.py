"""What the agent answers when asked about services: values that pass between balancing, observation and wiring."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from model.addresses import IPAddress, IPNetwork
from model.ids import ServiceId
from model.services import ServicePort, ServiceSource


class BackendState(enum.StrEnum):
    """What a container is to a service."""

    ACTIVE = "active"
    """It gets new connections."""
    STARTING = "starting"
    """Not yet: the Swarm is about to start it, or it has not passed its health check."""
    UNHEALTHY = "unhealthy"
    """Not now: its health check fails or has not passed yet."""
    DRAINING = "draining"
    """No more: it is about to end; connections that are open go on."""
    GONE = "gone"
    """Its endpoint is gone, or its host is lost: connections to it are reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswer:
    """A container that answers for a service, did so, or is about to."""

    name: str
    """Of the task or the container; empty while it is not known."""
    node: str
    """Its host; empty when nobody knows."""
    address: IPAddress
    port: int
    """The port that it is asked at; 0: the one that the client asked for."""
    state: BackendState
    share: float
    """Part of the new connections that it gets, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAnswer:
    """A service in one network; a service in several has several of these."""

    service_id: ServiceId
    name: str
    source: ServiceSource
    network: IPNetwork
    """The pool of its network."""
    vip: IPAddress
    ports: tuple[ServicePort, ...]
    """Empty: every port, as it is."""
    affinity: bool
    backends: tuple[BackendAnswer, ...]
    """Sorted by name and address; of a service with several ports one for each that a container listens at."""
    problem: str = ""
    """Why it does not answer as it should; empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """How the kernel follows the services."""

    services: int = 0
    """In the kernel; a service in several networks counts for each."""
    frontends: int = 0
    """Virtual addresses with their ports."""
    backends: int = 0
    """That get new connections; one that answers for several services counts for each."""
    applied_revision: int = 0
    """Every change of services up to this store revision is in the kernel; 0 before the first time."""
    failures: int = 0
    """Errors in a row; 0 when all is well."""
    error: str = ""
    """The last error while there are failures, otherwise empty."""
    last_apply_s: float = 0.0
    """Seconds from the last change (the first of those taken together) until it was in the kernel."""
