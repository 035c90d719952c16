from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from cli import client, documents
from cli.client import AgentClient, AgentFailed, AgentUnreachable
from model.errors import StoreUnavailable
from observe.api import create_agent_app
from tests.support.agent_state import FixedAgentState
from tests.support.unix_server import sends, serve_application, serve_connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


def _ask(path: Path, timeout_s: float = 5.0) -> documents.Nodes:
    return AgentClient(str(path), timeout_s=timeout_s).get("/v1/nodes", documents.Nodes)


def test_document_comes_over_the_socket(path: Path) -> None:
    with serve_application(create_agent_app(FixedAgentState()), path):
        answer = _ask(path)

    assert [node["name"] for node in answer["nodes"]] == ["alpha", "beta"]


def test_agents_reason_is_handed_on(path: Path) -> None:
    state = FixedAgentState()
    state.store_error = StoreUnavailable("etcd at http://127.0.0.1:2379 cannot be reached")

    with serve_application(create_agent_app(state), path), pytest.raises(AgentFailed) as caught:
        _ask(path)

    assert str(caught.value) == ("The hawse agent could not answer: etcd at http://127.0.0.1:2379 cannot be reached")


def _nothing(_path: Path) -> None:
    pass


def _regular_file(path: Path) -> None:
    path.write_text("")


def _stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [_nothing, _regular_file, _stale_socket])
def test_socket_without_an_agent_is_one_sentence(path: Path, make: object) -> None:
    assert callable(make)
    make(path)

    with pytest.raises(AgentUnreachable) as caught:
        _ask(path)

    assert str(caught.value) == f"The hawse agent does not answer at {path}: is the plugin enabled? docker plugin ls"


def test_path_that_no_socket_can_have_is_one_sentence(path: Path) -> None:
    with pytest.raises(AgentUnreachable, match=r"cannot be used as a socket: .*too long"):
        _ask(path / ("x" * 120))


@pytest.mark.parametrize(
    ("payload", "error", "sentence"),
    [
        (b"", AgentUnreachable, "does not answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", AgentFailed, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", AgentFailed, "status 200 and no JSON"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\n<p>", AgentFailed, "status 502 and no JSON"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", AgentFailed, "status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", AgentFailed, "no 'nodes'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", AgentUnreachable, "in the middle of its answer"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            AgentUnreachable,
            "in the middle of its answer",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200000, AgentFailed, "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff", AgentFailed, "no JSON"),
    ],
    ids=["nothing", "ssh", "text", "proxy", "no reason", "other", "cut", "cut chunk", "deep", "not UTF-8"],
)
def test_what_is_not_an_answer_is_one_sentence(
    path: Path, payload: bytes, error: type[Exception], sentence: str
) -> None:
    with serve_connection(sends(payload), path), pytest.raises(error, match=sentence):
        _ask(path)


def test_silent_agent_ends_with_the_timeout(path: Path) -> None:
    def keep_silent(_channel: socket.socket, over: threading.Event) -> None:
        over.wait()

    with serve_connection(keep_silent, path), pytest.raises(AgentUnreachable, match=r"within 0\.2 seconds"):
        _ask(path, timeout_s=0.2)


def test_dripping_agent_ends_with_the_timeout(path: Path) -> None:
    def drip(channel: socket.socket, over: threading.Event) -> None:
        channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            channel.sendall(b"x")

    with serve_connection(drip, path), pytest.raises(AgentUnreachable, match=r"within 0\.3 seconds"):
        _ask(path, timeout_s=0.3)


def test_answer_larger_than_the_limit_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1000)
    payload = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000

    with serve_connection(sends(payload), path), pytest.raises(AgentFailed, match="larger than 1000 bytes"):
        _ask(path)
