"""Real engines, real Swarm, real kernel: what the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import leaks, swarm
from tests.support.etcd_members import EtcdMembers
from tests.support.leftovers import remove_of_dead_runs
from tests.support.node import Node
from tests.support.plugin import NAME
from tests.support.testbed import Testbed, debian_with_docker
from tests.support.world import ROUTED_RANGE, World

_FIGURES: Final = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.e2e)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash[_FIGURES]
    if figures:
        terminalreporter.section("measured")
        for line in figures:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines with measured values; shown when all tests have run."""
    return pytestconfig.stash[_FIGURES]


@pytest.fixture(scope="session")
def testbed(figures: list[str]) -> Iterator[Testbed]:
    remove_of_dead_runs()
    made = Testbed()
    try:
        yield made
    finally:
        figures += [
            f"plugin in engine {version}: create {build.create_s:.1f} s, rootfs {build.rootfs_mb:.0f} MB"
            for version, build in made.builds.items()
        ]
        made.remove()


@pytest.fixture(scope="session")
def world(testbed: Testbed) -> World:
    """A network behind a router; see :meth:`World.reached_by` for the nodes' way to it."""
    return testbed.world()


@pytest.fixture(scope="session", params=["20.10", "28"])
def node_of_each_engine(request: pytest.FixtureRequest, testbed: Testbed, figures: list[str]) -> Iterator[Node]:
    if request.param == "20.10":
        node = testbed.node("a20", enable=False)
    else:
        node = testbed.node("a28", base=debian_with_docker("sid"), enable=False)
    version = node.engine.version()
    # Debian unstable moves on: a newer engine than 28 is as good a test.
    assert version.startswith("20.10.") if request.param == "20.10" else int(version.split(".")[0]) >= 28, version
    enable_s = node.plugin.enable()
    figures.append(f"plugin in engine {version}: enable {enable_s:.2f} s, healthy {node.wait_healthy():.2f} s later")
    yield node
    processes = node.plugin.processes().values()
    resident = ", ".join(f"{each.name} {each.resident_mb:.0f} MB" for each in processes)
    agent_mb = sum(each.share_mb for each in processes if each.is_agent)
    figures.append(
        f"plugin in engine {version}: after the tests resident {resident}; the agent in all {agent_mb:.0f} MB"
    )
    assert agent_mb < 100
    node.machine.power_off()


@pytest.fixture(scope="module")
def one_node(node_of_each_engine: Node) -> Iterator[Node]:
    """One node with its plugin's own etcd, on this Debian's engine and on the one of Debian unstable.

    All modules have the same two, one after the other; each leaves them as they were.
    """
    yield node_of_each_engine
    leaks.check([node_of_each_engine])


@pytest.fixture(scope="session")
def pair(testbed: Testbed) -> Iterator[tuple[Node, Node]]:
    """Two nodes without Swarm that share an etcd; their engines keep containers while they restart."""
    etcd = testbed.etcd("pair", 1)
    settings = {"MASQUERADE_EXCLUDE": ROUTED_RANGE}
    nodes = tuple(testbed.node(name, etcd=etcd, settings=settings, live_restore=True) for name in ("p1", "p2"))
    one, other = nodes
    yield one, other
    for node in nodes:
        node.machine.power_off()


@pytest.fixture(scope="session")
def managers(testbed: Testbed) -> Iterator[list[Node]]:
    """Three managers with an etcd of three members; hawse was enabled after the Swarm was formed."""
    etcd: EtcdMembers = testbed.etcd("swarm", 3)
    nodes = [testbed.node(name, etcd=etcd, enable=False) for name in ("s1", "s2", "s3")]
    swarm.form([(node.engine, node.address) for node in nodes], managers=3)
    for node in nodes:
        node.plugin.enable()
    for node in nodes:
        node.wait_healthy()
    swarm.wait_driver(nodes[0].engine, NAME, len(nodes))
    yield nodes
    for node in nodes:
        node.machine.power_off()


@pytest.fixture(scope="module")
def swarm_of_three(managers: list[Node]) -> list[Node]:
    """The managers, whatever the last module did to them well again."""
    swarm.wait_well(managers)
    return managers
