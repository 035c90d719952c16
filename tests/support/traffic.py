"""Packets that are sent without a pause from a container's first instruction on, and what of them arrived where.

The program is ``traffic.c``; it writes to files that the test reads from outside, and takes the time of a packet from
the kernel: all machines of the testbed have one clock, so that a load on them moves what happens, not what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.images import IMAGE
from tests.support.node import Node

PORT: Final = 7000
_FOLDER: Final = "/traffic"
_SOON_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A datagram or a SYN that reached a catcher's interface."""

    time_ns: int
    """Since 1970, by the kernel."""
    protocol: str
    source: str
    name: str
    """Of the knocker; empty for a SYN."""
    number: int
    """Of the knocker's round, from 0; 0 for a SYN."""
    started_ns: int
    """When the knocker ran its first instruction; 0 for a SYN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a knocker has done up to now."""

    address: str
    started_ns: int
    sent_ns: int
    rounds: int
    ended: bool


class Catcher:
    """A container that notes everything that comes to :data:`PORT`."""

    def __init__(self, node: Node, name: str, network: str, *options: str) -> None:
        self.node: Final = node
        self.name: Final = name
        self._log = _folder(node) / f"{name}.caught"
        self._log.unlink(missing_ok=True)
        self._at = 0
        self._packets: list[Packet] = []
        self._by_name: dict[str, list[Packet]] = {}
        script = f"exec traffic catch {PORT} >{_FOLDER}/{self._log.name} 2>&1"
        node.start(name, network, _volume(node), *options, command=("sh", "-c", script))
        wait.until(f"{name} catches", lambda: self._log.exists() and self._log.read_text(), timeout_s=_SOON_S)
        self.address: Final = node.address_in(name, network)

    def packets(self) -> Sequence[Packet]:
        """Everything up to now, in order."""
        with self._log.open("rb") as log:
            log.seek(self._at)
            text = log.read()
        whole, newline, _ = text.rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            if line != "ready":
                packet = _packet(line.split())
                self._packets.append(packet)
                self._by_name.setdefault(packet.name, []).append(packet)
        return self._packets

    def of(self, name: str) -> Sequence[Packet]:
        """The datagrams of one knocker, in order."""
        self.packets()
        return self._by_name.get(name, [])

    def wait_more(self, name: str, *, since_ns: int | None = None, packets: int = 1) -> None:
        """Wait until a knocker's datagrams have arrived that came later than a moment, else later than now."""
        moment = time.time_ns() if since_ns is None else since_ns
        wait.until(
            f"{packets} more of {name} at {self.name}",
            lambda: len(found := self.of(name)) >= packets and found[-packets].time_ns > moment,
            timeout_s=_SOON_S,
            interval_s=0.01,
        )


class Knocker:
    """A container that sends to a catcher from its first instruction on.

    Args:
        node: where it runs.
        name: of the container, and in its packets.
        network: of the container; may be in Docker's long form.
        target: whom it knocks at, at :data:`PORT`.
        options: for the container.
        kinds: ``d`` a datagram of one flow, ``n`` a datagram from a new port, ``s`` a SYN from a new port.
        interval_us: between rounds, in each of which all kinds are sent.
        duration_ms: how long; 0: until it is removed.
        run: whether it runs at once; otherwise it is only made, and :meth:`run` starts it.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        network: str,
        target: str,
        *options: str,
        kinds: str,
        interval_us: int = 1000,
        duration_ms: int = 0,
        run: bool = True,
    ) -> None:
        self.node: Final = node
        self.name: Final = name
        self._report = _folder(node) / f"{name}.report"
        self._report.unlink(missing_ok=True)
        report = f"{_FOLDER}/{self._report.name}"
        command = ("traffic", "knock", target, str(PORT), name, kinds, str(interval_us), str(duration_ms), report)
        node.engine("create", "--name", name, "--network", network, _volume(node), *options, IMAGE, *command)
        if run:
            self.run()

    def run(self) -> None:
        """Start its first instruction."""
        self.node.engine("start", self.name)

    def report(self) -> Report | None:
        """What it has done; None before it says anything."""
        fields = self._report.read_text().split() if self._report.exists() else []
        if not fields:
            return None
        address, started_ns, sent_ns, rounds, ended = fields
        return Report(
            address=address,
            started_ns=int(started_ns),
            sent_ns=int(sent_ns),
            rounds=int(rounds),
            ended=ended == "1",
        )

    def wait_ended(self) -> Report:
        """Wait until it has sent for as long as it should."""
        return wait.until(
            f"{self.name} has ended",
            lambda: report if (report := self.report()) and report.ended else None,
            timeout_s=_SOON_S,
        )

    def rounds(self) -> int:
        """How many rounds it has sent."""
        report = self.report()
        return report.rounds if report else 0

    def wait_round(self, number: int) -> None:
        """Wait until it has sent this many rounds."""
        wait.until(
            f"{self.name} has sent {number} rounds",
            lambda: self.rounds() >= number,
            timeout_s=_SOON_S,
            interval_s=0.01,
        )


def missing(packets: Sequence[Packet]) -> list[int]:
    """Rounds between the first and the last of one knocker's datagrams of which none arrived."""
    numbers = {packet.number for packet in packets}
    return [number for number in range(min(numbers), max(numbers)) if number not in numbers]


def _packet(words: Sequence[str]) -> Packet:
    time_ns, protocol, source, _, name, number, started_ns = [*words, "", "0", "0"][:7]
    return Packet(
        time_ns=int(time_ns),
        protocol=protocol,
        source=source,
        name=name,
        number=int(number),
        started_ns=int(started_ns),
    )


def _folder(node: Node) -> Path:
    folder = node.machine.data / "traffic"
    folder.mkdir(exist_ok=True)
    return folder


def _volume(node: Node) -> str:
    return f"--volume={_folder(node)}:{_FOLDER}"
