"""A thread stays with a connection while calls keep coming, and gives it back when they do not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn

from plugin import gunicorn_worker
from plugin.gunicorn_worker import LingeringWorker

CALL = b"POST /call HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
WAIT_S = 10
LONG_MS = 5_000
SHORT_MS = 1


class Service:
    """A worker and one client of it."""

    def __init__(self) -> None:
        config = Config()
        config.set("keepalive", 3600)
        self.threads: list[int] = []
        self.worker: Any = LingeringWorker(0, 0, [], None, 1, config, Logger(config))
        self.worker.wsgi = self._answer
        self.client, served = socket.socketpair()
        self.client.settimeout(WAIT_S)
        self.connection = TConn(config, served, "", "/x.sock")
        self._pool = ThreadPoolExecutor(2)

    def close(self) -> None:
        self.client.close()
        self._pool.shutdown()
        self.connection.close()
        self.worker.tmp.close()

    def serve(self) -> Future[object]:
        """What gunicorn does when the connection has something to read."""
        return self._pool.submit(self.worker.handle, self.connection)

    def call(self) -> bytes:
        self.client.sendall(CALL)
        return self.answer()

    def answer(self) -> bytes:
        received = b""
        while not received.endswith(b"\r\n\r\nok"):
            piece = self.client.recv(4096)
            assert piece, received
            received += piece
        return received

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.threads.append(threading.get_ident())
        environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(gunicorn_worker, "_LINGER_MS", LONG_MS)
    with contextlib.closing(Service()) as made:
        yield made


def test_calls_one_after_the_other_are_answered_by_one_thread(service: Service) -> None:
    handled = service.serve()

    for _ in range(3):
        service.call()

    assert len(set(service.threads)) == 1
    assert not handled.done()


def test_connection_without_calls_is_given_back_open(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunicorn_worker, "_LINGER_MS", SHORT_MS)
    handled = service.serve()

    service.call()

    assert handled.result(WAIT_S) is True
    again = service.serve()
    service.call()
    assert again.result(WAIT_S) is True


def test_connection_that_the_client_closes_is_closed(service: Service) -> None:
    handled = service.serve()
    service.call()

    service.client.close()

    assert handled.result(WAIT_S) is False


def test_call_that_came_with_the_one_before_is_not_waited_for(service: Service) -> None:
    handled = service.serve()

    service.client.sendall(CALL + CALL)

    # gunicorn hands a connection with such a rest to a thread at once.
    assert handled.result(WAIT_S) is True
    assert service.connection.parser.unreader.buf.getvalue()
    again = service.serve()
    service.answer()
    assert len(service.threads) == 2
    assert not again.done()


def test_no_thread_stays_in_a_worker_that_ends(service: Service) -> None:
    service.worker.alive = False

    handled = service.serve()
    answer = service.call()

    assert b"Connection: close" in answer
    assert handled.result(WAIT_S) is False


def test_half_of_the_threads_are_left_for_others(service: Service) -> None:
    while service.worker._places.acquire(blocking=False):
        pass
    handled = service.serve()

    service.call()

    assert handled.result(WAIT_S) is True
    service.worker._places.release()
