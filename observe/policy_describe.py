"""From the agent's state to the documents of ``/v1/policies`` and ``/v1/rollout``, and back to what they ask for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import yaml
from msgspec import UNSET, Meta, UnsetType

from model.errors import InvalidDocument
from model.policy_answers import Applied, NodeRollout, Rollout, StoredPolicy
from observe.policy_document import (
    AppliedDocument,
    DeletionDocument,
    FaultDocument,
    NodeRolloutDocument,
    PoliciesDocument,
    PolicyDocument,
    PolicyStatusDocument,
    PolicySummaryDocument,
    RefusalDocument,
    RolloutDocument,
    ValidDocument,
)
from observe.state import AgentState

LONGEST_WAIT_S: Final = 5
"""Of one request for the rollout: shorter than what the agent gives itself for any answer."""

_WAITING: Final = threading.BoundedSemaphore(8)
"""Requests that wait at once: each holds one of the 32 threads that also answer Docker."""


class PolicyQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``/v1/policies/{name}``."""

    name: Annotated[str, Meta(description="The name; of a NetworkPolicy with its namespace and the slash between.")]


class RolloutQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``/v1/rollout``."""

    revision: (
        Annotated[int, Meta(ge=0, le=2**63 - 1, description="What to wait for; without it the newest policy change.")]
        | UnsetType
    ) = UNSET
    wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=LONGEST_WAIT_S,
            description="Answer as soon as it is complete, or after so many seconds; sooner while too many wait.",
        ),
    ] = 0.0


def apply(state: AgentState, text: str) -> AppliedDocument:
    """Create or replace the policies of a document."""
    return _applied(state.policies.apply(text))


def validate(state: AgentState, text: str) -> ValidDocument:
    """Check a document; nothing is written."""
    return ValidDocument(policies=list(state.policies.validate(text)))


def delete(state: AgentState, question: DeletionDocument) -> AppliedDocument:
    """Delete policies."""
    return _applied(state.policies.delete(question.names))


def policies(state: AgentState) -> PoliciesDocument:
    """Describe every policy document, by name."""
    found = sorted(state.policies.stored(), key=lambda policy: policy.name)
    return PoliciesDocument(policies=[_summary(policy) for policy in found], warning=state.staleness())


def policy(state: AgentState, question: PolicyQuestion) -> PolicyDocument:
    """Describe one policy document."""
    found = state.policies.stored_one(question.name)
    document = _plain(found.record.document)
    return PolicyDocument(
        policy=_summary(found),
        document=document,
        yaml=_yaml(document),
        warning=state.staleness(),
    )


def rollout(state: AgentState, question: RolloutQuestion) -> RolloutDocument:
    """Describe how far the nodes are; waits as long as it is told to, and not at all while too many wait already."""
    revision = None if question.revision is UNSET else question.revision
    if question.wait_s and _WAITING.acquire(blocking=False):
        try:
            found = state.policies.rollout(revision, question.wait_s)
        finally:
            _WAITING.release()
    else:
        found = state.policies.rollout(revision, 0.0)
    return RolloutDocument(
        revision=found.revision,
        complete=found.complete,
        nodes=[_node(one, found) for one in sorted(found.nodes, key=lambda one: one.node)],
    )


def policy_status(state: AgentState) -> PolicyStatusDocument:
    """Describe policies as this node enforces them, in short.

    Raises:
        StoreUnavailable: nothing is known yet.
    """
    here = state.node()
    found = state.policies.rollout(None, 0.0)
    own = next((one.enforcement for one in found.nodes if one.node == here), None)
    health = state.policies.health()
    return PolicyStatusDocument(
        mode=None if own is None else own.mode.value,
        audit=None if own is None else own.audit,
        policies=len(state.policies.stored()),
        revision=found.revision,
        enforced_revision=None if own is None else own.revision,
        nodes_behind=sorted(one.node for one in found.nodes if one.alive and not _enforces(one, found)),
        without_labels=sum(endpoint.node == here and endpoint.labels is None for endpoint in state.endpoints()),
        entries=health.entries,
        map_full=health.exhausted,
        failures=health.failures,
        last_apply_s=health.last_apply_s,
    )


def refusal(error: InvalidDocument) -> RefusalDocument:
    """Describe why a document was refused."""
    return RefusalDocument(
        error=str(error), faults=[FaultDocument(path=fault.path, message=fault.message) for fault in error.faults]
    )


def _applied(applied: Applied) -> AppliedDocument:
    return AppliedDocument(
        revision=applied.revision,
        created=sorted(applied.created),
        changed=sorted(applied.changed),
        unchanged=sorted(applied.unchanged),
        deleted=sorted(applied.deleted),
    )


def _summary(policy: StoredPolicy) -> PolicySummaryDocument:
    return PolicySummaryDocument(
        name=policy.name,
        kind=policy.kind,
        revision=policy.revision,
        applied_at=policy.record.applied_at,
        applied_on=policy.record.applied_on,
        selects_here=policy.selects_here,
        problem=policy.problem or None,
    )


def _node(one: NodeRollout, rollout: Rollout) -> NodeRolloutDocument:
    said = one.enforcement
    return NodeRolloutDocument(
        node=one.node,
        alive=one.alive,
        enforces=_enforces(one, rollout),
        revision=None if said is None else said.revision,
        mode=None if said is None else said.mode.value,
        audit=None if said is None else said.audit,
        problem=(said.problem or None) if said is not None else None,
    )


def _enforces(one: NodeRollout, rollout: Rollout) -> bool:
    return one.enforcement is not None and one.enforcement.revision >= rollout.revision


def _yaml(document: dict[str, Any]) -> str:
    text = _dumped(document, readable=True)
    # YAML lets some characters stand as they are that a terminal obeys (U+202E turns the text around).
    return text if all(line.isprintable() for line in text.split("\n")) else _dumped(document, readable=False)


def _dumped(document: dict[str, Any], *, readable: bool) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=readable, default_flow_style=False)
    return text


def _plain(document: Mapping[str, object]) -> dict[str, Any]:
    """Copy to dicts and lists, which YAML can write; nothing is shared, so that it needs no alias."""
    plain: dict[str, Any] = msgspec.to_builtins(dict(document), enc_hook=_mutable)
    return plain


def _mutable(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"a policy document cannot have a {type(value).__name__}")
