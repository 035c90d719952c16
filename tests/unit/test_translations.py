"""How translated connections are read: directions, kinds, and which have expired."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, cast

import pytest

from datapath import abi, nat
from datapath.api import Translation
from datapath.maps import TypedMap
from datapath.nat import translations

NOW_S: Final = 100_000
TCP: Final = 6
UDP: Final = 17


class Entries:
    """Stands for the map."""

    def __init__(self, *pairs: tuple[abi.NatKey, abi.NatValue]) -> None:
        self._pairs = pairs

    def items(self) -> Iterator[tuple[abi.NatKey, abi.NatValue]]:
        yield from self._pairs


def read(*pairs: tuple[abi.NatKey, abi.NatValue]) -> list[object]:
    return list(translations(cast("TypedMap[abi.NatKey, abi.NatValue]", Entries(*pairs)), now_s=NOW_S))


def entry(*, protocol: int = TCP, idle_s: int = 0, kind: int = 0, reply: int = 0) -> tuple[abi.NatKey, abi.NatValue]:
    key = abi.NatKey(
        source=int(IPv4Address("10.5.0.2")),
        source_port=40000,
        destination=int(IPv4Address("192.0.2.10")),
        destination_port=443,
        protocol=protocol,
    )
    value = abi.NatValue(
        source=int(IPv4Address("10.77.0.1")),
        source_port=10240,
        destination=int(IPv4Address("192.0.2.10")),
        destination_port=443,
        seen_s=(NOW_S - idle_s) % 2**32,
        kind=kind,
        reply=reply,
    )
    return key, value


def test_both_sides_are_read() -> None:
    (found,) = translations(cast("TypedMap[abi.NatKey, abi.NatValue]", Entries(entry(idle_s=7))), now_s=NOW_S)

    assert (found.kind, found.protocol, found.reply, found.idle_s) == ("masquerade", TCP, False, 7)
    assert (str(found.source), found.source_port) == ("10.5.0.2", 40000)
    assert (str(found.destination), found.destination_port) == ("192.0.2.10", 443)
    assert (str(found.new_source), found.new_source_port) == ("10.77.0.1", 10240)
    assert (str(found.new_destination), found.new_destination_port) == ("192.0.2.10", 443)


@pytest.mark.parametrize("kind", list(abi.NatKind))
def test_every_kind_has_its_name(kind: abi.NatKind) -> None:
    (found,) = translations(cast("TypedMap[abi.NatKey, abi.NatValue]", Entries(entry(kind=kind))), now_s=NOW_S)

    assert found.kind == kind.name.lower()


@pytest.mark.parametrize(("protocol", "timeout_s"), [(TCP, abi.TCP_TIMEOUT_S), (UDP, abi.STREAM_TIMEOUT_S)])
def test_what_has_expired_is_left_out(protocol: int, timeout_s: int) -> None:
    assert len(read(entry(protocol=protocol, idle_s=timeout_s))) == 1
    assert not read(entry(protocol=protocol, idle_s=timeout_s + 1))


def test_packet_of_a_second_that_had_not_begun_is_not_old() -> None:
    (found,) = translations(cast("TypedMap[abi.NatKey, abi.NatValue]", Entries(entry(idle_s=-1))), now_s=NOW_S)

    assert found.idle_s == 0


def test_of_many_only_the_newest_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = nat._translation

    def counted(idle_s: int, entry: tuple[abi.NatKey, abi.NatValue]) -> Translation:
        decoded.append(idle_s)
        return decode(idle_s, entry)

    monkeypatch.setattr(nat, "_translation", counted)
    entries = Entries(*(entry(idle_s=(7919 * number) % 1000) for number in range(1000)), entry(idle_s=90_000))

    found = translations(cast("TypedMap[abi.NatKey, abi.NatValue]", entries), now_s=NOW_S, limit=3)

    assert ([0, 1, 2], 997) == ([one.idle_s for one in found], found.left_out)
    assert [0, 1, 2] == decoded
