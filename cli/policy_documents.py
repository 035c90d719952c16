"""What the agent says of policies, as this command reads it.

Repeats ``observe/policy_document.py`` and ``observe/trace_document.py``.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Fault(TypedDict):
    """One thing that is wrong in a policy document."""

    path: str
    message: str


class Applied(TypedDict):
    """``POST /v1/policies`` and ``/v1/policies/delete``."""

    revision: int
    created: list[str]
    changed: list[str]
    unchanged: list[str]
    deleted: list[str]


class Valid(TypedDict):
    """``POST /v1/policies/validate``."""

    policies: list[str]


class PolicySummary(TypedDict):
    """One policy document of the cluster."""

    name: str
    kind: str
    revision: int
    applied_at: str
    applied_on: str | None
    selects_here: int
    problem: str | None


class Policies(TypedDict):
    """``GET /v1/policies``."""

    policies: list[PolicySummary]
    warning: str | None


class Policy(TypedDict):
    """``GET /v1/policies/<name>``."""

    policy: PolicySummary
    document: dict[str, Any]
    yaml: str
    warning: str | None


class NodeRollout(TypedDict):
    """How far one node is."""

    node: str
    alive: bool
    enforces: bool
    revision: int | None
    mode: Literal["default", "always", "never"] | None
    audit: bool | None
    problem: str | None


class Rollout(TypedDict):
    """``/v1/rollout``."""

    revision: int
    complete: bool
    nodes: list[NodeRollout]


class PolicyStatus(TypedDict):
    """Policies as this node enforces them."""

    mode: Literal["default", "always", "never"] | None
    audit: bool | None
    policies: int
    revision: int
    enforced_revision: int | None
    nodes_behind: list[str]
    without_labels: int
    entries: int
    map_full: int
    failures: int
    last_apply_s: float


class Rule(TypedDict):
    """Where a rule stands."""

    policy: str
    path: str
    deny: bool
    revision: int


class TraceEnd(TypedDict):
    """One end of a connection, as the question was understood."""

    text: str
    identity: int | None
    labels: dict[str, str]
    address: str | None
    service: str | None


class TraceStep(TypedDict):
    """One direction, at the end that judges it."""

    direction: Literal["egress", "ingress"]
    endpoint: str
    enforced: bool
    selecting: list[str]
    matched: list[Rule]
    allowed: bool
    reason: str


class TracePair(TypedDict):
    """The answer for one identity at each end, and one port."""

    allowed: bool
    source: TraceEnd
    destination: TraceEnd
    protocol: str | None
    port: int | None
    port_name: str | None
    steps: list[TraceStep]


class Trace(TypedDict):
    """``POST /v1/policies/trace``."""

    allowed: bool
    source: TraceEnd
    destination: TraceEnd
    protocol: str | None
    port: int | None
    port_name: str | None
    steps: list[TraceStep]
    pairs: list[TracePair]
