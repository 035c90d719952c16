"""The agent's own API: HTTP and JSON on the agent's socket, read only, for the operator's command.

An error answers ``{"error": "<sentence>"}``. 503 means that the store has not answered and the request may be repeated;
what this node knows without the store is still answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from model.deadline import deadline
from model.errors import DeadlineExceeded, HawseError, StoreError
from observe.document import ErrorDocument
from observe.routes import ROUTES, Route
from observe.state import AgentState

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 8.0
"""Shorter than the command's own patience (10 s), so that the operator gets the reason and not only silence."""


def create_agent_app(state: AgentState) -> Flask:
    """Make the application that gunicorn serves on the agent's socket."""
    app = Flask(__name__, static_folder=None)
    for route in ROUTES:
        app.add_url_rule(route.path, endpoint=route.path, view_func=_view(route, state), methods=["GET"])
    app.register_error_handler(HawseError, _known_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unknown_error)
    return app


def _view(route: Route, state: AgentState) -> Callable[[], Response]:
    def answer() -> Response:
        with deadline(ANSWER_WITHIN_S):
            return _json(route.describe(state), HTTPStatus.OK)

    return answer


def _known_error(error: HawseError) -> Response:
    waiting = isinstance(error, StoreError | DeadlineExceeded)
    status = HTTPStatus.SERVICE_UNAVAILABLE if waiting else HTTPStatus.INTERNAL_SERVER_ERROR
    log.warning("request not answered", extra={"error": str(error), "status": int(status)})
    return _json(ErrorDocument(error=str(error)), status)


def _http_error(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, NotFound):
        paths = ", ".join(route.path for route in ROUTES)
        return _json(ErrorDocument(error=f"there is no such path; there are {paths}"), status)
    if isinstance(error, MethodNotAllowed):
        answer = _json(ErrorDocument(error="this API can only be read: use GET"), status)
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return answer
    return _json(ErrorDocument(error=f"{error.name}: {error.description}"), status)


def _unknown_error(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    sentence = "the agent failed on this request; its log says why (journalctl -u docker)"
    return _json(ErrorDocument(error=sentence), HTTPStatus.INTERNAL_SERVER_ERROR)


def _json(document: object, status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode(document), status=status, mimetype="application/json")
