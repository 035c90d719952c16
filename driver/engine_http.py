"""GET requests to dockerd over its Unix socket: one answer, or lines without an end.

No SDK (ADR 0014): what is asked is few and small, has to be answered within milliseconds, and the stream of events
needs a time limit on silence, which the SDK's does not have.

Each request has a connection of its own, which costs 0.1 ms; dockerd makes a new socket whenever it starts.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias
from urllib.parse import urlencode

from model.errors import EngineUnavailable, NotFound

log = logging.getLogger(__name__)

Json: TypeAlias = object
"""What ``json.loads`` returns; read it with :class:`driver.fields.Fields`."""

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
_MIN_TIMEOUT_S: Final = 0.01
_CONNECT_TIMEOUT_S: Final = 5.0
_MESSAGE_MAX: Final = 200


class EngineHttp:
    """Asks dockerd.

    Every method raises:
        EngineUnavailable: it cannot be reached, did not answer in time, or refused.

    Args:
        path: the engine's socket; looked up at every request.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: str | None = None

    def get(self, target: str, query: Mapping[str, str] | None = None, *, timeout_s: float) -> Json:
        """Ask for one answer, within ``timeout_s`` altogether.

        Raises:
            NotFound: the engine does not have what ``target`` names.
        """
        return self._decoded(target, self.get_bytes(target, query, timeout_s=timeout_s))

    def get_bytes(self, target: str, query: Mapping[str, str] | None = None, *, timeout_s: float) -> bytes:
        """Ask as :meth:`get` does, and leave the answer as it is: JSON, if it is what the engine sends.

        Raises:
            NotFound: the engine does not have what ``target`` names.
        """
        ends = time.monotonic() + timeout_s
        with self._errors(), contextlib.closing(_Connection(self._path)) as connection:
            target = f"/v{self._served_version(ends)}{target}"
            response = connection.ask(target, query, timeout_s=_left_s(ends))
            body = response.read(ANSWER_BYTES_MAX + 1)
        if response.status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"the engine has no {target}: {_message(body)}")
        if response.status != HTTPStatus.OK:
            self._version = None  # it may have been asked in a version that another engine served
            raise EngineUnavailable(f"the engine answers {target} with {response.status}: {_message(body)}")
        if len(body) > ANSWER_BYTES_MAX:
            raise EngineUnavailable(f"the engine's answer to {target} has more than {ANSWER_BYTES_MAX} bytes")
        return body

    def lines(self, target: str, query: Mapping[str, str] | None = None, *, silence_s: float) -> Lines:
        """Ask for an answer that goes on; the lines end when nothing came for ``silence_s`` seconds."""
        with self._errors(), contextlib.ExitStack() as undo:
            connection = undo.enter_context(contextlib.closing(_Connection(self._path)))
            target = f"/v{self._served_version(time.monotonic() + _CONNECT_TIMEOUT_S)}{target}"
            response = connection.ask(target, query, timeout_s=_CONNECT_TIMEOUT_S)
            if response.status != HTTPStatus.OK:
                self._version = None
                raise EngineUnavailable(f"the engine answers {target} with {response.status}")
            undo.pop_all()
        return Lines(connection, response, silence_s=silence_s)

    def _served_version(self, ends: float) -> str:
        """The API version that the engine speaks; the newest it knows, because 29 refuses what 20.10 speaks."""
        if self._version is None:
            with contextlib.closing(_Connection(self._path)) as connection:
                response = connection.ask("/_ping", None, timeout_s=_left_s(ends))
                response.read(_MESSAGE_MAX)
            version = response.headers.get("Api-Version", "")
            if response.status != HTTPStatus.OK or not version.replace(".", "").isdigit():
                raise EngineUnavailable(f"the engine answers /_ping with {response.status} and no API version")
            self._version = version
        return self._version

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        if not self._path.is_socket():
            raise EngineUnavailable(f"there is no engine at {self._path}")
        try:
            yield
        except (OSError, http.client.HTTPException) as err:
            self._version = None
            raise EngineUnavailable(f"the engine at {self._path} does not answer: {_reason(err)}") from err

    def _decoded(self, target: str, body: bytes) -> Json:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as err:
            raise EngineUnavailable(f"the engine's answer to {target} is not JSON: {err}") from err


class Lines:
    """The lines of an answer that goes on. Iterate in one thread, :meth:`close` from any."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse, *, silence_s: float) -> None:
        self._connection = connection
        self._response = response
        self._closed = threading.Event()
        connection.channel.settimeout(silence_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        """Give line after line until :meth:`close`, or until there was silence for too long.

        A line that is too long to be kept is left out, with a line in the log.

        Raises:
            EngineUnavailable: the engine has ended the stream, or it broke.
        """
        too_long = False
        while not self._closed.is_set():
            try:
                line = self._response.readline(LINE_BYTES_MAX)
            except TimeoutError:
                return
            except (OSError, ValueError, http.client.HTTPException) as err:
                if self._closed.is_set():
                    return
                raise EngineUnavailable(f"the engine's stream broke: {_reason(err)}") from err
            if not line:
                break
            complete = line.endswith(b"\n")
            if not complete:
                log.warning("the engine sends a line that is too long", extra={"at_most_bytes": LINE_BYTES_MAX})
            elif not too_long:
                yield line
            too_long = not complete
        if not self._closed.is_set():
            raise EngineUnavailable("the engine has ended its stream")

    def close(self) -> None:
        """End the iteration, also one that waits in another thread. Idempotent."""
        self._closed.set()
        with contextlib.suppress(OSError):  # it may have ended already
            self._connection.channel.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker")
        self._path = path
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        """Stays known after the answer's head, unlike ``sock``."""

    def connect(self) -> None:
        self.channel.settimeout(self.timeout)
        self.channel.connect(str(self._path))
        self.sock = self.channel

    def ask(self, target: str, query: Mapping[str, str] | None, *, timeout_s: float) -> http.client.HTTPResponse:
        self.timeout = timeout_s
        self.request("GET", f"{target}?{urlencode(query)}" if query else target)
        return self.getresponse()

    def close(self) -> None:
        super().close()
        self.channel.close()


def _reason(err: Exception) -> str:
    return str(err) or type(err).__name__


def _left_s(ends: float) -> float:
    return max(ends - time.monotonic(), _MIN_TIMEOUT_S)


def _message(body: bytes) -> str:
    return body[:_MESSAGE_MAX].decode(errors="replace").strip()
