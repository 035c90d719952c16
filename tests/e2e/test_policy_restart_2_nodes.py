"""Two nodes: policy holds while the agent or etcd is away, and through restarts; what changed meanwhile is enforced.

Denied and allowed traffic runs all the time, to a server on the same and on the other node.
"""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.support import leaks, wait
from tests.support.disturb import disable_and_enable, kill_the_agent, kill_the_worker
from tests.support.etcd_members import EtcdMembers
from tests.support.node import Node
from tests.support.policies import PolicyAgent
from tests.support.testbed import Testbed
from tests.support.traffic import Catcher, Knocker, missing

_NET: Final = "held"
_ROUNDS: Final = 10
"""Restarts of both nodes' agents."""
_AWHILE: Final = 100
"""Rounds of a sender; a client sends three packets each time, which makes 1 000 a second."""
_ROUND_US: Final = 3000
_FRIENDS: Final = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: server}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: friend}}]
"""
_CLIENTS: Final = _FRIENDS.replace("app: friend", "app: client")


class Traffic:
    """Two servers on the second node, one closed by a document and one by its own label, and who knocks at them."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self.nodes: Final = nodes
        _, other = nodes
        self.agent: Final = PolicyAgent(nodes[0])
        self.agent.wait_enforced(self.agent.apply(_FRIENDS))
        self.servers: Final = (
            Catcher(other, "documented", _NET, "--label=app=server"),
            Catcher(other, "labelled", _NET, "--label=app=own", "--label=hawse.ingress=app=friend"),
        )
        _wait_labels(nodes)
        self.clients: Final = self._senders("client", "dns")
        self.friends: Final = self._senders("friend", "d")
        for server, friend in self.friends:
            server.wait_more(friend.name)

    def _senders(self, app: str, kinds: str) -> list[tuple[Catcher, Knocker]]:
        return [
            (
                server,
                Knocker(
                    node,
                    f"{app}-{server.name}-{number}",
                    _NET,
                    server.address,
                    f"--label=app={app}",
                    kinds=kinds,
                    interval_us=_ROUND_US,
                ),
            )
            for server in self.servers
            for number, node in enumerate(self.nodes)
        ]

    def go_on(self) -> None:
        """Wait until everybody has sent for a while, and what may pass has arrived."""
        wanted = [(client, client.rounds() + _AWHILE) for _, client in self.clients]
        for client, number in wanted:
            client.wait_round(number)
        for server, friend in self.friends:
            server.wait_more(friend.name)

    def tries(self) -> int:
        """How many packets clients have sent."""
        return 3 * sum(client.rounds() for _, client in self.clients)

    def passed(self) -> int:
        """How many packets of clients arrived."""
        reports = [report for _, client in self.clients if (report := client.report())]
        addresses = {report.address for report in reports}
        return sum(packet.source in addresses for server in self.servers for packet in server.packets())

    def lost(self) -> int:
        """How many packets of friends did not arrive."""
        return sum(len(missing(server.of(friend.name))) for server, friend in self.friends)

    def arrived(self) -> int:
        """How many packets of friends did."""
        return sum(len(server.of(friend.name)) for server, friend in self.friends)


@pytest.fixture(scope="module")
def etcd(testbed: Testbed) -> EtcdMembers:
    return testbed.etcd("held", 1)


@pytest.fixture(scope="module")
def nodes(testbed: Testbed, etcd: EtcdMembers) -> Iterator[tuple[Node, Node]]:
    made = (testbed.node("h1", etcd=etcd), testbed.node("h2", etcd=etcd))
    for node in made:
        node.create_network(_NET, "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.1")
    yield made
    for node in made:
        node.engine("network", "rm", _NET)
    leaks.check(made)
    for node in made:
        node.machine.power_off()


@pytest.fixture
def traffic(nodes: tuple[Node, Node]) -> Iterator[Traffic]:
    yield Traffic(nodes)
    PolicyAgent(nodes[0]).delete("server")
    for node in nodes:
        node.remove(*node.engine("ps", "-aq").split())


@contextmanager
def policy_holds(traffic: Traffic, figures: list[str], what: str) -> Iterator[None]:
    """No packet that is denied arrives, and every one that is allowed does."""
    traffic.go_on()

    yield

    traffic.go_on()
    passed, lost = traffic.passed(), traffic.lost()
    figures.append(
        f"{what}: {traffic.tries()} denied packets, {passed} passed; {traffic.arrived()} allowed ones, {lost} lost"
    )
    assert (passed, lost) == (0, 0)


@pytest.mark.timeout(400)
def test_twenty_restarts_never_open_a_gap(traffic: Traffic, figures: list[str]) -> None:
    started = time.monotonic()
    with (
        policy_holds(traffic, figures, f"{2 * _ROUNDS} restarts of agents"),
        concurrent.futures.ThreadPoolExecutor(len(traffic.nodes)) as pool,
    ):
        for number in range(_ROUNDS):
            disturb = (kill_the_agent, kill_the_worker, disable_and_enable)[number % 3]
            list(pool.map(disturb, traffic.nodes))
    figures.append(f"{2 * _ROUNDS} restarts of agents, two at a time: {time.monotonic() - started:.0f} s")


@pytest.mark.timeout(300)
def test_policy_holds_without_etcd(traffic: Traffic, etcd: EtcdMembers, figures: list[str]) -> None:
    with policy_holds(traffic, figures, "etcd stopped, agents killed, etcd started"):
        etcd.stop()
        traffic.go_on()
        for node in traffic.nodes:
            node.machine.must("kill", "-KILL", str(node.plugin.pid()))
        for node in traffic.nodes:
            wait_without_store(node)
        traffic.go_on()
        etcd.start()
        for node in traffic.nodes:
            node.wait_healthy(timeout_s=60)
        traffic.agent.wait_enforced()


@pytest.mark.timeout(300)
def test_a_change_while_the_agent_was_away_is_enforced(traffic: Traffic, figures: list[str]) -> None:
    target = traffic.nodes[1]
    with policy_holds(traffic, figures, "policy changed while the server's agent is away"):
        target.plugin.disable(force=True)
        revision = traffic.agent.apply(_CLIENTS)

    enabled = time.monotonic()
    target.plugin.enable()
    roles_changed(traffic, revision)
    figures.append(
        f"changed while the agent was away: in force {time.monotonic() - enabled:.1f} s after it was enabled"
    )


@pytest.mark.timeout(300)
def test_a_change_while_a_node_had_no_etcd_is_enforced(traffic: Traffic, testbed: Testbed, figures: list[str]) -> None:
    target = traffic.nodes[1]
    with (
        testbed.underlay.mute_towards(target.address),
        policy_holds(traffic, figures, "policy changed while the server's node has no etcd"),
    ):
        revision = traffic.agent.apply(_CLIENTS)
        wait_without_store(target)

    connected = time.monotonic()
    roles_changed(traffic, revision)
    figures.append(f"changed while a node had no etcd: in force {time.monotonic() - connected:.1f} s after it had")


def roles_changed(traffic: Traffic, revision: int) -> None:
    """Clients reach the first server and friends do not; the second one's label is what it was."""
    for node in traffic.nodes:
        node.wait_healthy(timeout_s=60)
    traffic.agent.wait_enforced(revision)
    enforced_ns = time.time_ns()
    first, second = traffic.servers
    wanted = [(friend, friend.rounds() + _AWHILE) for _, friend in traffic.friends]
    for server, client in traffic.clients:
        if server is first:
            server.wait_more(client.name, since_ns=enforced_ns, packets=_AWHILE)
    for friend, number in wanted:
        friend.wait_round(number)
    for server, friend in traffic.friends:
        since = [packet for packet in server.of(friend.name) if packet.time_ns >= enforced_ns]
        assert (since == []) == (server is first), friend.name
    assert [packet for packet in second.packets() if packet.name.startswith("client")] == []


def wait_without_store(node: Node) -> None:
    """Wait until the agent answers, and says that it does not reach etcd."""

    def says() -> None:
        result = node.hawse("status", "-o", "json")
        assert result.out, str(result)
        assert not json.loads(result.out)["store"]["healthy"], str(result)

    wait.until_passes(says, timeout_s=60, interval_s=0.2)


def _wait_labels(nodes: tuple[Node, Node]) -> None:
    def known() -> None:
        for node in nodes:
            assert [one for one in node.hawse_json("endpoint", "ls")["endpoints"] if one["labels"] is None] == []

    wait.until_passes(known, timeout_s=20)
