"""What the agent's API asks of policies: one Protocol, in the terms of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from model.labels import Labels
from model.policy_answers import Applied, IdentityAnswer, Rollout, RuleReference, StoredPolicy, Trace, TraceQuestion
from model.policy_health import PolicyHealth


class PolicyState(Protocol):
    """The policies and identities of the cluster. All methods may be called from any thread.

    What is asked is answered from memory; what changes something is in the store when it returns. Methods of the first
    group raise:
        StoreUnavailable: nothing is known yet, or the store did not answer; may be repeated.
        DeadlineExceeded: the same, for the time that the request has.
    """

    def apply(self, text: str) -> Applied:
        """Create or replace the policies of a document (YAML or JSON): all of them or none.

        Raises:
            InvalidDocument: it breaks rules; names every fault.
            Conflict: another writer was faster, again and again.
        """
        ...

    def validate(self, text: str) -> tuple[str, ...]:
        """Check a document and name its policies; nothing is written.

        Raises:
            InvalidDocument: it breaks rules; names every fault.
        """
        ...

    def delete(self, names: Sequence[str]) -> Applied:
        """Delete policies: all of them or none.

        Raises:
            InvalidInput: one of them is no name of a policy.
            NotFound: there is none of some of the names; the message has them.
            Conflict: another writer was faster, again and again.
        """
        ...

    def stored(self) -> Sequence[StoredPolicy]:
        """Every policy document."""
        ...

    def stored_one(self, name: str) -> StoredPolicy:
        """One policy document.

        Raises:
            NotFound: there is none of this name.
        """
        ...

    def rollout(self, revision: int | None, wait_s: float) -> Rollout:
        """Say how far the nodes are with a revision; of None, the newest policy change.

        Waits until all of them are there, at most ``wait_s``.
        """
        ...

    def trace(self, question: TraceQuestion) -> Trace:
        """Decide as the kernel would, and explain it."""
        ...

    def identities(self) -> Sequence[IdentityAnswer]:
        """Every identity, the reserved ones too."""
        ...

    def identity(self, number: int) -> IdentityAnswer:
        """One identity.

        Raises:
            NotFound: there is none of this number.
        """
        ...

    # What follows never raises.

    def rule(self, number: int) -> RuleReference | None:
        """Where the rule of this number stands; None when it is not known (any more)."""
        ...

    def selecting(self, identity: int, direction: Direction) -> tuple[str, ...]:
        """Name the policies that select an identity and close this direction."""
        ...

    def flags(self, identity: int) -> IdentityFlags:
        """What the kernel of this node knows of an identity."""
        ...

    def labels_of(self, identity: int) -> Labels:
        """The labels of an identity, of a reserved one too; empty when they are not known."""
        ...

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        ...

    def warnings(self) -> Sequence[str]:
        """What is wrong with labels that an endpoint of the cluster has now, a sentence each."""
        ...

    def health(self) -> PolicyHealth:
        """How the kernel of this node follows, in figures."""
        ...
