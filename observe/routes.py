"""The routes of the agent's API: one table, from which both the application and its OpenAPI description are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from observe import describe
from observe.document import (
    AddressesDocument,
    CheckDocument,
    CountersDocument,
    EndpointsDocument,
    NetworksDocument,
    NodesDocument,
    StatusDocument,
)
from observe.state import AgentState


@dataclass(frozen=True, slots=True)
class Route:
    """One path that can be read."""

    path: str
    document: type[object]
    describe: Callable[[AgentState], object]
    """Makes the document."""
    summary: str


ROUTES: Final = (
    Route("/v1/status", StatusDocument, describe.status, "How the agent, the store and the datapath are"),
    Route("/v1/nodes", NodesDocument, describe.nodes, "The hosts of the cluster"),
    Route("/v1/networks", NetworksDocument, describe.networks, "The hawse networks"),
    Route("/v1/endpoints", EndpointsDocument, describe.endpoints, "The container interfaces of all hosts"),
    Route("/v1/addresses", AddressesDocument, describe.addresses, "The address pools and the addresses in use"),
    Route("/v1/check", CheckDocument, describe.check, "Compare addresses with endpoints and Docker's networks"),
    Route("/v1/counters", CountersDocument, describe.counters, "Packets of this host by outcome and direction"),
)
