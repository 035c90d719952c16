"""``hawse service`` and ``/v1/services``: as programs and as people see them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent
from typing import Any, TypeVar

import msgspec
import pytest
from flask.testing import FlaskClient

from cli import service_text
from cli.conform import conform
from cli.service_documents import Service, Services
from model.errors import StoreUnavailable
from model.ids import ServiceId
from model.service_answers import BackendState
from model.services import ServicePort
from observe import service_describe
from observe.api import create_agent_app
from observe.service_describe import ServiceQuestion
from tests.support.agent_state import FixedAgentState
from tests.support.service_state import CACHE_SERVICE, WEB_SERVICE, a_backend, a_label_service, a_service

Document = TypeVar("Document")


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


def _received(document: object, kind: type[Document]) -> Document:
    """The document as it arrives on the other side of the socket."""
    return conform(msgspec.json.decode(msgspec.json.encode(document)), kind)


def _service(state: FixedAgentState, name: str) -> str:
    question = ServiceQuestion(service=name)
    return service_text.service(_received(service_describe.service(state, question), Service))


def test_networks_of_a_service_are_one_service(client: FlaskClient) -> None:
    cache, web = _get(client, "/v1/services")["services"]

    assert (cache["name"], cache["source"], cache["affinity"]) == ("cache", "label", True)
    assert cache["ports"] == [{"port": 6379, "protocol": "tcp", "target_port": 16379}]
    assert (web["name"], web["active"], web["containers"]) == ("shop_web", 2, 3)
    assert [(network["network"], network["vip"]) for network in web["networks"]] == [
        ("10.1.0.0/24", "10.1.0.2"),
        ("10.9.0.0/16", "10.9.0.2"),
    ]
    assert web["networks"][0]["backends"][1] == {
        "name": "shop_web.2",
        "node": "beta",
        "address": "10.1.0.10",
        "port": None,
        "state": "active",
        "share": 0.4995,
    }


@pytest.mark.parametrize(
    ("word", "ident"),
    [
        ("shop_web", WEB_SERVICE),
        (WEB_SERVICE, WEB_SERVICE),
        (WEB_SERVICE[:12], WEB_SERVICE),
        ("10.9.0.2", WEB_SERVICE),
        ("cache", CACHE_SERVICE),
        (CACHE_SERVICE, CACHE_SERVICE),
    ],
)
def test_service_is_found_by_name_id_and_address(client: FlaskClient, word: str, ident: str) -> None:
    assert _get(client, f"/v1/services/{word}")["id"] == ident


@pytest.mark.parametrize("word", ["web", "10.1.0.9", WEB_SERVICE[:3], "x" * 200])
def test_service_that_is_not_there_is_404_and_says_where_to_look(client: FlaskClient, word: str) -> None:
    response = client.get(f"/v1/services/{word}")

    assert response.status_code == 404
    assert response.get_json() == {"error": f"there is no service {word[:80]!r}: «hawse service ls» lists them"}


def test_name_of_two_services_is_refused_with_their_ids(client: FlaskClient, state: FixedAgentState) -> None:
    state.balancing.known = (a_service(name="cache"), a_label_service())

    response = client.get("/v1/services/cache")

    assert response.status_code == 400
    assert response.get_json()["error"] == (f"cache is 2 services; say one of the ids {WEB_SERVICE}, {CACHE_SERVICE}")
    assert _get(client, f"/v1/services/{CACHE_SERVICE}")["source"] == "label"


def test_id_comes_before_a_name_that_looks_like_one(client: FlaskClient, state: FixedAgentState) -> None:
    state.balancing.known = (a_service(), a_service(service_id=ServiceId("zz"), name=WEB_SERVICE))

    assert _get(client, f"/v1/services/{WEB_SERVICE}")["name"] == "shop_web"


def test_services_that_are_not_known_yet_are_503(client: FlaskClient, state: FixedAgentState) -> None:
    state.balancing.error = StoreUnavailable("etcd has not been reached since the agent started")

    assert client.get("/v1/services").status_code == 503
    assert client.get("/v1/services/shop_web").status_code == 503


def test_listing_says_when_it_may_be_out_of_date(client: FlaskClient, state: FixedAgentState) -> None:
    state.stale = "etcd has not answered for 12 seconds"

    assert _get(client, "/v1/services")["warning"] == state.stale


def test_service_list(state: FixedAgentState) -> None:
    assert service_text.services(_received(service_describe.services(state), Services)) == dedent("""\
        NAME      SOURCE  VIP                 PORTS             BACKENDS
        cache     label   10.1.0.3            6379/tcp → 16379       0/0
        shop_web  swarm   10.1.0.2, 10.9.0.2  every                  2/3
        NOT OK: cache: no container answers
        """)


def test_service_of_the_swarm(state: FixedAgentState) -> None:
    assert _service(state, "shop_web") == dedent("""\
        service   shop_web
        id        k3xq9m2b7c1d4f5g6h7j8k9l0
        source    service of the Swarm
        ports     every port, as it is
        affinity  none: a backend for each connection
        backends  2 active of 3

        10.1.0.2 in 10.1.0.0/24
          BACKEND     NODE   ADDRESS    STATE     TRAFFIC
          shop_web.1  alpha  10.1.0.9   active     50.0 %
          shop_web.2  beta   10.1.0.10  active     50.0 %
          shop_web.3  beta   10.1.0.11  starting        -

        10.9.0.2 in 10.9.0.0/16
          BACKEND     NODE   ADDRESS    STATE     TRAFFIC
          shop_web.1  alpha  10.9.0.9   active    100.0 %
          shop_web.2  beta   10.9.0.10  draining        -
        """)


def test_documentation_shows_what_the_command_shows(state: FixedAgentState) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

    assert f"    $ hawse service get shop_web\n{indent(_service(state, 'shop_web'), '    ')}" in documentation


def test_service_that_nobody_answers_for(state: FixedAgentState) -> None:
    assert _service(state, "10.1.0.3") == dedent("""\
        service   cache
        id        label-10.1.0.0-24-cache
        source    label hawse.service of containers
        ports     6379/tcp → 16379
        affinity  a client keeps its backend
        backends  0 active of 0

        10.1.0.3 in 10.1.0.0/24
          NOT OK: no container answers
          no backend: connections are refused
        """)


def test_backend_that_little_is_known_of(state: FixedAgentState) -> None:
    backend = a_backend("", "10.1.0.9", node="", port=16379, state=BackendState.GONE)
    state.balancing.known = (
        a_label_service(ports=(ServicePort(port=80, protocol="udp", target_port=80),), backends=(backend,), problem=""),
    )

    text = _service(state, "cache")

    assert "ports     80/udp\n" in text
    assert text.endswith("  -        -     10.1.0.9:16379  gone         -\n")


def test_empty_list_is_a_sentence() -> None:
    text = service_text.services({"services": [], "warning": None})

    assert text.startswith("There is no service: ")
    assert text.count("\n") == 1
