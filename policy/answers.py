"""Answers about one policy or identity, from what this node has compiled."""

from __future__ import annotations

from collections.abc import Mapping

from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from model.identities import IdentityRecord, is_cluster_identity
from model.ids import IdentityId
from model.labels import Labels
from model.policies import Policy
from model.policy_answers import IdentityAnswer, StoredPolicy
from policy.compilation import Compilation
from policy.selection import selects_labels, selects_reserved
from policy.views import PolicyEntry


def stored_policy(entry: PolicyEntry, latest: Compilation | None) -> StoredPolicy:
    """Describe a policy; ``selects_here`` is 0 while nothing has been compiled."""
    selected = 0
    if latest is not None:
        labels = latest.gathered.inputs.identities
        selected = sum(
            count
            for identity, count in latest.gathered.here.items()
            if _selects(entry.policy, identity, labels.get(identity, Labels()))
        )
    return StoredPolicy(
        name=entry.name,
        kind=entry.kind,
        record=entry.record,
        revision=entry.revision,
        selects_here=selected,
        problem=entry.problem,
    )


def identity_answer(
    number: IdentityId,
    record: IdentityRecord,
    endpoints: Mapping[IdentityId, int],
    latest: Compilation | None,
    applied_flags: IdentityFlags,
) -> IdentityAnswer:
    """Describe an identity; enforcement and policies are left out when no endpoint of this node has it.

    Args:
        number: which.
        record: what is stored of it.
        endpoints: how many endpoints of the cluster have each identity.
        latest: what was compiled last.
        applied_flags: what the kernel of this node knows of it.
    """
    flags: IdentityFlags | None = None
    policies: Mapping[str, tuple[str, ...]] = {}
    if latest is not None and latest.gathered.here.get(number):
        flags = applied_flags
        policies = closing_policies(number, record.labels, latest)
    return IdentityAnswer(
        number=number,
        labels=record.labels,
        endpoints=endpoints.get(number, 0),
        ingress_enforced=None if flags is None else _closed(flags, IdentityFlags.INGRESS),
        egress_enforced=None if flags is None else _closed(flags, IdentityFlags.EGRESS),
        unused_since=record.unused_since,
        policies=policies,
    )


def closing_policies(number: IdentityId, labels: Labels, latest: Compilation) -> Mapping[str, tuple[str, ...]]:
    """Name the policies that select an identity and close a direction for it, by direction."""
    found: dict[str, tuple[str, ...]] = {}
    for direction in Direction:
        names = latest.compiled.selecting.get((number, direction))
        if names is None:
            names = tuple(
                sorted(
                    policy.name
                    for policy in latest.gathered.inputs.policies
                    if _closes(policy, direction) and _selects(policy, number, labels)
                )
            )
        found[direction.value] = names
    return found


def _selects(policy: Policy, number: IdentityId, labels: Labels) -> bool:
    if is_cluster_identity(number):
        return selects_labels(policy.subject, labels)
    return selects_reserved(policy.subject, number, deny=False)


def _closes(policy: Policy, direction: Direction) -> bool:
    return policy.enforce_ingress if direction is Direction.INGRESS else policy.enforce_egress


def _closed(flags: IdentityFlags, direction: IdentityFlags) -> bool:
    # Without rules an endpoint is closed in both directions.
    return bool(flags & direction) or not flags & IdentityFlags.READY
