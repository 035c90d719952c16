"""The commands of ``hawse``: ask, render, and an exit code that scripts can use.

0 all is well; 1 the agent failed, is not well, or a check found something; 2 wrong usage; 3 the agent does not answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

import click

from cli import documents, render
from cli.client import AgentClient, AgentFailed, AgentUnreachable
from cli.table import printable

Document = TypeVar("Document")

DEFAULT_SOCKET: Final = "/run/hawse/agent.sock"

EXIT_FAILED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells do."""

_SOCKET_HELP: Final = "The agent's socket."


def _choices(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command has."""
    output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
    return output(click.pass_obj(command))


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 1 a failure or a finding, 2 wrong usage, 3 the agent does not answer.",
)
@click.option(
    "--socket", envvar="HAWSE_SOCKET", default=DEFAULT_SOCKET, show_default=True, show_envvar=True, help=_SOCKET_HELP
)
@click.version_option(package_name="hawse", prog_name="hawse", message="%(prog)s %(version)s")
@click.pass_context
def hawse(context: click.Context, socket: str) -> None:
    """Show what the hawse agent of this host knows: networks, containers, addresses, packets."""
    context.obj = AgentClient(socket)


@hawse.command()
@_choices
def status(client: AgentClient, output: str) -> None:
    """Say whether the agent, etcd and the datapath are well; exit 1 when not."""
    document = client.get("/v1/status", documents.Status)
    _write(output, document, render.status)
    if not document["healthy"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@hawse.group()
def node() -> None:
    """The hosts of the cluster."""


@node.command("ls")
@_choices
def node_ls(client: AgentClient, output: str) -> None:
    """List the hosts and whether their agents run (* = this one)."""
    document = client.get("/v1/nodes", documents.Nodes)
    _warn(document["warning"])
    _write(output, document, render.nodes)


@hawse.group()
def network() -> None:
    """The hawse networks."""


@network.command("ls")
@_choices
def network_ls(client: AgentClient, output: str) -> None:
    """List the networks with their pool and VNI."""
    document = client.get("/v1/networks", documents.Networks)
    _warn(document["warning"])
    _write(output, document, render.networks)


@hawse.group()
def endpoint() -> None:
    """The interfaces of containers."""


@endpoint.command("ls")
@_choices
def endpoint_ls(client: AgentClient, output: str) -> None:
    """List the interfaces of containers on all hosts."""
    document = client.get("/v1/endpoints", documents.Endpoints)
    _warn(document["warning"])
    _write(output, document, render.endpoints)


@hawse.group()
def ipam() -> None:
    """Address pools and addresses."""


@ipam.command("ls")
@_choices
def ipam_ls(client: AgentClient, output: str) -> None:
    """List the pools and the addresses in use."""
    document = client.get("/v1/addresses", documents.Addresses)
    _warn(document["warning"])
    _write(output, document, render.addresses)


@ipam.command("check")
@_choices
def ipam_check(client: AgentClient, output: str) -> None:
    """Compare addresses with endpoints and Docker's networks; exit 1 when something leaked or is doubled."""
    document = client.get("/v1/check", documents.Check)
    _write(output, document, render.check)
    if document["findings"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@hawse.command()
@_choices
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
    try:
        code = hawse.main(prog_name="hawse", standalone_mode=False)
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except AgentUnreachable as err:
        return _fail(str(err), EXIT_UNREACHABLE)
    except AgentFailed as err:
        return _fail(str(err), EXIT_FAILED)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def _fail(sentence: str, code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        print(printable(sentence), file=sys.stderr)
    return code


def _warn(warning: str | None) -> None:
    if warning is not None:
        print(f"warning: {printable(warning)}", file=sys.stderr)


def _write(output: str, document: Document, text: Callable[[Document], str]) -> None:
    written = json.dumps(document, indent=2, ensure_ascii=False) + "\n" if output == "json" else text(document)
    try:
        sys.stdout.write(written)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python flushes once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
