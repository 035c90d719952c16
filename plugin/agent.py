"""The life of the agent: what is started when, what waits for what, and what is said while it does not work.

Order at start:

1. the views of the store begin to follow it, for as long as it takes;
2. the underlay is found and the datapath made to stand: pinned programs are adopted, else loaded;
3. the node registers itself and its peers are programmed;
4. the collection of what was left behind begins.

Each step is repeated with a backoff until it works; what it waits for is shown by ``hawse status``. Calls of dockerd
that need the datapath wait for it, but never longer than their deadline.

At stop the threads end and nothing is taken out of the kernel: traffic goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from model.deadline import remaining_s
from model.errors import DeadlineExceeded, HawseError

log = logging.getLogger(__name__)

_FIRST_RETRY_S: Final = 0.2
_LONGEST_RETRY_S: Final = 10.0


class Service(Protocol):
    """Something with threads of its own."""

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    def stop(self) -> None:
        """End; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that has to work before the next is tried."""

    name: str
    run: Callable[[], None]
    """Raises HawseError when it does not work yet; is then run again."""
    done: threading.Event = field(default_factory=threading.Event)
    """Set once it has succeeded."""


class Agent:
    """Runs services and steps.

    Args:
        followers: started at once, stopped last.
        steps: run in order in the background, each until it succeeds.
        workers: started after the last step, stopped first, in reverse.
    """

    def __init__(self, *, followers: Sequence[Service], steps: Sequence[Step], workers: Sequence[Service]) -> None:
        self._followers = followers
        self._steps = steps
        self._workers = workers
        self._stopping = threading.Event()
        self._waiting_for: str | None = "the agent has just been started"
        self._boot = threading.Thread(target=self._run, name="boot", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        for follower in self._followers:
            follower.start()
        self._boot.start()

    def stop(self) -> None:
        """End all threads; the kernel is left as it is. Idempotent."""
        self._stopping.set()
        self._boot.join(timeout=_LONGEST_RETRY_S)
        for worker in reversed(self._workers):
            worker.stop()
        for follower in reversed(self._followers):
            follower.stop()

    @property
    def waiting_for(self) -> str | None:
        """What keeps the agent from being ready, in a sentence; None when it is."""
        return self._waiting_for

    def wait_for(self, step: Step, at_most_s: float) -> None:
        """Block until a step has succeeded.

        Raises:
            DeadlineExceeded: not within ``at_most_s`` or the caller's own deadline; the message says what is missing.
        """
        if not step.done.wait(remaining_s(at_most_s)):
            raise DeadlineExceeded(f"hawse is not ready: {self._waiting_for}; try again, or see «hawse status»")

    def _run(self) -> None:
        for step in self._steps:
            if not self._succeed(step):
                return
        for worker in self._workers:
            worker.start()
        self._waiting_for = None
        log.info("agent ready")

    def _succeed(self, step: Step) -> bool:
        """Run a step until it works; False when the agent is stopped meanwhile."""
        wait_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                step.run()
            except HawseError as err:
                reason = f"{step.name}: {err}"
                if reason != self._waiting_for:
                    log.warning("start is waiting", extra={"step": step.name, "reason": str(err)})
                self._waiting_for = reason
            except Exception:
                # A fault of our own must not leave the agent half started without a word: it shows in the status.
                log.exception("start failed", extra={"step": step.name})
                self._waiting_for = f"{step.name}: failed unexpectedly, the plugin's log says why"
            else:
                log.info("start step done", extra={"step": step.name})
                step.done.set()
                return True
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_RETRY_S)
        return False
