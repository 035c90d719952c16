"""Traffic that runs while something is done to the engine or the agent, and what of it got lost.

The programs write to files that the test reads from outside: an engine that is down cannot be asked for logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.node import Node

_INTERVAL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReport:
    """A ping that has ended."""

    sent: int
    received: int
    missing: tuple[int, ...]
    """Sequence numbers that were not answered."""

    def __str__(self) -> str:
        return f"ping: {self.sent} sent, {self.received} answered, missing {list(self.missing)[:20]}"


class Ping:
    """An echo request every 20 ms from a container of its own."""

    def __init__(self, node: Node, name: str, network: str, target: str, *options: str) -> None:
        self._node = node
        self._name = name
        self._log = _log_file(node, name)
        node.start(
            name,
            network,
            f"--volume={self._log.parent}:/flows",
            *options,
            command=("sh", "-c", f"exec /bin/ping -n -i {_INTERVAL_S} {target} >/flows/{self._log.name} 2>&1"),
        )
        self.wait_answers(3)

    def answered(self) -> int:
        """Echo replies so far."""
        return len(_REPLY.findall(self._text()))

    def wait_answers(self, more: int) -> None:
        """Wait until this many more replies have come."""
        before = self.answered()

        def come() -> None:
            now = self.answered()
            assert now >= before + more, (
                f"{before} replies, then {now}; the end of ping's output: {self._text()[-500:]}"
            )

        wait.until_passes(come, timeout_s=20)

    def _text(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def stop(self) -> PingReport:
        """End it and count."""
        self._node.engine("kill", "--signal", "INT", self._name)
        wait.until("ping ends", lambda: "packets transmitted" in self._log.read_text(), timeout_s=10)
        text = self._log.read_text()
        sent, received = (int(n) for n in _SUMMARY.findall(text)[0])
        answered = {int(n) for n in _REPLY.findall(text)}
        self._node.remove(self._name)
        # The last request may still have been on its way when it was told to end.
        missing = tuple(n for n in range(1, sent) if n not in answered)
        return PingReport(sent=sent, received=received, missing=missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """A stream that has ended, as its receiver saw it."""

    intervals: int
    megabytes: float
    stalled: int
    """Intervals of 0.2 s in which nothing arrived."""
    lost: int
    """Datagrams; 0 for TCP."""
    datagrams: int
    retransmitted: int
    """TCP segments that were sent twice."""


class Stream:
    """iperf3 from one container to another at a steady rate: ``udp`` with 100 datagrams a second, else TCP.

    What a busy machine keeps a receiver from reading for two seconds still fits into its buffer of 212 KB.
    """

    def __init__(
        self, *, server: Node, client: Node, name: str, network: str, udp: bool = False, options: tuple[str, ...] = ()
    ) -> None:
        self._server, self._client = server, client
        self._names = (f"{name}-server", f"{name}-client")
        self._received = _log_file(server, self._names[0])
        self._sent = _log_file(client, self._names[1])
        volume = f"--volume={self._received.parent}:/flows"
        server.start(
            self._names[0],
            network,
            volume,
            *options,
            command=("sh", "-c", f"exec iperf3 -s -1 -i 0.2 -f K --forceflush >/flows/{self._received.name} 2>&1"),
        )
        wait.until("iperf3 listens", lambda: _has(self._received, "listening"), timeout_s=10)
        address = server.address_in(self._names[0], network)
        kind = "-u -b 160K -l 200" if udp else "-b 20M"
        client.start(
            self._names[1],
            network,
            f"--volume={self._sent.parent}:/flows",
            *options,
            command=(
                "sh",
                "-c",
                f"exec iperf3 -c {address} -t 3600 -i 0.2 -f K --forceflush {kind} >/flows/{self._sent.name} 2>&1",
            ),
        )
        self.wait_intervals(3)

    def wait_intervals(self, more: int) -> None:
        """Wait until data has arrived in this many more intervals of 0.2 s."""
        before = len(_rows(self._received))
        wait.until(
            f"{more} more intervals in {self._received}",
            lambda: len(_rows(self._received)) >= before + more,
            timeout_s=20,
        )

    def stop(self) -> StreamReport:
        """End it and count."""
        self._client.engine("kill", "--signal", "INT", self._names[1])
        wait.until("iperf3 ends", lambda: _has(self._received, "the client has terminated"), timeout_s=10)
        self._client.remove(self._names[1])
        self._server.remove(self._names[0])
        received = _rows(self._received)
        datagrams = [match for row in received if (match := _DATAGRAMS.search(row))]
        return StreamReport(
            intervals=len(received),
            megabytes=sum(map(_kilobytes, received)) / 1024,
            stalled=sum(1 for row in received if _kilobytes(row) == 0),
            lost=sum(int(match[1]) for match in datagrams),
            datagrams=sum(int(match[2]) for match in datagrams),
            retransmitted=sum(int(match[1]) for row in _rows(self._sent) if (match := _RETRANSMITTED.search(row))),
        )


_REPLY: Final = re.compile(r"icmp_seq=(\d+) ttl=")
_SUMMARY: Final = re.compile(r"(\d+) packets transmitted, (\d+) received")
_ROW: Final = re.compile(r"^\[ *\d+\] +([\d.]+-[\d.]+) +sec .*$", re.MULTILINE)
_TRANSFER: Final = re.compile(r" ([\d.]+) ([KMG]?)Bytes ")
_FACTORS: Final = {"": 1 / 1024, "K": 1, "M": 1024, "G": 1024**2}
_DATAGRAMS: Final = re.compile(r" (-?\d+)/(\d+) \(")
_RETRANSMITTED: Final = re.compile(r"Bytes/sec +(\d+) +[\d.]+ [KMG]?Bytes")


def _rows(log: Path) -> list[str]:
    """Lines of single intervals, each once, not of the whole."""
    if not log.exists():
        return []
    lines = log.read_text().partition("- - - -")[0]
    return list({match[1]: match[0] for match in _ROW.finditer(lines)}.values())


def _kilobytes(row: str) -> float:
    (number, unit) = _TRANSFER.findall(row)[0]
    return float(number) * _FACTORS[unit]


def _has(log: Path, words: str) -> bool:
    return log.exists() and words in log.read_text()


def _log_file(node: Node, name: str) -> Path:
    folder = node.machine.data / "flows"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.log"
