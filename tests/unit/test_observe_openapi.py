"""``docs/openapi.json`` is what the application answers: same routes, same documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from model.errors import Fault, InvalidDocument
from observe.api import create_agent_app
from observe.openapi import describe_api
from observe.routes import ROUTES, Route
from observe.state import Finding
from tests.support.agent_state import FixedAgentState
from tests.support.flow_world import FlowWorld, an_event, flow_world, forwarded
from tests.support.json_schema import violations

DESCRIPTION = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())


def test_committed_description_is_made_from_the_code() -> None:
    assert describe_api() == DESCRIPTION, "run scripts/openapi.py"


def test_description_has_the_routes_of_the_application() -> None:
    app = create_agent_app(FixedAgentState(), FlowWorld().log)

    served = {
        (re.sub(r"<path:(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, operations in DESCRIPTION["paths"].items() for method in operations}
    assert described == served


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for path in DESCRIPTION["paths"].values() for operation in path.values()]

    assert len(names) == len(set(names))


def test_every_parameter_of_a_path_is_described() -> None:
    for path, operations in DESCRIPTION["paths"].items():
        for operation in operations.values():
            described = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert described == set(re.findall(r"{(\w+)}", path))


def _schema_of(path: str, status: int, method: str = "get") -> Any:
    return DESCRIPTION["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]


BODIES: dict[str, Any] = {
    "/v1/policies": {"data": "kind: Policy"},
    "/v1/policies/validate": {"data": "kind: Policy"},
    "/v1/policies/delete": {"json": {"names": ["db-from-api"]}},
    "/v1/policies/trace": {"json": {"from": "app=api", "to": "1002", "dport": "5432/tcp"}},
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_answer_matches_its_schema(route: Route) -> None:
    state = FixedAgentState()
    state.found = (Finding(kind="leaked-address", subject="10.1.0.9", detail="no endpoint has it"),)
    client = create_agent_app(state).test_client()

    if route.method == "POST":
        response = client.post(route.path, **BODIES[route.path])
    else:
        response = client.get(
            route.path.format(name="db-from-api", number=1002, service="shop_web", endpoint="shop_db.1")
        )

    assert response.status_code == 200, response.text
    assert violations(response.get_json(), _schema_of(route.path, 200, route.method.lower()), DESCRIPTION) == []


def test_flows_match_their_schema() -> None:
    with flow_world() as world:
        world.happen(an_event(), forwarded(), an_event(source=None, destination=None, protocol=0))

        answer = create_agent_app(FixedAgentState(), world.log).test_client().get("/v1/flows").get_json()

    assert len(answer["flows"]) == 3
    assert violations(answer, _schema_of("/v1/flows", 200), DESCRIPTION) == []


def test_wrong_parameter_of_flows_matches_its_schema() -> None:
    response = create_agent_app(FixedAgentState(), FlowWorld().log).test_client().get("/v1/flows?colour=blue")

    assert response.status_code == 400
    assert violations(response.get_json(), _schema_of("/v1/flows", 400), DESCRIPTION) == []


def test_error_matches_its_schema() -> None:
    state = FixedAgentState()
    state.store_error = ZeroDivisionError()

    response = create_agent_app(state).test_client().get("/v1/nodes")

    assert violations(response.get_json(), _schema_of("/v1/nodes", 500), DESCRIPTION) == []


@pytest.mark.parametrize("path", ["/v1/policies", "/v1/policies/validate"])
def test_refusal_matches_its_schema(path: str) -> None:
    state = FixedAgentState()
    state.policies.error = InvalidDocument([Fault("spec", "is missing")])

    response = create_agent_app(state).test_client().post(path, data="{}")

    assert violations(response.get_json(), _schema_of(path, 400, "post"), DESCRIPTION) == []


def test_question_in_the_body_is_described() -> None:
    content = DESCRIPTION["paths"]["/v1/policies/trace"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]

    assert violations({"from": "app=api", "to": "world"}, schema, DESCRIPTION) == []
    assert violations({"from": "app=api"}, schema, DESCRIPTION) == ["answer: has no to"]
    assert violations({"from": "a=b", "to": "world", "colour": "blue"}, schema, DESCRIPTION) != []


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        ({"vni": "4097"}, "answer.networks[0].vni: not of type integer"),
        ({"surplus": 1}, "answer.networks[0]: has surplus, which the description does not know"),
        ({"internal": 1}, "answer.networks[0].internal: not of type boolean"),
    ],
    ids=["wrong type", "unknown field", "number for a boolean"],
)
def test_checker_sees_what_does_not_match(change: dict[str, object], violation: str) -> None:
    answer = create_agent_app(FixedAgentState()).test_client().get("/v1/networks").get_json()
    answer["networks"][0].update(change)

    assert violations(answer, _schema_of("/v1/networks", 200), DESCRIPTION) == [violation]


def test_checker_sees_a_missing_field() -> None:
    answer = create_agent_app(FixedAgentState()).test_client().get("/v1/networks").get_json()
    del answer["warning"]

    assert violations(answer, _schema_of("/v1/networks", 200), DESCRIPTION) == ["answer: has no warning"]
