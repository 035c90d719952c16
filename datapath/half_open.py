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
from collections.abc import Iterator, Mapping
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
    vni: int
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
    sequences = {(int(one.vni), one.address.packed): sequence for one, sequence in departed.items()}
    addresses = {address for _, address in sequences}
    value_bytes = ctypes.sizeof(abi.ConntrackValue)
    for part in connections.batches():
        # Nearly all entries are of others, and there may be a quarter of a million.
        for at, (low, high, low_port, high_port, scope) in enumerate(_KEY.iter_unpack(part.keys)):
            if (low not in addresses and high not in addresses) or scope & _PROTOCOL_MASK != socket.IPPROTO_TCP:
                continue
            value = abi.ConntrackValue.from_buffer_copy(part.values, at * value_bytes)
            ends = TransportEnd(address=low, port=low_port), TransportEnd(address=high, port=high_port)
            yield from _left_over(value, scope >> _VNI_SHIFT, ends, sequences)


def _left_over(
    value: abi.ConntrackValue,
    vni: int,
    ends: tuple[TransportEnd, TransportEnd],
    sequences: Mapping[tuple[int, bytes], int],
) -> Iterator[_HalfOpen]:
    """What is half-open of one connection: nothing, or from the view of either end."""
    if not _is_open(value):
        return
    source, target = ends[::-1] if value.flags & abi.ConntrackFlags.OPENED_BY_HIGH else ends
    for gone, said_so, left, identity in (
        (target, abi.ConntrackFlags.CLOSED_TARGET, source, value.source_identity),
        (source, abi.ConntrackFlags.CLOSED_SOURCE, target, value.destination_identity),
    ):
        sequence = sequences.get((vni, gone.address))
        if sequence is not None and not value.flags & said_so:
            yield _HalfOpen(vni=vni, gone=gone, left=left, left_identity=identity, sequence=sequence)


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
