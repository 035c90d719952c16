"""A Swarm of three nodes: a node is lost and comes back, an agent ends and comes back, and services go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import pytest

from kvstore import keys
from tests.support import services, swarm, wait
from tests.support.disturb import disable_and_enable, kill_the_agent, kill_the_worker
from tests.support.node import Node
from tests.support.plugin import NAME
from tests.support.service_load import HoldInBackground, LoadInBackground
from tests.support.services import Task
from tests.support.swarm import leader
from tests.support.testbed import Testbed

_NET: Final = "lost"
_POOL: Final = "10.43.0.0/24"
_RATE: Final = 50
_TIMEOUT_MS: Final = 1000
_HELD: Final = 48
_NOTICED_S: Final = 8.0
"""New connections avoid a lost node this long after the Swarm has given it up, also where three engines share two busy
processors. Less than two seconds is what is meant; the figure is printed."""
_RETRANSMITTED_S: Final = 40
"""A connection to a lost node is reset when it says something again: TCP doubles its pause each time."""
_DOWN_S: Final = 90
_SOON_S: Final = 60

Lose: TypeAlias = Callable[[Testbed, Node], None]


@pytest.fixture(scope="module")
def nodes(swarm_of_three: list[Node]) -> Iterator[list[Node]]:
    with services.network(swarm_of_three, _NET, _POOL):
        yield swarm_of_three


@pytest.fixture(autouse=True)
def _nothing_stays(nodes: list[Node]) -> Iterator[None]:
    """A test that failed half-way does not take the next one along."""
    yield
    for node in nodes:
        listed = node.engine("ps", "-a", "--format", "{{.Names}}").split()
        node.remove(*(name for name in listed if name.startswith(("load", "hold", "box"))))
    services.remove(nodes, "web")


def servers(tasks: list[Task]) -> set[str]:
    return {task.server for task in tasks}


def unplug(testbed: Testbed, node: Node) -> None:
    testbed.underlay.cut(node.machine)


def plug(testbed: Testbed, node: Node) -> None:
    testbed.underlay.restore(node.machine)


def power_off(testbed: Testbed, node: Node) -> None:
    testbed.power_off(node)


def power_on(testbed: Testbed, node: Node) -> None:
    testbed.power_on(node)


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    ("lose", "bring_back", "is_clerk"),
    [
        pytest.param(unplug, plug, False, id="cut-off"),
        pytest.param(power_off, power_on, True, id="killed-with-the-agent-that-follows-the-swarm"),
    ],
)
def test_services_avoid_a_lost_node_until_it_is_back(
    testbed: Testbed,
    nodes: list[Node],
    figures: list[str],
    request: pytest.FixtureRequest,
    *,
    lose: Lose,
    bring_back: Lose,
    is_clerk: bool,
) -> None:
    what = f"a node {request.node.callspec.id.replace('-', ' ')}"
    first = leader(nodes)
    if is_clerk and services.clerk(nodes) is first:
        # An agent that ends in order leaves the office to another one.
        disable_and_enable(first)
    clerk = services.clerk(nodes)
    victim = next(node for node in reversed(nodes) if node is not first and (node is clerk) is is_clerk)
    others = [node for node in nodes if node is not victim]
    services.create(first, "web", _NET, 6)
    before = services.wait_running(nodes, "web", 6)
    lost = servers([task for task in before if task.node == victim.name])
    assert len(lost) == 2
    with services.boxes_on(others, _NET) as boxes:
        services.wait_served(others, boxes, "web", servers(before))
    clients = [LoadInBackground(node, _NET, "web", rate=_RATE, timeout_ms=_TIMEOUT_MS) for node in others]
    holders = [HoldInBackground(node, _NET, "web", connections=_HELD) for node in others]
    for client in clients:
        client.wait_answers(_RATE)

    lost_ns = time.time_ns()
    lose(testbed, victim)
    known_ns = wait_down(first, victim)

    def all_broken() -> None:
        open_ones = [one for holder in holders for one in holder.report().of(*lost) if one.open]
        assert not open_ones, open_ones

    wait.until_passes(all_broken, timeout_s=_RETRANSMITTED_S, interval_s=0.2)

    def all_replaced() -> list[Task]:
        running = services.tasks(first, "web")
        assert len(running) == 6, running
        assert {task.node for task in running} == {node.name for node in others}
        return running

    replaced = wait.until_passes(all_replaced, timeout_s=_SOON_S, interval_s=0.3)
    with services.boxes_on(others, _NET) as boxes:
        services.wait_served(others, boxes, "web", servers(replaced))

    bring_back(testbed, victim)
    wait_back(nodes, victim)
    more = services.set_replicas(nodes, "web", 9)
    assert victim.name in {task.node for task in more}
    with services.boxes_on(nodes, _NET) as boxes:
        services.wait_served(nodes, boxes, "web", servers(more))

    connections = [one for holder in holders for one in holder.stop().connections]
    reports = [client.stop() for client in clients]
    broken = [one for one in connections if one.server in lost]
    failures = [failure for report in reports for failure in report.failures]
    last_s = max((failure.started_ns - known_ns) / 1e9 for failure in failures)
    reset_s = [(one.broke_ns - known_ns) / 1e9 for one in broken]
    how = ", ".join(sorted({one.how for one in broken}))
    figures.append(
        f"{what}: the Swarm knew after {(known_ns - lost_ns) / 1e9:.1f} s; of {sum(r.started for r in reports)} new "
        f"connections {len(failures)} failed, the last was begun {last_s:+.2f} s from then; {len(broken)} open ones "
        f"broke {min(reset_s):+.2f} to {max(reset_s):+.2f} s from then ({how})"
    )
    assert last_s < _NOTICED_S
    assert broken
    assert {one.how for one in broken} == {"reset"}
    assert all(one.how == "" for one in connections if one.server not in lost)


def wait_back(nodes: list[Node], node: Node) -> None:
    """Wait until Swarm and hawse have a node back, and the Swarm gives it tasks again."""
    swarm.wait_well(nodes)
    swarm.wait_driver(leader(nodes).engine, NAME, len(nodes))
    node.wait_healthy(timeout_s=_SOON_S)
    wait.until("nobody is lost", lambda: not node.etcd.entries(keys.LOST), timeout_s=_SOON_S)


def wait_down(manager: Node, node: Node) -> int:
    """Wait until the Swarm has given a node up; returns the last moment at which it had not."""
    last_ns = 0

    def down() -> bool:
        nonlocal last_ns
        asked_ns = time.time_ns()
        if manager.engine("node", "inspect", "--format", "{{.Status.State}}", node.name) == "down":
            return True
        last_ns = asked_ns
        return False

    wait.until(f"{node.name} is down", down, timeout_s=_DOWN_S, interval_s=0.02)
    return last_ns


@pytest.mark.parametrize("disturb", [kill_the_agent, kill_the_worker, disable_and_enable])
def test_no_connection_fails_while_agents_end_and_come_back(
    nodes: list[Node], figures: list[str], disturb: Callable[[Node], None]
) -> None:
    services.create(leader(nodes), "web", _NET, 6)
    running = services.wait_running(nodes, "web", 6)
    with services.boxes_on(nodes, _NET) as boxes:
        services.wait_served(nodes, boxes, "web", servers(running))
    clients = [LoadInBackground(node, _NET, "web", rate=_RATE) for node in nodes]
    holders = [HoldInBackground(node, _NET, "web", connections=_HELD) for node in nodes]

    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(disturb, nodes))

    for client in clients:
        client.wait_answers(_RATE)
    connections = [one for holder in holders for one in holder.stop().connections]
    reports = [client.stop() for client in clients]
    longest_s = max(one.longest_s for one in connections)
    figures.append(
        f"{disturb.__name__.replace('_', ' ')} on all nodes at once: {', '.join(map(str, reports))}; "
        f"{len(connections)} open ones waited {longest_s:.2f} s for an answer at the longest"
    )
    for report in reports:
        assert report.failed == 0, report.failures[:10]
        assert set(report.servers) == servers(running)
    assert all(one.how == "" for one in connections)
