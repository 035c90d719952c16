"""Waiting until every node enforces a policy change."""

from __future__ import annotations

import time
import urllib.parse
from typing import Final

from cli.client import AgentClient, AgentForbidden, AgentUnreachable, AgentWaits
from cli.policy_documents import Rollout

_ONE_REQUEST_S: Final = 5.0
"""The agent waits no longer for one request."""
_PAUSE_S: Final = 0.2


def wait_for_rollout(client: AgentClient, revision: int | None, timeout_s: float) -> Rollout:
    """Wait until all nodes whose agent runs enforce a revision; of None, the newest change when it is first asked.

    After ``timeout_s`` the answer says what is missing. An agent that has not reached the store yet, or that goes away
    after its first answer, may come back until then.

    Raises:
        AgentUnreachable, AgentWaits: it did not.
        AgentFailed: it cannot answer.
    """
    ends = time.monotonic() + timeout_s
    answered = False
    while True:
        left_s = max(0.0, ends - time.monotonic())
        wait_s = min(_ONE_REQUEST_S, left_s)
        asked = {} if revision is None else {"revision": str(revision)}
        query = urllib.parse.urlencode({**asked, "wait_s": f"{wait_s:.3f}"})
        begun = time.monotonic()
        try:
            rollout = client.get(f"/v1/rollout?{query}", Rollout)
        except AgentForbidden:
            raise
        except AgentUnreachable:
            if not (answered and left_s):
                raise
        except AgentWaits:
            answered = True
            if not left_s:
                raise
        else:
            answered = True
            if rollout["complete"] or not left_s:
                return rollout
            # What is applied meanwhile is not waited for.
            revision = rollout["revision"]
        # An answer that came early is one of a busy agent, which does not let this request wait.
        if time.monotonic() - begun < wait_s:
            time.sleep(min(_PAUSE_S, max(0.0, ends - time.monotonic())))
