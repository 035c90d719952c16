"""How far the nodes are with a policy change, and waiting for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from kvstore import keys
from kvstore.first_read import FirstRead
from kvstore.watcher import Change, View
from model.deadline import remaining_s
from model.ids import NodeName
from model.nodes import Node
from model.policy_answers import Enforcement, NodeRollout, Rollout
from policy.views import PolicyEntry


class RolloutWatch:
    """Compares what the nodes say with a revision. Safe from any thread.

    Args:
        policies: view of the policies' keys.
        enforced: of what nodes say; not started yet, like the next two.
        nodes: of the nodes' records.
        alive: of the nodes whose agent runs.
    """

    def __init__(
        self,
        policies: View[PolicyEntry],
        enforced: View[Enforcement],
        nodes: View[Node],
        alive: View[NodeName],
    ) -> None:
        self._policies = policies
        self._enforced = enforced
        self._nodes = nodes
        self._alive = alive
        self._read = [
            FirstRead(policies, "policies"),
            FirstRead(enforced, "enforced revisions"),
            FirstRead(nodes, "nodes"),
            FirstRead(alive, "nodes that are alive"),
        ]
        self._changed = threading.Condition()
        self._changes = 0
        self._stopping = False
        for view in (enforced, nodes, alive):
            view.subscribe(self._on_change)

    def stop(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def rollout(self, revision: int | None, wait_s: float) -> Rollout:
        """Say how far the nodes are; waits at most ``wait_s`` until all whose agent runs are there.

        Args:
            revision: which change (:attr:`model.policy_answers.Applied.revision`); None: the newest.
            wait_s: 0 answers at once.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        for read in self._read:
            read.require()
        asked = self._policies.written_revision if revision is None else revision
        ends = time.monotonic() + remaining_s(wait_s)
        while True:
            with self._changed:
                seen = self._changes
            found = self._look(asked)
            left_s = ends - time.monotonic()
            if found.complete or left_s <= 0:
                return found
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._changes != seen, left_s)  # noqa: B023  # now
                if self._stopping:
                    return found

    def _look(self, revision: int) -> Rollout:
        alive = {entry.value for entry in self._alive.items().values()}
        names = {entry.value.name for entry in self._nodes.items().values()} | alive
        said = {keys.parse_enforced(key): entry.value for key, entry in self._enforced.items().items()}
        return Rollout(
            revision=revision,
            nodes=tuple(
                NodeRollout(node=name, alive=name in alive, enforcement=said.get(name)) for name in sorted(names)
            ),
        )

    def _on_change(self, changes: Sequence[Change[Any]]) -> None:  # noqa: ARG002  # what changed is looked up
        with self._changed:
            self._changes += 1
            self._changed.notify_all()
