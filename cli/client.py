"""HTTP over the agent's Unix socket: one request, one answer, bounded in time and size."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypedDict, TypeVar

from cli.conform import Mismatch, conform
from cli.policy_documents import Fault

Document = TypeVar("Document")

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""About half a million endpoints; more than that is not the agent speaking."""
_CHUNK_BYTES: Final = 1024 * 1024
_LINES_TYPE: Final = "application/x-ndjson"
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")
"""What JSON writes as an escape, but for the end of a line."""
_OTHER_VERSION: Final = "are agent and command of the same version? hawse status, hawse --version"


_REFUSALS: Final = frozenset({
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.INSUFFICIENT_STORAGE,
})  # fmt: skip


class _Refusal(TypedDict):
    """A refused policy document."""

    error: str
    faults: list[Fault]


class ClientError(Exception):
    """A request failed; the message is the sentence for the operator."""


class AgentUnreachable(ClientError):
    """Nothing that answers is at the socket."""


class AgentForbidden(AgentUnreachable):
    """The socket may not be used; waiting does not help."""


class AgentFailed(ClientError):
    """The agent answered that it could not do it, or something that cannot be understood."""


class AgentWaits(AgentFailed):
    """The agent waits for the store itself; the request may be repeated."""


class AgentRefused(AgentFailed):
    """The agent does not do what was asked, and says why.

    ``faults`` are those of a policy document, each with its path (empty: the document as a whole) and a message.
    """

    def __init__(self, reason: str, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(reason)
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    media_type: str
    body: bytes


class AgentClient:
    """Asks one agent. Every request is a connection of its own."""

    def __init__(self, socket_path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def get(self, path: str, kind: type[Document]) -> Document:
        """Ask for a document.

        Raises:
            AgentUnreachable: no socket, nobody listens, no permission, or no whole answer in time.
            AgentRefused: the agent refuses the request.
            AgentWaits: it cannot answer now.
            AgentFailed: another error, or an answer that is not a document of this kind.
        """
        return self._read(self._ask("GET", path, None, {}).body, kind)

    def get_lines(self, path: str, end: type[Document]) -> tuple[str, Document]:
        """Ask for one object a line: the lines, which are not looked into, and the last one, a document.

        Raises:
            ClientError: one of those that :meth:`get` raises.
        """
        answer = self._ask("GET", path, None, {"Accept": _LINES_TYPE})
        if answer.media_type != _LINES_TYPE or not answer.body.endswith(b"\n") or _CONTROL.search(answer.body):
            raise AgentFailed(f"The agent's answer is not understood (no lines): {_OTHER_VERSION}")
        last = answer.body.rfind(b"\n", 0, -1) + 1
        try:
            lines = answer.body[:last].decode()
        except UnicodeDecodeError as err:
            raise AgentFailed(f"The agent's answer is not understood (no text): {_OTHER_VERSION}") from err
        return lines, self._read(answer.body[last:], end)

    def post(self, path: str, question: object, kind: type[Document]) -> Document:
        """Ask with a JSON body; raises what :meth:`get` raises."""
        body = json.dumps(question).encode()
        return self._read(self._ask("POST", path, body, {"Content-Type": "application/json"}).body, kind)

    def post_text(self, path: str, text: bytes, kind: type[Document]) -> Document:
        """Ask with a policy document; raises what :meth:`get` raises."""
        return self._read(self._ask("POST", path, text, {"Content-Type": "application/yaml"}).body, kind)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """Ask, and raise what the agent refuses or cannot do."""
        try:
            answer = self._exchange(method, path, body, headers)
        except PermissionError as err:
            raise AgentForbidden(f"No permission to use {self._path}: run hawse as root") from err
        except TimeoutError as err:
            raise AgentUnreachable(
                f"The hawse agent did not answer at {self._path} within {self._timeout_s:g} seconds; "
                "its log says what it waits for: journalctl -u docker"
            ) from err
        except (FileNotFoundError, ConnectionError) as err:
            raise AgentUnreachable(
                f"The hawse agent does not answer at {self._path}: is the plugin enabled? docker plugin ls"
            ) from err
        except OSError as err:
            raise AgentUnreachable(f"{self._path} cannot be used as a socket: {err.strerror or err}") from err
        except http.client.IncompleteRead as err:
            raise AgentUnreachable(
                f"The hawse agent at {self._path} went away in the middle of its answer; run the command again"
            ) from err
        except http.client.HTTPException as err:
            raise AgentFailed(f"What listens at {self._path} does not speak HTTP: is it the hawse agent?") from err
        if answer.status != HTTPStatus.OK:
            raise _failure(answer.status, self._decode(answer.status, answer.body))
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        ends = time.monotonic() + self._timeout_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(self._timeout_s)
            channel.connect(os.fsencode(self._path))
            connection = http.client.HTTPConnection("hawse")
            connection.sock = channel
            common = {"Accept": "application/json", "Connection": "close"}
            connection.request(method, path, body=body, headers={**common, **headers})
            with connection.getresponse() as response:
                media_type = response.headers.get_content_type()
                return _Answer(response.status, media_type, self._body(response, channel, ends))

    def _body(self, response: http.client.HTTPResponse, channel: socket.socket, ends: float) -> bytes:
        body = bytearray()
        while True:
            # The socket's own timeout is for one read; a server that drips must not hold the command for ever.
            left_s = ends - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            channel.settimeout(left_s)
            chunk = response.read1(_CHUNK_BYTES)
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise AgentFailed(f"The answer at {self._path} is larger than {MAX_ANSWER_BYTES} bytes")
            if not chunk:
                if response.length:
                    # read1 takes an early end for the end.
                    raise http.client.IncompleteRead(bytes(body), response.length)
                return bytes(body)

    def _read(self, body: bytes, kind: type[Document]) -> Document:
        document = self._decode(HTTPStatus.OK, body)
        try:
            return conform(document, kind)
        except Mismatch as err:
            raise AgentFailed(f"The agent's answer is not understood ({err}): {_OTHER_VERSION}") from err

    def _decode(self, status: int, body: bytes) -> object:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as err:
            raise AgentFailed(
                f"What listens at {self._path} answered with status {int(status)} and no JSON: is it the hawse agent?"
            ) from err


def _failure(status: int, answer: object) -> AgentFailed:
    reason = answer.get("error") if isinstance(answer, dict) else None
    if status in _REFUSALS and isinstance(reason, str):
        try:
            faults = conform(answer, _Refusal)["faults"]
        except Mismatch:
            faults = []
        return AgentRefused(reason, [(fault["path"], fault["message"]) for fault in faults])
    sentence = f"The hawse agent could not answer: {reason or f'status {status}'}"
    return AgentWaits(sentence) if status == HTTPStatus.SERVICE_UNAVAILABLE else AgentFailed(sentence)
