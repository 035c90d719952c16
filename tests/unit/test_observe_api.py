from __future__ import annotations

import dataclasses
import ipaddress
import logging
from typing import Any

import pytest
from flask.testing import FlaskClient

from datapath.api import Feature
from kvstore.store import StoreStatus
from model.addresses import PoolRecord
from model.errors import DatapathError, DeadlineExceeded, StoreUnavailable
from observe.api import create_agent_app
from observe.routes import ROUTES
from observe.state import Finding
from tests.support.agent_state import ENDPOINT_HERE, ENDPOINT_THERE, FixedAgentState


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


def test_status_of_a_healthy_agent_has_no_problem(client: FlaskClient) -> None:
    document = _get(client, "/v1/status")

    assert document["healthy"] is True
    assert document["problems"] == []
    assert document["warning"] is None
    assert document["agent"] == {
        "version": "0.1.0",
        "uptime_s": 3723.5,
        "node": "alpha",
        "address": "192.0.2.1",
        "scope": "global",
        "scope_warning": None,
    }
    assert document["store"]["revision"] == 4711
    assert document["datapath"]["programs"] == "adopted"
    assert document["counts"] == {"networks": 2, "endpoints": 2, "endpoints_here": 1, "addresses": 3}
    assert document["services"] == {
        "translation": "socket",
        "translation_reason": "",
        "services": 3,
        "frontends": 4,
        "backends": 3,
        "published_here": 2,
        "revision": 4700,
        "failures": 0,
        "last_apply_s": 0.004,
    }
    assert [node["name"] for node in document["nodes"]] == ["alpha", "beta"]


def test_status_answers_when_the_store_was_never_reached(client: FlaskClient, state: FixedAgentState) -> None:
    state.store_error = StoreUnavailable("etcd cannot be reached")
    state.change_status(store=StoreStatus(healthy=False, detail="connection refused", endpoints=()))

    document = _get(client, "/v1/status")

    assert document["healthy"] is False
    assert document["problems"] == ["the store (etcd) is not healthy: connection refused"]
    assert document["counts"] is None
    assert document["services"]["published_here"] is None
    assert document["nodes"] is None


def test_missing_required_feature_is_a_problem_and_a_missing_optional_one_is_not(
    client: FlaskClient, state: FixedAgentState
) -> None:
    features = (
        Feature(name="redirect-peer", available=False, required=True, detail="Linux 5.10 is needed"),
        Feature(name="netkit", available=False, required=False, detail="veth is used"),
    )
    state.change_status(datapath=dataclasses.replace(state.now.datapath, features=features))

    document = _get(client, "/v1/status")

    assert document["problems"] == ["this kernel lacks redirect-peer, which hawse needs: Linux 5.10 is needed"]


def test_nodes_are_sorted_and_say_which_agents_run(client: FlaskClient) -> None:
    nodes = _get(client, "/v1/nodes")["nodes"]

    assert [(node["name"], node["alive"], node["this_node"]) for node in nodes] == [
        ("alpha", True, True),
        ("beta", False, False),
    ]


def test_networks_are_sorted_by_pool_and_count_their_endpoints(client: FlaskClient) -> None:
    networks = _get(client, "/v1/networks")["networks"]

    assert [(network["pool"], network["endpoints"]) for network in networks] == [("10.1.0.0/24", 2), ("10.9.0.0/16", 0)]
    assert networks[0]["docker_networks"] == [{"holder": "@swarm", "id": "c0ffee" * 4}]


def test_endpoints_are_sorted_by_number_and_only_local_ones_have_an_interface(client: FlaskClient) -> None:
    endpoints = _get(client, "/v1/endpoints")["endpoints"]

    assert [(endpoint["addresses"], endpoint["interface"]) for endpoint in endpoints] == [
        (["10.1.0.9"], "hw1f1f1f1f1f1f"),
        (["10.1.0.10"], None),
    ]


def test_endpoints_of_this_host_are_shown_before_the_store_was_reached(
    client: FlaskClient, state: FixedAgentState
) -> None:
    state.store_error = StoreUnavailable("etcd cannot be reached")

    document = _get(client, "/v1/endpoints")

    assert document["warning"].endswith("etcd cannot be reached")
    assert [(endpoint["id"], endpoint["network"], endpoint["addresses"]) for endpoint in document["endpoints"]] == [
        (ENDPOINT_HERE, None, ["10.1.0.9"])
    ]


def test_endpoints_are_shown_when_the_kernel_does_not_answer(client: FlaskClient, state: FixedAgentState) -> None:
    state.kernel_error = DatapathError("netlink: permission denied")

    document = _get(client, "/v1/endpoints")

    assert document["warning"] == "the interfaces of this host are not shown: netlink: permission denied"
    assert [endpoint["interface"] for endpoint in document["endpoints"]] == [None, None]


def test_addresses_name_the_endpoint_that_has_them(client: FlaskClient) -> None:
    document = _get(client, "/v1/addresses")

    assert document["pools"] == [
        {
            "pool": "10.1.0.0/24",
            "gateway": "10.1.0.1",
            "holders": ["@swarm"],
            "in_use": 3,
            "capacity": 254,
            "created_at": "2026-03-01T10:00:00Z",
        }
    ]
    assert [(item["address"], item["kind"], item["endpoint"], item["node"]) for item in document["addresses"]] == [
        ("10.1.0.1", "gateway", None, None),
        ("10.1.0.9", "endpoint", ENDPOINT_HERE, "alpha"),
        ("10.1.0.10", "endpoint", ENDPOINT_THERE, "beta"),
    ]


@pytest.mark.parametrize(
    ("pool", "capacity"), [("10.0.0.0/30", 2), ("10.0.0.0/16", 65534), ("fd00::/112", 65535), ("fd00::/64", None)]
)
def test_capacity_is_what_can_be_given_out(
    client: FlaskClient, state: FixedAgentState, pool: str, capacity: int | None
) -> None:
    state.known_pools = (PoolRecord(pool=ipaddress.ip_network(pool), holders=("alpha",)),)

    assert _get(client, "/v1/addresses")["pools"][0]["capacity"] == capacity


def test_check_lists_findings(client: FlaskClient, state: FixedAgentState) -> None:
    state.found = (Finding(kind="leaked-address", subject="10.1.0.9", detail="no endpoint has it"),)

    document = _get(client, "/v1/check")

    assert document == {"findings": [{"kind": "leaked-address", "subject": "10.1.0.9", "detail": "no endpoint has it"}]}


def test_counters_start_with_what_was_forwarded_and_then_the_most_frequent_drop(client: FlaskClient) -> None:
    counters = _get(client, "/v1/counters")["counters"]

    assert [(counter["text"], counter["direction"], counter["packets"]) for counter in counters] == [
        ("forwarded", "egress", 100),
        ("forwarded", "ingress", 90),
        ("invalid source", "egress", 12),
        ("destination unknown", "egress", 3),
    ]


@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/networks", "/v1/endpoints", "/v1/addresses"])
def test_listing_says_when_it_may_be_out_of_date(client: FlaskClient, state: FixedAgentState, path: str) -> None:
    state.stale = "etcd has not answered for 12 seconds"

    assert _get(client, path)["warning"] == "etcd has not answered for 12 seconds"


@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/networks", "/v1/addresses", "/v1/check"])
@pytest.mark.parametrize("error", [StoreUnavailable("etcd cannot be reached"), DeadlineExceeded("out of time")])
def test_store_that_does_not_answer_is_503_with_the_reason(
    client: FlaskClient, state: FixedAgentState, path: str, error: Exception
) -> None:
    state.store_error = error

    response = client.get(path)

    assert response.status_code == 503
    assert response.get_json() == {"error": str(error)}


def test_counters_need_no_store(client: FlaskClient, state: FixedAgentState) -> None:
    state.store_error = StoreUnavailable("etcd cannot be reached")

    assert len(_get(client, "/v1/counters")["counters"]) == 4


def test_kernel_error_is_500_with_the_reason(client: FlaskClient, state: FixedAgentState) -> None:
    state.kernel_error = DatapathError("map hawse_counters is gone")

    response = client.get("/v1/counters")

    assert response.status_code == 500
    assert response.get_json() == {"error": "map hawse_counters is gone"}


def test_unexpected_error_is_logged_and_not_shown(
    client: FlaskClient, state: FixedAgentState, caplog: pytest.LogCaptureFixture
) -> None:
    state.store_error = ZeroDivisionError("inner secret")

    with caplog.at_level(logging.ERROR):
        response = client.get("/v1/nodes")

    assert response.status_code == 500
    assert "log" in response.get_json()["error"]
    assert "secret" not in response.text
    assert "inner secret" in caplog.text


def test_unknown_path_is_404_and_names_the_paths_there_are(client: FlaskClient) -> None:
    response = client.get("/v1/nothing")

    assert response.status_code == 404
    assert "/v1/status" in response.get_json()["error"]


CHANGING = {"/v1/policies", "/v1/policies/validate", "/v1/policies/delete", "/v1/policies/trace"}


def test_only_policies_can_be_changed() -> None:
    assert {route.path for route in ROUTES if route.method != "GET"} == CHANGING


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES} - CHANGING))
def test_what_can_only_be_read_says_so(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path.format(name="db-from-api", number=1, service="shop_web", endpoint="web"), method=method)

    assert response.status_code == 405
    assert response.get_json() == {"error": f"{method} is not possible here: use GET, HEAD, OPTIONS"}
    assert "GET" in response.headers["Allow"]
