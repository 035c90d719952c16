"""``hawse status`` and ``hawse counters``."""

from __future__ import annotations

import time
from typing import Final

import click

from cli import documents, render
from cli.app import EXIT_FAILED, asks
from cli.client import AgentClient, AgentForbidden, AgentUnreachable
from cli.output import write

_POLL_S: Final = 0.2


@click.command()
@click.option(
    "--wait",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0,
    help="Wait until all is well, at most SECONDS.",
)
@asks()
def status(client: AgentClient, output: str, wait_s: float) -> None:
    """Say whether the agent, etcd and the datapath are well; exit 1 when not."""
    document = _status_within(client, wait_s)
    write(output, document, render.status)
    if not document["healthy"]:
        raise click.exceptions.Exit(EXIT_FAILED)


@click.command()
@asks()
def counters(client: AgentClient, output: str) -> None:
    """Count this host's packets: forwarded, and dropped by reason and direction."""
    write(output, client.get("/v1/counters", documents.Counters), render.counters)


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
