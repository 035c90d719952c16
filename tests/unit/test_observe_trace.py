from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from model.errors import InvalidInput, NotFound, StoreUnavailable
from model.ids import IDENTITY_HOST, IDENTITY_INIT, IDENTITY_REMOTE_NODE, IDENTITY_WORLD, ServiceId
from model.labels import Labels
from model.policies import Protocol
from model.policy_answers import Trace, TraceQuestion
from model.service_answers import BackendState
from model.services import ServicePort
from observe.api import create_agent_app
from observe.trace_question import PortQuestion, read_end, read_port
from tests.support.agent_state import ENDPOINT_HERE, ENDPOINT_THERE, FixedAgentState, an_endpoint
from tests.support.policy_state import DB, HERE, THERE, WEB, FixedPolicyState
from tests.support.service_state import (
    CACHE_SERVICE,
    VIP,
    WEB_SERVICE,
    a_backend,
    a_label_service,
    a_service,
)


@pytest.fixture
def state() -> FixedAgentState:
    return FixedAgentState()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("app=web", Labels.of({"app": "web"})),
        (" tier=front , app=web ", Labels.of({"app": "web", "tier": "front"})),
        ("app=", Labels.of({"app": ""})),
        ("a=b=c", Labels.of({"a": "b=c"})),
        ("com.docker.stack.namespace=é", Labels.of({"com.docker.stack.namespace": "é"})),
        ("host=x", Labels.of({"host": "x"})),
        ("1002", DB),
        ("1", IDENTITY_HOST),
        ("host", IDENTITY_HOST),
        ("reserved:host", IDENTITY_HOST),
        ("world", IDENTITY_WORLD),
        ("remote-node", IDENTITY_REMOTE_NODE),
        ("init", IDENTITY_INIT),
        ("198.51.100.7", ipaddress.ip_address("198.51.100.7")),
        ("2001:db8::1", ipaddress.ip_address("2001:db8::1")),
        ("10.1.0.9", DB),
        ("192.0.2.1", IDENTITY_HOST),
        ("192.0.2.2", IDENTITY_REMOTE_NODE),
    ],
)
def test_end_is_understood(state: FixedAgentState, text: str, end: object) -> None:
    assert read_end(state, text, "from") == end


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "from: '' is no label"),
        (
            "web",
            "from: 'web' is no label (app=web), identity (a number), address, service (service:web), nor one of host",
        ),
        ("service:", "from: there is no service ''"),
        ("service:x,y", "from: there is no service 'x,y': «hawse service ls» lists them"),
        ("app=web,", "from: '' is no label"),
        ("=web", "from: '=web' is no label"),
        ("app=web,app=db", "from: the label 'app' is there twice"),
        ("reserved:host=", "from: no container can have the label 'reserved:host'"),
        ("reserved:moon", "from: 'reserved:moon' is no label"),
        ("300.1.2.3", "from: '300.1.2.3' is no label"),
        ("16777216", "from: 16777216 is no identity of containers"),
        ("0", "from: 0 is no identity of containers"),
        ("x" * 500, "from: '" + "x" * 80 + "' is no label"),
    ],
)
def test_end_that_is_not_understood_is_a_sentence(state: FixedAgentState, text: str, sentence: str) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        read_end(state, text, "from")

    assert str(caught.value).startswith(sentence)


def test_identity_that_is_not_there_is_named(state: FixedAgentState) -> None:
    with pytest.raises(NotFound, match="to: there is no identity 4711"):
        read_end(state, "4711", "to")


def test_address_is_not_taken_for_one_outside_before_the_endpoints_are_known(state: FixedAgentState) -> None:
    state.store_error = StoreUnavailable("etcd cannot be reached")

    with pytest.raises(StoreUnavailable):
        read_end(state, "10.1.0.9", "to")


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("", PortQuestion()),
        ("5432/tcp", PortQuestion(protocol=Protocol.TCP, port=5432)),
        ("5432/TCP", PortQuestion(protocol=Protocol.TCP, port=5432)),
        ("53", PortQuestion(port=53)),
        ("65535/udp", PortQuestion(protocol=Protocol.UDP, port=65535)),
        ("http", PortQuestion(name="http")),
        ("http/tcp", PortQuestion(protocol=Protocol.TCP, name="http")),
        ("sctp", PortQuestion(protocol=Protocol.SCTP)),
        ("icmp", PortQuestion(protocol=Protocol.ICMP)),
        ("icmp/8", PortQuestion(protocol=Protocol.ICMP, port=8)),
        ("8/icmp", PortQuestion(protocol=Protocol.ICMP, port=8)),
        ("icmp/0", PortQuestion(protocol=Protocol.ICMP, port=0)),
        ("tcp/80", PortQuestion(protocol=Protocol.TCP, port=80)),
    ],
)
def test_port_is_understood(text: str, port: PortQuestion) -> None:
    assert read_port(text) == port


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("70000/tcp", "dport: 70000 is no port: 1 to 65535"),
        ("0", "dport: 0 is no port: 1 to 65535"),
        ("icmp/256", "dport: 256 is no ICMP type: 0 to 255"),
        ("80/http", "dport: 'http' is no protocol: tcp, udp, sctp or icmp"),
        ("http/quic", "dport: 'quic' is no protocol"),
        ("80/", "dport: '' is no protocol"),
        ("/tcp", "dport: '/tcp' is no port"),
        ("tcp/", "dport: 'tcp/' is no port"),
        ("-1", "dport: '-1' is no port"),
        ("80-90", "dport: '80-90' is no port"),
        ("icmp/echo", "dport: 'icmp/echo' is no port"),
        ("tcp/udp/1", "dport: 'tcp/udp/1' is no port"),
        ("99999999999/tcp", "dport: '99999999999/tcp' is no port"),
        ("\u0661/tcp", "dport: '\u0661/tcp' is no port"),
    ],
)
def test_port_that_is_not_understood_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_port(text)

    assert str(caught.value).startswith(sentence)


def _trace(state: FixedAgentState, **asked: str) -> Any:
    response = create_agent_app(state).test_client().post("/v1/policies/trace", json=asked)
    assert response.status_code == 200, response.text
    return response.get_json()


def test_trace_is_asked_and_answered(state: FixedAgentState) -> None:
    answer = _trace(state, **{"from": "app=api", "to": "10.1.0.9", "dport": "5432/tcp"})

    assert state.policies.asked == [
        TraceQuestion(source=Labels.of({"app": "api"}), destination=DB, protocol=Protocol.TCP, port=5432)
    ]
    assert answer["allowed"] is True
    assert answer["source"] == {
        "text": "app=api",
        "identity": None,
        "labels": {"app": "api"},
        "address": None,
        "service": None,
    }
    assert answer["destination"] == {
        "text": "10.1.0.9",
        "identity": 1002,
        "labels": {"app": "db", "com.docker.stack.namespace": "shop"},
        "address": None,
        "service": None,
    }
    assert (answer["protocol"], answer["port"], answer["port_name"]) == ("TCP", 5432, None)
    assert answer["pairs"] == [
        {name: answer[name] for name in answer.keys() - {"pairs"}},
    ]
    assert answer["steps"][1] == {
        "direction": "ingress",
        "endpoint": "app=db",
        "enforced": True,
        "selecting": ["db-from-api", "shop/deny-all"],
        "matched": [{"policy": "db-from-api", "path": "spec.ingress[0]", "deny": False, "revision": 123}],
        "allowed": True,
        "reason": "a rule allows it",
    }


def test_trace_to_an_address_outside_shows_the_address(state: FixedAgentState) -> None:
    answer = _trace(state, **{"from": "app=api", "to": "198.51.100.7"})

    assert answer["destination"] == {
        "text": "198.51.100.7",
        "identity": None,
        "labels": {},
        "address": "198.51.100.7",
        "service": None,
    }
    assert (answer["protocol"], answer["port"], answer["port_name"]) == (None, None, None)


class _Judging(FixedPolicyState):
    """Denies what goes to one identity."""

    denied: object = None

    def trace(self, question: TraceQuestion) -> Trace:
        answer = super().trace(question)
        return Trace(allowed=question.destination != self.denied, steps=answer.steps)


@pytest.fixture
def behind(state: FixedAgentState) -> FixedAgentState:
    """A service ``shop_web`` whose two containers have an identity each."""
    state.known_endpoints = (
        an_endpoint(ENDPOINT_HERE, HERE, "10.1.0.9", identity=DB),
        an_endpoint(ENDPOINT_THERE, THERE, "10.1.0.10", identity=WEB),
    )
    state.fixed_policies = _Judging()
    return state


@pytest.mark.parametrize("to", ["service:shop_web", f"service:{WEB_SERVICE}", str(VIP)])
def test_service_is_each_identity_of_its_containers(behind: FixedAgentState, to: str) -> None:
    answer = _trace(behind, **{"from": "app=api", "to": to, "dport": "80/tcp"})

    api = Labels.of({"app": "api"})
    assert behind.policies.asked == [
        TraceQuestion(source=api, destination=WEB, protocol=Protocol.TCP, port=80),
        TraceQuestion(source=api, destination=DB, protocol=Protocol.TCP, port=80),
    ]
    assert answer["allowed"] is True
    assert answer["destination"] == {
        "text": to,
        "identity": None,
        "labels": {},
        "address": None,
        "service": "shop_web",
    }
    assert [(pair["destination"]["identity"], pair["destination"]["service"]) for pair in answer["pairs"]] == [
        (1001, "shop_web"),
        (1002, "shop_web"),
    ]


def test_service_is_denied_when_one_of_its_containers_is(behind: FixedAgentState) -> None:
    behind.policies.denied = DB  # type: ignore[attr-defined]  # _Judging

    answer = _trace(behind, **{"from": "app=api", "to": "service:shop_web"})

    assert answer["allowed"] is False
    assert [pair["allowed"] for pair in answer["pairs"]] == [True, False]


def test_containers_of_one_identity_are_asked_about_once(behind: FixedAgentState) -> None:
    behind.known_endpoints = [
        an_endpoint(endpoint.endpoint_id, endpoint.node, str(endpoint.addresses[0]), identity=DB)
        for endpoint in behind.known_endpoints
    ]

    answer = _trace(behind, **{"from": "service:shop_web", "to": "world"})

    assert [question.source for question in behind.policies.asked if isinstance(question, TraceQuestion)] == [DB]
    assert answer["source"]["service"] == answer["pairs"][0]["source"]["service"] == "shop_web"


@pytest.mark.parametrize(
    ("dport", "asked"),
    [
        ("6379/tcp", [(Protocol.TCP, 16379)]),
        ("6379", [(Protocol.TCP, 16379)]),
        ("53", [(Protocol.UDP, 5300), (Protocol.TCP, 5353)]),
        ("udp", [(Protocol.UDP, 5300)]),
        ("", [(Protocol.UDP, 5300), (Protocol.TCP, 5353), (Protocol.TCP, 16379)]),
        ("icmp", [(Protocol.ICMP, None)]),
    ],
)
def test_port_of_a_service_is_asked_about_where_its_containers_listen(
    behind: FixedAgentState, dport: str, asked: list[tuple[Protocol, int | None]]
) -> None:
    ports = (
        ServicePort(port=6379, protocol="tcp", target_port=16379),
        ServicePort(port=53, protocol="tcp", target_port=5353),
        ServicePort(port=53, protocol="udp", target_port=5300),
    )
    backends = tuple(a_backend("cache", "10.1.0.9", port=port.target_port) for port in ports)
    behind.balancing.known = (a_label_service(ports=ports, backends=backends),)

    _trace(behind, **{"from": "app=api", "to": "service:cache", "dport": dport})

    questions = [question for question in behind.policies.asked if isinstance(question, TraceQuestion)]
    assert [(question.protocol, question.port) for question in questions] == asked


def test_containers_that_get_connections_come_before_those_that_do_not(behind: FixedAgentState) -> None:
    def asked(*states: BackendState) -> set[object]:
        behind.policies.asked.clear()
        backends = [a_backend("", f"10.1.0.{9 + number}", state=state) for number, state in enumerate(states)]
        behind.balancing.known = (a_service(backends=tuple(backends)),)
        _trace(behind, **{"from": "app=api", "to": "service:shop_web"})
        return {one.destination for one in behind.policies.asked if isinstance(one, TraceQuestion)}

    assert asked(BackendState.ACTIVE, BackendState.DRAINING) == {DB}
    assert asked(BackendState.UNHEALTHY, BackendState.STARTING) == {DB, WEB}
    assert asked(BackendState.GONE, BackendState.UNHEALTHY) == {WEB}


@pytest.mark.parametrize(
    ("to", "dport", "status", "sentence"),
    [
        ("service:web", "", 404, "to: there is no service 'web': «hawse service ls» lists them"),
        ("service:cache", "", 404, "to: nobody answers for the service cache: «hawse service get cache»"),
        (
            "service:elsewhere",
            "6379/tcp",
            404,
            "to: nobody answers for the service elsewhere there: «hawse service get elsewhere»",
        ),
        ("service:twice", "", 400, f"to: twice is 2 services; say one of the ids {WEB_SERVICE}, {CACHE_SERVICE}"),
        ("service:cache", "80/tcp", 400, "dport: the service cache is not asked there, but at 6379/tcp"),
    ],
)
def test_service_that_cannot_be_asked_is_a_sentence(
    behind: FixedAgentState, to: str, dport: str, status: int, sentence: str
) -> None:
    behind.balancing.known = (
        a_label_service(),
        a_service(name="twice"),
        a_label_service(name="elsewhere", service_id=ServiceId("e"), backends=(a_backend("", "10.1.0.9", port=81),)),
    )
    if to == "service:twice":
        behind.balancing.known = (a_service(name="twice"), a_label_service(name="twice"))

    response = (
        create_agent_app(behind)
        .test_client()
        .post("/v1/policies/trace", json={"from": "app=api", "to": to, "dport": dport})
    )

    assert (response.status_code, response.get_json()["error"]) == (status, sentence)
