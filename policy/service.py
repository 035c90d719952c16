"""Everything that can be asked of policies and done to them: what the agent's API and the flow log are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from kvstore import keys
from kvstore.first_read import FirstRead
from kvstore.watcher import View
from model.endpoints import Endpoint
from model.errors import NotFound, StoreUnavailable
from model.identities import RESERVED_NAMES, IdentityRecord, is_cluster_identity, reserved_labels
from model.ids import IdentityId
from model.labels import Labels
from model.policy_answers import (
    Applied,
    IdentityAnswer,
    Rollout,
    RuleReference,
    StoredPolicy,
    Trace,
    TraceQuestion,
)
from model.policy_health import PolicyHealth
from policy.answers import closing_policies, identity_answer, stored_policy
from policy.controller import PolicyController
from policy.documents import read
from policy.registry import PolicyRegistry
from policy.rollout import RolloutWatch
from policy.tracer import trace
from policy.views import PolicyViews

_COMPILED_S: Final = 2.0


class PolicyService:
    """The policies and identities of the cluster. Safe from any thread.

    Args:
        registry: the documents in the store.
        controller: what this node compiles and enforces.
        rollout: what the nodes say.
        views: policies and identities.
        endpoints: view of all endpoints.
    """

    def __init__(
        self,
        registry: PolicyRegistry,
        controller: PolicyController,
        rollout: RolloutWatch,
        views: PolicyViews,
        endpoints: View[Endpoint],
    ) -> None:
        self._registry = registry
        self._controller = controller
        self._rollout = rollout
        self._views = views
        self._endpoints = endpoints
        self._read = FirstRead(views.identities, "identities")

    def apply(self, text: str) -> Applied:
        """Create or replace the policies of a document (YAML or JSON): all of them or none.

        Raises:
            InvalidDocument: it breaks rules; names every fault.
            InvalidInput: it is too much for one transaction.
            Conflict: another writer was faster, again and again.
        """
        return self._registry.apply(read(text))

    def validate(self, text: str) -> tuple[str, ...]:
        """Check a document and name its policies; nothing is written.

        Raises:
            InvalidDocument: it breaks rules; names every fault.
        """
        return tuple(document.name for document in read(text))

    def delete(self, names: Sequence[str]) -> Applied:
        """Delete policies: all of them or none.

        Raises:
            InvalidInput: one of them is no name of a policy.
            NotFound: names those that do not exist.
            Conflict: another writer was faster, again and again.
        """
        return self._registry.delete(names)

    def stored(self) -> Sequence[StoredPolicy]:
        """Every policy document, sorted by name.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        latest = self._controller.latest
        return [stored_policy(entry, latest) for entry in self._registry.all()]

    def stored_one(self, name: str) -> StoredPolicy:
        """One policy document.

        Raises:
            NotFound: there is none of this name.
            StoreUnavailable: nothing has been read from the store yet.
        """
        return stored_policy(self._registry.get(name), self._controller.latest)

    def rollout(self, revision: int | None, wait_s: float) -> Rollout:
        """Say how far the nodes are with a revision; of None, the newest policy change.

        Waits until all of them are there, at most ``wait_s``.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        return self._rollout.rollout(revision, wait_s)

    def trace(self, question: TraceQuestion) -> Trace:
        """Decide as the kernel would, and explain it.

        Raises:
            InvalidInput: the question has no answer; says why.
            StoreUnavailable: nothing has been read from the store yet.
        """
        # What was applied a moment ago on this node is in the answer.
        self._controller.wait_compiled(self._views.policies.written_revision, _COMPILED_S)
        latest = self._controller.latest
        if latest is None:
            raise StoreUnavailable("this node has not compiled the policies yet; see «hawse status», or try again")
        return trace(latest.gathered.inputs, question)

    def identities(self) -> Sequence[IdentityAnswer]:
        """Every identity, sorted by number, the reserved ones too; with policies if this node has it."""
        self._read.require()
        counts = self._counts()
        return [self._answer(number, record, counts) for number, record in sorted(self._identities().items())]

    def identity(self, number: int) -> IdentityAnswer:
        """One identity, with its policies wherever it is.

        Raises:
            NotFound: there is none of this number.
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._read.require()
        ident = IdentityId(number)
        known = self._identities()
        if ident not in known:
            raise NotFound(f"there is no identity {number}")
        latest = self._controller.latest
        answer = self._answer(ident, known[ident], self._counts())
        return replace(answer, policies=closing_policies(ident, answer.labels, latest)) if latest else answer

    def rule(self, number: int) -> RuleReference | None:
        """Where the rule of this number stands; None when it is not known (any more)."""
        return self._controller.rule(number)

    def selecting(self, identity: int, direction: Direction) -> tuple[str, ...]:
        """Name the policies that select an identity of this node and close this direction."""
        applied = self._controller.applied
        return applied.compiled.selecting.get((identity, direction), ()) if applied else ()

    def flags(self, identity: int) -> IdentityFlags:
        """What the kernel of this node knows of an identity."""
        return self._controller.flags(identity)

    def labels_of(self, identity: int) -> Labels:
        """The labels of an identity, of a reserved one too; empty when they are not known."""
        ident = IdentityId(identity)
        if not is_cluster_identity(identity):
            return reserved_labels(ident)
        entry = self._views.identities.get(keys.identity(ident))
        if entry is not None:
            return entry.value.labels
        latest = self._controller.latest
        return latest.gathered.inputs.identities.get(ident, Labels()) if latest else Labels()

    def health(self) -> PolicyHealth:
        """How the kernel of this node follows, in figures."""
        return self._controller.health

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        return self._controller.problems()

    def warnings(self) -> Sequence[str]:
        """What is wrong with labels that an endpoint of the cluster has now, a sentence each."""
        return self._controller.warnings()

    def _identities(self) -> Mapping[IdentityId, IdentityRecord]:
        found = {number: IdentityRecord(labels=reserved_labels(number)) for number in RESERVED_NAMES}
        found |= {keys.parse_identity(key): entry.value for key, entry in self._views.identities.items().items()}
        return found

    def _answer(self, number: IdentityId, record: IdentityRecord, counts: Mapping[IdentityId, int]) -> IdentityAnswer:
        return identity_answer(number, record, counts, self._controller.latest, self.flags(number))

    def _counts(self) -> Mapping[IdentityId, int]:
        return Counter(entry.value.identity for entry in self._endpoints.items().values())
