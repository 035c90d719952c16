"""Which flows a reader gets for which parameters."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from datapath.api import Direction
from datapath.flow_event import FlowEvent, FlowVerdict
from model.errors import InvalidInput
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_HOST, IDENTITY_WORLD
from observe.flow_filter import PARAMETERS, parse_filter
from observe.flow_ring import MAX_WAITING
from observe.flow_routes import FLOW_PARAMETERS, FLOWS_PATH, flow_view
from tests.support.flow_world import (
    DB,
    DB_ADDRESS,
    VIP,
    WEB,
    WEB_ADDRESS,
    FlowWorld,
    a_service,
    an_event,
    flow_world,
    forwarded,
)

EVENTS: dict[str, FlowEvent] = {
    "denied": an_event(),
    "deny": an_event(reason=181, rule=102, direction=Direction.EGRESS, destination_port=80),
    "audit": an_event(verdict=FlowVerdict.AUDIT, protocol=17, destination_port=53),
    "passed": forwarded(source_port=8080),
    "reply": forwarded(
        source=DB_ADDRESS,
        destination=WEB_ADDRESS,
        source_identity=DB,
        destination_identity=WEB,
        source_port=5432,
        destination_port=41022,
        is_reply=True,
    ),
    "ping": forwarded(protocol=1, source_port=0, destination_port=8),
    "world": an_event(source=ipaddress.ip_address("198.51.100.7"), source_identity=CIDR_IDENTITY_BASE + 1, reason=150),
    "host": forwarded(source=ipaddress.ip_address("fd00::1"), source_identity=IDENTITY_HOST),
    "frame": an_event(
        source=None, destination=None, reason=166, source_port=0, destination_port=0, protocol=0, destination_identity=0
    ),
}


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    with flow_world() as made:
        made.happen(*EVENTS.values())
        yield made


@pytest.fixture
def client(world: FlowWorld) -> FlaskClient:
    app = Flask(__name__)
    app.add_url_rule(FLOWS_PATH, view_func=flow_view(world.log), endpoint="flows")
    return app.test_client()


def _found(client: FlaskClient, query: str) -> set[str]:
    response = client.get(f"{FLOWS_PATH}?{query}")
    assert response.status_code == 200, response.text
    names = list(EVENTS)
    return {names[flow["sequence"]] for flow in response.get_json()["flows"]}


ALL = set(EVENTS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ALL),
        ("verdict=DROPPED", {"denied", "deny", "world", "frame"}),
        ("verdict=forwarded", {"passed", "reply", "ping", "host"}),
        ("verdict=AUDIT&verdict=FORWARDED", {"audit", "passed", "reply", "ping", "host"}),
        ("verdict=AUDIT,FORWARDED", {"audit", "passed", "reply", "ping", "host"}),
        ("drop_reason=POLICY_DENIED", {"denied", "audit"}),
        ("drop_reason=policy_deny,150", {"deny", "world"}),
        ("direction=egress", {"deny"}),
        ("direction=INGRESS,egress", ALL),
        ("protocol=udp", {"audit"}),
        ("protocol=ICMP", {"ping"}),
        ("protocol=icmpv4,17", {"ping", "audit"}),
        ("protocol=icmpv6", set()),
        ("protocol=0", set()),
        ("label=app=web", ALL - {"world", "host"}),
        ("from_label=app=web", ALL - {"reply", "world", "host"}),
        ("to_label=app=web", {"reply"}),
        ("to_label=app&to_label=tier", {"reply"}),
        ("label=app=web,tier=front", ALL - {"world", "host"}),
        ("label=app=db,tier", set()),
        ("from_label=reserved:host", {"host"}),
        ("from_label=reserved:world", {"world"}),
        ("label=app=", set()),
        ("label=nothing", set()),
        ("port=5432", {"denied", "passed", "reply", "world", "host"}),
        ("from_port=5432", {"reply"}),
        ("to_port=80,53", {"deny", "audit"}),
        ("port=8", set()),
        ("from_port=8000-8999", {"passed"}),
        ("to_port=0-65535", ALL - {"ping", "frame"}),
        ("ip=10.1.0.5", ALL - {"world", "host", "frame"}),
        ("from_ip=198.51.100.0/24", {"world"}),
        ("to_ip=10.1.0.0/24", {"reply"}),
        ("ip=fd00::/64,198.51.100.7", {"host", "world"}),
        ("identity=1021", ALL - {"world", "host"}),
        ("from_identity=1040", {"reply"}),
        ("to_identity=1021", {"reply"}),
        ("identity=host,world", {"host", "world"}),
        (f"identity={IDENTITY_WORLD}", {"world"}),
        (f"from_identity={CIDR_IDENTITY_BASE + 1}", {"world"}),
        ("from_container=db", {"reply"}),
        ("container=d*", ALL - {"frame"}),
        ("to_container=we?", {"reply"}),
        ("container=b", set()),
        ("since_time=2026-03-01T12:00:01Z", ALL),
        ("since_time=2026-03-01T13:00:01.204%2B01:00", ALL),
        ("since_time=2026-03-01T12:00:02Z", set()),
        ("verdict=DROPPED&from_label=app=web&to_port=80", {"deny"}),
    ],
)
def test_parameter_selects(client: FlaskClient, query: str, found: set[str]) -> None:
    assert _found(client, query) == found


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("verdit=DROPPED", "verdit: there is no such parameter; there are since, epoch, last, wait_s, verdict, "),
        ("verdict=LOST", "verdict: 'lost' is no verdict; there are FORWARDED, DROPPED and AUDIT"),
        ("verdict=", "verdict: '' is no verdict"),
        ("direction=up", "direction: 'up' is no direction; there are ingress and egress"),
        ("drop_reason=RAIN", "drop_reason: 'RAIN' is no drop reason, such as POLICY_DENIED"),
        ("drop_reason=256", "drop_reason: '256' is no number of a drop reason"),
        ("protocol=tpc", "protocol: 'tpc' is no protocol; there are icmp, tcp, udp, icmpv6, sctp, icmpv4 and numbers"),
        ("protocol=256", "protocol: '256' is no number of a protocol, 0 to 255"),
        ("from_label==web", "from_label: '=web' is no label; write key=value, or key for any value"),
        ("to_label=a,", "to_label: '' is no label"),
        ("port=70000", "port: '70000' is no port, 0 to 65535, or a range like 8000-8080"),
        ("to_port=80-", "to_port: '' is no port"),
        ("from_port=http", "from_port: 'http' is no port"),
        ("port=²", "port: '²' is no port"),
        ("ip=10.1", "ip: '10.1' is neither an address nor a prefix like 10.1.0.0/16"),
        ("identity=web", "identity: 'web' is no identity: a number, or one of host, world, "),
        ("identity=4294967296", "identity: '4294967296' is no identity"),
        ("container=", "container: a container's name is missing"),
        ("to_service=", "to_service: a service's name is missing"),
        ("since_time=yesterday", "since_time: 'yesterday' is not one time in RFC 3339"),
        ("since_time=2026-03-01T12:00:01Z&since_time=2026-03-01T12:00:01Z", "since_time: '' is not one time"),
        ("port=" + ",".join(["1"] * 65), "port: more than 64 values"),
        ("since=-1", "since: '-1' is not a whole number from 0 on"),
        ("since=1&since=2", "since: given 2 times"),
        ("last=all", "last: 'all' is not a whole number from 0 on"),
        ("wait_s=nan", "wait_s: 'nan' is not a number of seconds"),
        ("wait_s=-1", "wait_s: '-1' is not a number of seconds"),
        ("wait_s=long", "wait_s: 'long' is not a number of seconds"),
    ],
)
def test_wrong_parameter_is_named(client: FlaskClient, query: str, sentence: str) -> None:
    response = client.get(f"{FLOWS_PATH}?{query}")

    assert response.status_code == 400
    assert response.get_json()["error"].startswith(sentence)


def test_a_wrong_word_is_not_repeated_at_length() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filter({"verdict": ["x" * 100_000]})

    assert len(str(caught.value)) < 300


def test_position_and_number_of_the_request_count(client: FlaskClient, world: FlowWorld) -> None:
    assert _found(client, "last=1") == {"frame"}
    assert _found(client, f"since=7&epoch={world.log.epoch}") == {"host", "frame"}
    assert _found(client, "since=7&epoch=other") == ALL
    assert _found(client, "last=2&verdict=AUDIT&wait_s=1") == {"audit"}


def test_waiting_is_bounded(client: FlaskClient, world: FlowWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    read = world.log.read

    def note(**arguments: Any) -> object:
        asked.append(arguments["wait_s"])
        return read(**{**arguments, "wait_s": 0})

    monkeypatch.setattr(world.log, "read", note)

    _found(client, "since=9&wait_s=0.25")
    _found(client, "since=9&wait_s=3600")

    assert asked == [0.25, 5]


def test_too_many_waiting_requests_are_answered_so(client: FlaskClient, world: FlowWorld) -> None:
    for _ in range(MAX_WAITING):
        world.log._places.acquire()

    response = client.get(f"{FLOWS_PATH}?wait_s=1")

    assert response.status_code == 429
    assert response.get_json()["error"].startswith("16 requests wait for flows already; end one «hawse observe -f»")


def test_every_parameter_is_described() -> None:
    assert sorted(one.name for one in FLOW_PARAMETERS) == sorted(PARAMETERS)


@pytest.mark.parametrize(
    ("query", "ports"),
    [
        ("service=shop_db", {1, 2, 3}),
        ("service=shop_*", {1, 2, 3}),
        ("to_service=shop_db", {1, 2}),
        ("from_service=shop_db", {3}),
        ("from_service=cache,shop_d?", {3}),
        ("service=cache", set()),
    ],
)
def test_service_is_its_virtual_address_and_its_containers(query: str, ports: set[int]) -> None:
    with flow_world() as world:
        world.put_services(a_service())
        web: dict[str, Any] = {"source": WEB_ADDRESS, "destination": ipaddress.ip_address("10.1.0.6")}
        world.happen(
            an_event(destination=VIP, source_port=1),
            forwarded(source_port=2),
            forwarded(source=DB_ADDRESS, destination=WEB_ADDRESS, source_port=3),
            forwarded(**web, source_port=4),
        )

        found = world.log.read(predicate=parse_filter({name: [value] for name, value in [query.split("=")]})).flows

    assert {flow.event.source_port for flow in found} == ports
