"""The messages of ``NetworkDriver.*``: one value per request and per answer, in libnetwork's field names.

Source: https://github.com/moby/moby/blob/docker-v29.7.2/daemon/libnetwork/drivers/remote/api/api.go and
https://github.com/moby/moby/blob/docker-v29.7.2/daemon/libnetwork/docs/remote.md; the same fields since 20.10.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, TypeAlias

from driver.fields import Fields
from driver.port_map import read_port_map
from model.addresses import IPAddress, IPInterface, IPNetwork, MacAddress
from model.endpoints import PortRequest
from model.ids import DockerNetworkId, EndpointId

Json: TypeAlias = Mapping[str, object]

GENERIC_OPTIONS: Final = "com.docker.network.generic"
"""Where CreateNetwork carries the ``-o`` options; AllocateNetwork has them flat."""
ENABLE_IPV4: Final = "com.docker.network.enable_ipv4"
ENABLE_IPV6: Final = "com.docker.network.enable_ipv6"
INTERNAL: Final = "com.docker.network.internal"
NODE_DISCOVERY: Final = 1


class Answer(Protocol):
    """What a use case gives back."""

    def as_json(self) -> Json:
        """Write the fields of the answer as libnetwork names them."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """The answer ``{}``: it is done and there is nothing to say; an empty body would be an error to the engine."""

    def as_json(self) -> Json:
        """Write the empty object."""
        return {}


class Scope(enum.StrEnum):
    """Who makes networks of this driver: every host for itself, or the Swarm for all."""

    LOCAL = "local"
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Activation:
    """Answer of ``Plugin.Activate``; asked of legacy plugins only, managed ones say it in their config.json."""

    def as_json(self) -> Json:
        """Write the two interfaces."""
        return {"Implements": ["NetworkDriver", "IpamDriver"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Answer of ``NetworkDriver.GetCapabilities``.

    ``ConnectivityScope`` is always global: containers reach one another across hosts, so the engines gossip service
    names.

    ``GwAllocChecker`` is always false. With it, engines from 28.0 on would ask ``GwAllocCheck`` whether a network
    needs a gateway address and 20.10 would not, so the same ``docker network create --internal`` would reserve an
    address on one host and not on another that shares the pool. The gateway belongs to the pool and costs one
    address.
    """

    scope: Scope

    def as_json(self) -> Json:
        """Write the capabilities."""
        return {"Scope": self.scope.value, "ConnectivityScope": Scope.GLOBAL.value, "GwAllocChecker": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One ``IPAMData``: what IPAM granted for one ``--subnet``."""

    pool: IPNetwork | None
    address_space: str = ""
    gateway: IPInterface | None = None
    aux_addresses: Mapping[str, IPInterface] = field(default_factory=dict)

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read one element of ``IPv4Data`` or ``IPv6Data``."""
        aux = message.nested("AuxAddresses")
        named = {name: aux.interface(name) for name in aux.values}
        return cls(
            address_space=message.text("AddressSpace"),
            pool=message.network("Pool"),
            gateway=message.interface("Gateway"),
            aux_addresses={name: address for name, address in named.items() if address is not None},
        )


def _subnets(message: Fields, name: str) -> tuple[Subnet, ...]:
    return tuple(Subnet.read(element) for element in message.nested_list(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateNetworkRequest:
    """A Swarm's leader makes a network for the cluster (global scope only); options are the flat ``-o`` ones."""

    network_id: DockerNetworkId
    options: Mapping[str, str]
    ipv4: tuple[Subnet, ...]
    ipv6: tuple[Subnet, ...]

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``NetworkDriver.AllocateNetwork``."""
        return cls(
            network_id=message.docker_network_id(),
            options=message.texts("Options"),
            ipv4=_subnets(message, "IPv4Data"),
            ipv6=_subnets(message, "IPv6Data"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateNetworkAnswer:
    """The options that every worker's CreateNetwork gets **instead of** the user's."""

    options: Mapping[str, str]

    def as_json(self) -> Json:
        """Write the options."""
        return {"Options": dict(self.options)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """A request that names a network and nothing else: FreeNetwork, DeleteNetwork."""

    network_id: DockerNetworkId

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read the id."""
        return cls(network_id=message.docker_network_id())


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNetworkRequest:
    """A network is made on this host. Name, labels, scope and ``--attachable`` are not told."""

    network_id: DockerNetworkId
    options: Mapping[str, str]
    """The ``-o`` options; in global scope what AllocateNetwork answered."""
    internal: bool
    enable_ipv4: bool
    enable_ipv6: bool
    ipv4: tuple[Subnet, ...]
    ipv6: tuple[Subnet, ...]

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``NetworkDriver.CreateNetwork``."""
        options = message.nested("Options")
        return cls(
            network_id=message.docker_network_id(),
            options=options.texts(GENERIC_OPTIONS),
            internal=options.flag(INTERNAL),
            enable_ipv4=options.flag(ENABLE_IPV4, default=True),
            enable_ipv6=options.flag(ENABLE_IPV6),
            ipv4=_subnets(message, "IPv4Data"),
            ipv6=_subnets(message, "IPv6Data"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRequest:
    """A request that names an endpoint and nothing else: DeleteEndpoint, Leave and others."""

    network_id: DockerNetworkId
    endpoint_id: EndpointId

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read both ids."""
        return cls(network_id=message.docker_network_id(), endpoint_id=message.endpoint_id())


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEndpointRequest:
    """A container gets an interface in a network; which container is not told."""

    network_id: DockerNetworkId
    endpoint_id: EndpointId
    address: IPInterface | None
    address_ipv6: IPInterface | None
    mac: MacAddress | None
    options: Mapping[str, object]
    """The engine's ``com.docker.…`` entries, and every ``driver-opt`` of the endpoint as a key of its own."""

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``NetworkDriver.CreateEndpoint``."""
        interface = message.nested("Interface")
        return cls(
            network_id=message.docker_network_id(),
            endpoint_id=message.endpoint_id(),
            address=interface.interface("Address"),
            address_ipv6=interface.interface("AddressIPv6"),
            mac=interface.mac("MacAddress"),
            options=message.nested("Options").values,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEndpointAnswer:
    """What the driver adds to the interface. Only what the request left empty may be filled in."""

    mac: MacAddress | None

    def as_json(self) -> Json:
        """Write the interface."""
        return {"Interface": {} if self.mac is None else {"MacAddress": str(self.mac)}}


@dataclass(frozen=True, slots=True)
class OperInfo:
    """Answer of EndpointOperInfo: the engine reads nothing of it that a remote driver could say."""

    def as_json(self) -> Json:
        """Write the empty value."""
        return {"Value": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """An endpoint's interface is about to be moved into a container's network namespace."""

    network_id: DockerNetworkId
    endpoint_id: EndpointId
    sandbox_key: str

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``NetworkDriver.Join``."""
        return cls(
            network_id=message.docker_network_id(),
            endpoint_id=message.endpoint_id(),
            sandbox_key=message.text("SandboxKey"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAnswer:
    """Which interface to move, its name inside (``DstPrefix`` and the lowest free number), and the way out.

    Without a gateway ``DisableGatewayService`` is set, otherwise the engine would add an interface on docker_gwbridge
    to the container: a way out that no policy of hawse sees. No static routes: the subnet is on the link.
    """

    src_name: str
    gateway: IPAddress | None
    dst_prefix: str = "eth"

    def as_json(self) -> Json:
        """Write names and gateway."""
        names = {"SrcName": self.src_name, "DstPrefix": self.dst_prefix}
        if self.gateway is None:
            return {"InterfaceName": names, "DisableGatewayService": True}
        return {"InterfaceName": names, "Gateway": str(self.gateway)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalConnectivityRequest:
    """An endpoint becomes its container's way out, and its ports are to be published."""

    network_id: DockerNetworkId
    endpoint_id: EndpointId
    ports: tuple[PortRequest, ...]
    """All of them: what an earlier call asked for and this one does not is over."""

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``NetworkDriver.ProgramExternalConnectivity``."""
        return cls(
            network_id=message.docker_network_id(),
            endpoint_id=message.endpoint_id(),
            ports=read_port_map(message.nested("Options")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryRequest:
    """A node of the Swarm came or went; hawse learns of nodes from the store and only takes note."""

    address: str
    """Empty for other kinds of discovery than nodes."""

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``NetworkDriver.DiscoverNew`` or ``DiscoverDelete``."""
        if message.number("DiscoveryType") != NODE_DISCOVERY:
            return cls(address="")
        return cls(address=message.nested("DiscoveryData").text("Address"))
