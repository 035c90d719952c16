"""Which application answers, and what is said while the settings are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from plugin.app import BySocket
from plugin.refusal import refusing_applications


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
