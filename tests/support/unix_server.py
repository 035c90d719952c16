"""Servers on a Unix socket for tests of clients: a real WSGI server, and one that sends fixed bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextlib.contextmanager
def serve_application(application: WSGIApplication, path: Path) -> Iterator[Path]:
    """Serve a WSGI application at ``path`` while the block runs."""
    server = make_server(f"unix://{path}", 0, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def serve_connection(answer: Callable[[socket.socket, threading.Event], None], path: Path) -> Iterator[Path]:
    """Accept one connection at ``path``, read the request, let ``answer`` do the rest.

    ``answer`` gets an event that says that the test is over.
    """
    over = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                channel, _ = listener.accept()
                with channel:
                    channel.recv(65536)
                    answer(channel, over)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            # Wakes accept() when nobody has connected.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def sends(payload: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Make an ``answer`` that sends these bytes and closes."""

    def answer(channel: socket.socket, _over: threading.Event) -> None:
        channel.sendall(payload)

    return answer
