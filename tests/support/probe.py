"""Somebody on the network who tries to reach others, and can be reached: a container, a host, or the world.

In each runs ``tests/support/probe.c``, which a test gives orders at a Unix socket: no process has to be started for a
probe, and dozens run at once.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.node import Node

PORTS: Final = (7001, 7002, 7003, 7010, 7015, 7019, 7020)
"""Everybody echoes on these, TCP and UDP."""
_PATIENCE_MS: Final = 10_000
_BRIEF_MS: Final = 350
_LISTENS_S: Final = 60


class Protocol(StrEnum):
    """What a probe sends."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Outcome(StrEnum):
    """How a probe ended."""

    OPEN = "open"
    REFUSED = "refused"
    """A host said no; policy never does."""
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One place on the network."""

    role: str
    """Several places have it."""
    node: Node | None
    """None: the world."""
    address: str
    container: str = ""
    """Its name for Docker; empty for a host and the world."""
    labels: frozenset[str]
    """As flows show them: ``key=value``, or ``key``."""
    orders: Path
    """Unix socket of its program."""

    def __str__(self) -> str:
        place = self.node.name if self.node is not None else "outside"
        return f"{self.role} on {place} ({self.address})"

    @property
    def place(self) -> Node:
        """The node of a container or a host."""
        if self.node is None:
            raise ValueError(f"{self} is on no node")
        return self.node

    def wait_listens(self) -> None:
        """Wait until it takes orders."""

        def listens() -> bool:
            with socket.socket(socket.AF_UNIX) as channel:
                return channel.connect_ex(str(self.orders)) == 0

        wait.until(f"{self} takes orders", listens, timeout_s=_LISTENS_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One try to reach somebody."""

    source: Spot
    target: Spot
    protocol: Protocol
    port: int
    """0 for ICMP."""

    def __str__(self) -> str:
        return f"{self.source} to {self.target}, {self.dport}"

    @property
    def dport(self) -> str:
        """As ``hawse policy trace`` takes it; an echo request for ICMP."""
        return "icmp/8" if self.protocol is Protocol.ICMP else f"{self.port}/{self.protocol}"

    def run(self, *, patient: bool) -> Tried:
        """Try it; ``patient`` waits until a busy machine has answered, otherwise not even half a second."""
        wait_ms = _PATIENCE_MS if patient else _BRIEF_MS
        # The world has several addresses, a host may have too.
        own = "0.0.0.0" if self.source.container else self.source.address
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(wait_ms / 1000 + 20)
            channel.connect(str(self.source.orders))
            channel.sendall(f"{self.protocol} {own} {self.target.address} {self.port} {wait_ms}\n".encode())
            answer = channel.recv(64).decode().split()
        if len(answer) != 3:
            raise RuntimeError(f"{self}: the probe could not be made: {answer}")
        own_port, outcome, error = answer
        return Tried(probe=self, own_port=int(own_port), outcome=Outcome(outcome), error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of a probe."""

    probe: Probe
    own_port: int
    """Source port; of ICMP the identifier."""
    outcome: Outcome
    error: str
    """Name of the last error number; ``0``: there was none. Says who refused it."""


def command(folder: Path | str) -> Sequence[str]:
    """The command line that a container or a host runs; its socket is named after the host name."""
    return ["probe", str(folder), *map(str, PORTS)]


def end(orders: Path) -> None:
    """End the program that takes its orders here."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(orders))
        channel.sendall(b"end\n")
