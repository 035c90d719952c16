"""A Swarm's services in etcd: written by one manager, soon, and by another when that one cannot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from kvstore import keys
from tests.support import services, swarm, wait
from tests.support.disturb import kill_the_agent
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.plugin import NAME
from tests.support.swarm import leader
from tests.support.testbed import Testbed

_NET: Final = "recorded"
_POOL: Final = "10.44.0.0/24"
_SOON_S: Final = 5.0
"""Between what the Swarm decides and what is in etcd, on a busy machine; the figures say how long it was."""
_PATIENCE_S: Final = 30
_TAKEN_OVER_S: Final = 20
"""From when the Swarm has a leader: 3 s of silence and a second until another looks, on a busy machine."""
_NOTED_S: Final = 8.0
_DOWN_S: Final = 90


@pytest.fixture(scope="module")
def nodes(swarm_of_three: list[Node]) -> Iterator[list[Node]]:
    with services.network(swarm_of_three, _NET, _POOL):
        yield swarm_of_three


@pytest.fixture(autouse=True)
def _no_service_stays(nodes: list[Node]) -> Iterator[None]:
    """A test that failed half-way does not take the next one along."""
    yield
    services.remove(nodes, "web", "plain")


def record(nodes: list[Node], name: str) -> dict[str, Any] | None:
    """What etcd has of a service."""
    records = map(json.loads, nodes[0].etcd.entries(keys.SERVICES).values())
    return next((one for one in records if one["name"] == name), None)


def active(nodes: list[Node], name: str) -> dict[str, dict[str, Any]]:
    """Tasks that get connections, by their id, as etcd has them."""
    found = record(nodes, name)
    return {task["task_id"]: task for task in found["tasks"] if task["active"]} if found else {}


def wait_active(nodes: list[Node], name: str, count: int, *, timeout_s: float) -> float:
    """Wait until etcd has so many active tasks; returns seconds."""
    started = time.monotonic()
    wait.until(
        f"{count} tasks of {name} are active in etcd", lambda: len(active(nodes, name)) == count, timeout_s=timeout_s
    )
    return time.monotonic() - started


def writer(nodes: list[Node]) -> Node:
    """Whose agent writes the services."""

    def found() -> Node | None:
        name = nodes[0].etcd.entries(keys.SWARM_LEADER).get(keys.SWARM_LEADER)
        return next((node for node in nodes if node.name == name), None)

    return wait.until("a manager writes the services", found, timeout_s=_PATIENCE_S)


def wait_other_writer(nodes: list[Node], old: Node) -> Node:
    """Wait until another manager writes."""
    return wait.until(
        "another manager writes the services",
        lambda: node if (node := writer(nodes)) is not old else None,
        timeout_s=_PATIENCE_S,
    )


def let_write(nodes: list[Node], wanted: Callable[[Node], bool]) -> Node:
    """Have one of these write: take the key from the others until one of them gets it."""

    def writes() -> Node | None:
        node = writer(nodes)
        if wanted(node):
            return node
        nodes[0].etcd.delete(keys.SWARM_LEADER)
        return None

    return wait.until("the right manager writes", writes, timeout_s=120, interval_s=0.5)


def create(nodes: list[Node], name: str, replicas: int, *, mode: str = "vip") -> None:
    # PID 1 takes no SIGTERM: a task goes on for its grace period, and would be seen if it were not drained.
    leader(nodes).engine(
        "service", "create", "--detach", "--name", name, "--replicas", str(replicas), "--endpoint-mode", mode,
        "--network", _NET, "--stop-grace-period", "5s", "--no-resolve-image", IMAGE,
    )  # fmt: skip


def wait_running(nodes: list[Node], name: str, replicas: int) -> None:
    swarm.wait_running(leader(nodes).engine, name, replicas)


def test_a_service_is_recorded_with_its_address_and_its_tasks(nodes: list[Node], figures: list[str]) -> None:
    create(nodes, "web", 3)
    wait_running(nodes, "web", 3)

    seconds = wait_active(nodes, "web", 3, timeout_s=_PATIENCE_S)

    found = record(nodes, "web")
    assert found is not None
    assert found["source"] == "swarm"
    assert found["addresses"] == [
        {"network": _POOL, "address": services.virtual_address(leader(nodes), "web")},
    ]
    assert {task["node"] for task in found["tasks"]} == {"s1", "s2", "s3"}
    endpoints = [json.loads(text) for text in nodes[0].etcd.entries(keys.ENDPOINTS).values()]
    addresses = {address for endpoint in endpoints for address in endpoint["addresses"]}
    assert {address for task in found["tasks"] for address in task["addresses"]} <= addresses
    figures.append(f"service of 3: in etcd {seconds:.2f} s after the Swarm said that all run")


def test_tasks_that_are_to_end_are_drained_at_once(nodes: list[Node], figures: list[str]) -> None:
    create(nodes, "web", 3)
    wait_running(nodes, "web", 3)
    wait_active(nodes, "web", 3, timeout_s=_PATIENCE_S)
    manager = leader(nodes)

    manager.engine("service", "scale", "--detach", "web=1")
    seconds = wait_active(nodes, "web", 1, timeout_s=_SOON_S)

    running = sum(len(node.engine("ps", "-q", "--filter", "name=web.").split()) for node in nodes)
    figures.append(f"scaled from 3 to 1: drained in etcd after {seconds:.2f} s, while {running} containers still ran")
    assert running == 3


def test_an_update_ends_with_the_new_tasks(nodes: list[Node]) -> None:
    create(nodes, "web", 3)
    wait_running(nodes, "web", 3)
    wait_active(nodes, "web", 3, timeout_s=_PATIENCE_S)
    old = active(nodes, "web").keys()
    leader(nodes).engine("service", "update", "--detach", "--update-parallelism", "0", "--env-add", "NEW=1", "web")

    def new_ones() -> bool:
        now = active(nodes, "web").keys()
        return len(now) == 3 and not now & old

    wait.until("three new tasks are active", new_ones, timeout_s=60)


def test_affinity_is_taken_from_the_label(nodes: list[Node]) -> None:
    create(nodes, "web", 1)
    wait.until("it is recorded", lambda: record(nodes, "web"), timeout_s=10)

    leader(nodes).engine("service", "update", "--detach", "--label-add", "hawse.service.affinity=true", "web")

    wait.until(
        "it has affinity", lambda: (found := record(nodes, "web")) is not None and found["affinity"], timeout_s=10
    )


def test_a_service_without_address_is_not_recorded(nodes: list[Node]) -> None:
    create(nodes, "plain", 1, mode="dnsrr")
    create(nodes, "web", 1)
    wait_running(nodes, "plain", 1)
    wait.until("the other one is recorded", lambda: active(nodes, "web"), timeout_s=30)

    assert record(nodes, "plain") is None


def test_a_service_that_is_removed_is_removed_from_etcd(nodes: list[Node], figures: list[str]) -> None:
    create(nodes, "web", 1)
    wait.until("it is recorded", lambda: record(nodes, "web"), timeout_s=10)

    leader(nodes).engine("service", "rm", "web")
    started = time.monotonic()
    wait.until("its record is gone", lambda: record(nodes, "web") is None, timeout_s=_PATIENCE_S)

    figures.append(f"service removed: gone from etcd after {time.monotonic() - started:.2f} s")


@pytest.mark.parametrize("leads", [False, True], ids=["a-manager", "the-swarms-leader"])
def test_another_manager_writes_when_an_engine_is_killed(nodes: list[Node], figures: list[str], *, leads: bool) -> None:
    create(nodes, "web", 2)
    wait_running(nodes, "web", 2)
    first = leader(nodes)
    old = let_write(nodes, lambda node: (node is first) is leads)
    others = [node for node in nodes if node is not old]

    old.engine.kill()
    try:
        started = time.monotonic()
        new_leader = leader(others)
        led_s = time.monotonic() - started
        new = wait_other_writer(nodes, old)
        seconds = time.monotonic() - started
        new_leader.engine("service", "scale", "--detach", "web=0")
        drained_s = wait_active(nodes, "web", 0, timeout_s=_PATIENCE_S)
    finally:
        old.engine.start()
        old.wait_healthy()
        swarm.wait_well(nodes)
        swarm.wait_driver(leader(nodes).engine, NAME, len(nodes))
        # An engine forgets a Swarm's networks when it is killed; what it had of this one would be collected later.
        old.engine("run", "--rm", "--network", _NET, IMAGE, "true")

    what = ", which led the Swarm too," if leads else ""
    figures.append(
        f"engine of the writing manager{what} killed: the Swarm has a leader after {led_s:.1f} s, {new.name} writes "
        f"instead of {old.name} after {seconds:.1f} s, its first drain took {drained_s:.2f} s"
    )
    assert seconds - led_s < _TAKEN_OVER_S


def test_an_agent_that_was_killed_writes_again(nodes: list[Node], figures: list[str]) -> None:
    create(nodes, "web", 2)
    wait_running(nodes, "web", 2)
    wait_active(nodes, "web", 2, timeout_s=_PATIENCE_S)
    old = writer(nodes)
    started = time.monotonic()

    kill_the_agent(old)
    leader(nodes).engine("service", "scale", "--detach", "web=1")
    wait_active(nodes, "web", 1, timeout_s=_PATIENCE_S)

    figures.append(
        f"agent of the writing manager killed: {writer(nodes).name} writes after {old.name}, "
        f"drained {time.monotonic() - started:.1f} s after it was killed"
    )


def test_another_manager_writes_when_one_is_demoted(nodes: list[Node], figures: list[str]) -> None:
    old = writer(nodes)
    others = [node for node in nodes if node is not old]

    swarm.demote(others[0].engine, old)
    started = time.monotonic()
    new = wait_other_writer(nodes, old)

    figures.append(
        f"writing manager demoted: {new.name} instead of {old.name} after {time.monotonic() - started:.1f} s"
    )
    manager = leader(others).engine
    swarm.wait_demoted(manager, old)
    swarm.promote(manager, old)
    swarm.wait_well(nodes)


def test_a_host_that_the_swarm_gives_up_is_noted_until_it_is_back(
    testbed: Testbed, nodes: list[Node], figures: list[str]
) -> None:
    first, second = leader(nodes), writer(nodes)
    lost = next(node for node in nodes if node not in (first, second))

    def state() -> str:
        return first.engine.run("node", "inspect", "--format", "{{.Status.State}}", lost.name).out.strip()

    testbed.underlay.cut(lost.machine)
    try:
        wait.until("the Swarm gives it up", lambda: state() == "down", timeout_s=_DOWN_S)
        started = time.monotonic()
        wait.until("it is noted", lambda: keys.LOST + lost.name in first.etcd.entries(keys.LOST), timeout_s=_PATIENCE_S)
        noted_s = time.monotonic() - started
    finally:
        testbed.underlay.restore(lost.machine)
    wait.until("the Swarm has it back", lambda: state() == "ready", timeout_s=_DOWN_S)
    wait.until("so has hawse", lambda: not first.etcd.entries(keys.LOST), timeout_s=_PATIENCE_S)

    assert noted_s < _NOTED_S
    figures.append(f"host cut off: noted as lost {noted_s:.2f} s after the Swarm says that it is down")
    swarm.wait_well(nodes)
    lost.wait_healthy()
