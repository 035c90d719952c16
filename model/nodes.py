"""A host of the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from model.addresses import IPAddress
from model.ids import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The value of ``/hawse/v1/nodes/<node>``: how to reach a host, whether or not its agent runs at the moment.

    That the agent runs is said by the leased key ``/hawse/v1/alive/<node>`` (ADR 0005).
    """

    name: NodeName
    address: IPAddress
    """Underlay address: the outer source of the node's tunnel packets."""
    tunnel_port: int
    mtu_bytes: int
    """MTU of containers on this node."""
    version: str
    """Version of the agent."""
    registered_at: str = ""
    """RFC 3339 in UTC."""
