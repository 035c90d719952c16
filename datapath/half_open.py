"""Finds TCP connections whose other end went without a word, and has the end that is left find out.

Who waits for an answer sends nothing, and whoever could have told it is gone: the connection is half-open (RFC 9293,
3.5.1), for hours where nobody asked for keep-alives. The end that is left gets a segment that it cannot take. It has to
answer that with an acknowledgment (3.10.7.4), which goes the way of all that is sent to somebody who is gone: the
programs turn it into the reset that is due. An end whose other one lives after all has its acknowledgment delivered,
and nothing comes of it.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from datapath import abi, conntrack, entries, names
from datapath.api import IpcacheKey
from datapath.flow_event import TransportEnd
from datapath.frames import FrameSender, tcp_acknowledgment
from datapath.maps import TypedMap
from model.addresses import MacAddress
from model.ids import Vni

_ADDRESSES: Final = struct.Struct(f"4s4s{ctypes.sizeof(abi.ConntrackKey) - 8}x")
"""The two that a key of hawse_conntrack begins with, as bytes."""
SEQUENCE: Final = 0
"""Number of the segment. An end in whose window it happens to be takes it, and does not answer."""
ANOTHER_SEQUENCE: Final = 1 << 31
"""For such an end: no window is so wide that both were in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTables:
    """The maps that say who is connected with whom, and where."""

    connections: TypedMap[abi.ConntrackKey, abi.ConntrackValue]
    translations: TypedMap[abi.NatKey, abi.NatValue]
    places: TypedMap[abi.IpcacheKey, abi.IpcacheValue]
    endpoints: TypedMap[abi.EndpointKey, abi.EndpointValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class _HalfOpen:
    vni: Vni
    gone: TransportEnd
    left: TransportEnd
    left_identity: int
    sequence: int


def probe(departed: Mapping[IpcacheKey, int], tables: ConnectionTables, sender: FrameSender) -> int:
    """Have the ends on this host of connections with somebody who has departed find out.

    Args:
        departed: who has, and the sequence number of the segments that their peers get.
        tables: open; all connections are looked through once.
        sender: in the host's network namespace.

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
            peer = _peer(one, tables.translations)
            probed += sender.send(ifname, tcp_acknowledgment(peer, one.left, mac=mac, sequence=one.sequence))
    return probed


def _half_open(
    departed: Mapping[IpcacheKey, int], connections: TypedMap[abi.ConntrackKey, abi.ConntrackValue]
) -> Iterator[_HalfOpen]:
    addresses = {one.address.packed for one in departed}
    key_bytes, value_bytes = ctypes.sizeof(abi.ConntrackKey), ctypes.sizeof(abi.ConntrackValue)
    for part in connections.batches():
        # Nearly all entries are of others, and there may be a quarter of a million.
        for at, (low, high) in enumerate(_ADDRESSES.iter_unpack(part.keys)):
            if low in addresses or high in addresses:
                key = abi.ConntrackKey.from_buffer_copy(part.keys, at * key_bytes)
                value = abi.ConntrackValue.from_buffer_copy(part.values, at * value_bytes)
                if conntrack.protocol(key) == socket.IPPROTO_TCP and _is_open(value):
                    yield from _left_over(key, value, departed)


def _left_over(
    key: abi.ConntrackKey, value: abi.ConntrackValue, departed: Mapping[IpcacheKey, int]
) -> Iterator[_HalfOpen]:
    """What is half-open of one connection that was open: nothing, or from the view of either end."""
    vni = Vni(conntrack.vni(key))
    source, target = conntrack.ends(key, value.flags)
    for gone, said_so, left, identity in (
        (target, abi.ConntrackFlags.CLOSED_TARGET, source, value.source_identity),
        (source, abi.ConntrackFlags.CLOSED_SOURCE, target, value.destination_identity),
    ):
        sequence = departed.get(IpcacheKey(vni, gone.address))
        if sequence is not None and not value.flags & said_so:
            yield _HalfOpen(vni=vni, gone=gone, left=left, left_identity=identity, sequence=sequence)


def _is_open(value: abi.ConntrackValue) -> bool:
    """Both have spoken. Who asks for a connection goes on asking, and finds out so."""
    return bool(value.flags & abi.ConntrackFlags.REPLIED) and not value.reason and not conntrack.is_closed(value.flags)


def _receiver(one: _HalfOpen, tables: ConnectionTables) -> tuple[str, MacAddress] | None:
    """Interface and link-layer address of the end that is left; None when it is not on this host."""
    if one.left_identity == abi.IDENTITY_HOST:
        return names.HOST_PEER_IFNAME, names.router_mac()
    place = tables.places.lookup(entries.ipcache_key(IpcacheKey(one.vni, one.left.address)))
    endpoint = tables.endpoints.lookup(abi.EndpointKey(ifindex=place.ifindex)) if place and place.ifindex else None
    if endpoint is None:
        return None
    return names.host_ifname(entries.endpoint_id(endpoint)), MacAddress.from_packed(bytes(endpoint.mac))


def _peer(one: _HalfOpen, translations: TypedMap[abi.NatKey, abi.NatValue]) -> TransportEnd:
    """Who the other end is for the one that is left: the virtual address, if it asked for that."""
    answer = abi.NatKey(
        source=int(one.gone.address),
        destination=int(one.left.address),
        source_port=one.gone.port,
        destination_port=one.left.port,
        protocol=socket.IPPROTO_TCP,
    )
    known = translations.lookup(answer)
    if known is None or not known.reply:
        return one.gone
    return TransportEnd(address=IPv4Address(known.source), port=known.source_port)
