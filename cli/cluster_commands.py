"""``hawse node``, ``hawse network`` and ``hawse endpoint``: what there is in the cluster."""

from __future__ import annotations

import urllib.parse

import click

from cli import documents, endpoint_text, render
from cli.app import asks
from cli.client import AgentClient
from cli.endpoint_documents import Endpoint, Endpoints
from cli.output import warn, write


@click.group()
def node() -> None:
    """The hosts of the cluster."""


@node.command("ls")
@asks()
def node_ls(client: AgentClient, output: str) -> None:
    """List the hosts and whether their agents run (* = this one)."""
    document = client.get("/v1/nodes", documents.Nodes)
    warn(document["warning"])
    write(output, document, render.nodes)


@click.group()
def network() -> None:
    """The hawse networks."""


@network.command("ls")
@asks()
def network_ls(client: AgentClient, output: str) -> None:
    """List the networks with their pool and VNI."""
    document = client.get("/v1/networks", documents.Networks)
    warn(document["warning"])
    write(output, document, render.networks)


@click.group()
def endpoint() -> None:
    """The interfaces of containers."""


@endpoint.command("ls")
@asks("table", "wide", "json")
def endpoint_ls(client: AgentClient, output: str) -> None:
    """List the interfaces of containers on all hosts, with identity and enforcement.

    Whether ingress and egress are closed (only what a rule allows may pass) is shown for containers of this host.
    """
    document = client.get("/v1/endpoints", Endpoints)
    warn(document["warning"])
    write(output, document, endpoint_text.wide_endpoints if output == "wide" else endpoint_text.endpoints)


@endpoint.command("get")
@click.argument("name", metavar="CONTAINER|ID|ADDRESS")
@asks()
def endpoint_get(client: AgentClient, output: str, name: str) -> None:
    """Show one interface of a container, with the ports of its host that lead to it."""
    document = client.get(f"/v1/endpoints/{urllib.parse.quote(name)}", Endpoint)
    write(output, document, endpoint_text.endpoint)
