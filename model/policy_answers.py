"""What the agent answers when asked about policies: values that pass between policy, observation and wiring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.addresses import IPAddress
from model.ids import IdentityId, NodeName
from model.labels import Labels
from model.policies import PolicyMode, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReference:
    """Where a rule stands."""

    policy: str
    """Name of its policy (:attr:`model.policies.Policy.name`)."""
    path: str
    """``spec.ingress[0]``; for a short form the label and the item."""
    deny: bool
    revision: int = 0
    """Store revision of the last change of the policy; 0 for a short form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """The value of ``/hawse/v1/policies/<name>``."""

    document: Mapping[str, object]
    """As it was applied: ``apiVersion``, ``kind``, ``metadata``, ``spec``."""
    applied_at: str = ""
    """RFC 3339 in UTC."""
    applied_on: NodeName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """One policy document of the cluster."""

    name: str
    kind: str
    """``Policy`` or ``NetworkPolicy``."""
    record: PolicyRecord
    revision: int
    """Store revision of its last change."""
    selects_here: int
    """How many endpoints of this node it selects."""
    problem: str = ""
    """Why this node cannot read it (written by a newer version, or by hand); then every endpoint that it may select is
    closed. Empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an ``apply`` or ``delete`` did."""

    revision: int
    """Nodes that enforce this revision enforce the change."""
    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """The value of ``/hawse/v1/enforced/<node>``: what a node says of itself."""

    revision: int
    """It enforces every policy change up to this store revision."""
    mode: PolicyMode
    audit: bool = False
    problem: str = ""
    """Why it does not enforce what it should (a map is full); empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRollout:
    """How far one node is."""

    node: NodeName
    alive: bool
    """Nodes whose agent does not run enforce what they did last, and are not waited for."""
    enforcement: Enforcement | None
    """None: it has never said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far the nodes are."""

    revision: int
    """What was asked for; of the newest policy change when nothing was."""
    nodes: tuple[NodeRollout, ...]

    @property
    def complete(self) -> bool:
        """Whether every node whose agent runs enforces it."""
        return all(
            one.enforcement is not None and one.enforcement.revision >= self.revision for one in self.nodes if one.alive
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceQuestion:
    """May this peer open a connection to that one? Each end is a set of labels, an identity, or an address outside."""

    source: Labels | IdentityId | IPAddress
    destination: Labels | IdentityId | IPAddress
    protocol: Protocol | None = None
    port: int | None = None
    """None: only whether any port is open. For ICMP the message type."""
    port_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """One direction, at the end that judges it."""

    direction: str
    """``egress`` at the source or ``ingress`` at the destination."""
    endpoint: str
    """Whose policy: its labels or its entity, for people."""
    enforced: bool
    selecting: tuple[str, ...]
    """Policies that select the endpoint and close this direction."""
    matched: tuple[RuleReference, ...]
    """Rules that match, denies first."""
    allowed: bool
    reason: str
    """A sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The answer to a question."""

    allowed: bool
    steps: tuple[TraceStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAnswer:
    """One identity, for people."""

    number: int
    labels: Labels
    endpoints: int
    """Endpoints of the cluster that have it."""
    ingress_enforced: bool | None
    egress_enforced: bool | None
    """On this node; None when no endpoint of this node has it."""
    unused_since: str = ""
    policies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the policies that select it, by direction."""
