"""A Docker Swarm of some engines."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from tests.support import wait
from tests.support.engine import Engine
from tests.support.node import Node
from tests.support.shell import CommandFailed

_PORT: Final = 2377


def form(members: Sequence[tuple[Engine, ipaddress.IPv4Address]], *, managers: int = 1) -> None:
    """Make a Swarm: the first member starts it, the first ``managers`` of them are managers."""
    (first, address), *others = members
    first("swarm", "init", "--advertise-addr", str(address), "--task-history-limit", "0")
    tokens = {role: first("swarm", "join-token", "--quiet", role) for role in ("manager", "worker")}
    for number, (engine, own_address) in enumerate(others, start=1):
        token = tokens["manager" if number < managers else "worker"]
        engine("swarm", "join", "--token", token, "--advertise-addr", str(own_address), f"{address}:{_PORT}")
    wait_ready(first, len(members))


def wait_ready(manager: Engine, nodes: int, *, timeout_s: float = 60) -> None:
    """Wait until a manager sees this many nodes ready."""

    def ready() -> bool:
        listed = manager.run("node", "ls", "--format", "{{.Status}}")
        return listed.rc == 0 and listed.out.split().count("Ready") == nodes

    wait.until(f"{nodes} nodes are ready", ready, timeout_s=timeout_s, interval_s=0.2)


def wait_well(nodes: Sequence[Node], *, timeout_s: float = 120) -> None:
    """Wait until all nodes are managers that can be asked, know one leader, and see every node ready.

    A manager that was cut off has tried to become the leader meanwhile. Once it is back, those that went on without it
    have to elect one again, which takes them up to half a minute.
    """

    def well() -> None:
        leaders = set()
        for node in nodes:
            listed = node.engine.run("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}")
            rows = [line.split() for line in listed.out.splitlines()] if listed.rc == 0 else []
            assert [row[1] for row in rows] == ["Ready"] * len(nodes), f"{node.name}: {listed}"
            assert sorted(row[-1] for row in rows) == ["Leader", *["Reachable"] * (len(nodes) - 1)], str(listed)
            leaders |= {row[0] for row in rows if row[-1] == "Leader"}
        assert len(leaders) == 1, leaders

    wait.until_passes(well, timeout_s=timeout_s, interval_s=0.5)


def wait_driver(manager: Engine, driver: str, nodes: int, *, timeout_s: float = 60) -> None:
    """Wait until a manager knows of this many nodes that they have a network driver: it gives tasks to no others.

    A node tells its manager every 20 s what plugins it has.
    """
    template = '{{range .Description.Engine.Plugins}}{{if eq .Type "Network"}}{{.Name}} {{end}}{{end}}'

    def known() -> bool:
        listed = manager.run("node", "inspect", "--format", template, *manager("node", "ls", "--quiet").split())
        return sum(driver in line.split() for line in listed.out.splitlines()) == nodes

    wait.until(f"{nodes} nodes have {driver}", known, timeout_s=timeout_s, interval_s=0.5)


def running(manager: Engine, service: str) -> list[str]:
    """Nodes on which a task of the service runs, one entry per task, sorted."""
    listed = manager(
        "service", "ps", service, "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}"
    )
    return sorted(line.split()[0] for line in listed.splitlines() if " Running" in line)


def wait_running(manager: Engine, service: str, replicas: int, *, timeout_s: float = 90) -> list[str]:
    """Wait until this many tasks run; returns their nodes, one entry per task."""

    def run() -> tuple[list[str]] | None:
        try:
            nodes = running(manager, service)
        except CommandFailed:
            # The managers have no leader at this moment.
            return None
        return (nodes,) if len(nodes) == replicas else None

    (nodes,) = wait.until(f"{replicas} tasks of {service} run", run, timeout_s=timeout_s, interval_s=0.2)
    return nodes


def leader(nodes: Sequence[Node]) -> Node:
    """The node whose manager leads at this moment, as those say that can be asked."""

    def found() -> Node | None:
        for node in nodes:
            listed = node.engine.run("node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
            for line in listed.out.splitlines() if listed.rc == 0 else []:
                name, _, status = line.partition(" ")
                if status == "Leader":
                    return next((each for each in nodes if each.name == name), None)
        return None

    return wait.until("the Swarm has a leader", found, timeout_s=60, interval_s=0.5)


def demote(manager: Engine, node: Node) -> None:
    """Make a worker of a manager; see :func:`wait_demoted` for when it is one."""
    _change_role(manager, "demote", node)


def wait_demoted(manager: Engine, node: Node) -> None:
    """Wait until a node is a worker in the manager's eyes and in its own.

    Promoted before, it asks for a place among the managers with the one that was just taken from it, and may end as
    neither.
    """

    def demoted() -> bool:
        listed = manager.run(
            "node", "inspect", "--format", "{{if .ManagerStatus}}manager{{else}}worker{{end}}", node.name
        )
        return (listed.rc, listed.out.strip(), _controls(node)) == (0, "worker", "false")

    wait.until(f"{node.name} is a worker", demoted, timeout_s=60, interval_s=0.3)


def promote(manager: Engine, node: Node) -> None:
    """Make a manager of a worker, and wait until it can be asked."""
    _change_role(manager, "promote", node)
    wait.until(f"{node.name} is a manager", lambda: _controls(node) == "true", timeout_s=60, interval_s=0.3)


def _change_role(manager: Engine, change: str, node: Node) -> None:
    def changed() -> None:
        # Refused while the managers have no leader, and when the node's record changes at that moment.
        result = manager.run("node", change, node.name)
        assert result.rc == 0, str(result)

    wait.until_passes(changed, timeout_s=60, interval_s=0.5)


def _controls(node: Node) -> str:
    return node.engine.run("info", "--format", "{{.Swarm.ControlAvailable}}").out.strip()


def remove_network(nodes: Sequence[Node], name: str) -> None:
    """Remove a network; the Swarm may take a moment to see that nobody uses it any more."""

    def removed() -> None:
        result = leader(nodes).engine.run("network", "rm", name)
        assert result.rc == 0, str(result)

    wait.until_passes(removed, timeout_s=60, interval_s=0.5)
