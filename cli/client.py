"""HTTP over the agent's Unix socket: one request, one answer, bounded in time and size."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from http import HTTPStatus
from typing import Final, TypeVar

from cli.documents import Mismatch, conform

Document = TypeVar("Document")

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""About half a million endpoints; more than that is not the agent speaking."""
_CHUNK_BYTES: Final = 1024 * 1024


class ClientError(Exception):
    """A request failed; the message is the sentence for the operator."""


class AgentUnreachable(ClientError):
    """Nothing that answers is at the socket."""


class AgentForbidden(AgentUnreachable):
    """The socket may not be used; waiting does not help."""


class AgentFailed(ClientError):
    """The agent answered that it could not do it, or something that cannot be understood."""


class AgentClient:
    """Asks one agent. Every :meth:`get` is a connection of its own."""

    def __init__(self, socket_path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def get(self, path: str, kind: type[Document]) -> Document:
        """Ask for a document.

        Raises:
            AgentUnreachable: no socket, nobody listens, no permission, or no whole answer in time.
            AgentFailed: an error, or an answer that is not a document of this kind.
        """
        try:
            status, body = self._exchange(path)
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
        return self._read(status, body, kind)

    def _exchange(self, path: str) -> tuple[int, bytes]:
        ends = time.monotonic() + self._timeout_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(self._timeout_s)
            channel.connect(os.fsencode(self._path))
            connection = http.client.HTTPConnection("hawse")
            connection.sock = channel
            connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
            with connection.getresponse() as response:
                return response.status, self._body(response, channel, ends)

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

    def _read(self, status: int, body: bytes, kind: type[Document]) -> Document:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as err:
            raise AgentFailed(
                f"What listens at {self._path} answered with status {status} and no JSON: is it the hawse agent?"
            ) from err
        if status != HTTPStatus.OK:
            reason = answer.get("error") if isinstance(answer, dict) else None
            raise AgentFailed(f"The hawse agent could not answer: {reason or f'status {status}'}")
        try:
            return conform(answer, kind)
        except Mismatch as err:
            raise AgentFailed(
                f"The agent's answer is not understood ({err}): "
                "are agent and command of the same version? hawse status, hawse --version"
            ) from err
