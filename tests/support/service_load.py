"""Clients of a service that count who answers and what fails: the program is ``service_load.c``.

A client in the background writes to a file that the test reads from outside, so that it is heard of while an engine is
down. Times are of the one clock that all machines of the testbed have.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from tests.support import wait
from tests.support.node import Node

PORT: Final = 8080
OTHER_PORT: Final = 8081
_FOLDER: Final = "/load"
_SOON_S: Final = 30.0
_NAMES: Final = itertools.count(1)

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often something was, and when: by the start of the first and the last connection."""

    count: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A connection that was not answered."""

    kind: str
    """refused, reset, closed, timeout, unreachable, forbidden, wrong, or the name of an error number."""
    started_ns: int
    ended_ns: int
    own_port: int

    @property
    def took_s(self) -> float:
        """How long it was tried."""
        return (self.ended_ns - self.started_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What became of many connections."""

    address: str
    """What they were made to: the name's, if it was one."""
    ended: bool
    at_ns: int
    begun_ns: int
    started: int
    answered: int
    failed: int
    slowest_s: float
    other_peer: int
    """Answers that came from another address than was asked, or on a connection that says so of its other end."""
    servers: Mapping[str, Tally]
    seen: Mapping[str, Tally]
    """Addresses that servers saw of this client."""
    kinds: Mapping[str, Tally]
    failures: Sequence[Failure]
    """Of very many the first ones, and the last."""

    def __str__(self) -> str:
        kinds = ", ".join(f"{tally.count} {kind}" for kind, tally in self.kinds.items())
        return f"{self.started} connections, {self.failed} failed{f' ({kinds})' if kinds else ''}"

    @property
    def counts(self) -> Mapping[str, int]:
        """Answers by server."""
        return {name: tally.count for name, tally in self.servers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A connection that is kept open."""

    server: str
    seen: str
    own_port: int
    opened_ns: int
    said: int
    answered: int
    answered_ns: int
    longest_s: float
    """Longest time from one answer to the next."""
    broke_ns: int
    """0: it is open."""
    how: str
    """As of a failure; empty: it is open."""

    @property
    def open(self) -> bool:
        """Whether it is."""
        return self.broke_ns == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Connections that are kept open."""

    address: str
    ended: bool
    at_ns: int
    connections: Sequence[Held]

    def of(self, *servers: str) -> list[Held]:
        """Those to these servers."""
        return [one for one in self.connections if one.server in servers]


def load(
    node: Node,
    container: str,
    target: str,
    *,
    port: int = PORT,
    kind: str = "tcp",
    count: int,
    rate: int = 0,
    timeout_ms: int = 5000,
) -> Load:
    """Make connections from a container that runs, and wait for their end.

    Args:
        node: where it runs.
        container: its name.
        target: address, or name of a service.
        port: of the service.
        kind: ``tcp``; ``udp``, from connected sockets; ``sendto``, from others.
        count: how many.
        rate: how many a second; 0: as fast as it goes.
        timeout_ms: how long one may take.
    """
    numbers = (str(port), str(count), str(rate), str(timeout_ms))
    done = node.execute(container, "service_load", "load", kind, target, *numbers, "-")
    assert done.rc == 0, str(done)
    return _load(json.loads(done.out))


class _Background(Generic[R]):
    """A container that runs the program until it is told to end."""

    def __init__(self, node: Node, network: str, options: Sequence[str], *command: str) -> None:
        self.node: Final = node
        self.name: Final = f"{command[0]}{next(_NAMES)}"
        folder = node.machine.data / "load"
        folder.mkdir(exist_ok=True)
        self._file = folder / f"{self.name}.json"
        argv = ("service_load", *command, f"{_FOLDER}/{self._file.name}")
        node.start(self.name, network, f"--volume={folder}:{_FOLDER}", *options, command=argv)
        wait.until(f"{self.name} has begun", self._file.exists, timeout_s=_SOON_S)

    def report(self) -> R:
        """What it has seen up to now."""
        raise NotImplementedError

    def stop(self) -> R:
        """End it; returns what it has seen."""
        self.node.engine.run("kill", "--signal", "TERM", self.name)
        wait.until(f"{self.name} ends", lambda: read_json(self._file)["ended"], timeout_s=_SOON_S)
        self.node.remove(self.name)
        return self.report()


class LoadInBackground(_Background[Load]):
    """Connections at a steady rate, from a container of its own."""

    def __init__(
        self,
        node: Node,
        network: str,
        target: str,
        *options: str,
        port: int = PORT,
        kind: str = "tcp",
        rate: int,
        timeout_ms: int = 5000,
    ) -> None:
        numbers = (str(port), "0", str(rate), str(timeout_ms))
        super().__init__(node, network, options, "load", kind, target, *numbers)

    def report(self) -> Load:
        """What became of those that have ended."""
        return _load(read_json(self._file))

    def wait_answers(self, more: int) -> Load:
        """Wait until this many more were answered."""
        wanted = self.report().answered + more
        return wait.until(
            f"{more} more connections of {self.name} are answered",
            lambda: report if (report := self.report()).answered >= wanted else None,
            timeout_s=_SOON_S,
        )


class HoldInBackground(_Background[Holding]):
    """Connections that are kept open, from a container of its own; each says something now and then."""

    def __init__(
        self,
        node: Node,
        network: str,
        target: str,
        *options: str,
        port: int = PORT,
        connections: int,
        interval_ms: int = 100,
    ) -> None:
        super().__init__(node, network, options, "hold", target, str(port), str(connections), str(interval_ms))

        def all_answered() -> None:
            report = self.report()
            silent = [one for one in report.connections if one.answered == 0]
            assert not silent, silent

        wait.until_passes(all_answered, timeout_s=_SOON_S)

    def report(self) -> Holding:
        """How they are."""
        return _holding(read_json(self._file))


def read_json(path: Path) -> dict[str, Any]:
    """Read a report; it is replaced as a whole, never written to."""
    return dict(json.loads(path.read_text()))


def _load(raw: Mapping[str, Any]) -> Load:
    return Load(
        address=raw["address"],
        ended=raw["ended"],
        at_ns=raw["at_ns"],
        begun_ns=raw["begun_ns"],
        started=raw["started"],
        answered=raw["answered"],
        failed=raw["failed"],
        slowest_s=raw["slowest_ns"] / 1e9,
        other_peer=raw["other_peer"],
        servers=_tallies(raw["servers"]),
        seen=_tallies(raw["seen"]),
        kinds=_tallies(raw["kinds"]),
        failures=[Failure(**one) for one in raw["failures"]],
    )


def _tallies(raw: Mapping[str, Any]) -> Mapping[str, Tally]:
    return {name: Tally(**one) for name, one in raw.items()}


def _holding(raw: Mapping[str, Any]) -> Holding:
    connections = [Held(longest_s=one.pop("longest_ns") / 1e9, **one) for one in raw["connections"]]
    return Holding(address=raw["address"], ended=raw["ended"], at_ns=raw["at_ns"], connections=connections)
