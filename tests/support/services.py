"""Services of the Swarm whose tasks say who they are, and how hawse translates their addresses."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kvstore import keys
from tests.support import leaks, swarm, wait
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.plugin import NAME
from tests.support.service_load import OTHER_PORT, PORT, load
from tests.support.swarm import leader

MODES: Final = ("packet", "socket")
"""Of translation."""
_HOSTNAME: Final = "{{.Task.Slot}}-{{.Node.Hostname}}-{{.Task.ID}}"
_LABEL: Final = "com.docker.swarm.service.name"
_TASK: Final = "com.docker.swarm.task.id"
_TRIES: Final = 30
"""Connections for each server: that one of twelve gets none of 360 happens once in 10^12 times."""
_PATIENCE_S: Final = 60
_GRACE_S: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of a service as the Swarm lists it, or as an answer names it."""

    slot: int
    node: str
    ident: str

    @property
    def server(self) -> str:
        """What it says its name is."""
        return f"{self.slot}-{self.node}-{self.ident}"

    def of_service(self, service: str) -> str:
        """What the Swarm calls it."""
        return f"{service}.{self.slot}"

    @classmethod
    def of(cls, server: str) -> Task:
        """Read its name."""
        slot, node, ident = server.split("-")
        return cls(slot=int(slot), node=node, ident=ident)


def create(
    manager: Node,
    name: str,
    network: str,
    replicas: int,
    *options: str,
    mode: str = "vip",
    grace_s: int = _GRACE_S,
) -> None:
    """Make a service that answers on both ports, TCP and UDP; does not wait for its tasks."""
    manager.engine(
        "service", "create", "--detach", "--name", name, "--replicas", str(replicas), "--endpoint-mode", mode,
        "--network", network, "--hostname", _HOSTNAME, "--stop-grace-period", f"{grace_s}s", "--no-resolve-image",
        "--restart-delay", "1s", *options, IMAGE, "service_load", "serve", "-", str(PORT), str(OTHER_PORT),
    )  # fmt: skip


def remove(nodes: Sequence[Node], *names: str) -> None:
    """Remove services and wait until their tasks are gone; a service that is not there is none."""
    manager = leader(nodes)
    there = set(manager.engine("service", "ls", "--format", "{{.Name}}").split())
    for name in there & set(names):
        manager.engine("service", "rm", name)

    def gone() -> bool:
        return not any(containers(node, name) for node in nodes for name in names)

    wait.until(f"the tasks of {', '.join(names)} are gone", gone, timeout_s=_PATIENCE_S, interval_s=0.3)


def containers(node: Node, service: str) -> list[str]:
    """Containers of a service's tasks on a node, running or not."""
    return node.engine("ps", "-aq", "--filter", f"label={_LABEL}={service}").split()


def tasks(manager: Node, service: str) -> list[Task]:
    """The tasks that run and are meant to."""
    listed = manager.engine(
        "service", "ps", service, "--no-trunc", "--filter", "desired-state=running",
        "--format", "{{.ID}} {{.Name}} {{.Node}} {{.CurrentState}}",
    )  # fmt: skip
    rows = [line.split() for line in listed.splitlines()]
    return [
        Task(slot=int(name.rpartition(".")[2]), node=node, ident=ident)
        for ident, name, node, state, *_ in rows
        if state == "Running"
    ]


def set_replicas(nodes: Sequence[Node], service: str, replicas: int) -> list[Task]:
    """Change how many tasks there are, and wait until these run."""

    def told() -> None:
        leader(nodes).engine("service", "scale", "--detach", f"{service}={replicas}")

    # The managers may be about to elect another leader.
    wait.until_passes(told, timeout_s=_PATIENCE_S, interval_s=0.5)
    return wait_running(nodes, service, replicas)


def scale(nodes: Sequence[Node], service: str, replicas: int) -> list[Task]:
    """Change how many tasks there are, and wait until these run and the containers of others are gone."""
    running = set_replicas(nodes, service, replicas)

    def gone() -> bool:
        return sum(len(containers(node, service)) for node in nodes) == replicas

    wait.until(f"no more than {replicas} containers of {service} are left", gone, timeout_s=60, interval_s=0.3)
    return running


def wait_running(nodes: Sequence[Node], service: str, replicas: int) -> list[Task]:
    """Wait until this many tasks run, and no more than these are meant to."""
    manager = leader(nodes)
    swarm.wait_running(manager.engine, service, replicas)
    return wait.until_passes(lambda: tasks(manager, service), timeout_s=_PATIENCE_S, interval_s=0.5)


def wait_served(
    nodes: Sequence[Node],
    boxes: Sequence[str],
    service: str,
    servers: Collection[str],
    *,
    kind: str = "tcp",
) -> None:
    """Wait until the service's name stands for these servers and no others, in a container of every node."""

    def all_answer() -> None:
        for node, box in zip(nodes, boxes, strict=True):
            report = load(node, box, service, kind=kind, count=_TRIES * len(servers), timeout_ms=2000)
            assert report.failed == 0, f"from {node.name}: {report}"
            assert set(report.servers) == set(servers), f"from {node.name}: {sorted(report.servers)}"

    wait.until_passes(all_answer, timeout_s=_PATIENCE_S, interval_s=0.3)


def clerk(nodes: Sequence[Node]) -> Node:
    """The node whose agent writes down what the Swarm says."""

    def found() -> Node | None:
        names = nodes[0].etcd.entries(keys.SWARM_LEADER).values()
        return next((node for node in nodes if node.name in names), None)

    return wait.until("an agent follows the Swarm", found, timeout_s=_PATIENCE_S, interval_s=0.2)


def virtual_address(manager: Node, service: str) -> str:
    """The address that the Swarm has given the service in its network."""
    (one,) = manager.engine.inspect("service", service)["Endpoint"]["VirtualIPs"]
    return str(one["Addr"]).partition("/")[0]


def container_of(node: Node, service: str, task: Task) -> str:
    """The container of a task on its node."""
    listed = node.engine("ps", "-q", "--filter", f"label={_LABEL}={service}", "--filter", f"label={_TASK}={task.ident}")
    return listed.strip()


def ends(nodes: Sequence[Node], since_s: float) -> dict[str, int]:
    """When containers of tasks ended since then, by the task's id; nanoseconds since 1970."""
    found = {}
    for node in nodes:
        told = node.engine(
            "events", "--since", f"{since_s:.3f}", "--until", f"{time.time():.3f}", "--filter", "type=container",
            "--filter", "event=die", "--format", "{{json .}}",
        )  # fmt: skip
        for event in map(json.loads, told.splitlines()):
            ident = event["Actor"]["Attributes"].get(_TASK)
            if ident:
                found[ident] = int(event["timeNano"])
    return found


def active(node: Node, service: str) -> set[str]:
    """Names of the tasks that get new connections, as ``hawse service get`` says on a node."""
    told = node.hawse("service", "get", service, "-o", "json")
    networks = json.loads(told.out)["networks"] if told.rc == 0 else []
    return {one["name"] for network in networks for one in network["backends"] if one["state"] == "active"}


@contextmanager
def boxes_on(nodes: Sequence[Node], network: str, *options: str, name: str = "box") -> Iterator[list[str]]:
    """One plain container on each node: box0, box1 …"""
    names = [f"{name}{number}" for number in range(len(nodes))]
    for node, each in zip(nodes, names, strict=True):
        node.start(each, network, *options)
    try:
        yield names
    finally:
        for node, each in zip(nodes, names, strict=True):
            node.remove(each)


@contextmanager
def network(nodes: Sequence[Node], name: str, pool: str, *, mode: str = "") -> Iterator[None]:
    """A network of the Swarm for services, translated in one of :data:`MODES`; afterwards nothing of it is left."""
    if mode:
        translate_at(nodes, mode)
    leader(nodes).create_network(name, "--subnet", pool, "--attachable")
    yield
    swarm.remove_network(nodes, name)
    leaks.check(nodes, timeout_s=60)
    if mode:
        translate_at(nodes, "auto")


def translate_at(nodes: Sequence[Node], mode: str) -> None:
    """Have all nodes of a Swarm translate the addresses of services in a mode; see :func:`set_translation`."""
    set_translation(nodes, mode)
    swarm.wait_driver(leader(nodes).engine, NAME, len(nodes))


def set_translation(nodes: Sequence[Node], mode: str) -> None:
    """Have all nodes translate the addresses of services in one of :data:`MODES`, or as they choose (``auto``)."""

    def change(node: Node) -> None:
        node.plugin.disable(force=True)
        node.plugin.set({"SERVICE_TRANSLATION": mode})
        node.plugin.enable()
        node.wait_healthy()

    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(change, nodes))


def dropped(node: Node, *filters: str) -> list[dict[str, Any]]:
    """What ``hawse observe`` tells of dropped packets."""
    told = node.hawse("observe", "--verdict", "DROPPED", "--last", "1000", *filters, "-o", "json")
    assert told.rc == 0, str(told)
    return [json.loads(line)["flow"] for line in told.out.splitlines()]
