"""The agent's identities as this command reads them: repeats ``observe/identity_document.py``."""

from __future__ import annotations

from typing import TypedDict


class Identity(TypedDict):
    """``/v1/identities/<number>``."""

    identity: int
    name: str | None
    labels: dict[str, str]
    namespace: str | None
    endpoints: int
    ingress_enforced: bool | None
    egress_enforced: bool | None
    ingress_policies: list[str]
    egress_policies: list[str]
    unused_since: str


class Identities(TypedDict):
    """``/v1/identities``."""

    identities: list[Identity]
    warning: str | None
