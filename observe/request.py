"""From an HTTP request to the question of a route; what is not understood is refused with a sentence."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from flask import Request
from werkzeug.exceptions import LengthRequired

from model.errors import Fault, InvalidDocument, InvalidInput, ProtocolError
from observe.route import Asking, Route

MAX_BODY_BYTES: Final = 1024 * 1024
"""Of policy documents; more than thousand policies of usual size."""


def read_question(route: Route, request: Request, path_arguments: dict[str, str]) -> Any:
    """Read what the route asks for.

    Raises:
        InvalidInput: a parameter or a field is missing, unknown, given twice or of the wrong type.
        InvalidDocument: the body is no text.
        LengthRequired, RequestEntityTooLarge: HTTP's own.
    """
    if route.asking is not Asking.PARAMETERS and request.args:
        raise InvalidInput(f"there are no parameters here, not even {min(request.args)!r}")
    match route.asking:
        case Asking.NOTHING:
            return None
        case Asking.TEXT:
            return _text(_body(request))
        case Asking.JSON:
            return _json(_body(request), route.question)
        case Asking.PARAMETERS:
            return _parameters(request, path_arguments, route.question)


def _body(request: Request) -> bytes:
    # Half a document can be a valid one. Of a body whose size is not said, or whose sender has gone, WSGI does not tell
    # the end from the whole.
    if request.content_length is None:
        raise LengthRequired
    body = request.get_data(cache=False)
    if len(body) != request.content_length:
        raise ProtocolError(f"the body ended after {len(body)} of {request.content_length} bytes")
    return body


def _parameters(request: Request, path_arguments: dict[str, str], kind: type[msgspec.Struct] | None) -> object:
    for name, values in request.args.lists():
        if len(values) > 1 or name in path_arguments:
            raise InvalidInput(f"the parameter {name!r} is there twice")
    try:
        return msgspec.convert({**request.args, **path_arguments}, kind, strict=False)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"the parameters are not right: {err}") from err


def _json(body: bytes, kind: type[msgspec.Struct] | None) -> object:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ProtocolError(f"the body is not right: {err}") from err


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as err:
        raise InvalidDocument([Fault("", f"is not UTF-8: byte {err.start} cannot be read")]) from err
