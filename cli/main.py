"""The commands of ``hawse``: ask, render, and an exit code that scripts can use.

0 all is well; 1 the agent failed, is not well, or a check found something; 2 wrong usage; 3 the agent does not answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

import click

from cli import documents, render
from cli.client import AgentClient, AgentFailed, AgentForbidden, AgentUnreachable
from cli.table import printable

Document = TypeVar("Document")

DEFAULT_SOCKET: Final = "/run/hawse/agent.sock"

EXIT_FAILED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells do."""

_POLL_S: Final = 0.2


def _use_socket(context: click.Context, _option: click.Parameter, path: str | None) -> None:
    if path is not None:
        context.obj = AgentClient(path)


def _asks(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every command that asks the agent has: ``-o``, and ``--socket`` for those who write it last."""
    output = click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )
    socket = click.option("--socket", callback=_use_socket, expose_value=False, hidden=True)
    return socket(output(click.pass_obj(command)))


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 1 a failure or a finding, 2 wrong usage, 3 the agent does not answer.",
)
@click.option(
    "--socket",
    metavar="PATH",
    envvar="HAWSE_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    show_envvar=True,
    callback=_use_socket,
    expose_value=False,
    help="The agent's socket.",
)
@click.version_option(package_name="hawse", prog_name="hawse", message="%(prog)s %(version)s")
def hawse() -> None:
    """Show what the hawse agent of this host knows: networks, containers, addresses, packets."""


@hawse.command()
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0,
    help="Wait until all is well, at most SECONDS.",
)
@_asks
def status(client: AgentClient, output: str, wait_s: float) -> None:
    """Say whether the agent, etcd and the datapath are well; exit 1 when not."""
    document = _status_within(client, wait_s)
    _write(output, document, render.status)
    if not document["healthy"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@hawse.group()
def node() -> None:
    """The hosts of the cluster."""


@node.command("ls")
@_asks
def node_ls(client: AgentClient, output: str) -> None:
    """List the hosts and whether their agents run (* = this one)."""
    document = client.get("/v1/nodes", documents.Nodes)
    _warn(document["warning"])
    _write(output, document, render.nodes)


@hawse.group()
def network() -> None:
    """The hawse networks."""


@network.command("ls")
@_asks
def network_ls(client: AgentClient, output: str) -> None:
    """List the networks with their pool and VNI."""
    document = client.get("/v1/networks", documents.Networks)
    _warn(document["warning"])
    _write(output, document, render.networks)


@hawse.group()
def endpoint() -> None:
    """The interfaces of containers."""


@endpoint.command("ls")
@_asks
def endpoint_ls(client: AgentClient, output: str) -> None:
    """List the interfaces of containers on all hosts."""
    document = client.get("/v1/endpoints", documents.Endpoints)
    _warn(document["warning"])
    _write(output, document, render.endpoints)


@hawse.group()
def ipam() -> None:
    """Address pools and addresses."""


@ipam.command("ls")
@_asks
def ipam_ls(client: AgentClient, output: str) -> None:
    """List the pools and the addresses in use."""
    document = client.get("/v1/addresses", documents.Addresses)
    _warn(document["warning"])
    _write(output, document, render.addresses)


@ipam.command("check")
@_asks
def ipam_check(client: AgentClient, output: str) -> None:
    """Compare addresses with endpoints and Docker's networks; exit 1 when something leaked or is doubled."""
    document = client.get("/v1/check", documents.Check)
    _write(output, document, render.check)
    if document["findings"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@hawse.command()
@_asks
def counters(client: AgentClient, output: str) -> None:
    """Count this host's packets: forwarded, and dropped by reason and direction."""
    document = client.get("/v1/counters", documents.Counters)
    _write(output, document, render.counters)


def main() -> NoReturn:
    """Run the command; never shows a traceback for what can go wrong outside of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets a question mark, not an exception.
            stream.reconfigure(errors="replace")
    sys.exit(_run())


def _run() -> int:
    code: object = 0
    try:
        code = hawse.main(prog_name="hawse", standalone_mode=False)
    except click.ClickException as err:
        err.show()
        code = err.exit_code
    except AgentUnreachable as err:
        code = _fail(str(err), EXIT_UNREACHABLE)
    except AgentFailed as err:
        code = _fail(str(err), EXIT_FAILED)
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()
    except OSError as err:
        _discard_output()
        code = _fail(f"The output cannot be written: {err.strerror}", EXIT_FAILED)
    return code if isinstance(code, int) else 0


def _status_within(client: AgentClient, wait_s: float) -> documents.Status:
    ends = time.monotonic() + wait_s
    while True:
        try:
            document = client.get("/v1/status", documents.Status)
        except AgentForbidden:
            raise
        except AgentUnreachable:
            if time.monotonic() >= ends:
                raise
        else:
            if document["healthy"] or time.monotonic() >= ends:
                return document
        time.sleep(_POLL_S)


def _fail(sentence: str, code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        click.echo(printable(sentence), err=True)
    return code


def _warn(warning: str | None) -> None:
    if warning is not None:
        click.echo(f"warning: {printable(warning)}", err=True)


def _write(output: str, document: Document, text: Callable[[Document], str]) -> None:
    written = json.dumps(document, indent=2, ensure_ascii=False) + "\n" if output == "json" else text(document)
    try:
        click.echo(written, nl=False)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; the command's own exit code still counts.
        _discard_output()


def _discard_output() -> None:
    """Let what is still buffered go nowhere: Python writes it at exit and would complain once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
