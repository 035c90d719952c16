"""Which application answers, and what is said while the settings are wrong."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from plugin.app import BySocket, application
from plugin.recovery import begin_again_when
from plugin.refusal import refusing_applications
from plugin.settings import PLUGIN_SOCKET


class Connection:
    def __init__(self, path: str) -> None:
        self._path = path

    def getsockname(self) -> str:
        return self._path


def answering(text: bytes) -> Any:
    return lambda _environ, _start_response: [text]


@pytest.mark.parametrize(("path", "expected"), [("/a.sock", b"docker"), ("/b.sock", b"operator")])
def test_the_socket_decides_who_answers(path: str, expected: bytes) -> None:
    application = BySocket({"/a.sock": answering(b"docker"), "/b.sock": answering(b"operator")})

    answer = application({"gunicorn.socket": Connection(path)}, lambda *_: None)

    assert list(answer) == [expected]


def test_wrong_settings_let_the_driver_register_and_refuse_every_other_call_with_the_reason() -> None:
    driver, _ = refusing_applications("hawse is not configured right: MTU='x': must be a number")
    client = driver.test_client()

    assert client.post("/NetworkDriver.GetCapabilities").status_code == 200
    assert client.post("/IpamDriver.GetDefaultAddressSpaces").status_code == 200
    answer = client.post("/IpamDriver.RequestPool", json={"AddressSpace": "hawse-local", "Pool": "10.1.0.0/24"})
    assert answer.status_code == 500
    body = answer.get_json(force=True)
    assert body["Err"] == body["Error"]
    assert "MTU='x'" in body["Err"]


def test_wrong_settings_are_told_to_the_operator_too() -> None:
    _, operator = refusing_applications("hawse is not configured right: MTU='x': must be a number")

    answer = operator.test_client().get("/v1/status")

    assert answer.status_code == 500
    assert "MTU='x'" in answer.get_json()["error"]


def test_what_was_missing_at_the_start_ends_the_worker_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    answers = iter([False, False, True])
    monkeypatch.setattr("os.kill", lambda pid, number: ended.append((pid, number)))

    begin_again_when(lambda: next(answers), look_every_s=0.001).join(5)

    assert ended == [(os.getpid(), signal.SIGTERM)]


def test_a_host_without_underlay_gets_the_reason_and_not_a_dead_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NODE_IP": "203.0.113.77", "STATE_DIR": "/nonexistent", "SCOPE": "local"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.kill", lambda *_: None)

    served = application()

    assert served.agent is None
    sent: list[bytes] = []
    answer = served(
        {
            **EnvironBuilder(
                path="/IpamDriver.RequestPool",
                method="POST",
                json={"AddressSpace": "hawse-local", "Pool": "10.1.0.0/24"},
            ).get_environ(),
            "gunicorn.socket": Connection(str(PLUGIN_SOCKET)),
        },
        lambda *_: sent.append,
    )
    assert b"NODE_IP 203.0.113.77: no interface of this host has this address" in b"".join(answer)
