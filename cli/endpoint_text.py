"""The text of ``hawse endpoint ls``."""

from __future__ import annotations

from typing import Final

from cli.endpoint_documents import Endpoint, Endpoints
from cli.table import Column, table
from cli.words import NOTHING, enforcement, few, joined, labels, short

_READY: Final = "ready"
_EMPTY: Final = "There is no endpoint: no container is connected to a hawse network.\n"


def endpoints(document: Endpoints) -> str:
    """Render the list as most ask for it."""
    if not document["endpoints"]:
        return _EMPTY
    columns = (
        Column("ENDPOINT"),
        Column("NODE"),
        Column("CONTAINER"),
        Column("ADDRESS"),
        Column("IDENTITY", right=True),
        Column("INGRESS"),
        Column("EGRESS"),
        Column("LABELS"),
    )
    return table(
        columns,
        [
            (
                short(endpoint["id"]),
                endpoint["node"],
                endpoint["container"] or NOTHING,
                joined(endpoint["addresses"]),
                str(endpoint["identity"]),
                enforcement(endpoint["ingress_enforced"]),
                enforcement(endpoint["egress_enforced"]),
                _labels_and_status(endpoint, few(labels(endpoint["labels"] or {}))),
            )
            for endpoint in document["endpoints"]
        ],
    )


def wide_endpoints(document: Endpoints) -> str:
    """Render the list with everything."""
    if not document["endpoints"]:
        return _EMPTY
    columns = (
        Column("ENDPOINT"),
        Column("NODE"),
        Column("CONTAINER"),
        Column("NETWORK"),
        Column("ADDRESS"),
        Column("MAC"),
        Column("INTERFACE"),
        Column("IDENTITY", right=True),
        Column("INGRESS"),
        Column("EGRESS"),
        Column("LABELS"),
    )
    return table(
        columns,
        [
            (
                endpoint["id"],
                endpoint["node"],
                endpoint["container"] or NOTHING,
                endpoint["network"] or NOTHING,
                joined(endpoint["addresses"]),
                endpoint["mac"],
                endpoint["interface"] or ("missing" if endpoint["this_node"] else NOTHING),
                str(endpoint["identity"]),
                enforcement(endpoint["ingress_enforced"]),
                enforcement(endpoint["egress_enforced"]),
                _labels_and_status(endpoint, joined(labels(endpoint["labels"] or {}))),
            )
            for endpoint in document["endpoints"]
        ],
    )


def _labels_and_status(endpoint: Endpoint, shown: str) -> str:
    if endpoint["status"] == _READY:
        return shown
    return endpoint["status"] if shown == NOTHING else f"{shown}; {endpoint['status']}"
