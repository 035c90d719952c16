"""``hawse bpf lb``, ``nat`` and ``published``: the kernel's maps as programs and as people see them."""

from __future__ import annotations

import dataclasses
from textwrap import dedent
from typing import Any, TypeVar

import msgspec
import pytest
from flask.testing import FlaskClient

from cli import translation_text
from cli.conform import conform
from cli.translation_documents import Frontends, PublishedPorts, Translations
from datapath.api import Balancing, Translation
from model.errors import DatapathError, StoreUnavailable
from observe import translation_describe
from observe.api import create_agent_app
from observe.map_describe import NewestQuestion
from tests.support.agent_state import FixedAgentState, a_translation

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


def test_frontends_say_how_often_each_backend_is_chosen(client: FlaskClient) -> None:
    every_port, one_port = _get(client, "/v1/bpf/lb")["frontends"]

    assert every_port == {
        "vni": 4097,
        "address": "10.1.0.2",
        "port": None,
        "protocol": None,
        "service": "shop_web",
        "affinity": True,
        "backends": [
            {"address": "10.1.0.9", "port": None, "slots": 5, "share": 0.625, "container": "shop_db.1"},
            {"address": "10.1.0.10", "port": 8080, "slots": 3, "share": 0.375, "container": None},
        ],
    }
    assert (one_port["port"], one_port["protocol"], one_port["backends"]) == (81, "UDP", [])


def test_translations_come_in_the_order_of_their_last_packet(client: FlaskClient) -> None:
    newest, oldest = _get(client, "/v1/bpf/nat")["translations"]

    assert newest == {
        "kind": "service",
        "protocol": "TCP",
        "source": "10.1.0.10",
        "source_port": 40001,
        "destination": "10.1.0.2",
        "destination_port": 80,
        "new_source": "10.1.0.10",
        "new_source_port": 40001,
        "new_destination": "10.1.0.9",
        "new_destination_port": 80,
        "reply": False,
        "idle_s": 0,
    }
    assert (oldest["kind"], oldest["new_source"], oldest["new_source_port"]) == ("masquerade", "192.0.2.1", 10240)


def test_of_more_translations_than_asked_for_the_newest_are_shown(client: FlaskClient, state: FixedAgentState) -> None:
    document = _get(client, "/v1/bpf/nat?limit=1")

    assert (["service"], 1) == ([one["kind"] for one in document["translations"]], document["left_out"])
    assert 0 == _get(client, "/v1/bpf/nat")["left_out"]
    text = translation_text.translations(
        _received(translation_describe.translations(state, NewestQuestion(limit=1)), Translations)
    )
    assert text.endswith("\n1 more entry, used less lately: see --limit\n")


@pytest.mark.parametrize("path", ["/v1/bpf/ct", "/v1/bpf/nat"])
@pytest.mark.parametrize("limit", ["0", "-1", "x", "200001", "1&limit=2"])
def test_a_limit_that_is_none_is_refused(client: FlaskClient, path: str, limit: str) -> None:
    assert 400 == client.get(f"{path}?limit={limit}").status_code


def test_published_ports_name_their_container(client: FlaskClient) -> None:
    named, web = _get(client, "/v1/bpf/published")["ports"]

    assert web == {
        "address": None,
        "port": 8080,
        "protocol": "TCP",
        "target": "10.1.0.9",
        "target_port": 80,
        "vni": 4097,
        "container": "shop_db.1",
    }
    assert (named["address"], named["port"], named["protocol"], named["container"]) == ("192.0.2.1", 53, "UDP", None)


@pytest.mark.parametrize("path", ["/v1/bpf/lb", "/v1/bpf/nat", "/v1/bpf/published"])
def test_map_that_cannot_be_read_is_500_with_the_reason(client: FlaskClient, state: FixedAgentState, path: str) -> None:
    state.kernel_error = DatapathError("map hawse_nat is gone")

    response = client.get(path)

    assert (response.status_code, response.get_json()) == (500, {"error": "map hawse_nat is gone"})


def test_kernel_answers_without_names_while_the_store_is_not_known(client: FlaskClient, state: FixedAgentState) -> None:
    state.store_error = state.balancing.error = StoreUnavailable("etcd has not been reached")

    every_port, _ = _get(client, "/v1/bpf/lb")["frontends"]
    _, web = _get(client, "/v1/bpf/published")["ports"]

    assert every_port["service"] is None
    assert {backend["container"] for backend in every_port["backends"]} == {None}
    assert web["container"] is None


def test_frontend_list(state: FixedAgentState) -> None:
    document = _received(translation_describe.frontends(state), Frontends)

    assert translation_text.frontends(document) == dedent("""\
         VNI  FRONTEND         SERVICE   AFFINITY  BACKEND         SLOTS   SHARE  CONTAINER
        4097  10.1.0.2:*/any   shop_web  yes       10.1.0.9:*          5  62.5 %  shop_db.1
                                                   10.1.0.10:8080      3  37.5 %  -
        4097  10.1.0.2:81/udp  shop_web  no        none: refused       0       -  -
        """)


def test_translation_list(state: FixedAgentState) -> None:
    document = _received(translation_describe.translations(state, NewestQuestion()), Translations)

    assert translation_text.translations(document) == dedent("""\
        KIND        PROTOCOL  COMES AS                            GOES ON AS                          REPLY   IDLE
        service     TCP       10.1.0.10:40001 → 10.1.0.2:80       10.1.0.10:40001 → 10.1.0.9:80       no        0s
        masquerade  TCP       10.1.0.10:40001 → 198.51.100.7:443  192.0.2.1:10240 → 198.51.100.7:443  no     1m 1s
        """)


def test_published_list(state: FixedAgentState) -> None:
    document = _received(translation_describe.published(state), PublishedPorts)

    assert translation_text.published(document) == dedent("""\
        HOST PORT         CONTAINER  ADDRESS         VNI
        192.0.2.1:53/udp  -          10.9.0.4:5353  4098
        *:8080/tcp        shop_db.1  10.1.0.9:80    4097
        """)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (translation_text.frontends({"frontends": []}), "The kernel serves no service.\n"),
        (translation_text.translations({"translations": [], "left_out": 0}), "No connection is translated.\n"),
        (
            translation_text.published({"ports": []}),
            "No port of this host is published for a container of hawse.\n",
        ),
    ],
    ids=["lb", "nat", "published"],
)
def test_empty_map_is_a_sentence(text: str, sentence: str) -> None:
    assert text == sentence


def test_service_without_a_table_has_no_share(client: FlaskClient, state: FixedAgentState) -> None:
    (frontend,) = list(state.kernel_frontends)[1:]
    state.kernel_frontends = {frontend: Balancing(backends=state.kernel_frontends[frontend].backends)}

    (document,) = _get(client, "/v1/bpf/lb")["frontends"]

    assert {backend["share"] for backend in document["backends"]} == {0.0}


def test_both_halves_of_a_translated_connection_stand_together(client: FlaskClient, state: FixedAgentState) -> None:
    web, shell = (a_translation("service", "10.1.0.2", port, idle_s=7) for port in (80, 22))
    state.translated = (_answer(web), shell, web, _answer(shell))

    found = _get(client, "/v1/bpf/nat")["translations"]

    assert [(half["destination_port"], half["source_port"], half["reply"]) for half in found] == [
        (22, 40001, False),
        (40001, 22, True),
        (80, 40001, False),
        (40001, 80, True),
    ]


def _answer(half: Translation) -> Translation:
    return dataclasses.replace(
        half,
        source=half.new_destination,
        source_port=half.new_destination_port,
        destination=half.new_source,
        destination_port=half.new_source_port,
        new_source=half.destination,
        new_source_port=half.destination_port,
        new_destination=half.source,
        new_destination_port=half.source_port,
        reply=True,
    )
