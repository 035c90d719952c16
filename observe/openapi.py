"""The OpenAPI description of the agent's API, made from its routes, questions and documents."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from observe.document import ErrorDocument
from observe.flow_document import FlowLineDocument, FlowsDocument, FlowsEndDocument
from observe.flow_routes import FLOW_PARAMETERS, FLOWS_PATH, LINES_TYPE
from observe.policy_document import RefusalDocument
from observe.request import MAX_BODY_BYTES
from observe.route import Asking, Route
from observe.routes import ROUTES

VERSION: Final = "1.3"
"""Of the API, not of hawse: raised when fields are added."""

_SCHEMAS: Final = "#/components/schemas/"


def describe_api() -> dict[str, Any]:
    """Make the description: OpenAPI 3.1, ready for :func:`json.dumps`."""
    documents: list[type[object]] = [
        ErrorDocument,
        RefusalDocument,
        FlowsDocument,
        FlowLineDocument,
        FlowsEndDocument,
        *(route.document for route in ROUTES),
    ]
    documents += [route.question for route in ROUTES if route.asking is Asking.JSON and route.question]
    _, schemas = msgspec.json.schema_components(documents, ref_template=_SCHEMAS + "{name}")
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths[FLOWS_PATH] = {"get": _flows()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hawse agent",
            "version": VERSION,
            "description": "State of one node and of the cluster, and its policies, on the Unix socket "
            "/run/hawse/agent.sock. Field names are stable; fields may be added.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _operation(route: Route) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": _operation_id(route), "summary": route.summary}
    if route.asking is Asking.PARAMETERS:
        described["parameters"] = _parameters(route)
    elif route.asking is Asking.JSON and route.question:
        described["requestBody"] = _body("application/json", _reference(route.question))
    elif route.asking is Asking.TEXT:
        described["requestBody"] = _body("application/yaml", {"type": "string"})
    described["responses"] = _responses(route)
    return described


def _flows() -> dict[str, Any]:
    text = {"type": "string"}
    error = _reference(ErrorDocument)
    return {
        "operationId": "flows",
        "summary": "Packets that were dropped and why, connections that were let through",
        "parameters": [
            {
                "name": parameter.name,
                "in": "query",
                "required": False,
                "description": parameter.description,
                "schema": {"type": "array", "items": text} if parameter.repeated else text,
            }
            for parameter in FLOW_PARAMETERS
        ],
        "responses": {
            "200": _flows_answer(),
            "400": _answer("The request is not understood.", error),
            "429": _answer("Too many requests wait already.", error),
            "500": _answer("The agent or the kernel failed.", error),
        },
    }


def _flows_answer() -> dict[str, Any]:
    answer = _answer("The answer; as lines, if the request accepts only these.", _reference(FlowsDocument))
    line = {
        "description": "One object a line: the flows, and at last where the answer ends.",
        "anyOf": [_reference(FlowLineDocument), _reference(FlowsEndDocument)],
    }
    answer["content"][LINES_TYPE] = {"schema": line}
    return answer


def _operation_id(route: Route) -> str:
    words = [word.strip("{}") for word in route.path.split("/")[2:]]
    return "_".join(words if route.method == "GET" else ["post", *words])


def _parameters(route: Route) -> list[dict[str, Any]]:
    _, schemas = msgspec.json.schema_components([route.question])
    (struct,) = schemas.values()
    return [
        {
            "name": name,
            "in": "path" if f"{{{name}}}" in route.path else "query",
            "required": name in struct["required"],
            "schema": schema,
        }
        for name, schema in struct["properties"].items()
    ]


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _responses(route: Route) -> dict[str, Any]:
    error = _reference(ErrorDocument)
    responses = {"200": _answer("The answer.", _reference(route.document))}
    if route.asking is Asking.TEXT:
        faulty = {"anyOf": [_reference(RefusalDocument), error]}
        responses["400"] = _answer("The document is refused, with every fault; nothing was written.", faulty)
    else:
        responses["400"] = _answer("The request is not understood.", error)
    if route.asking in {Asking.PARAMETERS, Asking.JSON}:
        responses["404"] = _answer("There is none of this name or number.", error)
    if route.method == "POST":
        responses["409"] = _answer("Another writer was faster; the request may be repeated.", error)
        responses["411"] = _answer("The body's length is not said.", error)
        responses["413"] = _answer(f"The body is larger than {MAX_BODY_BYTES} bytes.", error)
        responses["507"] = _answer("A finite resource has no room left.", error)
    responses["500"] = _answer("The agent or the kernel failed.", error)
    responses["503"] = _answer("The store did not answer; the request may be repeated.", error)
    return dict(sorted(responses.items()))


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _reference(document: type[object]) -> dict[str, Any]:
    return {"$ref": _SCHEMAS + document.__name__}
