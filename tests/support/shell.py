"""Run a command and know what it said."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended; unpacks as ``rc, out, err``."""

    argv: tuple[str, ...]
    rc: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"$ {shlex.join(self.argv)}\nexit code {self.rc}\n{self.out}{self.err}"


class CommandFailed(AssertionError):
    """A command that has to work did not; the text is all it said."""

    def __init__(self, result: Result) -> None:
        super().__init__(str(result))
        self.result = result


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 120.0) -> Result:
    """Run a command to its end, whatever that is.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    done = subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Result(tuple(argv), done.returncode, done.stdout, done.stderr)


def must(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 120.0) -> str:
    """Run a command that has to work, and return what it printed.

    Raises:
        CommandFailed: its exit code is not 0.
    """
    result = run(argv, stdin=stdin, timeout_s=timeout_s)
    if result.rc != 0:
        raise CommandFailed(result)
    return result.out
