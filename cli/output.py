"""What the commands write: answers to standard output, everything else, a sentence each, to standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli.table import printable

Document = TypeVar("Document")


def write(output: str, document: Document, text: Callable[[Document], str]) -> None:
    """Write an answer as JSON, or as the text that is made of it."""
    write_text(as_json(document) if output == "json" else text(document))


def as_json(document: Any) -> str:
    """Write a document for programs."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_text(text: str) -> None:
    """Write text that ends with a line feed."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; the command's own exit code still counts.
        discard_output()


def warn(warning: str | None) -> None:
    """Write a warning, if there is one."""
    if warning is not None:
        click.echo(f"warning: {printable(warning)}", err=True)


def fail(sentence: str, code: int) -> int:
    """Write what went wrong; answers the exit code."""
    with contextlib.suppress(BrokenPipeError):
        click.echo(printable(sentence), err=True)
    return code


def discard_output() -> None:
    """Let what is still buffered go nowhere: Python writes it at exit and would complain once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
