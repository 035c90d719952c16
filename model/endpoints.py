"""A container's interface in a network."""

from __future__ import annotations

from dataclasses import dataclass

from model.addresses import IPAddress, IPNetwork, MacAddress
from model.ids import IDENTITY_INIT, DockerNetworkId, EndpointId, IdentityId, NodeName, Vni
from model.labels import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A port of the host that leads to a container (``docker run -p``)."""

    port: int
    """Of the container."""
    protocol: str
    """``tcp``, ``udp`` or ``sctp``."""
    host_port: int
    """1 to 65535; the one that was chosen when the user left it open."""
    host_address: IPAddress | None = None
    """None: every address of the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The value of ``/hawse/v1/endpoints/<node>/<endpoint id>``.

    Not leased: an agent that is down is not a host that is down.
    """

    endpoint_id: EndpointId
    node: NodeName
    network: IPNetwork
    """The pool of the hawse network it is in."""
    docker_network: DockerNetworkId
    vni: Vni
    addresses: tuple[IPAddress, ...]
    mac: MacAddress
    identity: IdentityId = IDENTITY_INIT
    labels: Labels | None = None
    """The labels that make its identity; None while they are not known (``init``)."""
    own_labels: bool = False
    """Whether the attachment itself said its labels (``driver-opt``): then the container's never replace them."""
    container: str = ""
    """Name of the container, once it is known; for people."""
    sandbox_key: str | None = None
    """Path of the container's network namespace, once Join has said so."""
    created_at: str = ""
    """RFC 3339 in UTC."""
    published: tuple[Publication, ...] = ()
    """Ports of its host that lead here."""
    unhealthy: bool = False
    """Whether its container's health check says so, or has not passed yet."""
