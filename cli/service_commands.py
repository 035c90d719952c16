"""``hawse service``: a name and an address for many containers."""

from __future__ import annotations

import urllib.parse

import click

from cli import service_text
from cli.app import asks
from cli.client import AgentClient
from cli.output import warn, write
from cli.service_documents import Service, Services


@click.group()
def service() -> None:
    """Services: a name and a virtual address for many containers."""


@service.command("ls")
@asks()
def service_ls(client: AgentClient, output: str) -> None:
    """List the services, and how many of their containers get new connections."""
    document = client.get("/v1/services", Services)
    warn(document["warning"])
    write(output, document, service_text.services)


@service.command("get")
@click.argument("name", metavar="NAME|ID|VIP")
@asks()
def service_get(client: AgentClient, output: str, name: str) -> None:
    """Show one service: its virtual addresses, ports, and backends with their part of the traffic."""
    document = client.get(f"/v1/services/{urllib.parse.quote(name)}", Service)
    write(output, document, service_text.service)
