"""From the agent's state to the documents of ``/v1/identities``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datapath.api import Direction
from model.identities import RESERVED_NAMES, is_cluster_identity
from model.ids import IdentityId
from model.policy_answers import IdentityAnswer
from observe.identity_document import IdentitiesDocument, IdentityDocument
from observe.state import AgentState


class IdentityQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``/v1/identities/{number}``."""

    number: Annotated[int, Meta(ge=0, le=2**32 - 1, description="The identity.")]


def identities(state: AgentState) -> IdentitiesDocument:
    """Describe every identity, by number."""
    found = sorted(state.policies.identities(), key=lambda identity: identity.number)
    return IdentitiesDocument(identities=[_identity(one) for one in found], warning=state.staleness())


def identity(state: AgentState, question: IdentityQuestion) -> IdentityDocument:
    """Describe one identity."""
    return _identity(state.policies.identity(question.number))


def _identity(answer: IdentityAnswer) -> IdentityDocument:
    return IdentityDocument(
        identity=answer.number,
        name=RESERVED_NAMES.get(IdentityId(answer.number)),
        labels=dict(answer.labels.pairs),
        namespace=answer.labels.namespace if is_cluster_identity(answer.number) else None,
        endpoints=answer.endpoints,
        ingress_enforced=answer.ingress_enforced,
        egress_enforced=answer.egress_enforced,
        ingress_policies=list(answer.policies.get(Direction.INGRESS, ())),
        egress_policies=list(answer.policies.get(Direction.EGRESS, ())),
        unused_since=answer.unused_since,
    )
