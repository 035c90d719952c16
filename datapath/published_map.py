"""Published ports of this host: what hawse_published says, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Final

from datapath import abi
from datapath.api import PublishedPort, PublishedTarget
from datapath.maps import TypedMap
from model.ids import Vni

_EVERY: Final = IPv4Address(0)
"""Stands in a key for every address of the host."""

_WORD: Final = 64
"""Ports that one entry of the other map is about."""


class PublishedMap:
    """The map of published ports, and the one that says for every port whether it is in there.

    Raises:
        DatapathError: from every method, when the kernel refused.
    """

    def __init__(
        self,
        published: TypedMap[abi.PublishedKey, abi.PublishedValue],
        bits: TypedMap[abi.ArrayKey, abi.PublishedPortsValue],
    ) -> None:
        self._published = published
        self._bits = bits

    def replace(self, ports: Mapping[PublishedPort, PublishedTarget]) -> None:
        """Make the map say exactly this.

        Raises:
            Exhausted: they do not fit.
        """
        before = {int(key.port) for key, _ in self._published.items()}
        after = {port.port for port in ports}
        # A bit too many costs a lookup, one too few hides a port.
        self._write_bits(before | after)
        self._published.sync((_key(port), _value(target)) for port, target in ports.items())
        self._write_bits(after)

    def read(self) -> Mapping[PublishedPort, PublishedTarget]:
        """What the map says."""
        return {_port(key): _target(value) for key, value in self._published.items()}

    def _write_bits(self, ports: Iterable[int]) -> None:
        words = [0] * self._bits.max_entries
        for port in ports:
            words[port // _WORD] |= 1 << port % _WORD
        present = {int(key.index): int(value.bits) for key, value in self._bits.items()}
        self._bits.update_many(
            (abi.ArrayKey(index=index), abi.PublishedPortsValue(bits=word))
            for index, word in enumerate(words)
            if present.get(index) != word
        )


def _key(port: PublishedPort) -> abi.PublishedKey:
    return abi.PublishedKey(address=int(port.address or _EVERY), port=port.port, protocol=port.protocol)


def _value(target: PublishedTarget) -> abi.PublishedValue:
    return abi.PublishedValue(address=int(target.address), port=target.port, vni=target.vni)


def _port(key: abi.PublishedKey) -> PublishedPort:
    return PublishedPort(
        port=key.port, protocol=key.protocol, address=IPv4Address(key.address) if key.address else None
    )


def _target(value: abi.PublishedValue) -> PublishedTarget:
    return PublishedTarget(address=IPv4Address(value.address), port=value.port, vni=Vni(value.vni))
