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


class Client:
    """One connection to a worker."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.socket, served = socket.socketpair()
        self.socket.settimeout(WAIT_S)
        self.connection = TConn(service.worker.cfg, served, "", "/x.sock")

    def close(self) -> None:
        self.socket.close()

    def serve(self) -> Future[object]:
        """What gunicorn does when the connection has something to read."""
        return self._service.pool.submit(self._service.worker.handle, self.connection)

    def call(self) -> bytes:
        self.socket.sendall(CALL)
        return self.answer()

    def answer(self) -> bytes:
        received = b""
        while not received.endswith(b"\r\n\r\nok"):
            piece = self.socket.recv(4096)
            assert piece, received
            received += piece
        return received


class Service:
    """A worker of two threads, of which one may stay with a connection."""

    def __init__(self) -> None:
        config = Config()
        config.set("keepalive", 3600)
        config.set("threads", 2)
        self.threads: list[int] = []
        self.busy = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.worker: Any = LingeringWorker(0, 0, [], None, 1, config, Logger(config))
        self.worker.wsgi = self._answer
        self.pool = ThreadPoolExecutor(2)
        self._clients: list[Client] = []

    def close(self) -> None:
        self.go_on.set()
        for client in self._clients:
            client.close()
        self.pool.shutdown()
        for client in self._clients:
            client.connection.close()
        self.worker.tmp.close()

    def client(self) -> Client:
        made = Client(self)
        self._clients.append(made)
        return made

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.threads.append(threading.get_ident())
        self.busy.set()
        assert self.go_on.wait(WAIT_S)
        environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(gunicorn_worker, "_LINGER_MS", LONG_MS)
    with contextlib.closing(Service()) as made:
        yield made


@pytest.fixture
def client(service: Service) -> Client:
    return service.client()


def test_calls_one_after_the_other_are_answered_by_one_thread(service: Service, client: Client) -> None:
    handled = client.serve()

    for _ in range(3):
        client.call()

    assert len(set(service.threads)) == 1
    assert not handled.done()


def test_connection_without_calls_is_given_back_open(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunicorn_worker, "_LINGER_MS", SHORT_MS)
    handled = client.serve()

    client.call()

    assert handled.result(WAIT_S) is True
    again = client.serve()
    client.call()
    assert again.result(WAIT_S) is True


def test_connection_that_the_client_closes_is_closed(client: Client) -> None:
    handled = client.serve()
    client.call()

    client.socket.close()

    assert handled.result(WAIT_S) is False


def test_call_that_came_with_the_one_before_is_not_waited_for(service: Service, client: Client) -> None:
    handled = client.serve()

    client.socket.sendall(CALL + CALL)

    # gunicorn hands a connection with such a rest to a thread at once.
    assert handled.result(WAIT_S) is True
    assert client.connection.parser.unreader.buf.getvalue()
    client.answer()
    again = client.serve()
    client.answer()
    assert len(service.threads) == 2
    assert not again.done()


def test_no_thread_stays_in_a_worker_that_ends(service: Service, client: Client) -> None:
    service.worker.alive = False

    handled = client.serve()
    answer = client.call()

    assert b"Connection: close" in answer
    assert handled.result(WAIT_S) is False


def test_thread_that_stays_leaves_the_others_to_others_also_while_it_answers(service: Service, client: Client) -> None:
    stays, other = client.serve(), service.client()
    client.call()

    for _ in range(2):
        given_back = other.serve()
        other.call()
        assert given_back.result(WAIT_S) is True
    service.busy.clear()
    service.go_on.clear()
    client.socket.sendall(CALL)
    assert service.busy.wait(WAIT_S)
    given_back = other.serve()
    other.socket.sendall(CALL)
    service.go_on.set()
    client.answer()
    other.answer()

    assert given_back.result(WAIT_S) is True
    assert not stays.done()


def test_place_of_a_thread_that_stayed_is_for_another_connection(service: Service, client: Client) -> None:
    gone = client.serve()
    client.call()
    client.close()
    assert gone.result(WAIT_S) is False
    other = service.client()
    stays = other.serve()

    for _ in range(2):
        other.call()

    assert not stays.done()
