"""Policies for tests of the API and of the command: values that the test sets, and what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from model.errors import HawseError, NotFound
from model.identities import reserved_labels
from model.ids import IDENTITY_HOST, IDENTITY_INIT, IdentityId, NodeName
from model.labels import Labels
from model.policies import PolicyMode
from model.policy_answers import (
    Applied,
    Enforcement,
    IdentityAnswer,
    NodeRollout,
    PolicyRecord,
    Rollout,
    RuleReference,
    StoredPolicy,
    Trace,
    TraceQuestion,
    TraceStep,
)
from model.policy_health import PolicyHealth
from observe.policy_state import PolicyState

HERE = NodeName("alpha")
THERE = NodeName("beta")
APPLIED = "2026-03-01T10:00:00Z"
WEB = IdentityId(1001)
DB = IdentityId(1002)
RULE = 4242

DOCUMENT: Mapping[str, object] = {
    "apiVersion": "hawse/v1",
    "kind": "Policy",
    "metadata": {"name": "db-from-api"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "db"}},
        "ingress": (
            {
                "fromEndpoints": ({"matchLabels": {"app": "api"}},),
                "toPorts": ({"ports": ({"port": "5432", "protocol": "TCP"},)},),
            },
        ),
    },
}
DB_FROM_API = RuleReference(policy="db-from-api", path="spec.ingress[0]", deny=False, revision=123)


def a_policy(name: str, *, kind: str = "Policy", selects_here: int = 0, problem: str = "") -> StoredPolicy:
    return StoredPolicy(
        name=name,
        kind=kind,
        record=PolicyRecord(document=DOCUMENT, applied_at=APPLIED, applied_on=HERE),
        revision=123,
        selects_here=selects_here,
        problem=problem,
    )


def a_rollout(node: NodeName, revision: int | None, *, alive: bool = True, problem: str = "") -> NodeRollout:
    enforcement = None
    if revision is not None:
        enforcement = Enforcement(revision=revision, mode=PolicyMode.DEFAULT, problem=problem)
    return NodeRollout(node=node, alive=alive, enforcement=enforcement)


def an_answer(
    number: IdentityId, labels: Labels, *, endpoints: int = 1, ingress: bool | None = None, egress: bool | None = None
) -> IdentityAnswer:
    return IdentityAnswer(
        number=number, labels=labels, endpoints=endpoints, ingress_enforced=ingress, egress_enforced=egress
    )


class FixedPolicyState(PolicyState):
    """Answers what stands in its attributes; raises ``error`` where the real one may raise.

    What it was asked for stands in ``asked``, newest last.
    """

    def __init__(self) -> None:
        self.error: HawseError | None = None
        self.asked: list[object] = []
        self.applied = Applied(revision=123, created=("db-from-api",))
        self.valid: tuple[str, ...] = ("db-from-api",)
        self.known: Sequence[StoredPolicy] = (
            a_policy("shop/deny-all", kind="NetworkPolicy"),
            a_policy("db-from-api", selects_here=1),
        )
        self.rollouts: list[Rollout] = [Rollout(revision=123, nodes=(a_rollout(THERE, 123), a_rollout(HERE, 123)))]
        """Handed out one after the other; the last one again and again."""
        self.traced = Trace(
            allowed=True,
            steps=(
                TraceStep(
                    direction="egress",
                    endpoint="app=api",
                    enforced=False,
                    selecting=(),
                    matched=(),
                    allowed=True,
                    reason="no policy closes egress of it",
                ),
                TraceStep(
                    direction="ingress",
                    endpoint="app=db",
                    enforced=True,
                    selecting=("db-from-api", "shop/deny-all"),
                    matched=(DB_FROM_API,),
                    allowed=True,
                    reason="a rule allows it",
                ),
            ),
        )
        self.known_identities: Sequence[IdentityAnswer] = (
            IdentityAnswer(
                number=DB,
                labels=Labels.of({"app": "db", "com.docker.stack.namespace": "shop"}),
                endpoints=2,
                ingress_enforced=True,
                egress_enforced=False,
                policies={"ingress": ("db-from-api", "shop/deny-all"), "egress": ()},
            ),
            an_answer(WEB, Labels.of({"app": "web"}), endpoints=0),
            an_answer(IDENTITY_HOST, reserved_labels(IDENTITY_HOST), endpoints=0),
            an_answer(IDENTITY_INIT, reserved_labels(IDENTITY_INIT), endpoints=2, ingress=True, egress=True),
        )
        self.known_flags: dict[int, IdentityFlags] = {}
        """Of identities; others are ready and open."""
        self.rules: dict[int, RuleReference] = {RULE: DB_FROM_API}
        self.known_problems: Sequence[str] = ()
        self.known_warnings: Sequence[str] = ()
        self.known_health = PolicyHealth(applied_revision=123, entries=4, compilations=2, last_apply_s=0.012)

    def apply(self, text: str) -> Applied:
        self._ask(("apply", text))
        return self.applied

    def validate(self, text: str) -> tuple[str, ...]:
        self._ask(("validate", text))
        return self.valid

    def delete(self, names: Sequence[str]) -> Applied:
        self._ask(("delete", *names))
        return self.applied

    def stored(self) -> Sequence[StoredPolicy]:
        self._ask("stored")
        return self.known

    def stored_one(self, name: str) -> StoredPolicy:
        self._ask(("stored_one", name))
        for policy in self.known:
            if policy.name == name:
                return policy
        raise NotFound(f"there is no policy {name!r}")

    def rollout(self, revision: int | None, wait_s: float) -> Rollout:
        self._ask(("rollout", revision, wait_s))
        return self.rollouts.pop(0) if len(self.rollouts) > 1 else self.rollouts[0]

    def trace(self, question: TraceQuestion) -> Trace:
        self._ask(question)
        return self.traced

    def identities(self) -> Sequence[IdentityAnswer]:
        self._ask("identities")
        return self.known_identities

    def identity(self, number: int) -> IdentityAnswer:
        self._ask(("identity", number))
        for answer in self.known_identities:
            if answer.number == number:
                return answer
        raise NotFound(f"there is no identity {number}")

    def rule(self, number: int) -> RuleReference | None:
        return self.rules.get(number)

    def selecting(self, identity: int, direction: Direction) -> tuple[str, ...]:
        for answer in self.known_identities:
            if answer.number == identity:
                return answer.policies.get(direction, ())
        return ()

    def flags(self, identity: int) -> IdentityFlags:
        return self.known_flags.get(identity, IdentityFlags.KNOWN | IdentityFlags.READY)

    def labels_of(self, identity: int) -> Labels:
        for answer in self.known_identities:
            if answer.number == identity:
                return answer.labels
        return Labels()

    def problems(self) -> Sequence[str]:
        return self.known_problems

    def warnings(self) -> Sequence[str]:
        return self.known_warnings

    def health(self) -> PolicyHealth:
        return self.known_health

    def _ask(self, question: object) -> None:
        self.asked.append(question)
        if self.error is not None:
            raise self.error
