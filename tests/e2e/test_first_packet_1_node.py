"""One node: a container's first packet is judged by what the policies say of its labels, however early it comes.

Docker tells a driver nothing of a container. Its labels come by the engine's events, while it is being started, and its
first instruction sends already.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from kvstore import keys
from tests.support import leaks, wait
from tests.support.disturb import kill_the_worker
from tests.support.node import Node
from tests.support.policies import PolicyAgent
from tests.support.traffic import Catcher, Knocker, Packet, Report

AT_ONCE: Final = 8
STARTS: Final = 16
"""Denied ones of each of five cases, on each engine."""
ALLOWED: Final = 4
FIRST_EVER: Final = 16
"""With these, and eight that had waited, it is 208 denied starts on both engines."""
_BURST_MS: Final = 250
_SOON_S: Final = 20

_CLIENT_MAY_NOTHING: Final = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: client}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{}]
"""
_CLIENT_IS_DENIED: Final = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: client}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: client}}]
  enableDefaultDeny: {ingress: false}
"""
_FRIENDS_REACH_THE_SERVER: Final = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Who is denied, and by what."""

    policy: str = ""
    """Document that is applied before."""
    server: dict[str, str] = field(default_factory=dict)
    client: dict[str, str] = field(default_factory=dict)
    """Labels besides ``app``."""


CASES: Final = {
    "egress-document": Case(policy=_CLIENT_MAY_NOTHING),
    "deny-document": Case(policy=_CLIENT_IS_DENIED),
    "ingress-document": Case(policy=_FRIENDS_REACH_THE_SERVER),
    "short-form-of-the-server": Case(server={"hawse.ingress": "app=friend"}),
    "short-form-of-the-client": Case(client={"hawse.egress": "none"}),
}


@pytest.fixture
def node(one_node: Node) -> Iterator[Node]:
    """A node with the network «net»; everything of the test is removed, one after the other."""
    one_node.create_network("net", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.1")
    yield one_node
    one_node.remove_everything()
    for policy in one_node.hawse_json("policy", "ls")["policies"]:
        PolicyAgent(one_node).delete(policy["name"])
    forget_identities(one_node)
    leaks.check([one_node])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_packet_of_a_denied_container_passes(
    node: Node, case: Case, figures: list[str], request: pytest.FixtureRequest
) -> None:
    agent = PolicyAgent(node)
    if case.policy:
        agent.wait_enforced(agent.apply(case.policy))
    server = Catcher(node, "server", "net", *_labels({"app": "server", **case.server}))
    wait_labelled(node, "app", "server")

    denied, allowed = start_all(node, server, case)

    arrived = server.packets()
    addresses = {report.address for report in denied}
    assert [packet for packet in arrived if packet.source in addresses or packet.name.startswith("client")] == []
    first = [first_passed_ms(arrived, report) for report in allowed]
    figures.append(
        f"engine {node.engine.version()}, {request.node.callspec.id}: {len(denied)} starts, "
        f"{sum(report.rounds for report in denied) * 3} packets denied, none passed; first packet of {len(allowed)} "
        f"allowed ones passed after {_describe(first)}"
    )


def test_the_first_container_that_ever_has_a_policy_obeys_it(node: Node, figures: list[str]) -> None:
    """No policy of the cluster closes anything, and nobody has had these labels before."""
    server = Catcher(node, "server", "net", *_labels({"app": "server"}))
    wait_labelled(node, "app", "server")
    rounds = 0
    for number in range(FIRST_EVER // AT_ONCE):
        clients = start(node, server, [{"app": f"own{number}", "hawse.egress": "none"}] * AT_ONCE)
        rounds += sum(client.wait_ended().rounds for client in clients)
        node.remove(*(client.name for client in clients))
        forget_identities(node)

    assert list(server.packets()) == []
    figures.append(
        f"engine {node.engine.version()}, first of its kind: {FIRST_EVER} starts, {rounds * 3} packets, none passed"
    )


def test_a_container_that_waited_until_nobody_knew_it_obeys_its_policy(node: Node, figures: list[str]) -> None:
    """Its identity was collected meanwhile, and the agent has not seen it being created."""
    server = Catcher(node, "server", "net", *_labels({"app": "server"}))
    wait_labelled(node, "app", "server")
    clients = start(
        node, server, [{"app": "old", "n": str(n), "hawse.egress": "none"} for n in range(AT_ONCE)], run=False
    )
    wait.until("the agent has seen them", lambda: len(short_forms(node)) == AT_ONCE, timeout_s=_SOON_S)
    forget_identities(node)
    kill_the_worker(node)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(Knocker.run, clients))
    rounds = sum(client.wait_ended().rounds for client in clients)

    assert list(server.packets()) == []
    figures.append(
        f"engine {node.engine.version()}, created long ago: {len(clients)} starts, {rounds * 3} packets, none passed"
    )


_numbers: Final = itertools.count()


def start_all(node: Node, server: Catcher, case: Case) -> tuple[list[Report], list[Report]]:
    """Start denied and allowed containers in a mix, half of them with labels that nobody else has."""
    wanted = []
    for number in range(STARTS):
        own = {"n": str(number)} if number % 2 else {}
        wanted.append({"app": "client", **case.client, **own})
        if number % (STARTS // ALLOWED) == 0:
            wanted.append({"app": "friend", **own})
    knockers = start(node, server, wanted)
    reports = {knocker.name: knocker.wait_ended() for knocker in knockers}
    return (
        [report for name, report in reports.items() if name.startswith("client")],
        [report for name, report in reports.items() if name.startswith("friend")],
    )


def start(node: Node, server: Catcher, wanted: Sequence[dict[str, str]], *, run: bool = True) -> list[Knocker]:
    """Make a knocker for each set of labels, :data:`AT_ONCE` at a time; every fourth has them of its attachment."""

    def one(labels: dict[str, str]) -> Knocker:
        number = next(_numbers)
        network, options = "net", _labels(labels)
        if run and number % 4 == 0:
            network = ",".join(["name=net", *(f"driver-opt=label.{key}={value}" for key, value in labels.items())])
            options = []
        name = f"{labels['app']}-{number}"
        return Knocker(node, name, network, server.address, *options, kinds="dns", duration_ms=_BURST_MS, run=run)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, wanted))


def first_passed_ms(arrived: Sequence[Packet], report: Report) -> float:
    """How long after its first instruction the first packet of a container arrived."""
    times = [packet.time_ns for packet in arrived if packet.source == report.address]
    assert times, f"nothing of {report} arrived"
    return (min(times) - report.started_ns) / 1e6


def wait_labelled(node: Node, key: str, value: str) -> None:
    """Wait until an endpoint has this label."""
    wait.until(
        f"an endpoint with {key}={value}",
        lambda: any((one["labels"] or {}).get(key) == value for one in node.hawse_json("endpoint", "ls")["endpoints"]),
        timeout_s=_SOON_S,
    )


def forget_identities(node: Node) -> None:
    """Take all identities out of etcd, as the collector does with those that were unused for long.

    One that is still in use comes back, or its labels are read from the endpoint.
    """
    node.machine.must("env", "ETCDCTL_API=3", "etcdctl", "del", "--prefix", keys.IDENTITIES)
    wait.until("short forms are forgotten", lambda: not short_forms(node), timeout_s=_SOON_S)


def short_forms(node: Node) -> list[int]:
    """The identities that carry a policy for themselves."""
    identities = node.hawse_json("identity", "ls")["identities"]
    return [one["identity"] for one in identities if "hawse.egress" in one["labels"]]


def _labels(labels: dict[str, str]) -> list[str]:
    return [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]


def _describe(first_ms: Sequence[float]) -> str:
    return f"p50 {statistics.median(first_ms):.1f} ms, p99 {max(first_ms):.1f} ms"
