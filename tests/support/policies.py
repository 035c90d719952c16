"""Policies as an operator applies them, but through the agent's socket: the command's own start takes its time."""

from __future__ import annotations

from typing import Final

from cli.policy_documents import Applied
from cli.policy_rollout import wait_for_rollout
from tests.support.node import Node

_PATIENCE_S: Final = 30.0


class PolicyAgent:
    """The agent of one node."""

    def __init__(self, node: Node) -> None:
        self._client = node.agent(timeout_s=_PATIENCE_S)

    def apply(self, text: str) -> int:
        """Apply documents; returns the revision."""
        return self._client.post_text("/v1/policies", text.encode(), Applied)["revision"]

    def delete(self, *names: str) -> int:
        """Delete policies; returns the revision."""
        return self._client.post("/v1/policies/delete", {"names": list(names)}, Applied)["revision"]

    def wait_enforced(self, revision: int | None = None) -> None:
        """Wait until all nodes whose agent runs enforce a revision; of None, the newest."""
        rollout = wait_for_rollout(self._client, revision, _PATIENCE_S)
        assert rollout["complete"], rollout
