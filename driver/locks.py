"""One lock for each thing that is being worked on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from model.deadline import remaining_s
from model.errors import DeadlineExceeded

_MAX_WAIT_S = 10.0


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class KeyedLocks:
    """Locks by key; a key costs memory only while someone holds or wants it.

    They order repeated and crossing calls for one id on this host. That a write does not clash with another host's is
    the store's work, never a lock's.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Hold the lock of ``key`` inside the block.

        Raises:
            DeadlineExceeded: another call held it for as long as this one could wait.
        """
        with self._guard:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            if not entry.lock.acquire(timeout=remaining_s(_MAX_WAIT_S)):
                raise DeadlineExceeded(f"another call for {key} is still running; this one may be repeated")
            try:
                yield
            finally:
                entry.lock.release()
        finally:
            with self._guard:
                entry.users -= 1
                if entry.users == 0:
                    del self._entries[key]
