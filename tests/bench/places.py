"""Where the programs of a measurement run: one shell that stays, in a container, a machine or a bare namespace.

``docker exec`` takes a tenth of a second and two processors to do nothing; a shell that is there already costs the
measurement a fork. All contestants have the same one, so that none is measured with another's tools.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.urgency import mark
from tests.support import wait
from tests.support.engine import CLIENT, SOCKET
from tests.support.images import CUBIC, NO_SLEEP
from tests.support.machine import Machine

_BEGIN: Final = "begin-of-answer"
_END: Final = "end-of-answer"
_PATIENCE_S: Final = 30.0
_CLOSES_S: Final = 1.0
_LOOKS_EVERY_S: Final = 0.002


class PlaceFailed(RuntimeError):
    """A program did not do what it had to; the text is what it said."""


class Place:
    """A shell that stays.

    Args:
        name: for messages.
        argv: what starts the shell; its programs are found on the PATH that it has there, or in ``image``.
        image: the root folder of the containers' image, whose programs come first; None: it is the root.
        address: where others of its network reach it.
        notes: a folder of its own for what programs in the background say, as the shell sees it.
    """

    def __init__(self, name: str, argv: Sequence[str], *, address: str, notes: str, image: Path | None = None) -> None:
        self.name: Final = name
        self.address: Final = address
        self._notes = notes
        self._number = 0
        self._shell = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict([*os.environ.items(), mark(name)]),
        )
        self.run(f"mkdir -p {notes}")
        root = "" if image is None else image
        if image is not None:
            self.run(f"PATH={image}/bin:$PATH")
        self.run(f"NO_SLEEP={root}{NO_SLEEP} CUBIC={root}{CUBIC}")

    def run(self, command: str, *, timeout_s: float = _PATIENCE_S) -> str:
        """Run a command to its end and return what it said.

        Raises:
            PlaceFailed: it failed, or did not end in time.
        """
        stdin, stdout = self._shell.stdin, self._shell.stdout
        if stdin is None or stdout is None:
            raise PlaceFailed(f"{self.name}: no shell")
        # Numbered: what a command that was given up still says comes before, and is not taken for this one's answer.
        self._number += 1
        begin, end = f"{_BEGIN} {self._number}", f"{_END} {self._number}"
        stdin.write(f"echo {begin}\n{command} </dev/null\ncode=$?; echo; echo {end} $code\n".encode())
        stdin.flush()
        text = self._read_to_end(stdout.fileno(), f"\n{end} ".encode(), time.monotonic() + timeout_s, command)
        said, _, code = text.rpartition(f"{begin}\n")[2].rpartition(f"\n{end} ")
        if code.strip() != "0":
            raise PlaceFailed(f"{self.name}: {command}: exit code {code.strip()}\n{said}")
        return said.strip("\n")

    def start(self, name: str, command: str, *, says: str, timeout_s: float = 10.0) -> None:
        """Start a program in the background and wait until it says something that has this text in it."""
        log = f"{self._notes}/{name}"
        self.run(f": >{log}")
        self.run(f"{command} >{log} 2>&1 & echo $! >{log}.pid; :")
        try:
            wait.until(name, lambda: says in self.run(f"cat {log}"), timeout_s=timeout_s, interval_s=_LOOKS_EVERY_S)
        except wait.NeverHappened as never:
            said = self.run(f"cat {log}")
            raise PlaceFailed(f"{self.name}: {command}: does not say «{says}» but: {said}") from never

    def join(self, name: str, *, timeout_s: float = _PATIENCE_S) -> str:
        """Wait until a program in the background ends by itself, and return all it said."""
        log = f"{self._notes}/{name}"
        return self.run(f"wait $(cat {log}.pid); cat {log}", timeout_s=timeout_s)

    def stop(self, name: str) -> str:
        """Tell a program in the background to end, wait until it does, and return all it said."""
        log = f"{self._notes}/{name}"
        return self.run(f"kill $(cat {log}.pid); wait $(cat {log}.pid); cat {log}")

    def end(self, name: str) -> None:
        """End a program in the background, if it still runs."""
        log = f"{self._notes}/{name}"
        self.run(f"kill $(cat {log}.pid) 2>/dev/null; wait $(cat {log}.pid) 2>/dev/null; :")

    def close(self) -> None:
        """End the shell; what it has started ends with it, or with its container."""
        if self._shell.stdin is not None:
            self._shell.stdin.close()
        try:
            self._shell.wait(timeout=_CLOSES_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
        if self._shell.stdout is not None:
            self._shell.stdout.close()

    def _read_to_end(self, fd: int, end: bytes, ends: float, command: str) -> str:
        text = b""
        with selectors.DefaultSelector() as ready:
            ready.register(fd, selectors.EVENT_READ)
            while not (text.endswith(b"\n") and end in text):
                if not ready.select(max(0.0, ends - time.monotonic())):
                    raise PlaceFailed(f"{self.name}: {command}: did not end in time\n{text.decode(errors='replace')}")
                more = os.read(fd, 65536)
                if not more:
                    raise PlaceFailed(f"{self.name}: {command}: the shell ended\n{text.decode(errors='replace')}")
                text += more
        return text.decode(errors="replace")


def in_container(machine: Machine, container: str, address: str) -> Place:
    """Make a place of a container that runs; the test image has all the programs."""
    name = f"{machine.name}-{container}"
    marked = "=".join(mark(name))
    argv = machine.argv(CLIENT, f"--host=unix://{SOCKET}", "exec", "-i", "-e", marked, container, "/bin/sh")
    return Place(name, argv, address=address, notes="/tmp/bench")


def in_machine(machine: Machine, address: str, image: Path, *, namespace: str | None = None) -> Place:
    """Make a place of a machine, or of a named network namespace in it."""
    inside = () if namespace is None else ("ip", "netns", "exec", namespace)
    name = machine.name if namespace is None else f"{machine.name}-{namespace}"
    argv = machine.argv(*inside, "/bin/sh")
    return Place(name, argv, address=address, notes=str(machine.data / f"bench-{name}"), image=image)
