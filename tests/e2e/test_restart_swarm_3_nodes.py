"""dockerd of a Swarm node is killed: its tasks come back and work, and nothing of the old ones is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from kvstore import keys
from tests.support import leaks, swarm, wait
from tests.support.images import IMAGE
from tests.support.node import Node

_NET: Final = "restart"
_REPLICAS: Final = 6


@pytest.fixture(scope="module")
def nodes(swarm_of_three: list[Node]) -> Iterator[list[Node]]:
    """The Swarm with a service of six on an attachable network."""
    first = swarm_of_three[0]
    first.create_network(_NET, "--subnet", "10.8.0.0/24", "--attachable")
    first.engine(
        "service", "create", "--detach", "--name", "web", "--replicas", str(_REPLICAS), "--endpoint-mode", "dnsrr",
        "--network", _NET, "--stop-signal", "SIGKILL", "--restart-delay", "1s", "--no-resolve-image", IMAGE,
    )  # fmt: skip
    swarm.wait_running(first.engine, "web", _REPLICAS)
    yield swarm_of_three
    first.engine("service", "rm", "web")
    wait.until("the network is free", lambda: first.engine.run("network", "rm", _NET).rc == 0, timeout_s=60)
    leaks.check(swarm_of_three, timeout_s=60)


def answering(node: Node) -> int:
    """How many of the service's tasks answer a container of this node that is made for the question."""
    tasks = node.engine("run", "--rm", "--network", _NET, IMAGE, "nslookup", "-type=a", "web")
    addresses = {line.split()[1] for line in tasks.partition("Name:")[2].splitlines() if line.startswith("Address:")}
    script = "for a in $@; do /bin/ping -c 1 -W 2 -q $a >/dev/null && echo $a; done"
    answers = node.engine.run("run", "--rm", "--network", _NET, IMAGE, "sh", "-c", script, "sh", *sorted(addresses))
    return len(answers.out.split())


def test_tasks_come_back_after_the_engine_was_killed(nodes: list[Node], figures: list[str]) -> None:
    first, _, victim = nodes
    old = {key for key in first.etcd.entries(keys.ENDPOINTS) if key.startswith(keys.ENDPOINTS + victim.name)}
    assert old

    victim.engine.kill()
    victim.engine.start()
    victim.wait_healthy()
    swarm.wait_well(nodes)
    swarm.wait_running(first.engine, "web", _REPLICAS)

    def all_work() -> None:
        for node in nodes:
            assert answering(node) == _REPLICAS

    wait.until_passes(all_work, timeout_s=60, interval_s=0.5)

    def nothing_old() -> None:
        endpoints = set(first.etcd.entries(keys.ENDPOINTS))
        assert not endpoints & old
        assert len(endpoints) == _REPLICAS
        links = [name for name in victim.links() if name.startswith("hw") and name != "hawse0"]
        here = [key for key in endpoints if key.startswith(keys.ENDPOINTS + victim.name)]
        assert len(links) == len(here), (links, here)

    wait.until_passes(nothing_old, timeout_s=180, interval_s=1)
    for node in nodes:
        leaks.check_addresses(node)
