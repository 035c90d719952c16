"""Follows the engine's events, through restarts of the engine, without a gap.

A stream that ends is made anew from the time of the last event on. The engine remembers a few hundred events only, and
none over its own restart; so whoever listens is told, each time that a stream stands, to read the container list: what
happened before is in the list, what happens from then on is in the stream, and what is in both does no harm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from driver.engine import EventStream
from driver.engine_events import HasTime
from kvstore.backoff import Backoff
from model.clock import Clock
from model.errors import HawseError

log = logging.getLogger(__name__)

E = TypeVar("E", bound=HasTime)

BACKOFF: Final = Backoff(first_s=0.2, limit_s=5.0)
_MARGIN_NS: Final = 10**9
"""The first stream begins this much before the start."""
_STOP_S: Final = 2.0


class SendsEvents(Protocol[E]):
    """:class:`driver.engine.Engine`."""

    def events(self, since_ns: int) -> EventStream[E]:
        """Follow what happens from a moment on."""
        ...


class EventFollower(Generic[E]):
    """Hands events on, from a thread of its own.

    Args:
        engine: where they come from.
        on_stream: called whenever a stream stands, before its events; returns at once.
        on_event: called with each event, in order; returns at once.
        clock: for the moment to begin at.
        name: of the thread.
        backoff: waits before a stream is made anew.
    """

    def __init__(
        self,
        engine: SendsEvents[E],
        *,
        on_stream: Callable[[], None],
        on_event: Callable[[E], None],
        clock: Clock,
        backoff: Backoff = BACKOFF,
        name: str = "engine events",
    ) -> None:
        self._engine = engine
        self._on_stream = on_stream
        self._on_event = on_event
        self._backoff = backoff
        self._since_ns = int(clock.now().timestamp() * 10**9) - _MARGIN_NS
        self._failures = 0
        self._problem: str | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream[E] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def problem(self) -> str | None:
        """Why there are no events, in a sentence; None while they are followed."""
        return self._problem

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more. Idempotent."""
        self._stopping.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except HawseError as err:
                self._failed(str(err))
            except Exception as err:
                log.exception("events broke")
                self._failed(f"unexpected: {err}")

    def _follow(self) -> None:
        with self._engine.events(self._since_ns) as stream:
            with self._lock:
                # stop() either sees this stream, or is seen here.
                self._stream = stream
                if self._stopping.is_set():
                    return
            if self._failures:
                log.info("engine's events are followed again", extra={"failures": self._failures})
            self._problem = None
            self._failures = 0
            self._on_stream()
            for event in stream:
                self._since_ns = max(self._since_ns, event.time_ns)
                self._on_event(event)

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._stopping.is_set():
            return
        if self._problem is None:
            log.warning("engine's events cannot be followed, it is tried again", extra={"reason": reason})
        self._problem = f"Docker's events cannot be followed, new containers stay without labels: {reason}"
        self._stopping.wait(self._backoff.delay_s(self._failures))
