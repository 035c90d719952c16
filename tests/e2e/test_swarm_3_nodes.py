"""A Swarm of three nodes, global scope: one «docker network create» on a manager serves all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Final

import pytest

from kvstore import keys
from tests.support import leaks, services, swarm, wait
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.swarm import leader

NET: Final = "app"
_POOL: Final = "10.2.0.0/16"
_GATEWAY: Final = "10.2.0.1"
_WEB: Final = ("sh", "-c", "hostname > /www/index.html; exec httpd -f -h /www")
_PATIENCE_S: Final = 30


@pytest.fixture(scope="module")
def nodes(swarm_of_three: list[Node]) -> Iterator[list[Node]]:
    """The Swarm with one attachable network; afterwards nothing of the module is left."""
    swarm_of_three[0].create_network(NET, "--subnet", _POOL, "--attachable")
    yield swarm_of_three
    leader(swarm_of_three).engine("network", "rm", NET)
    leaks.check(swarm_of_three, timeout_s=60)


@pytest.fixture(scope="module")
def boxes(nodes: list[Node]) -> Iterator[list[str]]:
    """One plain container per node, box0 … box2."""
    names = [f"box{number}" for number in range(len(nodes))]
    for node, name in zip(nodes, names, strict=True):
        node.start(name, NET)
    yield names
    for node, name in zip(nodes, names, strict=True):
        node.remove(name)


@pytest.fixture(autouse=True)
def _no_service_stays(nodes: list[Node]) -> Iterator[None]:
    """A test that failed half-way does not take the next one along."""
    yield
    if leader(nodes).engine("service", "ls", "-q"):
        remove_service(nodes, "web")


def create_service(manager: Node, name: str, replicas: int, *command: str, mode: str = "dnsrr") -> None:
    manager.engine(
        "service", "create", "--detach", "--name", name, "--replicas", str(replicas), "--endpoint-mode", mode,
        "--network", NET, "--stop-signal", "SIGKILL", "--no-resolve-image", IMAGE, *command,
    )  # fmt: skip


def remove_service(nodes: list[Node], name: str) -> None:
    leader(nodes).engine("service", "rm", name)

    def gone() -> bool:
        return not any(
            node.engine("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={name}") for node in nodes
        )

    wait.until(f"the tasks of {name} are gone", gone, timeout_s=60, interval_s=0.3)


def served_by(node: Node, box: str, service: str, replicas: int) -> None:
    """Wait until the name stands for that many addresses at this node, and every one of them answers."""

    def all_answer() -> None:
        looked_up = node.execute(box, "nslookup", "-type=a", service)
        addresses = [
            line.split()[1] for line in looked_up.out.partition("Name:")[2].splitlines() if line.startswith("Address:")
        ]
        assert len(set(addresses)) == replicas, str(looked_up)
        answers = [node.execute(box, "curl", "-sS", "-m", "2", f"http://{a}/") for a in addresses]
        assert all(answer.rc == 0 for answer in answers), "\n".join(map(str, answers))
        assert len({answer.out for answer in answers}) == replicas

    wait.until_passes(all_answer, timeout_s=_PATIENCE_S, interval_s=0.5)


def test_every_node_reports_global_scope_and_all_peers(nodes: list[Node]) -> None:
    for node in nodes:
        status = node.hawse_json("status")
        assert status["healthy"], status["problems"]
        assert status["agent"]["scope"] == "global"
        assert [(each["name"], each["alive"]) for each in status["nodes"]] == [("s1", True), ("s2", True), ("s3", True)]


PATHS: Final = [(0, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(("source", "target"), PATHS)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-s", "56"), id="small"),
        pytest.param(("-M", "do", "-s", "1422"), id="full-mtu"),
        pytest.param(("-s", "8000"), id="fragmented"),
    ],
)
def test_containers_on_different_nodes_ping_by_name(
    nodes: list[Node], boxes: list[str], source: int, target: int, options: tuple[str, ...]
) -> None:
    def answered() -> None:
        result = nodes[source].execute(
            boxes[source], "ping", "-c", "3", "-i", "0.1", "-W", "1", *options, boxes[target]
        )
        assert result.rc == 0, str(result)

    # The name comes to the other node by gossip.
    wait.until_passes(answered, timeout_s=_PATIENCE_S)


def test_a_packet_over_the_mtu_is_refused_at_the_sender(nodes: list[Node], boxes: list[str]) -> None:
    result = nodes[0].execute(boxes[0], "ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1423", boxes[1])

    assert result.rc != 0
    assert "message too long" in (result.out + result.err).lower()


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("kind", [pytest.param((), id="tcp"), pytest.param(("-u", "-b", "2M"), id="udp")])
def test_streams_between_nodes_arrive_whole(
    nodes: list[Node], boxes: list[str], figures: list[str], path: tuple[int, int], kind: tuple[str, ...]
) -> None:
    source, target = path
    nodes[target].engine("exec", "-d", boxes[target], "iperf3", "-s", "-1")
    address = nodes[target].address_in(boxes[target], NET)

    def measured() -> dict[str, dict[str, float]]:
        result = nodes[source].execute(boxes[source], "iperf3", "-J", "-t", "2", *kind, "-c", address)
        assert result.rc == 0, str(result)
        end: dict[str, dict[str, float]] = json.loads(result.out)["end"]
        return end

    end = wait.until_passes(measured, timeout_s=10)

    what = f"{nodes[source].name} to {nodes[target].name}"
    if kind:
        assert end["sum"]["lost_packets"] == 0
        figures.append(f"{what}: {end['sum']['packets']:.0f} datagrams, none lost")
    else:
        assert end["sum_received"]["bytes"] > 0
        figures.append(f"{what}: TCP {end['sum_received']['bits_per_second'] / 1e9:.2f} Gbit/s")


def test_a_service_of_six_is_reached_from_every_node(nodes: list[Node], boxes: list[str]) -> None:
    create_service(leader(nodes), "web", 6, *_WEB)
    tasks = swarm.wait_running(leader(nodes).engine, "web", 6)

    assert set(tasks) == {"s1", "s2", "s3"}
    for node, box in zip(nodes, boxes, strict=True):
        served_by(node, box, "web", 6)
    leaks.check_addresses(nodes[0])

    remove_service(nodes, "web")
    leaks.check_addresses(nodes[0])


def test_scaling_up_and_down_twenty_times_leaks_no_address(
    nodes: list[Node], boxes: list[str], figures: list[str]
) -> None:
    create_service(leader(nodes), "web", 1, *_WEB)
    swarm.wait_running(leader(nodes).engine, "web", 1)
    started = time.monotonic()
    for turn in range(20):
        replicas = 6 if turn % 2 == 0 else 1
        leader(nodes).engine("service", "scale", "--detach", f"web={replicas}")
        swarm.wait_running(leader(nodes).engine, "web", replicas)
        if turn == 10:
            change_leader(nodes)
    figures.append(
        f"20 times between 1 and 6 replicas, with a change of the leader: {time.monotonic() - started:.0f} s"
    )
    swarm.wait_running(leader(nodes).engine, "web", 1)

    for node in nodes:
        leaks.check_addresses(node)
    served_by(nodes[0], boxes[0], "web", 1)

    remove_service(nodes, "web")
    for node in nodes:
        leaks.check_addresses(node)
    wait_held(nodes[0], 1 + len(boxes))


def wait_held(node: Node, addresses: int) -> set[str]:
    """Wait until this many addresses are held; those of tasks are given back a moment after the containers are gone."""

    def held() -> set[str]:
        keys_now = set(node.etcd.entries(keys.ADDRESSES))
        assert len(keys_now) == addresses, keys_now
        return keys_now

    return wait.until_passes(held, timeout_s=_PATIENCE_S)


def change_leader(nodes: list[Node]) -> None:
    """Take the leader's place away; it becomes a manager again afterwards."""
    old = leader(nodes)
    swarm.demote(old.engine, old)
    new = leader([node for node in nodes if node is not old])
    assert new is not old
    swarm.wait_demoted(new.engine, old)
    swarm.promote(new.engine, old)


def addresses(nodes: list[Node], boxes: list[str]) -> dict[str, str]:
    """What Docker says that the boxes and the tasks of «web» have, by container; tasks that have ended have nothing."""
    found = {
        container: node.address_in(container, NET)
        for node, box in zip(nodes, boxes, strict=True)
        for container in (box, *services.containers(node, "web"))
    }
    return {container: address for container, address in found.items() if address}


def test_a_new_leader_takes_over_what_is_allocated(nodes: list[Node], boxes: list[str]) -> None:
    create_service(leader(nodes), "web", 3, *_WEB)
    swarm.wait_running(leader(nodes).engine, "web", 3)
    wait_held(nodes[0], 1 + len(boxes) + 3)
    before = addresses(nodes, boxes)

    change_leader(nodes)
    leader(nodes).engine("service", "scale", "--detach", "web=5")
    swarm.wait_running(leader(nodes).engine, "web", 5)

    held = wait_held(nodes[0], 1 + len(boxes) + 5)
    after = addresses(nodes, boxes)
    # Where the Swarm takes a node for lost while its leader changes, it starts a task elsewhere: not all need be there.
    stayed = before.keys() & after.keys()
    assert stayed >= set(boxes)
    assert {each: before[each] for each in stayed} == {each: after[each] for each in stayed}
    assert len(set(after.values())) == len(boxes) + 5, after
    assert {key.rpartition("/")[2] for key in held} == {*after.values(), _GATEWAY}
    served_by(nodes[1], boxes[1], "web", 5)
    remove_service(nodes, "web")
    leaks.check_addresses(nodes[0])


def test_a_worker_that_is_cut_off_comes_back(testbed: object, nodes: list[Node], boxes: list[str]) -> None:
    address = nodes[2].address_in(boxes[2], NET)
    testbed.underlay.cut(nodes[2].machine)  # type: ignore[attr-defined]

    assert nodes[0].execute(boxes[0], "ping", "-c", "2", "-i", "0.2", "-W", "1", address).rc != 0

    testbed.underlay.restore(nodes[2].machine)  # type: ignore[attr-defined]

    def answered() -> None:
        result = nodes[0].execute(boxes[0], "ping", "-c", "1", "-W", "1", address)
        assert result.rc == 0, str(result)

    wait.until_passes(answered, timeout_s=_PATIENCE_S)
    swarm.wait_well(nodes)
