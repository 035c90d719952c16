"""Decodes the connection tracking; what is decided with it is decided in ``bpf/lib/conntrack.h``."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from datapath import abi
from datapath.flow_event import TrackedConnection, TransportEnd
from datapath.idle import idle_s
from datapath.maps import TypedMap
from datapath.newest import Newest, newest

_PROTOCOL_BITS: Final = 8
_BOTH_CLOSED: Final = abi.ConntrackFlags.CLOSED_SOURCE | abi.ConntrackFlags.CLOSED_TARGET

_Entry: TypeAlias = tuple[abi.ConntrackKey, abi.ConntrackValue]


def connections(
    tracked: TypedMap[abi.ConntrackKey, abi.ConntrackValue], *, now_s: int, limit: int | None = None
) -> Newest[TrackedConnection]:
    """Entries that have not expired, those that were used last first, in the direction that opened the connection.

    Args:
        tracked: the map.
        now_s: CLOCK_MONOTONIC in whole seconds.
        limit: how many; None: all.
    """
    return newest(_kept(tracked, now_s), limit, _connection)


def _kept(tracked: TypedMap[abi.ConntrackKey, abi.ConntrackValue], now_s: int) -> Iterator[tuple[int, _Entry]]:
    for key, value in tracked.items():
        silent_s = idle_s(value.seen_s, now_s)
        if silent_s <= timeout_s(protocol(key), value.flags):
            yield silent_s, (key, value)


def _connection(silent_s: int, entry: _Entry) -> TrackedConnection:
    key, value = entry
    source, destination = ends(key, value.flags)
    return TrackedConnection(
        vni=vni(key),
        protocol=protocol(key),
        source=source.address,
        source_port=source.port,
        destination=destination.address,
        destination_port=destination.port,
        source_identity=value.source_identity,
        destination_identity=value.destination_identity,
        state=_state(value),
        idle_s=silent_s,
        epoch=value.epoch,
        egress_rule=value.egress_rule,
        ingress_rule=value.ingress_rule,
    )


def ends(key: abi.ConntrackKey, flags: int) -> tuple[TransportEnd, TransportEnd]:
    """Both ends of a tracked connection; the one that opened it is the first."""
    low = TransportEnd(address=IPv4Address(key.low), port=key.low_port)
    high = TransportEnd(address=IPv4Address(key.high), port=key.high_port)
    return (high, low) if flags & abi.ConntrackFlags.OPENED_BY_HIGH else (low, high)


def vni(key: abi.ConntrackKey) -> int:
    """Network of a tracked connection."""
    return int(key.vni_and_protocol) >> _PROTOCOL_BITS


def protocol(key: abi.ConntrackKey) -> int:
    """Protocol of IP of a tracked connection."""
    return int(key.vni_and_protocol) & (1 << _PROTOCOL_BITS) - 1


def is_closed(flags: int) -> bool:
    """Whether a connection has ended, by either end's reset or both ends' FIN."""
    return bool(flags & abi.ConntrackFlags.RESET) or flags & _BOTH_CLOSED == _BOTH_CLOSED


def timeout_s(protocol: int, flags: int) -> int:
    """How long a connection may be silent."""
    replied = flags & abi.ConntrackFlags.REPLIED
    if protocol != socket.IPPROTO_TCP:
        return abi.STREAM_TIMEOUT_S if replied else abi.OTHER_TIMEOUT_S
    if is_closed(flags):
        return abi.CLOSE_TIMEOUT_S
    return abi.TCP_TIMEOUT_S if replied else abi.SYN_TIMEOUT_S


def _state(value: abi.ConntrackValue) -> str:
    if value.reason:
        return "denied"
    if is_closed(value.flags):
        return "closing"
    return "established" if value.flags & abi.ConntrackFlags.REPLIED else "new"
