"""``docs/openapi.json`` is what the application answers: same routes, same documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from observe.api import create_agent_app
from observe.openapi import describe_api
from observe.routes import ROUTES, Route
from observe.state import Finding
from tests.support.agent_state import FixedAgentState
from tests.support.json_schema import violations

DESCRIPTION = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())


def test_committed_description_is_made_from_the_code() -> None:
    assert describe_api() == DESCRIPTION, "run scripts/openapi.py"


def test_description_has_the_routes_of_the_application() -> None:
    app = create_agent_app(FixedAgentState())

    assert set(DESCRIPTION["paths"]) == {rule.rule for rule in app.url_map.iter_rules()}


def _schema_of(path: str, status: int) -> Any:
    return DESCRIPTION["paths"][path]["get"]["responses"][str(status)]["content"]["application/json"]["schema"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_answer_matches_its_schema(route: Route) -> None:
    state = FixedAgentState()
    state.found = (Finding(kind="leaked-address", subject="10.1.0.9", detail="no endpoint has it"),)

    response = create_agent_app(state).test_client().get(route.path)

    assert violations(response.get_json(), _schema_of(route.path, 200), DESCRIPTION) == []


def test_error_matches_its_schema() -> None:
    state = FixedAgentState()
    state.store_error = ZeroDivisionError()

    response = create_agent_app(state).test_client().get("/v1/nodes")

    assert violations(response.get_json(), _schema_of("/v1/nodes", 500), DESCRIPTION) == []


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
