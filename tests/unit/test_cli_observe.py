"""``hawse observe``: what the operator sees, from the kernel's report to the line on the screen."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import typing
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from click.testing import CliRunner, Result
from flask import Flask

from cli import flow_documents
from cli.client import AgentClient, AgentFailed, AgentUnreachable
from cli.flow_documents import Flow, Flows
from cli.flow_text import FlowTable, compact_line
from cli.observe_command import observe
from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_HOST, IDENTITY_INIT
from model.labels import Labels
from observe import flow_document
from observe.flow_ring import PAGE_FLOWS
from observe.flow_routes import FLOWS_PATH, flow_view
from tests.support.flow_world import (
    DB_FROM_API,
    DB_GUARD,
    VIP,
    WEB,
    WEB_ADDRESS,
    WEB_ENDPOINT,
    FlowWorld,
    a_service,
    an_endpoint,
    an_event,
    flow_world,
    forwarded,
)
from tests.support.unix_server import sends, serve_application, serve_connection

TODAY = date(2026, 3, 1)
OUTSIDE = ipaddress.ip_address("198.51.100.7")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    with flow_world() as made:
        yield made


def _app(world: FlowWorld) -> Flask:
    app = Flask(__name__)
    app.add_url_rule(FLOWS_PATH, view_func=flow_view(world.log), endpoint="flows")
    return app


@contextlib.contextmanager
def _serving(world: FlowWorld, path: Path) -> Iterator[Path]:
    with serve_application(_app(world), path):
        yield path


@pytest.fixture
def agent(world: FlowWorld, tmp_path: Path) -> Iterator[Path]:
    with _serving(world, tmp_path / "agent.sock") as path:
        yield path


def _received(world: FlowWorld, agent: Path) -> Flow:
    return AgentClient(str(agent)).get(f"{FLOWS_PATH}?last=1", Flows)["flows"][0]


def _run(agent: Path, *arguments: str) -> Result:
    return CliRunner().invoke(observe, arguments, obj=AgentClient(str(agent)))


def _shape(kind: Any) -> Any:
    """What JSON a type stands for: by field, whether it is always there and what it is."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    shape: Any = getattr(kind, "__name__", kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        fields = msgspec.structs.fields(kind)
        shape = {field.encode_name: (field.required, _shape(hints[field.name])) for field in fields}
    elif typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        shape = {name: (name in kind.__required_keys__, _shape(hint)) for name, hint in hints.items()}
    elif origin is Literal:
        shape = ("literal", *arguments)
    elif origin is list:
        shape = ("list", _shape(arguments[0]))
    elif arguments:
        (present,) = (argument for argument in arguments if argument is not msgspec.UnsetType)
        shape = _shape(present)
    return shape


def test_command_reads_what_the_agent_writes() -> None:
    assert _shape(flow_documents.Flows) == _shape(flow_document.FlowsDocument)
    assert _shape(flow_documents.FlowsEnd) == _shape(flow_document.FlowsEndDocument)


PACKET = "web(1021) 10.1.0.5:41022 → db(1040) 10.1.1.7:5432"
GOLDEN: list[tuple[Any, str]] = [
    (
        an_event(rule=DB_GUARD, reason=181),
        f"DROPPED {PACKET} tcp policy denied (shop/db-guard spec.ingressDeny[0])",
    ),
    (
        an_event(),
        f"DROPPED {PACKET} tcp policy denied (no rule allows it; selected by deny-all, db-from-api)",
    ),
    (
        an_event(rule=1),
        f"DROPPED {PACKET} tcp policy denied (identity 1021 is not known on this node yet)",
    ),
    (
        an_event(verdict=FlowVerdict.AUDIT, rule=DB_GUARD, reason=181),
        f"AUDIT {PACKET} tcp policy would deny (shop/db-guard spec.ingressDeny[0])",
    ),
    (
        an_event(verdict=FlowVerdict.AUDIT),
        f"AUDIT {PACKET} tcp policy would deny (no rule allows it; selected by deny-all, db-from-api)",
    ),
    (
        forwarded(rule=DB_FROM_API, protocol=17),
        f"FORWARDED {PACKET} udp",
    ),
    (
        forwarded(protocol=132, is_reply=True),
        f"FORWARDED {PACKET} sctp reply",
    ),
    (
        forwarded(protocol=1, source_port=0, destination_port=8),
        "FORWARDED web(1021) 10.1.0.5 → db(1040) 10.1.1.7 icmp echo request",
    ),
    (
        forwarded(protocol=1, source_port=0, destination_port=13),
        "FORWARDED web(1021) 10.1.0.5 → db(1040) 10.1.1.7 icmp type 13",
    ),
    (
        forwarded(protocol=58, source_port=0, destination_port=129),
        "FORWARDED web(1021) 10.1.0.5 → db(1040) 10.1.1.7 icmpv6 echo reply",
    ),
    (
        forwarded(protocol=47, source_port=0, destination_port=0),
        "FORWARDED web(1021) 10.1.0.5 → db(1040) 10.1.1.7 protocol 47",
    ),
    (
        an_event(destination=OUTSIDE, destination_identity=CIDR_IDENTITY_BASE, reason=150, direction=Direction.EGRESS),
        "DROPPED web(1021) 10.1.0.5:41022 → world(16777216) 198.51.100.7:5432 tcp unknown l3 target address",
    ),
    (
        forwarded(source=ipaddress.ip_address("fd00::1"), source_identity=IDENTITY_HOST),
        "FORWARDED host(1) [fd00::1]:41022 → db(1040) 10.1.1.7:5432 tcp",
    ),
    (
        an_event(source_identity=IDENTITY_INIT, source=ipaddress.ip_address("10.1.0.77"), reason=132),
        "DROPPED init(5) 10.1.0.77:41022 → db(1040) 10.1.1.7:5432 tcp invalid source ip",
    ),
    (
        an_event(source=None, destination=None, destination_identity=0, protocol=0, reason=166),
        "DROPPED app=web,tier=front(1021) → unknown unsupported l2 protocol",
    ),
]


@pytest.mark.parametrize(("event", "line"), GOLDEN, ids=[line[:60] for _, line in GOLDEN])
def test_line_for_people(world: FlowWorld, agent: Path, event: Any, line: str) -> None:
    world.happen(event)

    text = compact_line(_received(world, agent), zone=UTC, today=TODAY, with_policy=False)

    assert text == f"12:00:01.204 {line}\n"


def test_virtual_address_is_named_by_its_service(world: FlowWorld, agent: Path) -> None:
    world.put_services(a_service())
    world.happen(an_event(destination=VIP, destination_identity=0, reason=158))
    flow = _received(world, agent)

    line = (
        "web(1021) 10.1.0.5:41022 → shop_db (service) 10.1.0.2:5432 tcp service backend not found "
        "(nobody answers for the service shop_db; the client is refused: «hawse service get shop_db»)\n"
    )
    assert compact_line(flow, zone=UTC, today=TODAY, with_policy=False) == f"12:00:01.204 DROPPED {line}"
    assert "  shop_db (service) 10.1.0.2:5432  tcp " in FlowTable(zone=UTC, with_policy=False).rows([flow])


def test_answer_of_a_virtual_address_is_named_by_its_service(world: FlowWorld, agent: Path) -> None:
    world.put_services(a_service())
    world.happen(
        forwarded(source=VIP, source_identity=0, destination=WEB_ADDRESS, destination_identity=WEB, is_reply=True)
    )

    text = compact_line(_received(world, agent), zone=UTC, today=TODAY, with_policy=False)

    assert " shop_db (service) 10.1.0.2:41022 → web(1021) 10.1.0.5:5432 tcp reply" in text


def test_line_of_another_day_has_its_date_and_times_are_those_of_the_zone(world: FlowWorld, agent: Path) -> None:
    world.happen(an_event())
    flow = _received(world, agent)

    later = compact_line(flow, zone=UTC, today=date(2026, 3, 2), with_policy=False)
    east = compact_line(flow, zone=timezone(timedelta(hours=13)), today=date(2026, 3, 2), with_policy=False)

    assert later.startswith("2026-03-01 12:00:01.204 DROPPED")
    assert east.startswith("01:00:01.204 DROPPED")


def test_rules_of_what_passed_are_shown_when_asked_for(world: FlowWorld, agent: Path) -> None:
    world.happen(forwarded(rule=DB_FROM_API))

    text = compact_line(_received(world, agent), zone=UTC, today=TODAY, with_policy=True)

    assert text.endswith(" tcp (allowed by db-from-api spec.ingress[0])\n")


@pytest.mark.parametrize(
    ("container", "labels", "name"),
    [
        ("shop_web.1.x7k", {"com.docker.swarm.service.name": "shop_web", "app": "web"}, "shop_web.1.x7k"),
        ("", {"com.docker.swarm.service.name": "shop_web", "app": "web"}, "shop_web"),
        ("", {"com.docker.compose.project": "shop", "hawse.ingress": "none", "app": "web"}, "app=web"),
        ("", {"a": "1", "b": "", "c": "3"}, "a=1,b,c=3"),
        ("", {"a": "1", "b": "", "c": "3", "d": "4"}, "a=1,b,c=3,…"),
        ("", {}, "unknown"),
    ],
)
def test_name_is_that_of_the_container_else_service_else_labels(
    world: FlowWorld, agent: Path, container: str, labels: dict[str, str], name: str
) -> None:
    world.put(an_endpoint("aa", WEB_ADDRESS, WEB, container=container))
    world.rules.labels[WEB] = Labels.of(labels)
    world.happen(an_event())

    text = compact_line(_received(world, agent), zone=UTC, today=TODAY, with_policy=False)

    assert text.startswith(f"12:00:01.204 DROPPED {name}(1021) 10.1.0.5:41022 → ")


def test_names_cannot_steer_the_terminal(world: FlowWorld, agent: Path) -> None:
    world.put(an_endpoint("aa", WEB_ADDRESS, WEB, container="we\x1b[2Jb"))
    world.happen(an_event())
    flow = _received(world, agent)

    assert "we\\x1b[2Jb(1021)" in compact_line(flow, zone=UTC, today=TODAY, with_policy=False)
    assert "we\\x1b[2Jb(1021)" in FlowTable(zone=UTC, with_policy=False).rows([flow])
    shown = _run(agent, "-o", "json").stdout
    assert "\x1b" not in shown
    assert "we\\u001b[2Jb" in shown


def test_table_grows_and_has_its_titles_once(world: FlowWorld, agent: Path) -> None:
    world.happen(an_event(reason=182), forwarded(protocol=17, source_port=5))
    first = AgentClient(str(agent)).get(FLOWS_PATH, Flows)["flows"]
    world.put(an_endpoint("aa", WEB_ADDRESS, WEB, container="a-longer-name"))
    second = _received(world, agent)
    table = FlowTable(zone=UTC, with_policy=False)

    assert table.rows(first).splitlines() == [
        "TIME                     VERDICT    SOURCE                    DESTINATION             PROTOCOL  WHY",
        "2026-03-01 12:00:01.204  DROPPED    web(1021) 10.1.0.5:41022  db(1040) 10.1.1.7:5432  tcp       vlan filtered",
        "2026-03-01 12:00:01.204  FORWARDED  web(1021) 10.1.0.5:5      db(1040) 10.1.1.7:5432  udp       -",
    ]
    assert table.rows([]) == ""
    assert table.rows([second]).splitlines() == [
        "2026-03-01 12:00:01.204  FORWARDED  a-longer-name(1021) 10.1.0.5:5  db(1040) 10.1.1.7:5432  udp       -",
    ]


@pytest.mark.parametrize("output", ["json", "jsonpb"])
def test_json_is_an_object_a_line_as_hubble_writes_it(world: FlowWorld, agent: Path, output: str) -> None:
    world.happen(an_event(), forwarded())

    lines = [json.loads(line) for line in _run(agent, "-o", output).stdout.splitlines()]

    assert [sorted(line) for line in lines] == [["flow", "node_name", "time"]] * 2
    assert [line["flow"]["verdict"] for line in lines] == ["DROPPED", "FORWARDED"]
    assert (lines[0]["node_name"], lines[0]["time"]) == ("alpha", "2026-03-01T12:00:01.204000Z")
    assert [line["flow"] for line in lines] == AgentClient(str(agent)).get(FLOWS_PATH, Flows)["flows"]
    assert lines[0]["flow"]["source"]["pod_name"] == "web"


@pytest.mark.parametrize(
    ("accepted", "media_type"),
    [
        ({}, "application/json"),
        ({"Accept": "*/*"}, "application/json"),
        ({"Accept": "application/json, application/x-ndjson"}, "application/json"),
        ({"Accept": "application/x-ndjson"}, "application/x-ndjson"),
        ({"Accept": "text/html"}, "application/json"),
    ],
)
def test_lines_are_for_who_asks_for_them(world: FlowWorld, accepted: dict[str, str], media_type: str) -> None:
    assert _app(world).test_client().get(FLOWS_PATH, headers=accepted).mimetype == media_type


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", b'{"flows":[]}\n'),
        ("application/x-ndjson", b'{"next":0}'),
        ("application/x-ndjson", b'{"flow":"\x1b[2J"}\n{"next":0}\n'),
        ("application/x-ndjson", b'{"flow":"\xff"}\n{"next":0}\n'),
        ("application/x-ndjson", b'{"flow":{}}\n{"next":0}\n'),
        ("application/x-ndjson", b"\n\n"),
    ],
    ids=["a document", "no end of the line", "a control character", "no UTF-8", "no end", "nothing"],
)
def test_lines_that_are_not_the_agents_are_refused(tmp_path: Path, media_type: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    with serve_connection(sends(head + body), tmp_path / "agent.sock") as path:
        result = _run(path, "-o", "json")

    assert isinstance(result.exception, AgentFailed)
    assert result.stdout == ""


def test_a_refusal_is_told_also_where_lines_are_asked_for(agent: Path) -> None:
    result = _run(agent, "-o", "json", "--port", "none")

    assert isinstance(result.exception, AgentFailed)
    assert "none" in str(result.exception)


def test_the_last_twenty_are_shown(world: FlowWorld, agent: Path) -> None:
    world.happen(*(an_event(source_port=port) for port in range(1, 31)))

    result = _run(agent, "-o", "json")

    assert [json.loads(line)["flow"]["sequence"] for line in result.stdout.splitlines()] == list(range(10, 30))
    assert len(_run(agent, "--last", "3").stdout.splitlines()) == 3
    assert (result.exit_code, result.stderr) == (0, "")


def test_nothing_seen_is_nothing_shown(agent: Path) -> None:
    result = _run(agent)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert _run(agent, "-o", "table").stdout.startswith("TIME")


def test_all_since_a_time_are_shown_also_when_they_are_more_than_a_page(world: FlowWorld, agent: Path) -> None:
    world.happen(*(an_event(source_port=port) for port in range(1, PAGE_FLOWS + 11)))
    world.happen(an_event(monotonic_ns=0))

    result = _run(agent, "--since", "2026-03-01T12:00:00Z", "-o", "json")

    assert len(result.stdout.splitlines()) == PAGE_FLOWS + 10


def test_since_a_duration_is_counted_from_now(world: FlowWorld, agent: Path) -> None:
    now_s = datetime.now(UTC).timestamp()
    world.clock.time_s = now_s
    world.happen(*(an_event(monotonic_ns=int((now_s - ago_s) * 1e9)) for ago_s in (7200, 4000, 60)))

    assert len(_run(agent, "--since", "5m").stdout.splitlines()) == 1
    assert len(_run(agent, "--since", "1h30m").stdout.splitlines()) == 2
    assert len(_run(agent, "--since", "1d").stdout.splitlines()) == 3
    assert len(_run(agent, "--since", "1d", "--last", "2").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--verdict", "DROPPED"), 2),
        (("--verdict", "dropped", "--verdict", "FORWARDED"), 3),
        (("--from-label", "app=web"), 2),
        (("--to-label", "app=web"), 0),
        (("--label", "app=db", "--label", "com.docker.stack.namespace"), 3),
        (("--port", "5432"), 2),
        (("--to-port", "8000-8100"), 1),
        (("--from-port", "5432"), 0),
        (("--protocol", "udp"), 1),
        (("--ip", "198.51.100.0/24"), 1),
        (("--from-ip", "10.1.0.5"), 2),
        (("--to-ip", "10.1.1.7"), 3),
        (("--identity", "host"), 0),
        (("--from-identity", "world"), 1),
        (("--to-identity", "1040"), 3),
        (("--container", "web"), 2),
        (("--from-container", "we*"), 2),
        (("--to-container", "web"), 0),
        (("--service", "shop_db"), 3),
        (("--from-service", "shop_db"), 0),
        (("--to-service", "shop_*"), 3),
        (("--drop-reason", "POLICY_DENY"), 1),
        (("--direction", "egress"), 1),
        (("--verdict", "DROPPED", "--from-label", "app=web", "--port", "5432"), 1),
    ],
    ids=str,
)
def test_options_select(world: FlowWorld, agent: Path, arguments: tuple[str, ...], shown: int) -> None:
    world.put_services(a_service())
    world.happen(
        an_event(),
        an_event(reason=181, rule=DB_GUARD, source=OUTSIDE, source_identity=CIDR_IDENTITY_BASE),
        forwarded(protocol=17, destination_port=8080, direction=Direction.EGRESS),
    )

    result = _run(agent, *arguments)

    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("--verdict", "LOST"),
        ("--last", "-1"),
        ("--since", "yesterday"),
        ("--since", "5"),
        ("--since", "999999999d"),
        ("--since", "0001-01-01T00:00:00"),
        ("-o", "yaml"),
        ("extra",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(agent: Path, arguments: tuple[str, ...]) -> None:
    result = _run(agent, *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_a_value_that_the_agent_refuses_is_its_sentence(agent: Path) -> None:
    result = _run(agent, "--port", "http")

    assert isinstance(result.exception, AgentFailed)
    assert "port: 'http' is no port, 0 to 65535, or a range like 8000-8080" in str(result.exception)


def test_missing_agent_is_told_also_when_following(tmp_path: Path) -> None:
    result = _run(tmp_path / "agent.sock", "-f")

    assert isinstance(result.exception, AgentUnreachable)


def test_lost_flows_are_told_beside_the_lines(world: FlowWorld, agent: Path) -> None:
    world.happen(an_event())
    world.happen(an_event(), lost=5)

    result = _run(agent)

    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == (
        "warning: 5 flows are missing: the kernel could not report them, or newer ones took their place\n"
    )


@contextlib.contextmanager
def _following(path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    script = (
        "import sys; from cli.client import AgentClient; from cli.observe_command import observe; "
        "observe(sys.argv[2:], obj=AgentClient(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TZ": "UTC"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(stream: typing.IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_following_shows_flows_as_they_come_and_an_interrupt_is_quiet(world: FlowWorld, tmp_path: Path) -> None:
    world.happen(an_event(source_port=1), an_event(source_port=2))
    with _serving(world, tmp_path / "agent.sock") as path, _following(path, "-f", "--last", "1") as process:
        assert "10.1.0.5:2 " in _line(process.stdout)
        world.happen(an_event(source_port=3))
        assert "10.1.0.5:3 " in _line(process.stdout)
        world.happen(an_event(source_port=4), lost=9)
        assert "10.1.0.5:4 " in _line(process.stdout)
        assert _line(process.stderr).startswith("warning: 9 flows are missing")

        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        world.log.stop()

    assert (stdout, stderr.strip()) == ("", "Aborted!")


def test_following_survives_a_restart_of_the_agent(world: FlowWorld, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    world.happen(*(an_event(source_port=port) for port in range(1, 6)))
    with contextlib.ExitStack() as stack:
        with _serving(world, path):
            process = stack.enter_context(_following(path, "-f", "--last", "1"))
            assert "10.1.0.5:5 " in _line(process.stdout)
            world.log.stop()
        path.unlink(missing_ok=True)
        assert "does not answer" in _line(process.stderr)
        with flow_world() as again, _serving(again, path):
            again.happen(an_event(source_port=77))

            assert "10.1.0.5:77 " in _line(process.stdout)
            assert _line(process.stderr) == "warning: the agent was started anew: what passed in between is not shown\n"
            again.log.stop()


def test_what_the_container_was_called_is_shown_after_it_ended(world: FlowWorld, agent: Path) -> None:
    world.happen(an_event())
    world.remove(WEB_ENDPOINT)
    world.happen(an_event())

    assert all(" web(1021) " in line for line in _run(agent).stdout.splitlines())
