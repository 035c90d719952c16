"""A Swarm of three nodes: services change, backends leave and die under load, and no client is left hanging."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import services, wait
from tests.support.node import Node
from tests.support.service_load import HoldInBackground, LoadInBackground, load
from tests.support.services import Task
from tests.support.swarm import leader

_NET: Final = "changes"
_POOL: Final = "10.42.0.0/24"
_RATE: Final = 100
"""Connections a second from each of two nodes."""
_HELD: Final = 48
_GRACE_S: Final = 6
_HANGS_S: Final = 5
"""As long as nothing may hang after its backend has ended, on a busy machine; the figures say how long it was."""
_SOON_S: Final = 30
_AT_ONCE_S: Final = 1.5


@pytest.fixture(scope="module", params=services.MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def nodes(swarm_of_three: list[Node], mode: str) -> Iterator[list[Node]]:
    with services.network(swarm_of_three, _NET, _POOL, mode=mode):
        yield swarm_of_three


@pytest.fixture(scope="module")
def boxes(nodes: list[Node]) -> Iterator[list[str]]:
    with services.boxes_on(nodes, _NET) as names:
        yield names


@pytest.fixture(autouse=True)
def _nothing_stays(nodes: list[Node]) -> Iterator[None]:
    """A test that failed half-way does not take the next one along."""
    yield
    for node in nodes:
        listed = node.engine("ps", "-a", "--format", "{{.Names}}").split()
        node.remove(*(name for name in listed if name.startswith(("load", "hold"))))
    services.remove(nodes, "web")


def started(nodes: list[Node], boxes: list[str], replicas: int, *, grace_s: int = 20) -> list[Task]:
    """Make «web» and wait until everybody reaches all of it."""
    services.create(leader(nodes), "web", _NET, replicas, grace_s=grace_s)
    running = services.wait_running(nodes, "web", replicas)
    services.wait_served(nodes, boxes, "web", servers(running))
    return running


def servers(tasks: list[Task]) -> set[str]:
    return {task.server for task in tasks}


def test_scaling_and_a_rolling_update_fail_no_connection(
    nodes: list[Node], boxes: list[str], figures: list[str], mode: str
) -> None:
    started(nodes, boxes, 6)
    begun = time.monotonic()
    clients = [LoadInBackground(node, _NET, "web", rate=_RATE) for node in nodes[:2]]
    clients.append(LoadInBackground(nodes[2], _NET, "web", kind="udp", rate=_RATE // 2))
    for client in clients:
        client.wait_answers(_RATE)

    for replicas in (2, 8):
        running = services.scale(nodes, "web", replicas)
        all_serve(clients, running)
    leader(nodes).engine(
        "service", "update", "--quiet", "--force", "--update-parallelism", "2", "--update-delay", "0s",
        "--update-monitor", "1s", "web",
    )  # fmt: skip
    updated = services.wait_running(nodes, "web", 8)
    all_serve(clients, updated)

    assert not servers(updated) & servers(running)
    reports = [client.stop() for client in clients]
    seconds = time.monotonic() - begun
    figures.append(
        f"translated at {mode}: 6 to 2 to 8 replicas and a rolling update of 8 in {seconds:.0f} s: "
        f"TCP {reports[0]} and {reports[1]}, UDP {reports[2]}; "
        f"slowest {max(report.slowest_s for report in reports) * 1000:.0f} ms"
    )
    for report in reports:
        assert report.failed == 0, f"{report}: {report.failures[:10]}"
        assert report.other_peer == 0


def all_serve(clients: list[LoadInBackground], tasks: list[Task]) -> None:
    """Wait until each of the tasks has answered each client."""

    def serve() -> None:
        for client in clients:
            assert servers(tasks) <= set(client.report().servers), client.report().counts

    wait.until_passes(serve, timeout_s=_SOON_S)


def test_open_connections_go_on_until_their_backend_ends(
    nodes: list[Node], boxes: list[str], figures: list[str], mode: str
) -> None:
    before = started(nodes, boxes, 6, grace_s=_GRACE_S)
    clients = [HoldInBackground(node, _NET, "web", connections=_HELD) for node in nodes]
    since_s = time.time()

    stay = services.scale(nodes, "web", 2)

    leave = servers(before) - servers(stay)
    ended = services.ends(nodes, since_s)
    assert {task.ident for task in before} - {task.ident for task in stay} == set(ended)

    def all_broken() -> None:
        for client in clients:
            open_ones = [one for one in client.report().of(*leave) if one.open]
            assert not open_ones, open_ones

    wait.until_passes(all_broken, timeout_s=2 * _HANGS_S)
    connections = [one for client in clients for one in client.stop().connections]
    broken = [one for one in connections if one.server in leave]
    held_s = [(one.answered_ns / 1e9 - since_s) for one in broken]
    late_s = [(one.broke_ns - ended[Task.of(one.server).ident]) / 1e9 for one in broken]
    figures.append(
        f"translated at {mode}: {len(broken)} connections to backends that left were answered for {min(held_s):.1f} to "
        f"{max(held_s):.1f} s more, and broke {max(late_s):.2f} s after the end at the latest"
    )
    assert broken
    assert min(held_s) > _GRACE_S
    assert max(late_s) < _HANGS_S
    assert {one.how for one in broken} <= {"closed", "reset"}
    assert all(one.longest_s < _HANGS_S for one in connections), max(one.longest_s for one in connections)
    assert all(one.how == "" for one in connections if one.server not in leave)


@pytest.mark.parametrize("silent", [False, True], ids=["killed", "killed-without-a-word"])
def test_a_backend_that_is_killed_hangs_nobody(
    nodes: list[Node], boxes: list[str], figures: list[str], mode: str, *, silent: bool
) -> None:
    running = started(nodes, boxes, 6)
    client = LoadInBackground(nodes[0], _NET, "web", rate=_RATE, timeout_ms=_HANGS_S * 2000)
    holder = HoldInBackground(nodes[1], _NET, "web", connections=_HELD)
    # These have had their answer and say nothing more: nothing that they send could tell them.
    waiting = HoldInBackground(nodes[1], _NET, "web", connections=_HELD, interval_ms=_HANGS_S * 10_000)
    client.wait_answers(_RATE)
    victim = next(task for task in running if task.node == nodes[2].name)
    container = services.container_of(nodes[2], "web", victim)
    if silent:
        # What it says when it ends reaches nobody, as if it had lost its power.
        pid = nodes[2].engine("inspect", "--format", "{{.State.Pid}}", container)
        nodes[2].machine.must("nsenter", "--target", pid, "--net", "ip", "link", "set", "eth0", "down")
    killed_ns = time.time_ns()
    nodes[2].engine("kill", container)

    def all_broken() -> None:
        open_ones = [one for held in (holder, waiting) for one in held.report().of(victim.server) if one.open]
        assert not open_ones, open_ones

    wait.until_passes(all_broken, timeout_s=_SOON_S)
    again = services.wait_running(nodes, "web", 6)
    all_serve([client], again)
    connections = [*holder.stop().connections, *waiting.stop().connections]
    report = client.stop()

    broken = [one for one in connections if one.server == victim.server]
    hung_s = max((one.broke_ns - killed_ns) / 1e9 for one in broken)
    failed_s = max(((one.started_ns - killed_ns) / 1e9 for one in report.failures), default=0.0)
    how = ", ".join(sorted({one.how for one in broken}))
    figures.append(
        f"translated at {mode}: {len(broken)} connections to a backend killed{' without a word' if silent else ''} "
        f"broke ({how}) within {hung_s:.2f} s; new ones: {report}, the last failure {failed_s:.2f} s after"
    )
    assert broken
    assert {one.how for one in broken} <= ({"reset"} if silent else {"closed", "reset"})
    assert hung_s < _HANGS_S
    assert failed_s < _HANGS_S
    assert "timeout" not in report.kinds
    assert all(one.how == "" for one in connections if one.server != victim.server)


def test_a_service_without_backend_refuses_at_once(
    nodes: list[Node], boxes: list[str], figures: list[str], mode: str
) -> None:
    started(nodes, boxes, 3)
    vip = services.virtual_address(nodes[0], "web")
    services.scale(nodes, "web", 0)
    for node in nodes:
        wait.until_passes(lambda node=node: none_active(node), timeout_s=_SOON_S, interval_s=0.2)

    slowest_s = 0.0
    for node, box in zip(nodes, boxes, strict=True):
        for kind in ("tcp", "udp"):
            # Docker's own name server forgets the name with the last task; clients may remember what it stood for.
            report = load(node, box, vip, kind=kind, count=20, rate=100, timeout_ms=2000)
            assert report.answered == 0
            assert set(report.kinds) == {"refused"}, f"{kind} from {node.name}: {report}"
            slowest_s = max(slowest_s, *(one.took_s for one in report.failures))
        reported(node, node.address_in(box, _NET), vip)
    figures.append(f"translated at {mode}: without a backend refused within {slowest_s * 1000:.0f} ms")
    assert slowest_s < _AT_ONCE_S

    running = services.scale(nodes, "web", 3)
    services.wait_served(nodes, boxes, "web", servers(running))


def none_active(node: Node) -> None:
    told = node.hawse_json("service", "get", "web")
    assert told["active"] == 0, told


def reported(node: Node, source: str, vip: str) -> None:
    """The node's flows say that there was no backend, of both protocols."""

    def told() -> None:
        flows = services.dropped(node, "--from-ip", source, "--to-ip", vip)
        assert {flow["protocol"] for flow in flows} == {"tcp", "udp"}, flows
        assert {flow["drop_reason_desc"] for flow in flows} == {"SERVICE_BACKEND_NOT_FOUND"}
        text = node.hawse("observe", "--verdict", "DROPPED", "--from-ip", source, "--to-ip", vip).out
        assert "service backend not found" in text.lower(), text
        assert "web" in text

    wait.until_passes(told, timeout_s=_SOON_S, interval_s=0.3)
