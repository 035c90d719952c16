"""``hawse bpf``: the kernel's maps of this host, decoded."""

from __future__ import annotations

from typing import Final

import click

from cli import map_text, translation_text
from cli.app import asks
from cli.client import AgentClient
from cli.map_documents import Connections, Ipcache, PolicyMap
from cli.output import write
from cli.translation_documents import Frontends, PublishedPorts, Translations

_limit: Final = click.option(
    "--limit",
    type=click.IntRange(1, 200_000),
    default=10_000,
    show_default=True,
    help="No more entries than these, those in use first.",
)


@click.group()
def bpf() -> None:
    """The kernel's maps of this host, decoded."""


@bpf.group()
def policy() -> None:
    """What the policies say, as the kernel looks it up."""


@policy.command("ls")
@asks()
def policy_ls(client: AgentClient, output: str) -> None:
    """List the entries of the policy map with the rules they came from."""
    write(output, client.get("/v1/bpf/policy", PolicyMap), map_text.policy_map)


@bpf.group()
def ct() -> None:
    """The connections that the kernel tracks."""


@ct.command("ls")
@_limit
@asks()
def ct_ls(client: AgentClient, output: str, limit: int) -> None:
    """List the tracked connections, those in use first."""
    write(output, client.get(f"/v1/bpf/ct?limit={limit}", Connections), map_text.connections)


@bpf.group()
def ipcache() -> None:
    """Where every address is."""


@ipcache.command("ls")
@asks()
def ipcache_ls(client: AgentClient, output: str) -> None:
    """List every address this host can reach, with its node and identity."""
    write(output, client.get("/v1/bpf/ipcache", Ipcache), map_text.ipcache)


@bpf.group()
def lb() -> None:
    """The services, as the kernel balances them."""


@lb.command("ls")
@asks()
def lb_ls(client: AgentClient, output: str) -> None:
    """List where services are asked for, with the backends and how often each gets a new connection."""
    write(output, client.get("/v1/bpf/lb", Frontends), translation_text.frontends)


@bpf.group()
def nat() -> None:
    """The connections whose addresses are translated."""


@nat.command("ls")
@_limit
@asks()
def nat_ls(client: AgentClient, output: str, limit: int) -> None:
    """List translated connections, those in use first: how packets come and how they go on.

    Each has two entries, one for each direction. Kinds are service (a virtual address), masquerade (to the outside with
    this host's address) and published (a port of this host).
    """
    write(output, client.get(f"/v1/bpf/nat?limit={limit}", Translations), translation_text.translations)


@bpf.group("published")
def published_ports() -> None:
    """The ports of this host that lead to containers."""


@published_ports.command("ls")
@asks()
def published_ls(client: AgentClient, output: str) -> None:
    """List the published ports of this host, and the container each leads to."""
    write(output, client.get("/v1/bpf/published", PublishedPorts), translation_text.published)
