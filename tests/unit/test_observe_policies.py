from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import yaml
from flask.testing import FlaskClient

from datapath.policy_table import IdentityFlags
from model import errors
from model.errors import Fault, InvalidDocument
from model.policies import PolicyMode
from model.policy_answers import Applied, Enforcement, NodeRollout, Rollout
from observe.api import create_agent_app
from observe.request import MAX_BODY_BYTES
from tests.support.agent_state import ENDPOINT_HERE, FixedAgentState
from tests.support.policy_state import DB, DOCUMENT, HERE, THERE, a_policy, a_rollout

TRACE = {"from": "app=api", "to": "app=db", "dport": "5432/tcp"}
FAULTS = (
    Fault("spec.ingress[1].toPorts[0].ports[0].port", "70000 is not a port"),
    Fault("", "has no metadata"),
)


@pytest.fixture
def state() -> FixedAgentState:
    return FixedAgentState()


@pytest.fixture
def client(state: FixedAgentState) -> FlaskClient:
    return create_agent_app(state).test_client()


def _get(client: FlaskClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response.get_json()


def test_document_is_applied_as_it_came(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.applied = Applied(revision=7, created=("b", "a"), changed=("c",), unchanged=("d",))

    response = client.post("/v1/policies", data="kind: Policy # é\n".encode())

    assert response.get_json() == {
        "revision": 7,
        "created": ["a", "b"],
        "changed": ["c"],
        "unchanged": ["d"],
        "deleted": [],
    }
    assert state.policies.asked == [("apply", "kind: Policy # é\n")]


def test_validation_writes_nothing(client: FlaskClient, state: FixedAgentState) -> None:
    response = client.post("/v1/policies/validate", data="kind: Policy")

    assert response.get_json() == {"policies": ["db-from-api"]}
    assert state.policies.asked == [("validate", "kind: Policy")]


@pytest.mark.parametrize("path", ["/v1/policies", "/v1/policies/validate"])
def test_refused_document_names_every_fault(client: FlaskClient, state: FixedAgentState, path: str) -> None:
    state.policies.error = InvalidDocument(FAULTS)

    response = client.post(path, data="{}")

    assert response.status_code == 400
    assert response.get_json() == {
        "error": "spec.ingress[1].toPorts[0].ports[0].port: 70000 is not a port; has no metadata",
        "faults": [
            {"path": "spec.ingress[1].toPorts[0].ports[0].port", "message": "70000 is not a port"},
            {"path": "", "message": "has no metadata"},
        ],
    }


def test_document_that_is_no_text_is_refused(client: FlaskClient, state: FixedAgentState) -> None:
    response = client.post("/v1/policies", data=b"kind: \xff")

    assert response.status_code == 400
    assert response.get_json()["faults"] == [{"path": "", "message": "is not UTF-8: byte 6 cannot be read"}]
    assert state.policies.asked == []


def test_policies_are_deleted_by_name(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.applied = Applied(revision=8, deleted=("shop/deny-all", "db-from-api"))

    response = client.post("/v1/policies/delete", json={"names": ["db-from-api", "shop/deny-all"]})

    assert response.get_json()["deleted"] == ["db-from-api", "shop/deny-all"]
    assert state.policies.asked == [("delete", "db-from-api", "shop/deny-all")]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `names`"),
        (b'{"names": "a"}', "Expected `array`, got `str` - at `$.names`"),
        (b'{"names": [1]}', "Expected `str`, got `int` - at `$.names[0]`"),
        (b'{"names": [], "all": true}', "unknown field `all`"),
        (b'{"names": ["\xff"]}', "'utf-8' codec can't decode"),
        (b"[" * 100000, "Expected `object`, got `array`"),
    ],
    ids=["cut", "list", "no names", "one name", "number", "unknown", "not UTF-8", "deep"],
)
def test_body_that_is_not_understood_is_refused(
    client: FlaskClient, state: FixedAgentState, body: bytes, sentence: str
) -> None:
    response = client.post("/v1/policies/delete", data=body)

    assert response.status_code == 400
    assert sentence in response.get_json()["error"]
    assert state.policies.asked == []


ERRORS = [
    (errors.InvalidInput("it is wrong"), 400),
    (errors.ProtocolError("it is wrong"), 400),
    (InvalidDocument(FAULTS), 400),
    (errors.NotFound("it is not there"), 404),
    (errors.EndpointNotFound("it is not there"), 404),
    (errors.Conflict("it is taken"), 409),
    (errors.CasFailed("it was changed"), 409),
    (errors.StoreUnavailable("etcd cannot be reached"), 503),
    (errors.Compacted("the revision is gone"), 503),
    (errors.DeadlineExceeded("out of time"), 503),
    (errors.Exhausted("there are 65280 identities, no more fit"), 507),
    (errors.EngineUnavailable("the engine does not answer"), 500),
    (errors.DatapathError("the map is gone"), 500),
    (errors.HawseError("it went wrong"), 500),
]
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/policies", {"data": "{}"}),
    ("POST", "/v1/policies/validate", {"data": "{}"}),
    ("POST", "/v1/policies/delete", {"json": {"names": ["a"]}}),
    ("POST", "/v1/policies/trace", {"json": TRACE}),
    ("GET", "/v1/policies", {}),
    ("GET", "/v1/policies/db-from-api", {}),
    ("GET", "/v1/rollout", {}),
    ("GET", "/v1/identities", {}),
    ("GET", "/v1/identities/1002", {}),
]


@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("asked", REQUESTS, ids=lambda asked: " ".join(asked[:2]))
def test_every_error_has_its_status_and_its_sentence(
    state: FixedAgentState,
    caplog: pytest.LogCaptureFixture,
    asked: tuple[str, str, dict[str, Any]],
    error: errors.HawseError,
    status: int,
) -> None:
    state.policies.error = error
    method, path, body = asked

    with caplog.at_level(logging.INFO):
        response = create_agent_app(state).test_client().open(path, method=method, **body)

    assert response.status_code == status
    assert response.get_json()["error"] == str(error)
    # Threads of tests before this one may still have something to say.
    (record,) = [record for record in caplog.records if record.name == "observe.api"]
    assert record.levelname == ("INFO" if status < 500 else "WARNING")


@pytest.mark.parametrize("path", ["/v1/policies", "/v1/policies/validate", "/v1/policies/trace"])
def test_body_that_is_too_large_is_a_sentence(client: FlaskClient, state: FixedAgentState, path: str) -> None:
    response = client.post(path, data=b"x" * (MAX_BODY_BYTES + 1))

    assert response.status_code == 413
    assert response.get_json() == {
        "error": "the body is larger than 1048576 bytes: apply its policies in several documents"
    }
    assert state.policies.asked == []


@pytest.mark.parametrize("path", ["/v1/policies", "/v1/policies/delete"])
def test_body_of_unknown_length_is_refused(client: FlaskClient, state: FixedAgentState, path: str) -> None:
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    response = client.post(path, data='{"names": ["a"]}', environ_overrides=chunked)

    assert (response.status_code, response.get_json()) == (411, {"error": "the header Content-Length is missing"})
    assert state.policies.asked == []


def test_document_whose_sender_went_away_is_not_applied(client: FlaskClient, state: FixedAgentState) -> None:
    # gunicorn ends the stream and says no more.
    gone = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "1000"}

    response = client.post("/v1/policies", data="kind: Policy\n", environ_overrides=gone)

    assert response.status_code == 400
    assert response.get_json() == {"error": "the body ended after 13 of 1000 bytes"}
    assert state.policies.asked == []


def test_largest_document_is_taken(client: FlaskClient, state: FixedAgentState) -> None:
    text = "#" * MAX_BODY_BYTES

    assert client.post("/v1/policies", data=text).status_code == 200
    assert state.policies.asked == [("apply", text)]


def test_policies_are_sorted_by_name(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.known = (a_policy("b", problem="written by a newer hawse"), a_policy("a", selects_here=3))

    document = _get(client, "/v1/policies")

    assert document["warning"] is None
    assert document["policies"] == [
        {
            "name": "a",
            "kind": "Policy",
            "revision": 123,
            "applied_at": "2026-03-01T10:00:00Z",
            "applied_on": "alpha",
            "selects_here": 3,
            "problem": None,
        },
        {**document["policies"][0], "name": "b", "selects_here": 0, "problem": "written by a newer hawse"},
    ]


@pytest.mark.parametrize("name", ["db-from-api", "shop/deny-all"])
def test_policy_is_found_by_its_name(client: FlaskClient, name: str) -> None:
    document = _get(client, f"/v1/policies/{name}")

    assert document["policy"]["name"] == name
    assert document["document"] == msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    assert yaml.safe_load(document["yaml"]) == document["document"]
    assert document["yaml"].startswith("apiVersion: hawse/v1\nkind: Policy\nmetadata:\n")


@pytest.mark.parametrize("name", ["rollout", "delete", "trace", "validate"])
def test_policy_may_have_any_name(client: FlaskClient, state: FixedAgentState, name: str) -> None:
    state.policies.known = (a_policy(name),)

    assert _get(client, f"/v1/policies/{name}")["policy"]["name"] == name


@pytest.mark.parametrize("name", ["other", "shop//deny-all", "shop/deny-all/", "%2e%2e/x", "db-from-api%00"])
def test_policy_that_is_not_there_is_404(client: FlaskClient, name: str) -> None:
    response = client.get(f"/v1/policies/{name}")

    assert response.status_code == 404
    assert response.get_json()["error"].startswith("there is no policy ")


def test_yaml_of_a_policy_shares_nothing(client: FlaskClient, state: FixedAgentState) -> None:
    ports = ({"port": "80"},)
    twice = {"kind": "Policy", "spec": {"ingress": [{"toPorts": ports}, {"toPorts": ports}], "word": "no"}}
    policy = a_policy("db-from-api")
    state.policies.known = (
        type(policy)(
            name=policy.name,
            kind=policy.kind,
            record=type(policy.record)(document=twice),
            revision=1,
            selects_here=0,
        ),
    )

    text = _get(client, "/v1/policies/db-from-api")["yaml"]

    assert "&" not in text
    assert "word: 'no'" in text


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (None, 0.0)),
        ("?revision=120", (120, 0.0)),
        ("?revision=120&wait_s=5", (120, 5.0)),
        ("?wait_s=0.25", (None, 0.25)),
    ],
)
def test_rollout_waits_as_it_is_told(
    client: FlaskClient, state: FixedAgentState, query: str, asked: tuple[int | None, float]
) -> None:
    assert _get(client, "/v1/rollout" + query)["complete"] is True
    assert state.policies.asked == [("rollout", *asked)]


def test_rollout_says_what_each_node_lacks(client: FlaskClient, state: FixedAgentState) -> None:
    audited = Enforcement(revision=123, mode=PolicyMode.ALWAYS, audit=True, problem="a map is full")
    state.policies.rollouts = [
        Rollout(
            revision=123,
            nodes=(
                a_rollout(THERE, 122),
                NodeRollout(node=HERE, alive=True, enforcement=audited),
                a_rollout(type(HERE)("gamma"), None, alive=False),
            ),
        )
    ]

    document = _get(client, "/v1/rollout")

    assert document == {
        "revision": 123,
        "complete": False,
        "nodes": [
            {
                "node": "alpha",
                "alive": True,
                "enforces": True,
                "revision": 123,
                "mode": "always",
                "audit": True,
                "problem": "a map is full",
            },
            {
                "node": "beta",
                "alive": True,
                "enforces": False,
                "revision": 122,
                "mode": "default",
                "audit": False,
                "problem": None,
            },
            {
                "node": "gamma",
                "alive": False,
                "enforces": False,
                "revision": None,
                "mode": None,
                "audit": None,
                "problem": None,
            },
        ],
    }


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/rollout?revision=newest", "Expected `int`, got `str` - at `$.revision`"),
        ("/v1/rollout?revision=-1", "Expected `int` >= 0 - at `$.revision`"),
        ("/v1/rollout?revision=" + "9" * 30, "at `$.revision`"),
        ("/v1/rollout?wait_s=6", "Expected `float` <= 5.0 - at `$.wait_s`"),
        ("/v1/rollout?wait_s=nan", "at `$.wait_s`"),
        ("/v1/rollout?wait_s=1&wait_s=2", "the parameter 'wait_s' is there twice"),
        ("/v1/rollout?wait=1", "unknown field `wait`"),
        ("/v1/policies/a?name=b", "the parameter 'name' is there twice"),
        ("/v1/policies?name=b", "there are no parameters here, not even 'name'"),
        ("/v1/identities/web", "Expected `int`, got `str` - at `$.number`"),
        ("/v1/identities/1/2", "Expected `int`, got `str` - at `$.number`"),
        ("/v1/identities/-1", "Expected `int` >= 0 - at `$.number`"),
        ("/v1/status?verbose=1", "there are no parameters here, not even 'verbose'"),
    ],
)
def test_parameter_that_is_not_understood_is_refused(
    client: FlaskClient, state: FixedAgentState, path: str, sentence: str
) -> None:
    response = client.get(path)

    assert response.status_code == 400
    assert sentence in response.get_json()["error"]
    assert state.policies.asked == []


def test_identities_are_sorted_by_number(client: FlaskClient) -> None:
    identities = _get(client, "/v1/identities")["identities"]

    assert [(identity["identity"], identity["name"]) for identity in identities] == [
        (1, "host"),
        (5, "init"),
        (1001, None),
        (1002, None),
    ]


def test_identity_says_who_has_it_and_which_policies_select_it(client: FlaskClient) -> None:
    assert _get(client, "/v1/identities/1002") == {
        "identity": 1002,
        "name": None,
        "labels": {"app": "db", "com.docker.stack.namespace": "shop"},
        "namespace": "shop",
        "endpoints": 2,
        "ingress_enforced": True,
        "egress_enforced": False,
        "ingress_policies": ["db-from-api", "shop/deny-all"],
        "egress_policies": [],
        "unused_since": "",
    }


def test_reserved_identity_is_in_no_namespace(client: FlaskClient) -> None:
    assert _get(client, "/v1/identities/1")["namespace"] is None


@pytest.mark.parametrize(
    ("flags", "closed", "status"),
    [
        (IdentityFlags.READY | IdentityFlags.KNOWN, (False, False), "ready"),
        (IdentityFlags.READY | IdentityFlags.INGRESS, (True, False), "ready"),
        (IdentityFlags.READY | IdentityFlags.EGRESS, (False, True), "ready"),
        (IdentityFlags(0), (True, True), "closed (its policy is not in the kernel yet)"),
        (IdentityFlags.KNOWN, (True, True), "closed (its policy is not in the kernel yet)"),
    ],
    ids=["open", "ingress", "egress", "never heard of", "peer only"],
)
def test_endpoint_of_this_host_shows_what_the_kernel_enforces(
    client: FlaskClient, state: FixedAgentState, flags: IdentityFlags, closed: tuple[bool, bool], status: str
) -> None:
    state.policies.known_flags[DB] = flags

    here, there = _get(client, "/v1/endpoints")["endpoints"]

    assert (here["ingress_enforced"], here["egress_enforced"]) == closed
    assert here["status"] == status
    assert (there["ingress_enforced"], there["egress_enforced"]) == (None, None)


def test_endpoint_has_container_identity_and_labels(client: FlaskClient) -> None:
    here, there = _get(client, "/v1/endpoints")["endpoints"]

    assert (here["container"], here["identity"], here["labels"], here["namespace"]) == (
        "shop_db.1",
        1002,
        {"app": "db", "com.docker.stack.namespace": "shop"},
        "shop",
    )
    assert (there["container"], there["identity"], there["labels"], there["namespace"]) == (None, 5, None, None)
    assert there["status"] == "init (labels not known yet)"


def test_endpoint_without_an_interface_says_so(client: FlaskClient, state: FixedAgentState) -> None:
    state.kernel_interfaces = ()

    assert _get(client, "/v1/endpoints")["endpoints"][0]["status"] == "no interface on this host"


def test_endpoint_is_not_blamed_when_the_kernel_does_not_answer(client: FlaskClient, state: FixedAgentState) -> None:
    state.kernel_error = errors.DatapathError("netlink: permission denied")

    assert _get(client, "/v1/endpoints")["endpoints"][0]["status"] == "ready"


def test_endpoint_as_the_kernel_has_it_keeps_the_labels_that_are_still_known(
    client: FlaskClient, state: FixedAgentState
) -> None:
    state.store_error = errors.StoreUnavailable("etcd cannot be reached")

    (endpoint,) = _get(client, "/v1/endpoints")["endpoints"]

    assert (endpoint["id"], endpoint["container"]) == (ENDPOINT_HERE, None)
    assert endpoint["labels"] == {"app": "db", "com.docker.stack.namespace": "shop"}
    assert endpoint["status"] == "ready"


def test_status_says_how_far_policy_is(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.rollouts = [Rollout(revision=123, nodes=(a_rollout(THERE, 120), a_rollout(HERE, 123)))]

    assert _get(client, "/v1/status")["policy"] == {
        "mode": "default",
        "audit": False,
        "policies": 2,
        "revision": 123,
        "enforced_revision": 123,
        "nodes_behind": ["beta"],
        "without_labels": 0,
        "entries": 4,
        "map_full": 0,
        "failures": 0,
        "last_apply_s": 0.012,
    }


def test_endpoints_are_marked_while_the_newest_policy_is_not_in_the_kernel(
    client: FlaskClient, state: FixedAgentState
) -> None:
    state.policies.known_health = replace(state.policies.known_health, failures=2, exhausted=2, error="the map is full")

    here = [one for one in _get(client, "/v1/endpoints")["endpoints"] if one["this_node"]]

    assert {one["status"] for one in here if one["labels"]} == {
        "former policy (the newest could not be written, see «hawse status»)"
    }
    assert _get(client, "/v1/status")["policy"]["map_full"] == 2


def test_status_before_this_node_enforced_anything(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.rollouts = [Rollout(revision=0, nodes=(a_rollout(HERE, None),))]

    policy = _get(client, "/v1/status")["policy"]

    assert (policy["mode"], policy["audit"], policy["enforced_revision"]) == (None, None, None)
    assert policy["nodes_behind"] == ["alpha"]


def test_status_answers_when_policies_are_not_known(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.error = errors.StoreUnavailable("etcd has not been reached")

    assert _get(client, "/v1/status")["policy"] is None


def test_problem_of_policies_is_a_problem_of_the_agent(client: FlaskClient, state: FixedAgentState) -> None:
    state.policies.known_problems = ("the policy map is full",)

    document = _get(client, "/v1/status")

    assert (document["healthy"], document["problems"]) == (False, ["the policy map is full"])


def test_warning_of_policies_leaves_the_agent_healthy(client: FlaskClient, state: FixedAgentState) -> None:
    assert _get(client, "/v1/status")["warnings"] == []
    state.policies.known_warnings = ("identity 300: label hawse.ingress: says nothing",)

    document = _get(client, "/v1/status")

    assert (document["healthy"], document["problems"]) == (True, [])
    assert document["warnings"] == ["identity 300: label hawse.ingress: says nothing"]
    assert document["warning"] is None
