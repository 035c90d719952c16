"""Hands the changes of a view to its subscribers, in a thread of its own.

1. A subscriber never holds up the view, and not another subscriber's changes for longer than its own call takes.
2. Changes that were not taken yet are merged per key: ``old`` is what the subscriber was told last, ``new`` is what
   holds now; a change that was taken back in between is not told at all.
3. A subscriber that raises has taken nothing: the error is logged with the keys, and the same changes (merged with
   later ones) are given again after a backoff, until they are taken. So subscribers must be idempotent per key.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from kvstore.backoff import Backoff

T = TypeVar("T")
log = logging.getLogger(__name__)

_KEYS_LOGGED: Final = 20


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What became of a key; None stands for «absent»."""

    key: str
    old: T | None
    new: T | None


class Delivery(Generic[T]):
    """The subscribers of one view and what each has yet to be told."""

    def __init__(self, name: str, backoff: Backoff) -> None:
        self._name = name
        self._backoff = backoff
        self._changed = threading.Condition()
        self._subscriptions: list[_Subscription[T]] = []
        self._offered = 0
        self._delivered = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"delivery {name}", daemon=True)

    def subscribe(self, on_change: Callable[[Sequence[Change[T]]], None]) -> None:
        """Add a subscriber; it is told of what is offered from now on."""
        with self._changed:
            self._subscriptions.append(_Subscription(on_change))

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Deliver no more; waits for the call that runs, at most ``timeout_s``."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def offer(self, changes: Sequence[Change[T]], generation: int) -> None:
        """Queue changes for every subscriber; ``generation`` only grows and names this state of the view."""
        with self._changed:
            self._offered = generation
            for subscription in self._subscriptions:
                subscription.merge(changes)
            self._changed.notify_all()

    def wait(self, generation: int, timeout_s: float) -> bool:
        """Wait until every subscriber has taken all changes up to a generation."""
        with self._changed:
            return self._changed.wait_for(lambda: self._delivered >= generation, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._say_what_is_delivered()
                while not self._stopping and not (due := self._due()):
                    self._changed.wait(self._until_retry_s())
                    self._say_what_is_delivered()
                if self._stopping:
                    return
                generation = self._offered
                batches = [(subscription, subscription.take()) for subscription in due]
            for subscription, changes in batches:
                if self._deliver(subscription, changes):
                    subscription.reached = generation

    def _say_what_is_delivered(self) -> None:
        """Called between deliveries: what is not pending has been taken."""
        for subscription in self._subscriptions:
            if not subscription.pending:
                subscription.reached = self._offered
        reached = min((subscription.reached for subscription in self._subscriptions), default=self._offered)
        if reached != self._delivered:
            self._delivered = reached
            self._changed.notify_all()

    def _due(self) -> list[_Subscription[T]]:
        now = time.monotonic()
        return [each for each in self._subscriptions if each.pending and each.not_before <= now]

    def _until_retry_s(self) -> float | None:
        now = time.monotonic()
        waits = [max(0.0, each.not_before - now) for each in self._subscriptions if each.pending]
        return min(waits, default=None)

    def _deliver(self, subscription: _Subscription[T], changes: Sequence[Change[T]]) -> bool:
        try:
            subscription.on_change(changes)
        except Exception:
            with self._changed:
                subscription.failures += 1
                delay_s = self._backoff.delay_s(subscription.failures)
                subscription.not_before = time.monotonic() + delay_s
                subscription.give_back(changes)
            log.exception(
                "a subscriber failed, its changes will be given again",
                extra={
                    "view": self._name,
                    "keys": [change.key for change in changes[:_KEYS_LOGGED]],
                    "changes": len(changes),
                    "failures": subscription.failures,
                    "retry_in_s": round(delay_s, 3),
                },
            )
            return False
        subscription.failures = 0
        return True


class _Subscription(Generic[T]):
    def __init__(self, on_change: Callable[[Sequence[Change[T]]], None]) -> None:
        self.on_change = on_change
        self.pending: dict[str, Change[T]] = {}
        self.failures = 0
        self.not_before = 0.0
        self.reached = 0
        """All changes up to this generation were taken."""

    def merge(self, changes: Sequence[Change[T]]) -> None:
        """Add later changes to what is pending."""
        for one in changes:
            before = self.pending.pop(one.key, None)
            # Mostly there is none, and all subscribers hold the same change.
            change = one if before is None else Change(one.key, before.old, one.new)
            if change.old != change.new:
                self.pending[change.key] = change

    def take(self) -> Sequence[Change[T]]:
        """Hand out all that is pending."""
        changes = tuple(self.pending.values())
        self.pending = {}
        return changes

    def give_back(self, changes: Sequence[Change[T]]) -> None:
        """Take back what was not taken, before what came in meanwhile."""
        later = self.take()
        self.merge(changes)
        self.merge(later)
