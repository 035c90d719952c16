"""A container's interface in a network."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from model.addresses import IPAddress, IPNetwork, MacAddress
from model.ids import IDENTITY_INIT, DockerNetworkId, EndpointId, IdentityId, NodeName, Vni
from model.labels import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """What a user asks to have published."""

    port: int
    """Of the container."""
    protocol: str
    """``tcp``, ``udp`` or ``sctp``."""
    first_host_port: int
    """One from here ..."""
    last_host_port: int
    """... to here; both 0: any free one."""
    host_address: IPv4Address | None = None
    """None: every address of the host."""

    @property
    def is_certain(self) -> bool:
        """Whether only one port will do."""
        return 0 < self.first_host_port == self.last_host_port

    def is_met_by(self, publication: Publication) -> bool:
        """Whether a publication is what was asked for."""
        return (
            (self.port, self.protocol, self.host_address)
            == (publication.port, publication.protocol, publication.host_address)
        ) and (not self.first_host_port or self.first_host_port <= publication.host_port <= self.last_host_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A port of the host that leads to a container (``docker run -p``)."""

    port: int
    """Of the container."""
    protocol: str
    """``tcp``, ``udp`` or ``sctp``."""
    host_port: int
    """1 to 65535; the one that was chosen when the user left it open."""
    host_address: IPv4Address | None = None
    """None: every address of the host."""

    def __str__(self) -> str:
        """Name the host's side, as messages do."""
        where = "" if self.host_address is None else f" of {self.host_address}"
        return f"port {self.host_port}/{self.protocol}{where}"


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
