"""Find the host's way to its peers: the address and interface that tunnel packets leave from."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any, Final

from pyroute2 import IPRoute

from model.addresses import IPAddress
from model.errors import InvalidInput

VXLAN_OVERHEAD_BYTES: Final = 50
"""Outer Ethernet 14 + IPv4 20 + UDP 8 + VXLAN 8 (RFC 7348); 70 over an IPv6 underlay."""

_LOOPBACK_SCOPE: Final = 254


class UnderlayNotFound(InvalidInput):
    """The host has no interface like that, not yet perhaps: a host that boots may still be getting its addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """The interface and address that tunnel packets use."""

    address: IPAddress
    ifname: str
    mtu_bytes: int

    @property
    def container_mtu_bytes(self) -> int:
        """The largest MTU that fits through the tunnel without fragmentation."""
        return self.mtu_bytes - VXLAN_OVERHEAD_BYTES


def find_underlay(*, address: IPAddress | None, ifname: str | None, hint: IPAddress | None = None) -> Underlay:
    """Find the underlay: by address, else by interface name, else by ``hint``, else by the default route.

    ``hint`` is an address that another source (the Swarm's own) believes in; it is used only when an interface has it.

    Raises:
        UnderlayNotFound: nothing fits; the message names the setting to change.
    """
    with IPRoute() as ipr:
        links = {link["index"]: link for link in ipr.get_links()}
        found = [
            (ipaddress.ip_address(entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")), entry["index"])
            for entry in ipr.get_addr(family=socket.AF_INET)
            if entry["scope"] < _LOOPBACK_SCOPE
        ]
        if address is not None:
            index = next((index for ip, index in found if ip == address), None)
            if index is None:
                raise UnderlayNotFound(f"NODE_IP {address}: no interface of this host has this address")
            return _underlay(address, links[index])
        if ifname is not None:
            for ip, index in found:
                if links[index].get_attr("IFLA_IFNAME") == ifname:
                    return _underlay(ip, links[index])
            raise UnderlayNotFound(f"UNDERLAY_IF {ifname}: no such interface, or it has no IPv4 address")
        for ip, index in found:
            if ip == hint:
                return _underlay(ip, links[index])
        default = _default_route_index(ipr)
        for ip, index in found:
            if index == default:
                return _underlay(ip, links[index])
    raise UnderlayNotFound("this host has no default route to take the underlay from: set NODE_IP or UNDERLAY_IF")


def _underlay(address: IPAddress, link: Any) -> Underlay:
    return Underlay(address=address, ifname=link.get_attr("IFLA_IFNAME"), mtu_bytes=link.get_attr("IFLA_MTU"))


def _default_route_index(ipr: IPRoute) -> int | None:
    """Interface of the default route with the lowest metric."""
    routes = [
        (route.get_attr("RTA_PRIORITY") or 0, route.get_attr("RTA_OIF"))
        for route in ipr.get_default_routes(family=socket.AF_INET)
    ]
    return min(routes)[1] if routes else None
