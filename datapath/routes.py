"""Routes of the host to the networks of hawse: each leads into the pair that joins the host's stack.

Ours are told from others by their protocol number; nobody else's route is changed.

Source: rtnetlink(7).
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from datapath.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, Request, attributes
from datapath.netlink_messages import rtmsg
from model.addresses import IPAddress, IPNetwork
from model.errors import LinkError

log = logging.getLogger(__name__)

_RTM_NEWROUTE: Final = 24
_RTM_DELROUTE: Final = 25
_RTM_GETROUTE: Final = 26
_OUR_PROTOCOL: Final = 104
"""Of /etc/iproute2/rt_protos nobody's; the letter h."""
MAIN_TABLE: Final = 254
_SCOPE_LINK: Final = 253
_UNICAST: Final = 1
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NEXT_HOP: Final = struct.Struct("=HBBi")
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_PRIORITY: Final = 6
_RTA_MULTIPATH: Final = 9
_RTA_TABLE: Final = 15
_GONE: Final = frozenset({errno.ESRCH, errno.ENODEV})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One IPv4 route of the host."""

    network: ipaddress.IPv4Network
    table: int
    protocol: int
    """Who made it."""
    ifindex: int | None
    """None for one that leads into no single interface."""
    ifindexes: frozenset[int]
    """All interfaces that it leads into."""
    metric: int


def ipv4_routes(netlink: Netlink) -> Sequence[Route]:
    """Every IPv4 route of the host, of all tables.

    Raises:
        LinkError: the kernel refused.
    """
    message = rtmsg()
    message["family"] = socket.AF_INET
    found: list[Route] = []
    for payload in netlink.dump("list routes", Request(message, _RTM_GETROUTE)):
        family, bits, _, _, table, protocol, _, _, _ = _RTMSG.unpack_from(payload)
        if family != socket.AF_INET:
            continue
        parts = dict(attributes(payload[_RTMSG.size :]))
        found.append(
            Route(
                network=ipaddress.IPv4Network((parts.get(_RTA_DST, bytes(4)), bits)),
                # The field of the header has 8 bits; larger numbers stand in the attribute only.
                table=_number(parts[_RTA_TABLE]) if _RTA_TABLE in parts else table,
                protocol=protocol,
                ifindex=_number(parts[_RTA_OIF]) if _RTA_OIF in parts else None,
                ifindexes=frozenset(_interfaces(parts)),
                metric=_number(parts.get(_RTA_PRIORITY, b"")),
            )
        )
    return found


class Routes:
    """The routes into one interface. Not thread-safe; the datapath's lock is around it."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._refused: set[IPNetwork] = set()

    def replace(self, networks: Iterable[IPNetwork], *, ifindex: int, source: IPAddress) -> None:
        """Have exactly these networks lead into the interface, with ``source`` as the address of the host itself.

        A network to which the host has another route already keeps that one, with a warning: it may be the host's own
        way to the world.

        Raises:
            LinkError: the kernel refused.
        """
        wanted = {network for network in networks if isinstance(network, ipaddress.IPv4Network)}
        present = self._present(ifindex)
        for missing in sorted(wanted - present, key=str):
            self._add(missing, ifindex=ifindex, source=source)
        for gone in sorted(present - wanted, key=str):
            request = Request(_route(gone, ifindex), _RTM_DELROUTE, harmless=_GONE)
            self._netlink.execute(f"remove route to {gone}", [request])
        self._refused &= wanted

    def _add(self, network: IPNetwork, *, ifindex: int, source: IPAddress) -> None:
        message = _route(network, ifindex, ("RTA_PREFSRC", str(source)))
        try:
            self._netlink.execute(
                f"add route to {network}", [Request(message, _RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)]
            )
        except LinkError as error:
            if error.errno != errno.EEXIST:
                raise
            if network not in self._refused:
                self._refused.add(network)
                log.warning(
                    "host has another route to a network, it cannot reach its containers",
                    extra={"network": str(network)},
                )

    def _present(self, ifindex: int) -> set[IPNetwork]:
        return {
            route.network
            for route in ipv4_routes(self._netlink)
            if route.protocol == _OUR_PROTOCOL and route.ifindex == ifindex
        }


def _interfaces(parts: Mapping[int, bytes]) -> Iterator[int]:
    """Where a route leads, by one way or by several."""
    if _RTA_OIF in parts:
        yield _number(parts[_RTA_OIF])
    ways = parts.get(_RTA_MULTIPATH, b"")
    while len(ways) >= _NEXT_HOP.size:
        length, _, _, ifindex = _NEXT_HOP.unpack_from(ways)
        yield ifindex
        ways = ways[max(length, _NEXT_HOP.size) :]


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _route(network: IPNetwork, ifindex: int, *more: tuple[str, object]) -> rtmsg:
    message = rtmsg()
    message["family"] = socket.AF_INET
    message["dst_len"] = network.prefixlen
    message["table"] = MAIN_TABLE
    message["proto"] = _OUR_PROTOCOL
    message["scope"] = _SCOPE_LINK
    message["type"] = _UNICAST
    message["attrs"] = [("RTA_DST", str(network.network_address)), ("RTA_OIF", ifindex), *more]
    return message
