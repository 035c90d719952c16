"""Policy documents on the command line: files, or ``-`` for standard input, and what is wrong in them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from cli.client import AgentClient, AgentRefused
from cli.output import fail
from cli.policy_documents import Valid

MAX_BYTES: Final = 1024 * 1024
"""What the agent takes."""

_STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A document that was read."""

    name: str
    """As the user wrote it; ``stdin``."""
    text: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """What the agent says of a document; nothing was written."""

    file: PolicyFile
    policies: tuple[str, ...]
    """Empty when there are faults."""
    faults: tuple[tuple[str, str], ...]
    """Path and message."""


def files_option(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``-f``; what stands in the files is read by :func:`read_files`."""
    return click.option(
        "-f",
        "--filename",
        "paths",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        multiple=True,
        required=required,
        help="A document, YAML or JSON; - is standard input. May be repeated.",
    )


def read_files(paths: Sequence[str]) -> list[PolicyFile]:
    """Read the documents, each once, so that what was checked is what is applied.

    Raises:
        click.UsageError: standard input is named twice, or a file cannot be read or is too large.
    """
    if paths.count(_STDIN) > 1:
        raise click.UsageError("standard input (-) can be read only once.")
    return [_read(path) for path in paths]


def _read(path: str) -> PolicyFile:
    name = "stdin" if path == _STDIN else path
    try:
        if path == _STDIN:
            text = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                text = file.read(MAX_BYTES + 1)
    except OSError as err:
        raise click.UsageError(f"{name} cannot be read: {err.strerror}.") from err
    if len(text) > MAX_BYTES:
        raise click.UsageError(f"{name} is larger than {MAX_BYTES} bytes; cut it into several documents.")
    return PolicyFile(name, text)


def check(client: AgentClient, file: PolicyFile) -> Checked:
    """Let the agent check a document."""
    try:
        valid = client.post_text("/v1/policies/validate", file.text, Valid)
    except AgentRefused as err:
        return Checked(file, (), faults_of(err))
    return Checked(file, tuple(valid["policies"]), ())


def faults_of(refused: AgentRefused) -> tuple[tuple[str, str], ...]:
    """Take the faults of a refusal; one that names none is itself the only one."""
    return refused.faults or (("", str(refused)),)


def tell_faults(file: PolicyFile, faults: Sequence[tuple[str, str]]) -> None:
    """Write each fault in a line: ``FILE: path: message``."""
    for path, message in faults:
        fail(": ".join(word for word in (file.name, path, message) if word), 0)
