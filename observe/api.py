"""The agent's own API: HTTP and JSON on the agent's socket, for the operator's command.

State is read with GET. Policies are changed, checked and traced with POST; nothing else can be changed. An error
answers ``{"error": "<sentence>"}``, and a refused policy document the path of each fault too. 503 means that the store
has not answered and the request may be repeated; what this node knows without the store is still answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, LengthRequired, MethodNotAllowed, NotFound, RequestEntityTooLarge

from model import errors
from model.deadline import deadline
from model.errors import HawseError, InvalidDocument
from observe.document import ErrorDocument
from observe.flow_ring import FlowLog
from observe.flow_routes import FLOWS_PATH, flow_view
from observe.policy_describe import refusal
from observe.request import MAX_BODY_BYTES, read_question
from observe.route import Route
from observe.routes import ROUTES
from observe.state import AgentState

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 8.0
"""Shorter than the command's own patience (10 s), so that the operator gets the reason and not only silence."""

_STATUS: Final = (
    (errors.InvalidInput, HTTPStatus.BAD_REQUEST),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.Conflict, HTTPStatus.CONFLICT),
    (errors.StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.DeadlineExceeded, HTTPStatus.SERVICE_UNAVAILABLE),
    # The agent works, and the same request will not fit later either: neither 500 nor 503 would say so.
    (errors.Exhausted, HTTPStatus.INSUFFICIENT_STORAGE),
)
"""The first that matches; anything else on purpose is 500."""


def create_agent_app(state: AgentState, flows: FlowLog | None = None) -> Flask:
    """Make the application that gunicorn serves on the agent's socket; without flows it has no ``/v1/flows``."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # A name with two slashes is a wrong name, not another way to write a right one.
    app.url_map.merge_slashes = False
    for route in ROUTES:
        app.add_url_rule(
            _rule(route.path),
            endpoint=f"{route.method} {route.path}",
            view_func=_view(route, state),
            methods=[route.method],
        )
    if flows is not None:
        app.add_url_rule(FLOWS_PATH, endpoint=f"GET {FLOWS_PATH}", view_func=flow_view(flows), methods=["GET"])
    app.register_error_handler(HawseError, _known_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unknown_error)
    return app


def _rule(path: str) -> str:
    """Write a path as Flask does."""
    return path.replace("{", "<path:").replace("}", ">")


def _view(route: Route, state: AgentState) -> Callable[..., Response]:
    def answer(**path_arguments: str) -> Response:
        with deadline(ANSWER_WITHIN_S):
            question = read_question(route, request, path_arguments)
            return _json(route.answer(state, question), HTTPStatus.OK)

    return answer


def _known_error(error: HawseError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    # What the operator can put right is told the operator; the log is for what the agent could not do.
    level = logging.INFO if status < HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING
    log.log(level, "request not answered", extra={"error": str(error), "status": int(status)})
    if isinstance(error, InvalidDocument):
        return _json(refusal(error), status)
    return _json(ErrorDocument(error=str(error)), status)


def _http_error(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, NotFound):
        paths = ", ".join(dict.fromkeys([*(route.path for route in ROUTES), FLOWS_PATH]))
        return _json(ErrorDocument(error=f"there is no such path; there are {paths}"), status)
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        answer = _json(ErrorDocument(error=f"{request.method} is not possible here: use {methods}"), status)
        answer.headers["Allow"] = methods
        return answer
    if isinstance(error, RequestEntityTooLarge):
        sentence = f"the body is larger than {MAX_BODY_BYTES} bytes: apply its policies in several documents"
        return _json(ErrorDocument(error=sentence), status)
    if isinstance(error, LengthRequired):
        return _json(ErrorDocument(error="the header Content-Length is missing"), status)
    return _json(ErrorDocument(error=f"{error.name}: {error.description}"), status)


def _unknown_error(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    sentence = "the agent failed on this request; its log says why (journalctl -u docker)"
    return _json(ErrorDocument(error=sentence), HTTPStatus.INTERNAL_SERVER_ERROR)


def _json(document: object, status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode(document), status=status, mimetype="application/json")
