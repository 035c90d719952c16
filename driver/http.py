"""From HTTP to a use case and back: bodies, deadlines, and the one table from error type to status.

1. A view reads the body, builds the request, calls the use case and writes the answer; each of these inside the
   handler's deadline, because dockerd may wait without any limit.
2. Every failure has the body ``{"Err": m, "Error": m}``: NetworkDriver calls read ``Err``, IpamDriver calls ``Error``.
3. The status of a failure is 400 or 500. 404 means «this method does not exist» to libnetwork, which reports
   **success** to the user for some methods then; so it is answered for an unknown URL and for nothing else.

Source: https://github.com/moby/moby/blob/docker-v29.7.2/pkg/plugins/client.go (callWithRetry, IsNotFound).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol, Self, TypeVar

import msgspec
from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from driver.fields import Fields
from driver.protocol import Answer, Json
from model.deadline import deadline
from model.errors import HawseError, InvalidInput, ProtocolError

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/vnd.docker.plugins.v1.2+json"
"""What the engine asks for in ``Accept``; it sends no Content-Type itself and reads none."""

MAX_BODY_BYTES: Final = 1 << 20
MAX_DISCARDED_BYTES: Final = 64 << 20
"""How much of a body that is too large is still read before the connection is given up."""
_PIECE_BYTES: Final = 1 << 16
HANDLER_TIMEOUT_S: Final = 10.0

_STATUS: Final[tuple[tuple[type[HawseError], HTTPStatus], ...]] = (
    (ProtocolError, HTTPStatus.BAD_REQUEST),
    (HawseError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""The first row that fits decides."""

_HTTP_MESSAGE: Final = {
    HTTPStatus.NOT_FOUND: "hawse has no method {path}",
    HTTPStatus.METHOD_NOT_ALLOWED: "{path} is called with POST, not {method}",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        f"the request body is larger than {MAX_BODY_BYTES} bytes; give fewer or shorter options"
    ),
}


class Message(Protocol):
    """A request that can be read from JSON."""

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read the fields; ProtocolError when they are not right."""
        ...


M = TypeVar("M", bound=Message)


def answer(body: Json, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Write an answer; never an empty body, which the engine takes for a failure."""
    return Response(msgspec.json.encode(body), status=status, content_type=CONTENT_TYPE)


def failure(message: str, status: HTTPStatus) -> Response:
    """Write a failure in the form that both kinds of driver calls understand."""
    return answer({"Err": message, "Error": message}, status)


def add_constant(routes: Blueprint, method: str, constant: Answer) -> None:
    """Serve a method without arguments whose answer depends on nothing, whatever the body says."""

    def view() -> Response:
        return answer(constant.as_json())

    _add(routes, method, view)


def add_call(routes: Blueprint, method: str, message: type[M], use_case: Callable[[M], Answer]) -> None:
    """Serve a method: parse, call, answer."""

    def view() -> Response:
        with deadline(HANDLER_TIMEOUT_S):
            return answer(use_case(message.read(Fields.of_body(_body()))).as_json())

    _add(routes, method, view)


def handle_errors(app: Flask) -> None:
    """Turn every exception of the app into an answer, and log it once."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.register_error_handler(HawseError, _on_purpose)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _add(routes: Blueprint, method: str, view: Callable[[], Response]) -> None:
    routes.add_url_rule(
        f"/{method}",
        # A dot separates blueprint and endpoint in Flask's own names.
        endpoint=method.replace(".", "_"),
        view_func=view,
        methods=["POST"],
        provide_automatic_options=False,
    )


def _body() -> bytes:
    """Read the body without a look at Content-Type, which the engine does not send."""
    return request.get_data(cache=False)


def _on_purpose(error: HawseError) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    # What a user asked for wrongly is no trouble of this host.
    level = logging.INFO if isinstance(error, InvalidInput) else logging.WARNING
    log.log(level, "request refused", extra={"call": request.path, "error": type(error).__name__, "reason": str(error)})
    return failure(str(error), status)


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    message = _HTTP_MESSAGE.get(status, "{path}: " + status.description.lower())
    if isinstance(error, RequestEntityTooLarge):
        _discard_body()
    log.info("request not understood", extra={"call": request.path, "status": int(status)})
    return failure(message.format(path=request.path, method=request.method), status)


def _discard_body() -> None:
    """Read a body that is too large without keeping it.

    A client that is still sending when the connection is closed sees a broken pipe instead of the answer.
    """
    stream = request.environ["wsgi.input"]
    read_bytes = 0
    while read_bytes < MAX_DISCARDED_BYTES and (piece := stream.read(_PIECE_BYTES)):
        read_bytes += len(piece)


def _unexpected(error: Exception) -> Response:
    log.error("request failed unexpectedly", extra={"call": request.path}, exc_info=error)
    return failure(
        f"hawse failed at {request.path} in a way that it should not; the plugin's log has the details "
        "(journalctl -u docker, or the engine's log)",
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
