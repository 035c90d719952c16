"""Finds TCP connections whose other end went without a word, and has the end that is left find out.

Who waits for an answer sends nothing, and whoever could have told it is gone: the connection is half-open (RFC 9293,
3.5.1), for hours where nobody asked for keep-alives. The end that is left gets a segment that it cannot take. It has to
answer that with an acknowledgment (3.10.7.4), which goes the way of all that is sent to somebody who is gone: the
programs turn it into the reset that is due. An end whose other one lives after all has its acknowledgment delivered,
and nothing comes of it.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from datapath import abi, entries, names
from datapath.addresses import words
from datapath.api import IpcacheKey
from datapath.conntrack import is_closed
from datapath.frames import FrameSender, TransportEnd, tcp_acknowledgment
from datapath.maps import TypedMap
from model.addresses import MacAddress

_KEY: Final = struct.Struct("=4s4s2s2sI")
"""``struct conntrack_key``, with addresses and ports as they stand in packets."""
_VNI_SHIFT: Final = 8
_PROTOCOL_MASK: Final = 0xFF
SEQUENCES: Final = (0, 1 << 31)
"""Numbers for segments of which no window is so wide that it could take both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTables:
    """The maps that say who is connected with whom, and where."""

    connections: TypedMap[abi.ConntrackKey, abi.ConntrackValue]
    translations: TypedMap[abi.NatKey, abi.NatValue]
    places: TypedMap[abi.IpcacheKey, abi.IpcacheValue]
    endpoints: TypedMap[abi.EndpointKey, abi.EndpointValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class _HalfOpen:
    vni: int
    gone: TransportEnd
    left: TransportEnd
    left_identity: int


def probe(departed: Collection[IpcacheKey], tables: ConnectionTables, sender: FrameSender, *, sequence: int) -> int:
    """Have the ends on this host of connections with somebody who has departed find out.

    Args:
        departed: who has.
        tables: open.
        sender: in the host's network namespace.
        sequence: number of the segments; an end in whose window it happens to be takes it, and does not answer.

    Returns:
        How many connections that was.

    Raises:
        DatapathError: the kernel refused.
    """
    probed = 0
    for one in _half_open(departed, tables.connections):
        receiver = _receiver(one, tables)
        if receiver is not None:
            ifname, mac = receiver
            segment = tcp_acknowledgment(_peer(one, tables.translations), one.left, mac=mac, sequence=sequence)
            probed += sender.send(ifname, segment)
    return probed


def _half_open(
    departed: Collection[IpcacheKey], connections: TypedMap[abi.ConntrackKey, abi.ConntrackValue]
) -> Iterator[_HalfOpen]:
    gone = {(one.vni, one.address.packed) for one in departed}
    addresses = {address for _, address in gone}
    for part in connections.batches():
        # Nearly all entries are of others, and there may be a quarter of a million.
        for at, (low, high, low_port, high_port, scope) in enumerate(_KEY.iter_unpack(part.keys)):
            if (low in addresses or high in addresses) and scope & _PROTOCOL_MASK == socket.IPPROTO_TCP:
                value = abi.ConntrackValue.from_buffer_copy(part.values, at * ctypes.sizeof(abi.ConntrackValue))
                ends = TransportEnd(address=low, port=low_port), TransportEnd(address=high, port=high_port)
                source, target = ends[::-1] if value.flags & abi.ConntrackFlags.OPENED_BY_HIGH else ends
                vni = scope >> _VNI_SHIFT
                if not _is_open(value):
                    continue
                if (vni, target.address) in gone and not value.flags & abi.ConntrackFlags.CLOSED_TARGET:
                    yield _HalfOpen(vni=vni, gone=target, left=source, left_identity=value.source_identity)
                if (vni, source.address) in gone and not value.flags & abi.ConntrackFlags.CLOSED_SOURCE:
                    yield _HalfOpen(vni=vni, gone=source, left=target, left_identity=value.destination_identity)


def _is_open(value: abi.ConntrackValue) -> bool:
    """Both have spoken. Who asks for a connection goes on asking, and finds out so."""
    return bool(value.flags & abi.ConntrackFlags.REPLIED) and not value.reason and not is_closed(value.flags)


def _receiver(one: _HalfOpen, tables: ConnectionTables) -> tuple[str, MacAddress] | None:
    """Interface and link-layer address of the end that is left; None when it is not on this host."""
    if one.left_identity == abi.IDENTITY_HOST:
        return names.HOST_PEER_IFNAME, names.router_mac()
    address = ipaddress.IPv4Address(one.left.address)
    place = tables.places.lookup(abi.IpcacheKey(vni=one.vni, address=words(address)))
    endpoint = tables.endpoints.lookup(abi.EndpointKey(ifindex=place.ifindex)) if place and place.ifindex else None
    if endpoint is None:
        return None
    return names.host_ifname(entries.endpoint_id(endpoint)), MacAddress.from_packed(bytes(endpoint.mac))


def _peer(one: _HalfOpen, translations: TypedMap[abi.NatKey, abi.NatValue]) -> TransportEnd:
    """Who the other end is for the one that is left: the virtual address, if it asked for that."""
    answer = abi.NatKey(
        source=int.from_bytes(one.gone.address),
        destination=int.from_bytes(one.left.address),
        source_port=int.from_bytes(one.gone.port),
        destination_port=int.from_bytes(one.left.port),
        protocol=socket.IPPROTO_TCP,
    )
    known = translations.lookup(answer)
    if known is None or not known.reply:
        return one.gone
    return TransportEnd(address=known.source.to_bytes(4), port=known.source_port.to_bytes(2))
