"""The texts of ``hawse identity``."""

from __future__ import annotations

from cli.identity_documents import Identities, Identity
from cli.table import Column, printable, table
from cli.words import enforcement, few, joined, labels


def identities(document: Identities) -> str:
    """Render ``hawse identity ls``."""
    columns = (
        Column("IDENTITY", right=True),
        Column("ENDPOINTS", right=True),
        Column("INGRESS"),
        Column("EGRESS"),
        Column("LABELS"),
    )
    return table(
        columns,
        [
            (
                str(identity["identity"]),
                str(identity["endpoints"]),
                enforcement(identity["ingress_enforced"]),
                enforcement(identity["egress_enforced"]),
                few(labels(identity["labels"])) + (" (unused)" if identity["unused_since"] else ""),
            )
            for identity in document["identities"]
        ],
    )


def identity(document: Identity) -> str:
    """Render ``hawse identity get``."""
    facts = [
        ("identity", str(document["identity"])),
        *(("labels" if number == 0 else "", label) for number, label in enumerate(_labels(document))),
        ("namespace", document["namespace"]),
        ("endpoints", str(document["endpoints"])),
        ("ingress", _direction(document["ingress_enforced"], document["ingress_policies"])),
        ("egress", _direction(document["egress_enforced"], document["egress_policies"])),
        ("unused", f"since {document['unused_since']}, to be deleted" if document["unused_since"] else None),
    ]
    width = max(len(name) for name, _ in facts) + 2
    return "".join(f"{name.ljust(width)}{printable(fact)}\n" for name, fact in facts if fact is not None)


def _labels(document: Identity) -> list[str]:
    return labels(document["labels"]) or ["none"]


def _direction(closed: bool | None, policies: list[str]) -> str:  # noqa: FBT001 - it is what is written
    state = "not enforced on this host" if closed is None else enforcement(closed)
    return f"{state}; selected by {joined(policies)}" if policies else state
