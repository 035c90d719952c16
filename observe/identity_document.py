"""The documents of ``/v1/identities``: what fills them is in ``observe/identity_describe.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from observe.document_fields import Closed, IdentityNumber, LabelSet, PolicyNames, Staleness, Time


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityDocument:
    """One security identity."""

    identity: IdentityNumber
    name: Annotated[str | None, Meta(description="host, world, init …; null for one that stands for labels.")]
    labels: LabelSet
    namespace: Annotated[str | None, Meta(description="Swarm stack, Compose project or default; null when reserved.")]
    endpoints: Annotated[int, Meta(description="Endpoints of the cluster that have it.")]
    ingress_enforced: Closed
    egress_enforced: Closed
    ingress_policies: Annotated[PolicyNames, Meta(description="Policies that select it and speak of ingress.")]
    egress_policies: Annotated[PolicyNames, Meta(description="Policies that select it and speak of egress.")]
    unused_since: Annotated[Time, Meta(description="Since when nobody has it: it is deleted at a later look.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitiesDocument:
    """The security identities of the cluster."""

    identities: list[IdentityDocument]
    warning: Staleness
