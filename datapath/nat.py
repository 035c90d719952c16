"""Decodes the translated connections; what is translated is decided in ``bpf/lib/nat.h``."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from datapath import abi
from datapath.api import Translation
from datapath.idle import idle_s
from datapath.maps import TypedMap
from datapath.newest import Newest, newest

_KINDS: Final[Mapping[int, str]] = {
    abi.NatKind.MASQUERADE: "masquerade",
    abi.NatKind.PUBLISHED: "published",
    abi.NatKind.SERVICE: "service",
}

_Entry: TypeAlias = tuple[abi.NatKey, abi.NatValue]


def translations(
    translated: TypedMap[abi.NatKey, abi.NatValue], *, now_s: int, limit: int | None = None
) -> Newest[Translation]:
    """Entries that have not expired, those that were used last first.

    Args:
        translated: the map.
        now_s: CLOCK_MONOTONIC in whole seconds.
        limit: how many; None: all.
    """
    return newest(_kept(translated, now_s), limit, _translation)


def _kept(translated: TypedMap[abi.NatKey, abi.NatValue], now_s: int) -> Iterator[tuple[int, _Entry]]:
    for key, value in translated.items():
        silent_s = idle_s(value.seen_s, now_s)
        if silent_s <= _timeout_s(key.protocol):
            yield silent_s, (key, value)


def _translation(silent_s: int, entry: _Entry) -> Translation:
    key, value = entry
    return Translation(
        kind=_KINDS.get(value.kind, f"kind {value.kind}"),
        protocol=key.protocol,
        source=IPv4Address(key.source),
        source_port=key.source_port,
        destination=IPv4Address(key.destination),
        destination_port=key.destination_port,
        new_source=IPv4Address(value.source),
        new_source_port=value.source_port,
        new_destination=IPv4Address(value.destination),
        new_destination_port=value.destination_port,
        reply=bool(value.reply),
        idle_s=silent_s,
    )


def _timeout_s(protocol: int) -> int:
    """As long as the connection itself is kept at the most."""
    return abi.TCP_TIMEOUT_S if protocol == socket.IPPROTO_TCP else abi.STREAM_TIMEOUT_S
