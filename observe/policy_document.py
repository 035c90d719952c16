"""The documents of ``/v1/policies`` and ``/v1/rollout``: what fills them is in ``observe/policy_describe.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from observe.document_fields import PolicyName, PolicyNames, Revision, Staleness, Time


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDocument:
    """One thing that is wrong in a policy document."""

    path: Annotated[str, Meta(description="spec.ingress[1].toPorts[0]; empty for the document as a whole.")]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalDocument:
    """Why a policy document was refused; nothing of it was taken."""

    error: Annotated[str, Meta(description="All faults in one sentence.")]
    faults: list[FaultDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedDocument:
    """What was written."""

    revision: Annotated[int, Meta(description="Nodes that enforce this revision enforce the change: /v1/rollout.")]
    created: PolicyNames
    changed: PolicyNames
    unchanged: PolicyNames
    deleted: PolicyNames


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidDocument:
    """The policies that a valid document has."""

    policies: PolicyNames


class DeletionDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policies to delete; all of them or none."""

    names: PolicyNames


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySummaryDocument:
    """One policy document of the cluster."""

    name: PolicyName
    kind: Annotated[str, Meta(description="Policy or NetworkPolicy.")]
    revision: Annotated[int, Meta(description="Revision of the store of its last change.")]
    applied_at: Time
    applied_on: Annotated[str | None, Meta(description="The node it was applied on; null when it is not known.")]
    selects_here: Annotated[int, Meta(description="How many endpoints of this node it selects.")]
    problem: Annotated[
        str | None, Meta(description="Why this node cannot read it, and so closes every endpoint; null when it can.")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesDocument:
    """The policy documents of the cluster."""

    policies: list[PolicySummaryDocument]
    warning: Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """One policy document as it was applied."""

    policy: PolicySummaryDocument
    document: Annotated[dict[str, Any], Meta(description="apiVersion, kind, metadata, spec.")]
    yaml: Annotated[str, Meta(description="The same as YAML.")]
    warning: Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRolloutDocument:
    """How far one node is."""

    node: str
    alive: Annotated[
        bool, Meta(description="Nodes whose agent does not run enforce what they did, and hold nobody up.")
    ]
    enforces: Annotated[bool, Meta(description="It enforces the revision that was asked for.")]
    revision: Annotated[int | None, Meta(description="The revision it enforces; null when it has never said.")]
    mode: Annotated[Literal["default", "always", "never"] | None, Meta(description="Its setting POLICY_ENFORCEMENT.")]
    audit: Annotated[bool | None, Meta(description="It only reports what it would deny.")]
    problem: Annotated[str | None, Meta(description="Why it does not enforce what it should; null when all is well.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDocument:
    """How far the nodes are with a policy change."""

    revision: Revision
    complete: Annotated[bool, Meta(description="Every node whose agent runs enforces it.")]
    nodes: list[NodeRolloutDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStatusDocument:
    """Policies as this node enforces them."""

    mode: Annotated[
        Literal["default", "always", "never"] | None,
        Meta(description="POLICY_ENFORCEMENT; null before anything was enforced."),
    ]
    audit: Annotated[bool | None, Meta(description="Denials are only reported; null like mode.")]
    policies: Annotated[int, Meta(description="Policy documents of the cluster.")]
    revision: Annotated[int, Meta(description="Revision of the newest policy change.")]
    enforced_revision: Annotated[int | None, Meta(description="The revision that this node enforces; null like mode.")]
    nodes_behind: Annotated[list[str], Meta(description="Nodes whose agent runs and does not enforce it yet.")]
    without_labels: Annotated[int, Meta(description="Endpoints of this node whose labels are not known yet.")]
    entries: Annotated[int, Meta(description="Policy entries in this node's kernel.")]
    map_full: Annotated[int, Meta(description="How often they did not fit since the agent started.")]
    failures: Annotated[int, Meta(description="How often in a row they could not be written; 0 when all is well.")]
    last_apply_s: Annotated[float, Meta(description="Seconds from the last change until it was in the kernel.")]
