"""The agent's services as this command reads them: repeats ``observe/service_document.py``."""

from __future__ import annotations

from typing import Literal, TypedDict


class ServicePort(TypedDict):
    """A port that a service is asked for at."""

    port: int
    protocol: str
    target_port: int


class ServiceBackend(TypedDict):
    """A container that answers for a service, did so, or is about to."""

    name: str | None
    node: str | None
    address: str
    port: int | None
    state: Literal["active", "starting", "unhealthy", "draining", "gone"]
    share: float


class ServiceNetwork(TypedDict):
    """A service in one of its networks."""

    network: str
    vip: str
    problem: str | None
    backends: list[ServiceBackend]


class Service(TypedDict):
    """``/v1/services/<service>``."""

    id: str
    name: str
    source: Literal["swarm", "label"]
    ports: list[ServicePort]
    affinity: bool
    containers: int
    active: int
    networks: list[ServiceNetwork]


class Services(TypedDict):
    """``/v1/services``."""

    services: list[Service]
    warning: str | None


class ServiceStatus(TypedDict):
    """Services and published ports as this node's kernel has them."""

    translation: Literal["socket", "packet"] | None
    translation_reason: str
    services: int
    frontends: int
    backends: int
    published_here: int | None
    revision: int
    failures: int
    last_apply_s: float
