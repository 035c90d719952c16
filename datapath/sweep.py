"""Removes connections that are over from the tables, so that those that live are not pushed out to make room.

The programs pass over an entry whose time has gone by; they never delete one. The tables are LRU maps: full of dead
entries they would lose idle connections long before their time. What is decided here is what ``bpf/lib/conntrack.h``
and ``bpf/lib/nat.h`` decide. A packet that comes between the look and the removal finds its connection gone, and begins
it anew, as it would have done a moment before.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from datapath import abi, conntrack
from datapath.idle import idle_s
from datapath.maps import TypedMap

_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many entries were removed."""

    connections: int
    translations: int
    """Two of each translated connection."""


def sweep_connections(tracked: TypedMap[abi.ConntrackKey, abi.ConntrackValue], *, now_s: int) -> int:
    """Remove tracked connections that are over; returns how many.

    Args:
        tracked: the map.
        now_s: CLOCK_MONOTONIC in whole seconds.
    """
    return _delete(
        tracked,
        (
            key
            for key, value in tracked.items()
            if idle_s(value.seen_s, now_s) > conntrack.timeout_s(conntrack.protocol(key), value.flags)
        ),
    )


def sweep_translations(translated: TypedMap[abi.NatKey, abi.NatValue], *, now_s: int) -> int:
    """Remove translated connections that are over, both halves; returns how many entries.

    Args:
        translated: the map.
        now_s: CLOCK_MONOTONIC in whole seconds.
    """
    return _delete(translated, _dead_halves(translated, now_s))


def pair_timeout_s(one: abi.NatValue, other: abi.NatValue | None, protocol: int) -> int:
    """How long a translated connection may be silent; see ``nat_is_idle``."""
    either = one.flags | (other.flags if other else 0)
    both = one.flags & other.flags if other else 0
    answered = both & abi.NatFlags.USED
    if protocol != socket.IPPROTO_TCP:
        return abi.STREAM_TIMEOUT_S if answered else abi.OTHER_TIMEOUT_S
    if either & abi.NatFlags.RESET or both & abi.NatFlags.CLOSING:
        return abi.CLOSE_TIMEOUT_S
    return abi.TCP_TIMEOUT_S if answered else abi.SYN_TIMEOUT_S


def _dead_halves(translated: TypedMap[abi.NatKey, abi.NatValue], now_s: int) -> Iterator[abi.NatKey]:
    for key, value in translated.items():
        # No connection is over sooner.
        if idle_s(value.seen_s, now_s) <= abi.CLOSE_TIMEOUT_S:
            continue
        other = translated.lookup(_other_half(key, value))
        silent_s = min(idle_s(half.seen_s, now_s) for half in (value, other) if half is not None)
        if silent_s > pair_timeout_s(value, other, key.protocol):
            yield key


def _other_half(key: abi.NatKey, value: abi.NatValue) -> abi.NatKey:
    return abi.NatKey(
        source=value.destination,
        destination=value.source,
        source_port=value.destination_port,
        destination_port=value.source_port,
        protocol=key.protocol,
    )


def _delete(opened: TypedMap[Any, Any], dead: Iterable[Any]) -> int:
    removed, left = 0, iter(dead)
    while part := list(itertools.islice(left, _AT_ONCE)):
        opened.delete_many(part)
        removed += len(part)
    return removed
