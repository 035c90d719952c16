"""«hawse endpoint get», and the ports that «ls» shows."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from textwrap import dedent

import msgspec
import pytest

from cli import endpoint_text
from cli.conform import conform
from cli.endpoint_documents import Endpoint, Publication
from model import endpoints as model
from model.errors import Conflict, EndpointNotFound
from model.ids import EndpointId
from observe.endpoint_describe import EndpointQuestion, endpoint
from tests.support.agent_state import ENDPOINT_HERE, ENDPOINT_THERE, FixedAgentState, an_endpoint
from tests.support.policy_state import HERE, THERE

OTHER = EndpointId("1f" + "3d" * 31)


@pytest.fixture
def state() -> FixedAgentState:
    return FixedAgentState()


def publication(host_port: int, port: int, protocol: str = "tcp", host_address: str | None = None) -> Publication:
    return {"port": port, "protocol": protocol, "host_port": host_port, "host_address": host_address}


@pytest.mark.parametrize("wanted", ["shop_db.1", "10.1.0.9", ENDPOINT_HERE, ENDPOINT_HERE[:12], "1"])
def test_an_endpoint_is_found_by_what_is_known_of_it(state: FixedAgentState, wanted: str) -> None:
    assert ENDPOINT_HERE == endpoint(state, EndpointQuestion(endpoint=wanted)).id


@pytest.mark.parametrize("wanted", ["", "shop", "10.1.0.99", "ff"])
def test_what_is_not_there_is_said(state: FixedAgentState, wanted: str) -> None:
    with pytest.raises(EndpointNotFound, match="no endpoint has the container, address or id"):
        endpoint(state, EndpointQuestion(endpoint=wanted))


def test_a_name_that_two_hosts_have_is_the_one_of_this_host(state: FixedAgentState) -> None:
    state.known_endpoints = (
        an_endpoint(ENDPOINT_THERE, THERE, "10.1.0.10", container="web"),
        an_endpoint(ENDPOINT_HERE, HERE, "10.1.0.9", container="web"),
    )

    assert ENDPOINT_HERE == endpoint(state, EndpointQuestion(endpoint="web")).id


def test_several_are_listed(state: FixedAgentState) -> None:
    state.known_endpoints = (
        an_endpoint(ENDPOINT_HERE, HERE, "10.1.0.9", container="web"),
        an_endpoint(OTHER, HERE, "10.1.0.11", container="web"),
    )

    with pytest.raises(Conflict, match=r"'web' is several endpoints: 1f1f1f1f1f1f in 10\.1\.0\.0/24 on alpha, 1f3d"):
        endpoint(state, EndpointQuestion(endpoint="web"))
    assert OTHER == endpoint(state, EndpointQuestion(endpoint=OTHER[:4])).id


def test_the_text_has_a_line_for_each_label_and_range_of_ports(state: FixedAgentState) -> None:
    published = (
        *(model.Publication(port=port, protocol="tcp", host_port=port) for port in (8001, 8000, 8002)),
        model.Publication(port=53, protocol="udp", host_port=53, host_address=IPv4Address("192.0.2.1")),
    )
    state.known_endpoints = tuple(
        replace(one, published=published) if one.endpoint_id == ENDPOINT_HERE else one for one in state.known_endpoints
    )
    document = endpoint(state, EndpointQuestion(endpoint="shop_db.1"))
    received = conform(msgspec.json.decode(msgspec.json.encode(document)), Endpoint)

    assert [8000, 8001, 8002, 53] == [one["host_port"] for one in received["published"]]
    assert endpoint_text.endpoint(received) == dedent(f"""\
        endpoint   {ENDPOINT_HERE}
        container  shop_db.1
        node       alpha
        network    10.1.0.0/24
        address    10.1.0.9
        MAC        0a:00:00:00:00:09
        interface  hw1f1f1f1f1f1f
        identity   1002
        labels     app=db
                   com.docker.stack.namespace=shop
        ingress    open
        egress     open
        ports      0.0.0.0:8000-8002->8000-8002/tcp
                   192.0.2.1:53->53/udp
        status     ready
        """)


@pytest.mark.parametrize(
    ("published", "shown"),
    [
        ([], []),
        ([publication(8080, 80)], ["0.0.0.0:8080->80/tcp"]),
        ([publication(8081, 81), publication(8080, 80)], ["0.0.0.0:8080-8081->80-81/tcp"]),
        ([publication(8080, 80), publication(8081, 80)], ["0.0.0.0:8080->80/tcp", "0.0.0.0:8081->80/tcp"]),
        ([publication(53, 53), publication(53, 53, "udp")], ["0.0.0.0:53->53/tcp", "0.0.0.0:53->53/udp"]),
        (
            [publication(80, 80), publication(81, 81, host_address="127.0.0.1")],
            ["0.0.0.0:80->80/tcp", "127.0.0.1:81->81/tcp"],
        ),
    ],
)
def test_ports_are_written_as_docker_ps_does(published: list[Publication], shown: list[str]) -> None:
    assert shown == endpoint_text.ports(published)
