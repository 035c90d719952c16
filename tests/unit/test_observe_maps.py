from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from datapath.api import Direction
from datapath.policy_table import PolicyKey, PolicyVerdict
from model.errors import DatapathError
from observe.api import create_agent_app
from tests.support.agent_state import FixedAgentState
from tests.support.policy_state import DB, RULE, WEB


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


def test_policy_entries_say_what_their_numbers_stand_for(client: FlaskClient) -> None:
    egress, ingress, denied = _get(client, "/v1/bpf/policy")["entries"]

    db = {"number": 1002, "text": "app=db,com.docker.stack.namespace=shop"}
    rule = {"number": 4242, "policy": "db-from-api", "path": "spec.ingress[0]"}
    assert ingress == {
        "local": db,
        "direction": "ingress",
        "deny": False,
        "remote": {"number": 1001, "text": "app=web"},
        "protocol": "TCP",
        "first_port": 5432,
        "last_port": 5432,
        "rule": rule,
    }
    assert (egress["direction"], egress["remote"], egress["protocol"]) == ("egress", None, "UDP")
    assert (denied["deny"], denied["remote"]) == (True, {"number": 0x01000000, "text": "192.0.2.0/24"})
    assert denied["rule"] == {"number": 99, "policy": None, "path": None}


@pytest.mark.parametrize(
    ("port", "port_bits", "ports"),
    [
        (0, 0, (0, 65535)),
        (80, 16, (80, 80)),
        (32768, 1, (32768, 65535)),
        (8000, 13, (8000, 8007)),
        (8003, 13, (8000, 8007)),
    ],
)
def test_port_prefix_is_a_range(
    client: FlaskClient, state: FixedAgentState, port: int, port_bits: int, ports: tuple[int, int]
) -> None:
    state.entries = {PolicyKey(DB, WEB, Direction.INGRESS, 6, port, port_bits): PolicyVerdict(deny=False, rule=RULE)}

    (entry,) = _get(client, "/v1/bpf/policy")["entries"]

    assert (entry["first_port"], entry["last_port"]) == ports


def test_protocol_that_policies_do_not_know_is_a_number(client: FlaskClient, state: FixedAgentState) -> None:
    state.entries = {
        PolicyKey(7777, 0, Direction.INGRESS, protocol, 0, 0): PolicyVerdict(deny=False, rule=RULE)
        for protocol in (0, 1, 47)
    }

    entries = _get(client, "/v1/bpf/policy")["entries"]

    assert [entry["protocol"] for entry in entries] == [None, "ICMP", "47"]
    assert entries[0]["local"] == {"number": 7777, "text": ""}


def test_connections_come_in_the_order_of_their_last_packet(client: FlaskClient) -> None:
    newest, oldest = _get(client, "/v1/bpf/ct")["connections"]

    assert (newest["source_port"], oldest["source_port"]) == (40001, 40002)
    assert newest == {
        "vni": 4097,
        "protocol": "TCP",
        "source": "10.1.0.10",
        "source_port": 40001,
        "source_identity": {"number": 1001, "text": "app=web"},
        "destination": "10.1.0.9",
        "destination_port": 5432,
        "destination_identity": {"number": 1002, "text": "app=db,com.docker.stack.namespace=shop"},
        "state": "established",
        "idle_s": 0.25,
        "epoch": 7,
        "egress_rule": {"number": 0, "policy": None, "path": None},
        "ingress_rule": {"number": 4242, "policy": "db-from-api", "path": "spec.ingress[0]"},
    }


def test_of_more_connections_than_asked_for_the_newest_are_shown(client: FlaskClient) -> None:
    document = _get(client, "/v1/bpf/ct?limit=1")

    assert ([40001], 1) == ([one["source_port"] for one in document["connections"]], document["left_out"])
    assert 0 == _get(client, "/v1/bpf/ct")["left_out"]


def test_ipcache_is_sorted_by_network_and_address(client: FlaskClient) -> None:
    entries = _get(client, "/v1/bpf/ipcache")["entries"]

    assert [(entry["vni"], entry["address"], entry["tunnel_endpoint"], entry["ifindex"]) for entry in entries] == [
        (17, "10.1.0.9", None, 0),
        (4097, "10.1.0.9", None, 7),
        (4097, "10.1.0.10", "192.0.2.2", 0),
    ]


@pytest.mark.parametrize("path", ["/v1/bpf/policy", "/v1/bpf/ct", "/v1/bpf/ipcache"])
def test_map_that_cannot_be_read_is_500_with_the_reason(client: FlaskClient, state: FixedAgentState, path: str) -> None:
    state.kernel_error = DatapathError("map hawse_policy is gone")

    response = client.get(path)

    assert (response.status_code, response.get_json()) == (500, {"error": "map hawse_policy is gone"})
