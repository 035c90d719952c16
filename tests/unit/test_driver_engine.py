"""Docker's API over its socket; the server here speaks HTTP as dockerd does."""

from __future__ import annotations

import ast
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from flask import Flask, Response

from driver.engine import Engine, EngineInfo
from driver.engine_events import ContainerAction, ContainerEvent, NetworkAction, NetworkEvent
from driver.engine_records import Container, ContainerId, Readiness, Residents
from driver.fields import Fields
from model.errors import EngineUnavailable
from model.ids import DockerNetworkId, EndpointId
from tests.support import wait
from tests.support.fake_dockerd import FakeDockerd, serving
from tests.support.unix_server import sends, serve_application, serve_connection

ROOT = Path(__file__).parents[2]
WEB = ContainerId("c1" * 32)
OTHER = ContainerId("c2" * 32)
NETWORK = DockerNetworkId("5c" * 32)
ENDPOINT = EndpointId("e1" * 32)


@pytest.fixture
def dockerd() -> FakeDockerd:
    made = FakeDockerd()
    made.networks[NETWORK] = "net"
    return made


@pytest.fixture
def engine(dockerd: FakeDockerd, tmp_path: Path) -> Iterator[Engine]:
    with serving(dockerd, tmp_path / "docker.sock") as path:
        yield Engine(path)


@contextlib.contextmanager
def answering(path: Path, answers: Mapping[str, object]) -> Iterator[Engine]:
    """An engine with fixed answers."""
    app = Flask("dockerd", static_folder=None)

    @app.get("/_ping")
    def ping() -> Response:
        return Response("OK", headers={"Api-Version": "1.41"})

    @app.get("/v1.41/<path:target>")
    def answer(target: str) -> Response:
        value = answers[f"/{target}"]
        return Response(value if isinstance(value, bytes) else json.dumps(value), content_type="application/json")

    with serve_application(app, path):
        yield Engine(path)


@pytest.mark.parametrize(
    ("state", "in_swarm"),
    [("inactive", False), ("", False), ("active", True), ("pending", True), ("locked", True), ("error", True)],
)
def test_info_says_whether_the_host_is_in_a_swarm(tmp_path: Path, state: str, *, in_swarm: bool) -> None:
    info = {"ServerVersion": "20.10.24", "LiveRestoreEnabled": True, "Swarm": {"LocalNodeState": state}}

    with answering(tmp_path / "docker.sock", {"/info": info}) as engine:
        answer = engine.info(5)

    assert EngineInfo(version="20.10.24", in_swarm=in_swarm, swarm_address=None, live_restore=True) == answer


def test_networks_are_listed(engine: Engine, dockerd: FakeDockerd) -> None:
    dockerd.networks["swarmnet25"] = "other"

    assert {NETWORK: "net", "swarmnet25": "other"} == engine.network_names()
    assert frozenset({NETWORK, "swarmnet25"}) == engine.network_ids()


def test_a_container_that_is_being_started_has_labels_and_no_endpoint(engine: Engine, dockerd: FakeDockerd) -> None:
    made = dockerd.create(WEB, "web", {"app": "web", "name": "trick"}, "net")
    dockerd.connect(made, NETWORK, ENDPOINT)

    assert engine.container(WEB) == Container(
        container_id=WEB,
        name="web",
        labels={"app": "web", "name": "trick"},
        networks=frozenset({"net"}),
        readiness=Readiness.WAITING,
        created_only=True,
    )
    assert Residents(containers={ENDPOINT: WEB}) == engine.residents(NETWORK)


def test_a_container_is_found_by_its_whole_name(engine: Engine, dockerd: FakeDockerd) -> None:
    dockerd.create(OTHER, "web.10", {})
    dockerd.create(WEB, "web.1", {})

    found = engine.container_named("web.1")

    assert found is not None
    assert WEB == found.container_id
    assert engine.container_named("web") is None
    assert engine.container_named("web-1") is None


def test_a_container_that_runs_is_listed_with_its_endpoints(engine: Engine, dockerd: FakeDockerd) -> None:
    made = dockerd.create(WEB, "web", {}, "net")
    dockerd.create(OTHER, "other", {})
    dockerd.connect(made, NETWORK, ENDPOINT)
    dockerd.run(made)

    web, other = engine.containers()

    assert {ENDPOINT: NETWORK} == web.endpoints
    assert {} == other.endpoints
    assert [web] == [engine.container(WEB)]


def test_what_is_not_there_is_no_error(engine: Engine) -> None:
    assert engine.container(WEB) is None
    assert Residents() == engine.residents(DockerNetworkId("gone"))


def test_a_network_is_not_found_by_a_name_that_looks_like_an_id(tmp_path: Path) -> None:
    imposter = {"Id": "ff" * 32, "Name": NETWORK, "Containers": {WEB: {"EndpointID": ENDPOINT}}}

    with answering(tmp_path / "docker.sock", {f"/networks/{NETWORK}": imposter}) as engine:
        assert Residents() == engine.residents(NETWORK)


def test_endpoints_on_their_way_are_told_apart_and_the_engines_own_left_out(tmp_path: Path) -> None:
    inside = {
        WEB: {"EndpointID": ENDPOINT, "Name": "web"},
        f"ep-{'e2' * 32}": {"EndpointID": "e2" * 32, "Name": "other"},
        f"lb-{'e3' * 32}": {"EndpointID": "e3" * 32, "Name": "net-endpoint"},
    }
    network = {"Id": NETWORK, "Containers": inside}

    with answering(tmp_path / "docker.sock", {f"/networks/{NETWORK}": network}) as engine:
        residents = engine.residents(NETWORK)

    assert Residents(containers={ENDPOINT: WEB}, arriving={EndpointId("e2" * 32): "other"}) == residents


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param([{"Id": "short", "Names": ["/web"]}], "'short' is not the id of a container", id="id"),
        pytest.param([{"Id": WEB, "Names": [7]}], r"Names\[0\]: expected a string", id="name"),
        pytest.param([{"Id": WEB, "Labels": {"app": 1}}], "Labels.app: expected a string", id="label"),
        pytest.param({"Id": WEB}, "expected a list, got an object", id="object"),
        pytest.param([WEB], r"answer\[0\]: expected an object", id="strings"),
        pytest.param(b"[", "is not JSON", id="json"),
    ],
)
def test_an_answer_that_cannot_be_read_is_refused(tmp_path: Path, answer: object, said: str) -> None:
    with (
        answering(tmp_path / "docker.sock", {"/containers/json": answer}) as engine,
        pytest.raises(EngineUnavailable, match=said),
    ):
        engine.containers()


def test_an_error_of_the_engine_is_told(engine: Engine, dockerd: FakeDockerd) -> None:
    dockerd.broken.add("/networks")

    with pytest.raises(EngineUnavailable, match=r"answers /v1\.41/networks with 500: .*broken"):
        engine.network_names()


def test_the_version_is_asked_again_after_a_failure(engine: Engine, dockerd: FakeDockerd) -> None:
    engine.network_names()
    engine.network_names()
    assert 1 == dockerd.asked.count("/_ping")

    dockerd.broken.add("/networks")
    with pytest.raises(EngineUnavailable):
        engine.network_names()
    dockerd.broken.clear()
    engine.network_names()

    assert 2 == dockerd.asked.count("/_ping")


def test_events_are_followed_and_those_from_before_repeated(engine: Engine, dockerd: FakeDockerd) -> None:
    since_ns = time.time_ns()
    made = dockerd.create(WEB, "web", {"action": "start", "name": "trick"}, "net")

    with engine.events(since_ns) as stream:
        events = iter(stream)
        first = next(events)
        dockerd.emit("volume", "create", "v1", {})
        dockerd.emit("container", "exec_start: sh", WEB, {})
        dockerd.emit("network", "connect", NETWORK, {"name": "net"})
        dockerd.connect(made, NETWORK, ENDPOINT)
        second = next(events)

    assert ContainerEvent(time_ns=first.time_ns, action=ContainerAction.CREATE, container_id=WEB) == first
    assert since_ns <= first.time_ns <= second.time_ns
    assert second == NetworkEvent(
        time_ns=second.time_ns, action=NetworkAction.CONNECT, docker_network=NETWORK, container_id=WEB
    )


def test_an_event_that_cannot_be_read_is_left_out(
    engine: Engine, dockerd: FakeDockerd, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.events(time.time_ns()) as stream:
        wait.until("stream stands", lambda: dockerd.listeners, timeout_s=5)
        dockerd.emit("container", "start", "short", {})
        dockerd.emit("container", "start", WEB, {})

        event = next(iter(stream))

    assert ContainerEvent(time_ns=event.time_ns, action=ContainerAction.START, container_id=WEB) == event
    assert ["event of the engine cannot be read"] == [record.message for record in caplog.records]


def test_a_stream_is_ended_by_another_thread(engine: Engine, dockerd: FakeDockerd) -> None:
    with engine.events(time.time_ns()) as stream:
        reader = threading.Thread(target=lambda: list(stream), daemon=True)
        reader.start()
        wait.until("stream stands", lambda: dockerd.listeners, timeout_s=5)

        stream.close()

        reader.join(5)
        assert not reader.is_alive()
        stream.close()
        assert [] == list(stream)


def test_a_stream_ends_after_silence(engine: Engine) -> None:
    with engine.events(time.time_ns(), silence_s=0.05) as stream:
        assert [] == list(stream)


def test_a_stream_that_the_engine_ends_is_an_error(engine: Engine, dockerd: FakeDockerd) -> None:
    with engine.events(time.time_ns()) as stream:
        wait.until("stream stands", lambda: dockerd.listeners, timeout_s=5)
        dockerd.break_streams()

        with pytest.raises(EngineUnavailable, match="has ended its stream"):
            list(stream)


def test_a_server_that_does_not_speak_http_is_an_error(tmp_path: Path) -> None:
    with (
        serve_connection(sends(b"220 mail.example.org ESMTP\r\n"), tmp_path / "docker.sock") as path,
        pytest.raises(EngineUnavailable, match="does not answer"),
    ):
        Engine(path).info(5)


def test_a_line_that_is_too_long_is_left_out(
    engine: Engine, dockerd: FakeDockerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driver.engine_http.LINE_BYTES_MAX", 1000)
    with engine.events(time.time_ns()) as stream:
        wait.until("stream stands", lambda: dockerd.listeners, timeout_s=5)
        dockerd.emit("container", "start", OTHER, {"long": "x" * 3500})
        dockerd.emit("container", "start", WEB, {})

        event = next(iter(stream))

    assert WEB == event.container_id


def test_an_absent_engine_is_one_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="there is no engine at"):
        Engine(tmp_path / "docker.sock").info(0.3)


def test_an_engine_that_boots_costs_the_given_time_only(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as booting:
        booting.bind(str(tmp_path / "docker.sock"))
        booting.listen()
        started = time.monotonic()

        with pytest.raises(EngineUnavailable):
            Engine(tmp_path / "docker.sock").info(0.2)

    assert time.monotonic() - started < 1.5


def test_no_handler_can_reach_the_engine() -> None:
    """What dockerd waits for must not wait for dockerd."""
    reached = {"driver.api"}
    todo = ["driver.api"]
    while todo:
        for name in _imports(ROOT / (todo.pop().replace(".", "/") + ".py")) - reached:
            if name.startswith("driver."):
                reached.add(name)
                todo.append(name)

    assert {"driver.service", "driver.ipam_api", "driver.ipam_adapter", "driver.http"} <= reached
    assert reached.isdisjoint(
        {"driver.engine", "driver.engine_http", "driver.swarm_engine", "driver.container_watch", "driver.scope"}
    )


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if (ROOT / (name.replace(".", "/") + ".py")).exists()}


@pytest.mark.parametrize(
    ("entry", "readiness"),
    [
        ({"State": "created", "Status": "Created"}, Readiness.WAITING),
        ({"State": "exited", "Status": "Exited (0) 2 days ago"}, Readiness.WAITING),
        ({"State": "restarting", "Status": "Restarting (1) 2 seconds ago"}, Readiness.WAITING),
        ({"State": "paused", "Status": "Up 2 minutes (Paused)"}, Readiness.WAITING),
        ({"State": "running", "Status": "Up 2 minutes"}, Readiness.READY),
        ({"State": "running", "Status": "Up Less than a second (health: starting)"}, Readiness.FAILING),
        ({"State": "running", "Status": "Up 2 minutes (unhealthy)"}, Readiness.FAILING),
        ({"State": "running", "Status": "Up 2 minutes (healthy)"}, Readiness.READY),
        ({"State": "running", "Status": "Up 2 minutes", "Health": {"Status": "none"}}, Readiness.READY),
        ({"State": "running", "Status": "Up 2 minutes", "Health": {"Status": "starting"}}, Readiness.FAILING),
        ({"State": "running", "Status": "Up 2 minutes", "Health": {"Status": "unhealthy"}}, Readiness.FAILING),
        ({"State": "running", "Status": "Up 2 minutes", "Health": {"Status": "healthy"}}, Readiness.READY),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_the_list_says_whether_a_container_can_answer(entry: dict[str, object], readiness: Readiness) -> None:
    container = Container.read(Fields({"Id": WEB, "Names": ["/web"], **entry}))

    assert readiness == container.readiness
