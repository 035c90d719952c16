"""A thread that does something whenever what is known of the cluster has changed.

1. Subscribers of views say that something changed (:meth:`ViewWorker.mark`); the work is done by a thread of its own.
   Changes that come while it works are taken together the next time; nothing waits for more to come.
2. Nothing is done before all views have been read once.
3. An error is followed by a backoff and another attempt that looks at everything; at once when something changes.
4. At least every ``resync_s`` seconds everything is looked at.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kvstore.backoff import Backoff
from kvstore.watcher import View
from model.clock import Clock
from model.errors import HawseError

log = logging.getLogger(__name__)

_STOP_S: Final = 2.0
_READ_S: Final = 0.5


class Work(Protocol):
    """What is done; raises when it has to be tried again."""

    def __call__(self, *, everything: bool) -> None:
        """Do it; ``everything``: look at all there is, not only at what has changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkHealth:
    """How it goes."""

    failures: int = 0
    """Errors in a row; 0 when all is well."""
    error: str = ""
    """The last error while there are failures, otherwise empty."""
    last_s: float = 0.0
    """Seconds from the last change (the first of those taken together) until the work was done."""


class ViewWorker:
    """Does one piece of work again and again, never twice at the same time.

    Args:
        name: of the thread, and of the work in the log.
        work: what is done.
        views: what has to have been read before.
        clock: time.
        resync_s: at least this often everything is looked at.
        backoff: waits after an error.
    """

    def __init__(
        self,
        name: str,
        work: Work,
        views: Sequence[View[Any]],
        *,
        clock: Clock,
        resync_s: float = 60.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
    ) -> None:
        self._name = name
        self._work = work
        self._views = tuple(views)
        self._clock = clock
        self._resync_s = resync_s
        self._backoff = backoff
        self._changed = threading.Condition()
        self._dirty = True
        self._everything = True
        self._dirty_since_s: float | None = None
        self._looked_at_s = 0.0
        self._stopping = False
        self._health = WorkHealth()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Work no more; what was done stays. Idempotent, also before :meth:`start`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    @property
    def health(self) -> WorkHealth:
        """How it goes."""
        with self._changed:
            return self._health

    def mark(self, *, everything: bool = False) -> None:
        """Say that something has changed; returns at once."""
        with self._changed:
            self._dirty = True
            self._everything = self._everything or everything
            if self._dirty_since_s is None:
                self._dirty_since_s = self._clock.monotonic_s()
            self._changed.notify_all()

    def _run(self) -> None:
        while self._wait_for_work():
            with self._changed:
                self._dirty = False
                everything, self._everything = self._everything, False
                since_s, self._dirty_since_s = self._dirty_since_s, None
            if everything:
                self._looked_at_s = self._clock.monotonic_s()
            try:
                self._work(everything=everything)
            except HawseError as err:
                self._failed(err, since_s)
            except Exception as err:
                # A mistake of ours must not end the thread: nothing would follow the cluster any more, unnoticed.
                log.exception("work broke", extra={"work": self._name})
                self._failed(err, since_s)
            else:
                self._succeeded(since_s)

    def _wait_for_work(self) -> bool:
        """Wait for a change or the next look; False when it is time to end."""
        while not all(view.revision for view in self._views):
            if self._stopping:
                return False
            for view in self._views:
                view.wait_synced(_READ_S)
        with self._changed:
            left_s = self._looked_at_s + self._resync_s - self._clock.monotonic_s()
            self._changed.wait_for(lambda: self._stopping or self._dirty, max(0.0, left_s))
            if self._clock.monotonic_s() >= self._looked_at_s + self._resync_s:
                self._everything = True
            return not self._stopping

    def _succeeded(self, since_s: float | None) -> None:
        with self._changed:
            last_s = self._health.last_s if since_s is None else self._clock.monotonic_s() - since_s
            self._health = WorkHealth(last_s=last_s)

    def _failed(self, err: Exception, since_s: float | None) -> None:
        with self._changed:
            failures = self._health.failures + 1
            error = str(err) or type(err).__name__
            self._health = WorkHealth(failures=failures, error=error, last_s=self._health.last_s)
            delay_s = self._backoff.delay_s(failures)
            log.error(
                "work failed, it is tried again",
                extra={
                    "work": self._name,
                    "error": error,
                    "failures": failures,
                    "retry_in_s": round(delay_s, 3),
                },
            )
            self._changed.wait_for(lambda: self._stopping or self._dirty, delay_s)
            self._dirty = self._everything = True
            self._dirty_since_s = since_s if since_s is not None else self._dirty_since_s
