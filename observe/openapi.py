"""The OpenAPI description of the agent's API, made from its routes and documents."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from observe.document import ErrorDocument
from observe.routes import ROUTES, Route

VERSION: Final = "1.0"
"""Of the API, not of hawse: raised when fields are added."""

_SCHEMAS: Final = "#/components/schemas/"


def describe_api() -> dict[str, Any]:
    """Make the description: OpenAPI 3.1, ready for :func:`json.dumps`."""
    documents: list[type[object]] = [ErrorDocument, *(route.document for route in ROUTES)]
    _, schemas = msgspec.json.schema_components(documents, ref_template=_SCHEMAS + "{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hawse agent",
            "version": VERSION,
            "description": "Read-only state of one node and of the cluster, on the Unix socket /run/hawse/agent.sock. "
            "Field names are stable; fields may be added.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {route.path: {"get": _operation(route)} for route in ROUTES},
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _operation(route: Route) -> dict[str, Any]:
    return {
        "operationId": route.path.rpartition("/")[2],
        "summary": route.summary,
        "responses": {
            "200": _answer("The answer.", route.document),
            "500": _answer("The agent or the kernel failed.", ErrorDocument),
            "503": _answer("The store did not answer; the request may be repeated.", ErrorDocument),
        },
    }


def _answer(description: str, document: type[object]) -> dict[str, Any]:
    schema = {"$ref": _SCHEMAS + document.__name__}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
