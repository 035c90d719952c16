"""Find the host's way to its peers: the address and interface that tunnel packets leave from."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from datapath.links import Link, Links
from datapath.netlink import Netlink, Request, attributes
from datapath.netlink_messages import ifaddrmsg
from datapath.routes import MAIN_TABLE, ipv4_routes
from model.addresses import IPAddress
from model.errors import InvalidInput

VXLAN_OVERHEAD_BYTES: Final = 50
"""Outer Ethernet 14 + IPv4 20 + UDP 8 + VXLAN 8 (RFC 7348); 70 over an IPv6 underlay."""

_LOOPBACK_SCOPE: Final = 254
_RTM_GETADDR: Final = 22
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2


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
    with contextlib.closing(Netlink()) as netlink:
        links = {link.ifindex: link for link in Links(netlink).all()}
        found = addresses(netlink)
        if address is not None:
            index = next((index for ip, index in found if ip == address), None)
            if index is None:
                raise UnderlayNotFound(f"NODE_IP {address}: no interface of this host has this address")
            return _underlay(address, links[index])
        if ifname is not None:
            for ip, index in found:
                if links[index].ifname == ifname:
                    return _underlay(ip, links[index])
            raise UnderlayNotFound(f"UNDERLAY_IF {ifname}: no such interface, or it has no IPv4 address")
        for ip, index in found:
            if ip == hint:
                return _underlay(ip, links[index])
        default = _default_route_index(netlink)
        for ip, index in found:
            if index == default:
                return _underlay(ip, links[index])
    raise UnderlayNotFound("this host has no default route to take the underlay from: set NODE_IP or UNDERLAY_IF")


def _underlay(address: IPAddress, link: Link) -> Underlay:
    return Underlay(address=address, ifname=link.ifname, mtu_bytes=link.mtu_bytes)


def addresses(netlink: Netlink) -> Sequence[tuple[ipaddress.IPv4Address, int]]:
    """IPv4 addresses that other hosts may know, with the index of their interface; primary ones first of each."""
    message = ifaddrmsg()
    message["family"] = socket.AF_INET
    found: list[tuple[ipaddress.IPv4Address, int]] = []
    for payload in netlink.dump("list addresses", Request(message, _RTM_GETADDR)):
        family, _, _, scope, index = _IFADDRMSG.unpack_from(payload)
        parts = dict(attributes(payload[_IFADDRMSG.size :]))
        packed = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS)
        if family == socket.AF_INET and scope < _LOOPBACK_SCOPE and packed is not None:
            found.append((ipaddress.IPv4Address(packed), index))
    return found


def _default_route_index(netlink: Netlink) -> int | None:
    """Interface of the default route with the lowest metric."""
    routes = [
        (route.metric, route.ifindex)
        for route in ipv4_routes(netlink)
        if route.network.prefixlen == 0 and route.table == MAIN_TABLE and route.ifindex is not None
    ]
    return min(routes)[1] if routes else None
