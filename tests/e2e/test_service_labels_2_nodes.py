"""Two hosts without Swarm: containers with the label ``hawse.service`` answer at one address, wherever they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import leaks, services, wait
from tests.support.node import Node
from tests.support.service_load import OTHER_PORT, PORT, HoldInBackground, LoadInBackground, load

_NET: Final = "labelled"
_POOL: Final = "10.45.0.0/24"
_GATEWAY: Final = "10.45.0.1"
_ASKED: Final = 80
_SERVICE: Final = f"hawse.service=web:{_ASKED}={PORT},web:{_ASKED}={OTHER_PORT}/udp"
_SOME: Final = 80
_SOON_S: Final = 30
_WELL: Final = "/tmp/well"


# What a host without Swarm has by itself; both modes are in test_service_balance_3_nodes.py.
@pytest.fixture(scope="module", params=["socket"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def nodes(pair: tuple[Node, Node], mode: str) -> Iterator[tuple[Node, Node]]:
    services.set_translation(pair, mode)
    for node in pair:
        node.create_network(_NET, "--subnet", _POOL, "--gateway", _GATEWAY)
    yield pair
    for node in pair:
        node.engine("network", "rm", _NET)
    leaks.check(pair)
    services.set_translation(pair, "auto")


@pytest.fixture(autouse=True)
def boxes(nodes: tuple[Node, Node]) -> Iterator[list[str]]:
    """A container on each host that asks; whatever a test has started goes with it."""
    with services.boxes_on(nodes, _NET) as names:
        yield names
        for node in nodes:
            node.remove(
                *(name for name in node.engine("ps", "-a", "--format", "{{.Names}}").split() if name not in names)
            )


def start(node: Node, name: str, *options: str) -> None:
    command = ("sh", "-c", f"touch {_WELL}; exec service_load serve {name} {PORT} {OTHER_PORT}")
    node.start(name, _NET, f"--label={_SERVICE}", *options, command=command)


def vip(node: Node) -> str:
    """The service's address, once the node knows it."""

    def known() -> str:
        told = node.hawse("service", "get", "web", "-o", "json")
        assert told.rc == 0, str(told)
        (network,) = node.hawse_json("service", "get", "web")["networks"]
        return str(network["vip"])

    return wait.until_passes(known, timeout_s=_SOON_S, interval_s=0.2)


def wait_served(nodes: tuple[Node, Node], boxes: list[str], *names: str) -> str:
    """Wait until these containers and no others answer on both hosts, TCP and UDP; returns the address."""

    def served() -> str:
        addresses = {vip(node) for node in nodes}
        assert len(addresses) == 1
        (address,) = addresses
        for node, box in zip(nodes, boxes, strict=True):
            for kind in ("tcp", "udp", "sendto"):
                report = load(node, box, address, port=_ASKED, kind=kind, count=_SOME, timeout_ms=2000)
                assert report.failed == 0, f"{kind} from {node.name}: {report}"
                assert set(report.servers) == set(names), f"{kind} from {node.name}: {report.counts}"
                assert report.other_peer == 0
        return address

    return wait.until_passes(served, timeout_s=_SOON_S, interval_s=0.2)


def test_containers_of_both_hosts_answer_at_one_address(nodes: tuple[Node, Node], boxes: list[str]) -> None:
    one, other = nodes
    start(one, "a1")
    start(one, "a2")
    start(other, "b1")

    address = wait_served(nodes, boxes, "a1", "a2", "b1")

    for node, box in zip(nodes, boxes, strict=True):
        assert node.execute(box, "ping", "-c", "2", "-i", "0.1", "-W", "2", address).rc == 0
        refused = load(node, box, address, port=_ASKED + 1, count=5, timeout_ms=1000)
        assert set(refused.kinds) == {"refused"}, refused
    for node, name in ((one, "a1"), (other, "b1")):
        own = load(node, name, address, port=_ASKED, count=_SOME)
        assert own.failed == 0
        assert set(own.servers) == {"a1", "a2", "b1"}


def test_a_container_joins_and_leaves_without_a_failure(nodes: tuple[Node, Node], boxes: list[str]) -> None:
    one, other = nodes
    start(one, "a1")
    start(other, "b1")
    address = wait_served(nodes, boxes, "a1", "b1")
    client = LoadInBackground(one, _NET, address, port=_ASKED, rate=100)
    start(other, "b2")
    wait.until("b2 answers", lambda: "b2" in client.report().servers, timeout_s=_SOON_S)
    holder = HoldInBackground(one, _NET, address, port=_ASKED, connections=24)

    other.engine("kill", "b2")

    wait.until(
        "connections to b2 break",
        lambda: not any(each.open for each in holder.report().of("b2")),
        timeout_s=_SOON_S,
    )
    wait_served(nodes, boxes, "a1", "b1")
    held = holder.stop()
    assert held.of("b2")
    assert all(each.how == "" for each in held.of("a1", "b1"))
    report = client.stop()
    late = [(each.started_ns - held.of("b2")[0].broke_ns) / 1e9 for each in report.failures]
    assert max(late, default=0.0) < 2, late


def test_a_container_that_is_not_healthy_gets_nothing(nodes: tuple[Node, Node], boxes: list[str]) -> None:
    one, other = nodes
    start(one, "a1")
    health = ("--health-cmd", f"test -e {_WELL}", "--health-interval", "0.5s", "--health-retries", "2")
    start(other, "b1", *health)
    wait_served(nodes, boxes, "a1", "b1")

    other.engine("exec", "b1", "rm", _WELL)
    wait_served(nodes, boxes, "a1")

    other.engine("exec", "b1", "touch", _WELL)
    wait_served(nodes, boxes, "a1", "b1")


def test_a_client_keeps_its_backend_if_the_label_says_so(nodes: tuple[Node, Node], boxes: list[str]) -> None:
    for node, name in zip((*nodes, *nodes), ("a1", "b1", "a2", "b2"), strict=True):
        start(node, name, "--label=hawse.service.affinity=true")
    address = vip(nodes[0])

    def all_there() -> None:
        for node in nodes:
            assert services.active(node, "web") == {"a1", "a2", "b1", "b2"}

    wait.until_passes(all_there, timeout_s=_SOON_S, interval_s=0.2)
    for node, box in zip(nodes, boxes, strict=True):
        report = load(node, box, address, port=_ASKED, count=_SOME)
        assert report.failed == 0
        assert len(report.servers) == 1
