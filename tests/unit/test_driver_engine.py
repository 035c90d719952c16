"""Docker's API over its socket; the server here speaks HTTP as dockerd does."""

from __future__ import annotations

import ast
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from driver.engine import Engine, EngineInfo
from model.errors import EngineUnavailable

ROOT = Path(__file__).parents[2]

Serve = Callable[[Mapping[str, object]], Engine]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[socketserver.UnixStreamServer] = []

    def start(answers: Mapping[str, object]) -> Engine:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.split("?")[0].removeprefix("/v1.41")
                body = json.dumps(answers[path]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = socketserver.ThreadingUnixStreamServer(str(tmp_path / "docker.sock"), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return Engine(tmp_path / "docker.sock")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


VERSION = {"/version": {"ApiVersion": "1.41", "Version": "20.10.24"}}


@pytest.mark.parametrize(
    ("state", "in_swarm"),
    [("inactive", False), ("", False), ("active", True), ("pending", True), ("locked", True), ("error", True)],
)
def test_info_says_whether_the_host_is_in_a_swarm(serve: Serve, state: str, *, in_swarm: bool) -> None:
    info = {"ServerVersion": "20.10.24", "LiveRestoreEnabled": True, "Swarm": {"LocalNodeState": state}}

    answer = serve({**VERSION, "/info": info}).info(5)

    assert EngineInfo(version="20.10.24", in_swarm=in_swarm, swarm_address=None, live_restore=True) == answer


def test_ids_are_listed(serve: Serve) -> None:
    engine = serve(
        {**VERSION, "/networks": [{"Id": "a1", "Name": "n"}], "/containers/json": [{"Id": "c1"}, {"Id": "c2"}]}
    )

    assert frozenset({"a1"}) == engine.network_ids()
    assert frozenset({"c1", "c2"}) == engine.container_ids()


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
    assert reached.isdisjoint({"driver.engine", "driver.scope"})


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, driver.api, driver.engine, driver.scope; print('docker' in sys.modules, 'requests' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "False False" == done.stdout.strip()


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if (ROOT / (name.replace(".", "/") + ".py")).exists()}
