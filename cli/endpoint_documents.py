"""The agent's endpoints as this command reads them: repeats ``observe/endpoint_document.py``."""

from __future__ import annotations

from typing import TypedDict


class Publication(TypedDict):
    """A port of the endpoint's host."""

    port: int
    protocol: str
    host_port: int
    host_address: str | None


class Endpoint(TypedDict):
    """A container's interface."""

    id: str
    node: str
    container: str | None
    network: str | None
    docker_network: str | None
    vni: int
    addresses: list[str]
    mac: str
    identity: int
    labels: dict[str, str] | None
    namespace: str | None
    ingress_enforced: bool | None
    egress_enforced: bool | None
    status: str
    interface: str | None
    sandbox: str | None
    this_node: bool
    published: list[Publication]
    created_at: str


class Endpoints(TypedDict):
    """``/v1/endpoints``."""

    endpoints: list[Endpoint]
    warning: str | None
