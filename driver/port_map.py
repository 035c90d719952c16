"""The port map: what ``docker run -p``, Compose's ``ports`` and Swarm's ``mode=host`` ask for.

The engine has taken ranges apart already: ``-p 8000-8010:8000-8010`` is eleven entries. A range that is left in an
entry means «one of these», and port 0 «any».

Source: https://github.com/moby/moby/blob/docker-v29.7.2/daemon/libnetwork/types/types.go (PortBinding).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from driver.fields import Fields
from model.addresses import IPAddress
from model.endpoints import PortRequest
from model.errors import InvalidInput
from model.policies import PORT_MAX, PORT_PROTOCOLS, Protocol

PORT_MAP: Final = "com.docker.network.portmap"

_BROADCAST: Final = IPv4Address("255.255.255.255")


def read_port_map(options: Fields) -> tuple[PortRequest, ...]:
    """Read the port map among the options of a call, in its order; an entry that comes twice counts once.

    ``::`` beside an entry for every IPv4 address is what some engines add for IPv6; it is passed over.

    Raises:
        ProtocolError: an entry has another form.
        InvalidInput: an entry asks for what hawse cannot do: IPv6, another protocol, another port of SCTP.
    """
    requests: list[PortRequest] = []
    seen: set[PortRequest] = set()
    every_ipv6: list[PortRequest] = []
    for entry in options.nested_list(PORT_MAP):
        address = entry.address("HostIP")
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        request = _request(entry, _host_address(address))
        if isinstance(address, IPv6Address):
            every_ipv6.append(request)
        # «Any free port» asked for twice is two ports.
        elif not request.is_certain or request not in seen:
            requests.append(request)
            seen.add(request)
    for request in every_ipv6:
        if request not in seen:
            raise InvalidInput(
                f"port {request.port}/{request.protocol} cannot be published on [::]: hawse publishes on IPv4 only; "
                "leave the address out"
            )
    return tuple(requests)


def _request(entry: Fields, host_address: IPv4Address | None) -> PortRequest:
    number = entry.number("Proto")
    if number not in PORT_PROTOCOLS:
        raise InvalidInput(f"{entry.path}: protocol {number} has no ports to publish; it can be tcp, udp or sctp")
    protocol = Protocol(number).name.lower()
    port = _port(entry, "Port")
    first = _port(entry, "HostPort")
    last = _port(entry, "HostPortEnd") or first
    if not port:
        raise InvalidInput(f"{entry.path}.Port: 0 is not a port of a container")
    if last < first or (last and not first):
        raise InvalidInput(f"{entry.path}: host ports {first}-{last} are no range")
    if number == Protocol.SCTP and not first == last == port:
        # Its checksum covers the ports, and no BPF helper can compute it anew.
        raise InvalidInput(
            f"port {port}/sctp can only be published as the same port of the host: -p {port}:{port}/sctp"
        )
    return PortRequest(
        port=port, protocol=protocol, first_host_port=first, last_host_port=last, host_address=host_address
    )


def _host_address(address: IPAddress | None) -> IPv4Address | None:
    """The address to publish on; None: every one. ``::`` is judged when the whole map has been read."""
    if address is None or address.is_unspecified:
        return None
    if not isinstance(address, IPv4Address):
        raise InvalidInput(f"ports cannot be published on {address}: hawse publishes on IPv4 only")
    if address.is_multicast or address == _BROADCAST:
        raise InvalidInput(f"ports cannot be published on {address}: it is no address of a host")
    return address


def _port(entry: Fields, name: str) -> int:
    port = entry.number(name)
    if not 0 <= port <= PORT_MAX:
        raise InvalidInput(f"{entry.path}.{name}: {port} is not a port")
    return port
