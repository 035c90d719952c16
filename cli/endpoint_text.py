"""The text of ``hawse endpoint ls`` and ``get``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cli.endpoint_documents import Endpoint, Endpoints, Publication
from cli.table import Column, printable, table
from cli.words import NOTHING, enforcement, few, joined, labels, short

_READY: Final = "ready"
_EVERY: Final = "0.0.0.0"  # noqa: S104 - as «docker ps» writes it
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
        Column("PORTS"),
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
                _some_ports(ports(endpoint["published"])),
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
        Column("PORTS"),
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
                joined(ports(endpoint["published"])),
                _labels_and_status(endpoint, joined(labels(endpoint["labels"] or {}))),
            )
            for endpoint in document["endpoints"]
        ],
    )


def endpoint(document: Endpoint) -> str:
    """Render ``hawse endpoint get``."""
    facts = [
        ("endpoint", document["id"]),
        ("container", document["container"]),
        ("node", document["node"]),
        ("network", document["network"]),
        ("address", joined(document["addresses"])),
        ("MAC", document["mac"]),
        ("interface", document["interface"]),
        ("identity", str(document["identity"])),
        *_lines("labels", labels(document["labels"] or {})),
        ("ingress", enforcement(document["ingress_enforced"])),
        ("egress", enforcement(document["egress_enforced"])),
        *_lines("ports", ports(document["published"])),
        ("status", document["status"]),
    ]
    width = max(len(name) for name, _ in facts) + 2
    return "".join(f"{name.ljust(width)}{printable(fact)}\n" for name, fact in facts if fact is not None)


def ports(published: Sequence[Publication]) -> list[str]:
    """Write published ports as ``docker ps`` does, a range as one."""
    runs: list[tuple[Publication, int]] = []
    for one in sorted(published, key=lambda one: (one["protocol"], one["host_address"] or "", one["host_port"])):
        first, length = runs[-1] if runs else (one, 0)
        if length and one == {**first, "port": first["port"] + length, "host_port": first["host_port"] + length}:
            runs[-1] = first, length + 1
        else:
            runs.append((one, 1))
    return [
        f"{first['host_address'] or _EVERY}:{_range(first['host_port'], length)}"
        f"->{_range(first['port'], length)}/{first['protocol']}"
        for first, length in runs
    ]


def _some_ports(written: Sequence[str]) -> str:
    # The list has to fit a screen: the first, and how many more there are.
    more = [] if len(written) <= 1 else [f"+{len(written) - 1}"]
    return joined([*(one.removeprefix(f"{_EVERY}:") for one in written[:1]), *more])


def _range(first: int, length: int) -> str:
    return str(first) if length == 1 else f"{first}-{first + length - 1}"


def _lines(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return [(name if number == 0 else "", value) for number, value in enumerate(values or [NOTHING])]


def _labels_and_status(endpoint: Endpoint, shown: str) -> str:
    if endpoint["status"] == _READY:
        return shown
    return endpoint["status"] if shown == NOTHING else f"{shown}; {endpoint['status']}"
