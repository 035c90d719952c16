"""Servers that say who they see, and clients that ask many of them at once: ``tests/support/peer.c``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.support import shell, wait
from tests.support.images import IMAGE
from tests.support.machine import Machine
from tests.support.node import Node

PATIENCE_MS: Final = 5000
BRIEF_MS: Final = 600
"""Enough where an answer would mean that something passes that must not."""


class Outcome(StrEnum):
    """How a question ended."""

    OPEN = "open"
    REFUSED = "refused"
    """A host said no; policy never does."""
    SILENT = "silent"
    WRONG = "wrong"
    """Something else came back than was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something to send, and to whom."""

    protocol: str
    address: str
    port: int
    size: int = 100
    source: str = "0.0.0.0"
    """Own address to send from; of a host with several."""

    def __str__(self) -> str:
        return f"{self.protocol},{self.address},{self.port},{self.size},{self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a question."""

    outcome: Outcome
    server: str = ""
    """Name of who answered."""
    address: str = ""
    """Who asked, as the server saw it."""
    port: int = 0

    def __str__(self) -> str:
        seen = f": {self.server} saw {self.address} port {self.port}" if self.server else ""
        return f"{self.outcome}{seen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """What became of many flows."""

    answered: int
    wrong: int
    refused: int
    silent: int
    repeated: int
    """Datagrams that were sent again."""
    duration_ms: int
    seen: tuple[tuple[str, int], ...]
    """Address and port of each flow that was answered, as the server saw them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMtu:
    """What datagrams that must not be fragmented have found out."""

    mtu: int
    sent: int
    """How many too large ones it took."""
    next_answered: bool
    """Whether one of exactly this size was answered."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who asks."""

    name: str
    run: Callable[..., shell.Result]
    """Runs a command there, to its end."""
    program: str = "peer"
    """Path of the program there."""

    def __str__(self) -> str:
        return self.name

    def ask(self, questions: Sequence[Question], *, wait_ms: int = PATIENCE_MS) -> list[Answer]:
        """Ask them all at once; answers in order. ``wait_ms`` without any answer, and the rest is silent."""
        result = self._must("ask", str(wait_ms), *map(str, questions))
        answers = [_answer(line.split()) for line in result.splitlines()]
        if len(answers) != len(questions):
            raise RuntimeError(f"{self}: {len(questions)} questions, but {result!r}")
        return answers

    def ask_one(self, question: Question, *, wait_ms: int = PATIENCE_MS) -> Answer:
        """Ask one."""
        (answer,) = self.ask([question], wait_ms=wait_ms)
        return answer

    def path_mtu(self, address: str, port: int, size: int) -> PathMtu:
        """Send datagrams of this size, with headers, that must not be fragmented."""
        mtu, sent, outcome = self._must("mtu", address, str(port), str(size)).split()
        return PathMtu(mtu=int(mtu), sent=int(sent), next_answered=outcome == "open")

    def flood(self, protocol: str, address: str, port: int, *, count: int, first_port: int) -> Flood:
        """Open many flows from ports of their own, and close none before all are answered."""
        text = self._must("flood", protocol, address, str(port), str(count), str(first_port))
        numbers, *seen = (line.split() for line in text.splitlines())
        answered, wrong, refused, silent, repeated, duration_ms = map(int, numbers)
        return Flood(
            answered=answered,
            wrong=wrong,
            refused=refused,
            silent=silent,
            repeated=repeated,
            duration_ms=duration_ms,
            seen=tuple((address, int(number)) for address, number in seen),
        )

    def _must(self, *argv: str) -> str:
        result = self.run(self.program, *argv)
        if result.rc != 0:
            raise shell.CommandFailed(result)
        return result.out


def in_container(node: Node, container: str) -> Asker:
    """A running container asks."""
    return Asker(f"{container} on {node.name}", lambda *argv: node.execute(container, *argv))


def on_machine(machine: Machine, program: Path) -> Asker:
    """A host asks, with the program at this path."""
    return Asker(machine.name, machine.run, str(program))


def serve_command(name: str, *ports: int) -> tuple[str, ...]:
    """The command line of a server that calls itself so."""
    return ("peer", "serve", name, *map(str, ports))


def start_server(node: Node, name: str, network: str, *options: str, ports: Sequence[int]) -> str:
    """Start a container that answers at these ports; returns its address."""
    node.start(name, network, *options, command=serve_command(name, *ports))
    wait.until(f"{name} serves", lambda: "ready" in node.engine.run("logs", name).out, timeout_s=20)
    return node.address_in(name, network.partition(",")[0].removeprefix("name="))


def start_idle(node: Node, name: str, network: str, *options: str) -> Asker:
    """Start a container that only asks when it is told to."""
    node.engine("run", "-d", "--name", name, "--network", network, *options, IMAGE)
    return in_container(node, name)


@contextmanager
def serving(machine: Machine, program: Path, name: str, *ports: int) -> Iterator[None]:
    """A host answers at these ports meanwhile."""
    pid_file, log_file = (machine.data / f"{name}.{kind}" for kind in ("pid", "log"))
    # In a control group of its own, as systemd starts a service.
    unit = f"root=/sys/fs/cgroup/unified; [ -d $root ] || root=/sys/fs/cgroup; unit=$root/{name}.service"
    script = f'{unit}; mkdir -p $unit; echo $$ >$unit/cgroup.procs; echo $$ >"$0"; exec "$@"'
    with log_file.open("w") as log:
        command = (str(program), *serve_command(name, *ports)[1:])
        process = machine.spawn(["/bin/sh", "-c", script, str(pid_file), *command], log=log)
    wait.until(f"{name} serves", lambda: "ready" in log_file.read_text(), timeout_s=20)
    try:
        yield
    finally:
        machine.must("kill", pid_file.read_text().strip())
        process.wait(timeout=20)
        machine.must("sh", "-c", f"{unit}; rmdir $unit")


def _answer(words: Sequence[str]) -> Answer:
    match words:
        case ["open", server, address, port]:
            return Answer(outcome=Outcome.OPEN, server=server, address=address, port=int(port))
        case [word]:
            return Answer(outcome=Outcome(word))
    raise ValueError(f"no answer of a peer: {words}")
