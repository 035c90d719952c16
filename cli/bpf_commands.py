"""``hawse bpf``: the kernel's maps of this host, decoded."""

from __future__ import annotations

import click

from cli import map_text
from cli.app import asks
from cli.client import AgentClient
from cli.map_documents import Connections, Ipcache, PolicyMap
from cli.output import write


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
@asks()
def ct_ls(client: AgentClient, output: str) -> None:
    """List the tracked connections, those in use first."""
    write(output, client.get("/v1/bpf/ct", Connections), map_text.connections)


@bpf.group()
def ipcache() -> None:
    """Where every address is."""


@ipcache.command("ls")
@asks()
def ipcache_ls(client: AgentClient, output: str) -> None:
    """List every address this host can reach, with its node and identity."""
    write(output, client.get("/v1/bpf/ipcache", Ipcache), map_text.ipcache)
