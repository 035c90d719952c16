"""``hawse identity``: one number for every set of labels."""

from __future__ import annotations

import click

from cli import identity_text
from cli.app import asks
from cli.client import AgentClient
from cli.identity_documents import Identities, Identity
from cli.output import warn, write


@click.group()
def identity() -> None:
    """Security identities: one number for every set of labels, the same on every host."""


@identity.command("ls")
@asks()
def identity_ls(client: AgentClient, output: str) -> None:
    """List the identities of the cluster, the reserved ones too."""
    document = client.get("/v1/identities", Identities)
    warn(document["warning"])
    write(output, document, identity_text.identities)


@identity.command("get")
@click.argument("number", type=click.IntRange(min=0, max=2**32 - 1))
@asks()
def identity_get(client: AgentClient, output: str, number: int) -> None:
    """Show one identity: its labels, and the policies that select it."""
    write(output, client.get(f"/v1/identities/{number}", Identity), identity_text.identity)
