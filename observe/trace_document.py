"""The documents of ``/v1/policies/trace``: what fills them is in ``observe/trace_describe.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from observe.document_fields import Address, IdentityNumber, LabelSet, PolicyName, PolicyNames


class TraceQuestionDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """May this peer open a connection to that one?"""

    source: Annotated[
        str,
        Meta(
            description="Labels (app=web,tier=front), the number of an identity, an address, service:<name>, or one of "
            "host, world, remote-node, init, unmanaged, health. A service, or its virtual address, is each of the "
            "containers that answer for it."
        ),
    ] = field(name="from")
    destination: Annotated[str, Meta(description="The same.")] = field(name="to")
    dport: Annotated[
        str,
        Meta(
            description="5432/tcp, 53 (any protocol), http (a named port), tcp, icmp/8, icmp; empty: is any port open? "
            "Of a service with ports it is a port of the service; empty: each of them."
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDocument:
    """Where a rule stands."""

    policy: PolicyName
    path: Annotated[str, Meta(description="spec.ingress[0]; of the short form the label and the item.")]
    deny: bool
    revision: Annotated[int, Meta(description="Revision of the store of the policy's last change; 0: short form.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEndDocument:
    """One end of the connection, as the question was understood."""

    text: Annotated[str, Meta(description="As asked.")]
    identity: Annotated[
        IdentityNumber | None, Meta(description="Null for labels, for addresses outside, and for a service as a whole.")
    ]
    labels: LabelSet
    address: Annotated[Address | None, Meta(description="An address that is outside of the cluster.")]
    service: Annotated[str | None, Meta(description="Name of the service that was asked for.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStepDocument:
    """One direction, at the end that judges it."""

    direction: Annotated[
        Literal["egress", "ingress"], Meta(description="egress at the source, ingress at the destination.")
    ]
    endpoint: Annotated[str, Meta(description="Whose policy it is: its labels or its name.")]
    enforced: Annotated[bool, Meta(description="Whether only what a rule allows may pass.")]
    selecting: Annotated[PolicyNames, Meta(description="Policies that select the endpoint and close this direction.")]
    matched: Annotated[list[RuleDocument], Meta(description="Rules that match; denies come first.")]
    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePairDocument:
    """The answer for one identity at each end, and one port."""

    allowed: bool
    source: TraceEndDocument
    destination: TraceEndDocument
    protocol: Annotated[str | None, Meta(description="ICMP, TCP, UDP or SCTP; null: any.")]
    port: Annotated[int | None, Meta(description="Port of the container; of ICMP the message type; null: any.")]
    port_name: Annotated[str | None, Meta(description="A named port instead.")]
    steps: list[TraceStepDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceDocument:
    """The answer to a question, made by what fills the kernel's maps."""

    allowed: Annotated[bool, Meta(description="Every pair is.")]
    source: TraceEndDocument
    destination: TraceEndDocument
    protocol: Annotated[str | None, Meta(description="ICMP, TCP, UDP or SCTP; null: any.")]
    port: Annotated[int | None, Meta(description="Destination port; of ICMP the message type; null: any.")]
    port_name: Annotated[str | None, Meta(description="A named port instead.")]
    steps: Annotated[list[TraceStepDocument], Meta(description="Of the first pair that is denied, else of the first.")]
    pairs: Annotated[
        list[TracePairDocument],
        Meta(description="One; with a service one for each identity of its containers and each port."),
    ]
