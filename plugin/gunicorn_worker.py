"""gunicorn's worker of threads, but a thread that has answered waits a moment for the next call of its connection.

The engine makes the calls of a container one right after the other on one connection. gunicorn gives a connection back
to its main thread after every answer; that waits for all connections and hands the one with a call to a thread again.
So three threads take turns for one call, each when the interpreter lets it.
"""

from __future__ import annotations

import select
import threading
from typing import Final

from gunicorn.workers.gthread import TConn, ThreadWorker

_LINGER_MS: Final = 100
"""Longer than the engine takes from one call of a container to the next. As much longer may a worker take to end."""


class LingeringWorker(ThreadWorker):  # type: ignore[misc] # gunicorn is untyped
    """Serves a connection on one thread for as long as calls keep coming.

    At most half of the threads stay with connections, also while they answer: the others serve all other connections in
    turn, however many keep calling.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._places = threading.Semaphore(self.cfg.threads // 2)

    def handle(self, conn: TConn) -> object:
        """Answer a call and those that follow closely; true when the connection stays open."""
        kept: object = super().handle(conn)
        if kept is not True or not self._places.acquire(blocking=False):
            return kept
        try:
            while kept is True and self._has_more(conn):
                kept = super().handle(conn)
        finally:
            self._places.release()
        return kept

    def _has_more(self, conn: TConn) -> bool:
        """Wait a moment for the next call; never when the worker is to end."""
        # What was read together with the last call does not make the socket readable again.
        if not self.alive or conn.parser.unreader.buf.getvalue():
            return False
        readable = select.poll()
        readable.register(conn.sock, select.POLLIN)
        return bool(readable.poll(_LINGER_MS))
