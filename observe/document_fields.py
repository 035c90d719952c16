"""Field types that several documents of the agent's API share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

Cidr: TypeAlias = Annotated[str, Meta(description="An address pool in CIDR notation, 10.1.0.0/16.")]
Address: TypeAlias = Annotated[str, Meta(description="An IPv4 or IPv6 address.")]
Time: TypeAlias = Annotated[str, Meta(description="RFC 3339 in UTC; empty when it is not known.")]
Staleness: TypeAlias = Annotated[
    str | None, Meta(description="A sentence that says why this may be out of date; null while it is not.")
]
IdentityNumber: TypeAlias = Annotated[
    int, Meta(description="Security identity: below 256 reserved, above 65535 an address prefix that a policy names.")
]
LabelSet: TypeAlias = Annotated[dict[str, str], Meta(description="Labels by key.")]
PolicyName: TypeAlias = Annotated[
    str,
    Meta(
        description="<name> of a Policy, <namespace>/<name> of a NetworkPolicy, labels:<identity> of the short form on "
        "a container."
    ),
]
PolicyNames: TypeAlias = list[PolicyName]
Revision: TypeAlias = Annotated[int, Meta(description="A revision of the store.")]
Closed: TypeAlias = Annotated[
    bool | None, Meta(description="Whether only what a rule allows may pass; null when this node does not judge it.")
]
