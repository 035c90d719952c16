"""dockerd's API as far as hawse asks it, over a Unix socket: a real HTTP server with a model of containers behind it.

What it shows when is what the real engines do (docs/adr/0014): the container list has no endpoint id before the process
runs, a network has it as soon as Join was answered.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, request

from tests.support.unix_server import serve_application

API: Final = "/v1.41"
_OVER: Final = "over"


@dataclass
class FakeContainer:
    """One container."""

    ident: str
    name: str
    labels: dict[str, str]
    networks: dict[str, str]
    """Network name to network id."""
    endpoints: dict[str, str] = field(default_factory=dict)
    """Network id to endpoint id, once connected."""
    arriving: dict[str, str] = field(default_factory=dict)
    """Network id to endpoint id, from CreateEndpoint until it is connected."""
    running: bool = False
    health: str = ""
    """``starting``, ``healthy`` or ``unhealthy``; empty: it declares no check."""
    paused: bool = False

    @property
    def state(self) -> str:
        """In the list."""
        if not self.running:
            return "created"
        return "paused" if self.paused else "running"

    @property
    def status(self) -> str:
        """In the list, for people."""
        if not self.running:
            return "Created"
        if self.paused:
            return "Up 2 minutes (Paused)"
        text = {"": "", "starting": " (health: starting)"}.get(self.health, f" ({self.health})")
        return f"Up 2 minutes{text}"


@dataclass
class FakeSwarm:
    """What a manager answers; lists of the API's own objects."""

    manager: bool = True
    """Whether this engine is one."""
    services: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)


class FakeDockerd:
    """The engine. Change it, then emit the event that the real one would."""

    def __init__(self) -> None:
        self.containers: dict[str, FakeContainer] = {}
        self.networks: dict[str, str] = {}
        """Id to name."""
        self.swarm: FakeSwarm | None = None
        """None: this engine is in no Swarm."""
        self.asked: list[str] = []
        self.broken: set[str] = set()
        """Paths that are answered with status 500."""
        self._past: list[dict[str, Any]] = []
        self._streams: list[queue.SimpleQueue[str]] = []
        self._lock = threading.Lock()

    # What happens.

    def create(self, ident: str, name: str, labels: Mapping[str, str], *networks: str) -> FakeContainer:
        """``docker create``; networks by name."""
        ids = {name: ident for ident, name in self.networks.items()}
        made = FakeContainer(ident, name, dict(labels), {name: ids.get(name, "") for name in networks})
        self.containers[ident] = made
        self.emit("container", "create", ident, {**labels, "name": name, "image": "busybox"})
        return made

    def arrive(self, container: FakeContainer, network_id: str, endpoint_id: str) -> None:
        """What follows CreateEndpoint; no event."""
        container.arriving[network_id] = endpoint_id

    def connect(self, container: FakeContainer, network_id: str, endpoint_id: str) -> None:
        """What follows Join, when the interface has been moved."""
        container.arriving.pop(network_id, None)
        container.endpoints[network_id] = endpoint_id
        attributes = {"container": container.ident, "name": self.networks[network_id], "type": "hawse:latest"}
        self.emit("network", "connect", network_id, attributes)

    def run(self, container: FakeContainer) -> None:
        """The process runs."""
        container.running = True
        self.emit("container", "start", container.ident, {"name": container.name})

    def change_health(self, container: FakeContainer, health: str) -> None:
        """A health check says something else than before."""
        container.health = health
        self.emit("container", f"health_status: {health}", container.ident, {"name": container.name})

    def pause(self, container: FakeContainer, *, paused: bool = True) -> None:
        """``docker pause``, ``docker unpause``."""
        container.paused = paused
        self.emit("container", "pause" if paused else "unpause", container.ident, {"name": container.name})

    def rename(self, container: FakeContainer, name: str) -> None:
        """``docker rename``."""
        old, container.name = container.name, name
        self.emit("container", "rename", container.ident, {"name": name, "oldName": f"/{old}"})

    def remove(self, container: FakeContainer) -> None:
        """``docker rm -f``."""
        for network_id in container.endpoints:
            self.emit("network", "disconnect", network_id, {"container": container.ident})
        container.endpoints.clear()
        del self.containers[container.ident]
        self.emit("container", "destroy", container.ident, {"name": container.name})

    def emit(self, kind: str, action: str, ident: str, attributes: Mapping[str, str]) -> None:
        """Send an event to everybody who listens."""
        event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": ident, "Attributes": dict(attributes)},
            "time": int(time.time()),
            "timeNano": time.time_ns(),
        }
        with self._lock:
            self._past.append(event)
            for stream in self._streams:
                stream.put(json.dumps(event) + "\n")

    def forget_events(self) -> None:
        """Lose what could be repeated, as a restart does."""
        with self._lock:
            self._past.clear()

    def break_streams(self) -> None:
        """End every stream of events."""
        with self._lock:
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.put(_OVER)

    @property
    def listeners(self) -> int:
        """How many streams stand."""
        with self._lock:
            return len(self._streams)

    # What is answered.

    def application(self) -> Flask:
        """The API."""
        app = Flask("dockerd", static_folder=None)

        @app.before_request
        def note() -> tuple[str, int] | None:
            path = request.path.removeprefix(API)
            self.asked.append(path)
            return ('{"message": "broken"}', 500) if path in self.broken else None

        @app.get("/_ping")
        def ping() -> Response:
            return Response("OK", headers={"Api-Version": "1.41"})

        @app.get(f"{API}/containers/json")
        def containers() -> Response:
            filters = json.loads(request.args.get("filters", "{}"))
            found = [one for one in list(self.containers.values()) if _passes(one, filters)]
            return _json([self._listed(one) for one in found])

        @app.get(f"{API}/networks")
        def networks() -> Response:
            return _json([{"Id": ident, "Name": name} for ident, name in self.networks.items()])

        @app.get(f"{API}/networks/<ident>")
        def network(ident: str) -> tuple[Response, int] | Response:
            if ident not in self.networks:
                return _json({"message": f"network {ident} not found"}), 404
            inside = {
                one.ident: {"Name": one.name, "EndpointID": one.endpoints[ident], "MacAddress": "", "IPv4Address": ""}
                for one in list(self.containers.values())
                if ident in one.endpoints
            }
            inside |= {
                f"ep-{one.arriving[ident]}": {"Name": one.name, "EndpointID": one.arriving[ident]}
                for one in list(self.containers.values())
                if ident in one.arriving
            }
            return _json({"Id": ident, "Name": self.networks[ident], "Containers": inside})

        @app.get(f"{API}/events")
        def events() -> Response:
            stream: queue.SimpleQueue[str] = queue.SimpleQueue()
            seconds, nanoseconds = request.args["since"].split(".")
            since_ns = int(seconds) * 10**9 + int(nanoseconds)
            with self._lock:
                for event in self._past:
                    if event["timeNano"] >= since_ns:
                        stream.put(json.dumps(event) + "\n")
                self._streams.append(stream)
            # The head is sent with the first bytes; dockerd sends it at once.
            lines = itertools.chain(["\n"], iter(stream.get, _OVER))
            return Response(lines, content_type="application/json")

        self._serve_swarm(app)
        return app

    def _serve_swarm(self, app: Flask) -> None:
        @app.get(f"{API}/info")
        def info() -> Response:
            swarm = {
                "LocalNodeState": "active" if self.swarm else "inactive",
                "ControlAvailable": bool(self.swarm and self.swarm.manager),
            }
            return _json({"ServerVersion": "20.10.24", "Swarm": swarm})

        @app.get(f"{API}/services")
        def services() -> tuple[Response, int] | Response:
            return self._listed_by_swarm("services")

        @app.get(f"{API}/tasks")
        def tasks() -> tuple[Response, int] | Response:
            return self._listed_by_swarm("tasks", json.loads(request.args.get("filters", "{}")))

        @app.get(f"{API}/nodes")
        def nodes() -> tuple[Response, int] | Response:
            return self._listed_by_swarm("nodes")

    def _listed_by_swarm(
        self, kind: str, filters: Mapping[str, list[str]] | None = None
    ) -> tuple[Response, int] | Response:
        if self.swarm is None or not self.swarm.manager:
            return _json({"message": "This node is not a swarm manager."}), 503
        desired = (filters or {}).get("desired-state")
        listed = list(getattr(self.swarm, kind))
        return _json([one for one in listed if not desired or one.get("DesiredState") in desired])

    def _listed(self, one: FakeContainer) -> dict[str, Any]:
        networks = {
            name: {
                "NetworkID": ident if one.running else "",
                "EndpointID": one.endpoints.get(ident, "") if one.running else "",
                "DriverOpts": None,
            }
            for name, ident in one.networks.items()
        }
        return {
            "Id": one.ident,
            "Names": [f"/other/{one.name}", f"/{one.name}"],
            "Labels": dict(one.labels),
            "State": one.state,
            "Status": one.status,
            "NetworkSettings": {"Networks": networks},
        }


@contextlib.contextmanager
def serving(dockerd: FakeDockerd, path: Path) -> Iterator[Path]:
    """Serve the API at ``path`` while the block runs."""
    with serve_application(dockerd.application(), path):
        try:
            yield path
        finally:
            dockerd.break_streams()


def _passes(one: FakeContainer, filters: Mapping[str, list[str]]) -> bool:
    by_id = "id" not in filters or one.ident in filters["id"]
    return by_id and all(re.search(pattern, f"/{one.name}") for pattern in filters.get("name", ()))


def _json(value: object) -> Response:
    return Response(json.dumps(value), content_type="application/json")
