"""``hawse ipam``: address pools and addresses."""

from __future__ import annotations

import click

from cli import documents, render
from cli.app import EXIT_FAILED, asks
from cli.client import AgentClient
from cli.output import warn, write


@click.group()
def ipam() -> None:
    """Address pools and addresses."""


@ipam.command("ls")
@asks()
def ipam_ls(client: AgentClient, output: str) -> None:
    """List the pools and the addresses in use."""
    document = client.get("/v1/addresses", documents.Addresses)
    warn(document["warning"])
    write(output, document, render.addresses)


@ipam.command("check")
@asks()
def ipam_check(client: AgentClient, output: str) -> None:
    """Compare addresses with endpoints and Docker's networks; exit 1 when something leaked or is doubled."""
    document = client.get("/v1/check", documents.Check)
    write(output, document, render.check)
    if document["findings"]:
        raise click.exceptions.Exit(EXIT_FAILED)
