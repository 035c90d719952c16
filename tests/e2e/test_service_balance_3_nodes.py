"""A Swarm of three nodes: a service's name answers everywhere, in both modes of translation, from all of its tasks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.support import services, wait
from tests.support.node import Node
from tests.support.policies import PolicyAgent
from tests.support.service_load import OTHER_PORT, PORT, Load, load
from tests.support.services import Task
from tests.support.swarm import leader

_NET: Final = "balance"
_POOL: Final = "10.41.0.0/24"
_REPLICAS: Final = 6
_MANY: Final = 10_000
_UNEVEN: Final = 0.10
_SOME: Final = 120
_SOON_S: Final = 30
_KINDS: Final = ("tcp", "udp", "sendto")
_ONE_CLIENT_ONE_PORT: Final = f"""
apiVersion: hawse/v1
kind: Policy
metadata: {{name: web}}
spec:
  endpointSelector: {{matchLabels: {{app: web}}}}
  ingress:
  - fromEndpoints: [{{matchLabels: {{app: client}}}}]
    toPorts: [{{ports: [{{port: "{PORT}"}}]}}]
"""


@pytest.fixture(scope="module", params=services.MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def nodes(swarm_of_three: list[Node], mode: str) -> Iterator[list[Node]]:
    with services.network(swarm_of_three, _NET, _POOL, mode=mode):
        yield swarm_of_three


@pytest.fixture(scope="module")
def boxes(nodes: list[Node]) -> Iterator[list[str]]:
    with services.boxes_on(nodes, _NET, "--label=app=client") as names:
        yield names


@pytest.fixture(scope="module")
def tasks(nodes: list[Node], boxes: list[str]) -> Iterator[list[Task]]:
    """The tasks of «web», when everybody reaches all of them."""
    services.create(leader(nodes), "web", _NET, _REPLICAS, "--container-label", "app=web")
    running = services.wait_running(nodes, "web", _REPLICAS)
    services.wait_served(nodes, boxes, "web", _servers(running))
    yield running
    services.remove(nodes, "web")


def _servers(tasks: list[Task]) -> set[str]:
    return {task.server for task in tasks}


def _answered(report: Load, what: str) -> None:
    assert report.failed == 0, f"{what}: {report}: {report.failures[:5]}"


def test_every_node_says_where_services_are_translated(nodes: list[Node], mode: str) -> None:
    for node in nodes:
        status = node.hawse_json("status")["services"]
        assert status["translation"] == mode


@pytest.mark.parametrize("kind", _KINDS)
def test_the_name_answers_on_every_node(nodes: list[Node], boxes: list[str], tasks: list[Task], kind: str) -> None:
    assert {task.node for task in tasks} == {node.name for node in nodes}
    vip = services.virtual_address(nodes[0], "web")
    for node, box in zip(nodes, boxes, strict=True):
        for port in (PORT, OTHER_PORT):
            report = load(node, box, "web", kind=kind, port=port, count=_SOME)

            _answered(report, f"{kind} {port} from {node.name}")
            assert report.address == vip
            assert set(report.servers) == _servers(tasks)
            assert report.other_peer == 0
            assert set(report.seen) == {node.address_in(box, _NET)}


def test_the_virtual_address_answers_a_ping(nodes: list[Node], boxes: list[str], tasks: list[Task]) -> None:
    vip = services.virtual_address(nodes[0], "web")
    for node, box in zip(nodes, boxes, strict=True):
        for options in ((), ("-s", "1422", "-M", "do")):
            result = node.execute(box, "ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", *options, vip)
            assert result.rc == 0, f"from {node.name}: {result}"
            assert f"from {vip}" in result.out


@pytest.mark.parametrize("kind", _KINDS)
def test_a_backend_is_answered_by_all_and_itself(nodes: list[Node], tasks: list[Task], kind: str) -> None:
    for node in nodes:
        container, *_ = services.containers(node, "web")
        own = node.execute(container, "hostname").out.strip()

        report = load(node, container, "web", kind=kind, count=_SOME)

        _answered(report, f"{kind} from {own}")
        assert own in report.servers
        assert set(report.servers) == _servers(tasks)
        assert report.other_peer == 0


def test_ten_thousand_connections_spread_evenly(
    nodes: list[Node], boxes: list[str], tasks: list[Task], figures: list[str], mode: str
) -> None:
    started = time.monotonic()
    report = load(nodes[0], boxes[0], "web", count=_MANY)
    took_s = time.monotonic() - started

    _answered(report, "many")
    counts = [report.counts.get(task.server, 0) for task in tasks]
    even = _MANY / len(tasks)
    worst = max(abs(count - even) / even for count in counts)
    figures.append(
        f"translated at {mode}: {_MANY} connections to {len(tasks)} backends in {took_s:.1f} s, "
        f"{min(counts)} to {max(counts)} each, up to {worst:.1%} from even "
        f"(standard deviation {statistics.pstdev(counts) / even:.1%}), slowest {report.slowest_s * 1000:.0f} ms"
    )
    assert worst <= _UNEVEN, counts


def test_all_nodes_at_once_are_answered(nodes: list[Node], boxes: list[str], tasks: list[Task]) -> None:
    def many(place: tuple[Node, str]) -> Load:
        return load(*place, "web", count=1000, rate=200)

    with ThreadPoolExecutor(len(nodes)) as pool:
        for report in pool.map(many, zip(nodes, boxes, strict=True)):
            _answered(report, "at once")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_with_affinity_a_client_keeps_its_backend(
    nodes: list[Node], boxes: list[str], affine: list[Task], kind: str
) -> None:
    for node, box in zip(nodes, boxes, strict=True):
        reports = [load(node, box, "affine", kind=kind, port=port, count=40) for port in (PORT, OTHER_PORT)]

        for report in reports:
            _answered(report, f"{kind} from {node.name}")
        assert len({server for report in reports for server in report.servers}) == 1


@pytest.fixture(scope="module")
def affine(nodes: list[Node], boxes: list[str]) -> Iterator[list[Task]]:
    services.create(leader(nodes), "affine", _NET, _REPLICAS, "--label", "hawse.service.affinity=true")
    running = services.wait_running(nodes, "affine", _REPLICAS)

    def programmed() -> None:
        for node in nodes:
            assert services.active(node, "affine") == {task.of_service("affine") for task in running}

    wait.until_passes(programmed, timeout_s=_SOON_S, interval_s=0.3)
    yield running
    services.remove(nodes, "affine")


def test_a_service_of_addresses_stays_as_it_is(nodes: list[Node], boxes: list[str]) -> None:
    services.create(leader(nodes), "plain", _NET, 3, mode="dnsrr")
    try:
        running = services.wait_running(nodes, "plain", 3)
        for node, box in zip(nodes, boxes, strict=True):
            _answers_by_address(node, box, "plain", running)
        for node in nodes:
            assert "plain" not in {one["name"] for one in node.hawse_json("service", "ls")["services"]}
    finally:
        services.remove(nodes, "plain")


def _answers_by_address(node: Node, box: str, service: str, tasks: list[Task]) -> None:
    def all_answer() -> None:
        looked_up = node.execute(box, "nslookup", "-type=a", service)
        lines = looked_up.out.partition("Name:")[2].splitlines()
        addresses = {line.split()[1] for line in lines if line.startswith("Address:")}
        assert len(addresses) == len(tasks), str(looked_up)
        reports = [load(node, box, address, count=3) for address in addresses]
        assert {server for report in reports for server in report.servers} == _servers(tasks)

    wait.until_passes(all_answer, timeout_s=_SOON_S, interval_s=0.5)


def test_policy_judges_the_backend_and_not_the_virtual_address(
    nodes: list[Node], boxes: list[str], tasks: list[Task]
) -> None:
    agent = PolicyAgent(nodes[0])
    with services.boxes_on(nodes, _NET, "--label=app=stranger", name="stranger") as strangers:
        agent.wait_enforced(agent.apply(_ONE_CLIENT_ONE_PORT))
        try:
            for node, box, stranger in zip(nodes, boxes, strangers, strict=True):
                for kind in ("tcp", "udp"):
                    allowed = load(node, box, "web", kind=kind, count=_SOME)
                    _answered(allowed, f"{kind} from {node.name}")
                    assert set(allowed.servers) == _servers(tasks)
                    for container, port in ((box, OTHER_PORT), (stranger, PORT)):
                        denied = load(node, container, "web", kind=kind, port=port, count=60, timeout_ms=300)
                        assert denied.answered == 0
                        assert set(denied.kinds) == {"timeout"}, denied
                _denial_is_reported(nodes, node.address_in(stranger, _NET), tasks)
        finally:
            agent.wait_enforced(agent.delete("web"))


def _denial_is_reported(nodes: list[Node], source: str, tasks: list[Task]) -> None:
    """Nodes where the backends are name the backend, with its labels, as what was not reached."""

    def reported() -> None:
        flows = [flow for node in nodes for flow in services.dropped(node, "--from-ip", source)]
        assert flows, f"nobody reports a denied packet of {source}"
        for flow in flows:
            assert flow["drop_reason_desc"] == "POLICY_DENIED"
            assert flow["traffic_direction"] == "INGRESS"
            assert "app=web" in flow["destination"]["labels"], flow
            assert "app=stranger" in flow["source"]["labels"], flow
        assert {flow["node_name"] for flow in flows} == {task.node for task in tasks}

    wait.until_passes(reported, timeout_s=_SOON_S, interval_s=0.5)


def test_the_command_and_the_kernel_agree_with_the_swarm(nodes: list[Node], tasks: list[Task]) -> None:
    vip = services.virtual_address(nodes[0], "web")
    for node in nodes:
        listed = {one["name"]: one for one in node.hawse_json("service", "ls")["services"]}
        assert listed["web"]["source"] == "swarm"
        assert listed["web"]["active"] == _REPLICAS

        told: Mapping[str, Any] = node.hawse_json("service", "get", "web")
        (network,) = told["networks"]
        assert network["vip"] == vip
        assert network["problem"] is None
        assert {(one["name"], one["node"], one["state"]) for one in network["backends"]} == {
            (task.of_service("web"), task.node, "active") for task in tasks
        }
        shares = [one["share"] for one in network["backends"]]
        assert sum(shares) == pytest.approx(1, abs=0.01)
        assert max(shares) < 1.05 * min(shares)

        frontends = [one for one in node.hawse_json("bpf", "lb", "ls")["frontends"] if one["address"] == vip]
        assert [(one["service"], one["port"], one["protocol"]) for one in frontends] == [("web", None, None)]
        addresses = {one["address"] for one in network["backends"]}
        assert {one["address"] for one in frontends[0]["backends"]} == addresses
        assert node.hawse("service", "ls").rc == 0
        assert vip in node.hawse("service", "get", "web").out
