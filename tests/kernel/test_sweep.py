"""Connections that are over leave the kernel's tables, and no other does, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import pytest

from datapath import abi, maps
from datapath.abi import ConntrackFlags, NatFlags
from datapath.maps import MapPart, TypedMap
from datapath.pins import Pins
from datapath.programs import Programs, open_programs
from datapath.sweep import sweep_map

pytestmark = pytest.mark.kernel

TCP, UDP, ICMP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP
CLIENT: Final = int(IPv4Address("10.5.0.2"))
SERVICE: Final = int(IPv4Address("10.5.0.10"))
BACKEND: Final = int(IPv4Address("10.5.0.3"))
BOTH_CLOSED: Final = ConntrackFlags.CLOSED_SOURCE | ConntrackFlags.CLOSED_TARGET
MARGIN_S: Final = 2
"""The tables count in whole seconds, and a test takes some."""


class Opened:
    """The programs and the two tables."""

    def __init__(self, where: Pins) -> None:
        self.programs: Programs = open_programs(where)
        self.tracked = TypedMap(where.maps, "hawse_conntrack", maps.CONNTRACK)
        self.translated = TypedMap(where.maps, "hawse_nat", maps.NAT)

    def sweep_connections(self) -> int:
        return sweep_map(self.programs.sweep_connections, self.tracked)

    def sweep_translations(self) -> int:
        return sweep_map(self.programs.sweep_translations, self.translated)

    def ports_tracked(self) -> set[int]:
        return {key.low_port for key, _ in self.tracked.items()}

    def ports_translated(self) -> list[int]:
        """Ports of the clients, once for each half."""
        return sorted(
            value.destination_port if value.reply else key.source_port for key, value in self.translated.items()
        )

    def close(self) -> None:
        self.programs.close()
        self.tracked.close()
        self.translated.close()


@pytest.fixture(scope="module")
def where(bpf_root: Path) -> Pins:
    return Pins(bpf_root / "sweep")


@pytest.fixture
def opened(where: Pins) -> Iterator[Opened]:
    with contextlib.closing(Opened(where)) as made:
        yield made
        for table in (made.tracked, made.translated):
            table.delete_many([key for key, _ in table.items()])


def ago(seconds: int) -> int:
    return (int(time.monotonic()) - seconds) % 2**32


def tracking(
    port: int, *, silent_s: int, flags: int, protocol: int = TCP
) -> tuple[abi.ConntrackKey, abi.ConntrackValue]:
    key = abi.ConntrackKey(
        low=CLIENT, high=BACKEND, low_port=port, high_port=80, vni_and_protocol=7 << 8 | protocol
    )  # fmt: skip
    return key, abi.ConntrackValue(seen_s=ago(silent_s), flags=flags)


def translation(
    port: int, *, silent_s: int = 0, answer_silent_s: int | None = None, flags: int = NatFlags.USED,
    answer_flags: int | None = None, protocol: int = TCP, service: int = SERVICE,
) -> tuple[tuple[abi.NatKey, abi.NatValue], tuple[abi.NatKey, abi.NatValue]]:  # fmt: skip
    """Both halves of a client's connection to a virtual address."""
    there = abi.NatKey(source=CLIENT, destination=service, source_port=port, destination_port=80, protocol=protocol)
    back = abi.NatKey(source=BACKEND, destination=CLIENT, source_port=8080, destination_port=port, protocol=protocol)
    return (
        (
            there,
            abi.NatValue(
                source=CLIENT, destination=BACKEND, source_port=port, destination_port=8080,
                seen_s=ago(silent_s), kind=abi.NatKind.SERVICE, flags=flags,
            ),
        ),
        (
            back,
            abi.NatValue(
                source=service, destination=CLIENT, source_port=80, destination_port=port, reply=1,
                seen_s=ago(silent_s if answer_silent_s is None else answer_silent_s), kind=abi.NatKind.SERVICE,
                flags=flags if answer_flags is None else answer_flags,
            ),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "flags", "timeout_s"),
    [
        pytest.param(TCP, 0, abi.SYN_TIMEOUT_S, id="tcp-asked"),
        pytest.param(TCP, ConntrackFlags.REPLIED, abi.TCP_TIMEOUT_S, id="tcp-open"),
        pytest.param(
            TCP, ConntrackFlags.REPLIED | ConntrackFlags.CLOSED_SOURCE, abi.TCP_TIMEOUT_S, id="tcp-half-closed"
        ),
        pytest.param(TCP, ConntrackFlags.REPLIED | BOTH_CLOSED, abi.CLOSE_TIMEOUT_S, id="tcp-closed"),
        pytest.param(TCP, ConntrackFlags.RESET, abi.CLOSE_TIMEOUT_S, id="tcp-reset"),
        pytest.param(UDP, 0, abi.OTHER_TIMEOUT_S, id="udp-asked"),
        pytest.param(UDP, ConntrackFlags.REPLIED, abi.STREAM_TIMEOUT_S, id="udp-answered"),
        pytest.param(ICMP, ConntrackFlags.REPLIED, abi.STREAM_TIMEOUT_S, id="icmp-answered"),
    ],
)
def test_a_tracked_connection_goes_when_its_time_is_over(
    opened: Opened, protocol: int, flags: int, timeout_s: int
) -> None:
    lives = tracking(1, silent_s=timeout_s - MARGIN_S, flags=flags, protocol=protocol)
    over = tracking(2, silent_s=timeout_s + MARGIN_S, flags=flags, protocol=protocol)
    later = tracking(3, silent_s=-MARGIN_S, flags=flags, protocol=protocol)
    opened.tracked.update_many([lives, over, later])

    assert opened.sweep_connections() == 1
    assert opened.ports_tracked() == {1, 3}


@pytest.mark.parametrize(
    ("protocol", "flags", "answer_flags", "timeout_s"),
    [
        pytest.param(TCP, NatFlags.USED, 0, abi.SYN_TIMEOUT_S, id="tcp-asked"),
        pytest.param(TCP, NatFlags.USED, NatFlags.USED, abi.TCP_TIMEOUT_S, id="tcp-open"),
        pytest.param(TCP, NatFlags.USED | NatFlags.CLOSING, NatFlags.USED, abi.TCP_TIMEOUT_S, id="tcp-half-closed"),
        pytest.param(
            TCP, NatFlags.USED | NatFlags.CLOSING, NatFlags.USED | NatFlags.CLOSING, abi.CLOSE_TIMEOUT_S,
            id="tcp-closed",
        ),
        pytest.param(TCP, NatFlags.USED, NatFlags.USED | NatFlags.RESET, abi.CLOSE_TIMEOUT_S, id="tcp-reset"),
        pytest.param(UDP, NatFlags.USED, 0, abi.OTHER_TIMEOUT_S, id="udp-asked"),
        pytest.param(UDP, NatFlags.USED, NatFlags.USED, abi.STREAM_TIMEOUT_S, id="udp-answered"),
    ],
)  # fmt: skip
def test_a_translated_connection_goes_with_both_halves(
    opened: Opened, protocol: int, flags: int, answer_flags: int, timeout_s: int
) -> None:
    kinds: Mapping[str, Any] = {"flags": flags, "answer_flags": answer_flags, "protocol": protocol}
    opened.translated.update_many(translation(1, silent_s=timeout_s - MARGIN_S, **kinds))
    opened.translated.update_many(translation(2, silent_s=timeout_s + MARGIN_S, **kinds))
    # Known by either half.
    opened.translated.update_many(translation(3, silent_s=timeout_s + MARGIN_S, answer_silent_s=1, **kinds))
    opened.translated.update_many(translation(4, silent_s=1, answer_silent_s=timeout_s + MARGIN_S, **kinds))

    assert opened.sweep_translations() == 2
    assert opened.ports_translated() == [1, 1, 3, 3, 4, 4]


def test_a_half_whose_other_belongs_to_a_later_connection_goes_alone(opened: Opened) -> None:
    mine = translation(1, silent_s=abi.TCP_TIMEOUT_S + MARGIN_S)
    # To another virtual address of the same backend, from the same port: its answers come as mine did. Asked just now.
    asks, answers = translation(1, answer_silent_s=abi.TCP_TIMEOUT_S + MARGIN_S, service=SERVICE + 1)
    opened.translated.update_many([mine[0], asks, answers])

    assert opened.sweep_translations() == 1
    assert {key.destination for key, _ in opened.translated.items()} == {SERVICE + 1, CLIENT}


@pytest.mark.parametrize("count", [1, abi.SWEEP_AT_ONCE, abi.SWEEP_AT_ONCE + 1, 10_000])
def test_of_many_all_go_that_are_over(opened: Opened, count: int) -> None:
    for port in range(count):
        silent_s = 5 if port % 2 else abi.CLOSE_TIMEOUT_S + MARGIN_S
        opened.tracked.update(*tracking(port, silent_s=silent_s, flags=ConntrackFlags.RESET))
        opened.translated.update_many(translation(port, silent_s=silent_s, flags=NatFlags.USED | NatFlags.RESET))
    over = count - count // 2

    assert (opened.sweep_connections(), opened.sweep_translations()) == (over, 2 * over)
    assert opened.ports_tracked() == set(range(1, count, 2))
    assert opened.ports_translated() == sorted([*range(1, count, 2)] * 2)
    assert (opened.sweep_connections(), opened.sweep_translations()) == (0, 0)


def test_what_begins_again_after_it_was_seen_stays(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found when thousands of connections to a virtual address took ports that others had had seconds before."""
    over_s = abi.CLOSE_TIMEOUT_S + MARGIN_S
    opened.tracked.update(*tracking(1, silent_s=over_s, flags=ConntrackFlags.RESET))
    opened.translated.update_many(translation(1, silent_s=over_s, flags=NatFlags.USED | NatFlags.RESET))

    def begins_again(table: TypedMap[Any, Any], begin: Callable[[], None]) -> None:
        read = list(table.batches())

        def batches() -> Iterator[MapPart]:
            begin()
            yield from read

        monkeypatch.setattr(table, "batches", batches)

    begins_again(opened.tracked, lambda: opened.tracked.update(*tracking(1, silent_s=0, flags=0)))
    begins_again(
        opened.translated, lambda: opened.translated.update_many(translation(1, silent_s=0, answer_flags=0))
    )  # fmt: skip

    assert (opened.sweep_connections(), opened.sweep_translations()) == (0, 0)
    assert opened.ports_tracked() == {1}
    assert opened.ports_translated() == [1, 1]
