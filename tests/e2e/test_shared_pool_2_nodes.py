"""Without Swarm: the same CIDR on two hosts that share an etcd is one network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import leaks
from tests.support.node import Node

_POOL: Final = "10.3.0.0/24"


@pytest.fixture(scope="module")
def shared(pair: tuple[Node, Node]) -> Iterator[tuple[Node, Node]]:
    """The network «left» on one host and «right» on the other, with one container each: one and other."""
    one, other = pair
    one.create_network("left", "--subnet", _POOL, "--gateway", "10.3.0.1")
    other.create_network("right", "--subnet", _POOL, "--gateway", "10.3.0.1")
    one.start("one", "left")
    other.start("other", "right")
    yield pair
    one.remove("one")
    other.remove("other")
    one.engine("network", "rm", "left")
    other.engine("network", "rm", "right")
    leaks.check(pair)


def test_two_docker_networks_are_one(shared: tuple[Node, Node]) -> None:
    (network,) = shared[0].hawse_json("network", "ls")["networks"]

    assert network["pool"] == _POOL
    assert {each["holder"] for each in network["docker_networks"]} == {"p1", "p2"}
    assert network["endpoints"] == 2
    assert shared[1].hawse_json("network", "ls")["networks"] == [network]


def test_addresses_differ_across_hosts(shared: tuple[Node, Node]) -> None:
    assert shared[0].address_in("one", "left") != shared[1].address_in("other", "right")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-s", "56"), id="small"),
        pytest.param(("-M", "do", "-s", "1422"), id="full-mtu"),
        pytest.param(("-s", "8000"), id="fragmented"),
    ],
)
def test_containers_reach_each_other_across_hosts(shared: tuple[Node, Node], options: tuple[str, ...]) -> None:
    one, other = shared

    there = one.execute("one", "ping", "-c", "3", "-i", "0.1", *options, other.address_in("other", "right"))
    back = other.execute("other", "ping", "-c", "3", "-i", "0.1", *options, one.address_in("one", "left"))

    assert there.rc == 0, str(there)
    assert back.rc == 0, str(back)


@pytest.mark.parametrize("kind", [pytest.param((), id="tcp"), pytest.param(("-u", "-b", "10M"), id="udp")])
def test_streams_arrive_across_hosts(shared: tuple[Node, Node], kind: tuple[str, ...]) -> None:
    one, other = shared
    other.start("server", "right", command=("iperf3", "-s", "-1"))

    result = one.execute("one", "iperf3", "-t", "1", *kind, "-c", other.address_in("server", "right"))

    other.remove("server")
    assert result.rc == 0, str(result)


def test_an_address_in_use_on_one_host_is_refused_on_the_other(shared: tuple[Node, Node]) -> None:
    one, other = shared
    taken = one.address_in("one", "left")

    result = other.engine.run("run", "-d", "--name", "thief", "--network", "right", "--ip", taken, "hawse-test")

    other.remove("thief")
    assert result.rc != 0
    assert taken in result.err
    leaks.check_addresses(other)


def test_a_network_that_overlaps_is_refused_on_the_other_host(shared: tuple[Node, Node]) -> None:
    result = shared[1].engine.run(
        "network", "create", "-d", "hawse:latest", "--ipam-driver", "hawse:latest", "--subnet", "10.3.0.128/25", "wrong"
    )

    assert result.rc != 0
    assert _POOL in result.err


def test_a_container_in_another_network_is_not_reached(shared: tuple[Node, Node]) -> None:
    one, other = shared
    other.create_network("apart", "--subnet", "10.4.0.0/24")
    other.start("stranger", "apart")

    result = one.execute("one", "ping", "-c", "2", "-i", "0.2", "-W", "1", other.address_in("stranger", "apart"))

    other.remove("stranger")
    other.engine("network", "rm", "apart")
    assert result.rc != 0


def test_the_network_outlives_its_first_host(shared: tuple[Node, Node]) -> None:
    one, other = shared
    other.create_network("third", "--subnet", "10.5.0.0/24", "--gateway", "10.5.0.1")
    one.create_network("third", "--subnet", "10.5.0.0/24", "--gateway", "10.5.0.1")
    other.engine("network", "rm", "third")

    one.start("late", "third")
    one.start("later", "third")
    result = one.execute("late", "ping", "-c", "1", "-W", "1", "later")

    one.remove("late", "later")
    one.engine("network", "rm", "third")
    assert result.rc == 0, str(result)
