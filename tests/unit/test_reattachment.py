"""Containers that run while maps get another layout are connected anew, from their records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from driver.endpoint_spec import endpoint_spec
from driver.locks import KeyedLocks
from driver.reattachment import Reattachment
from kvstore import keys
from model.endpoints import Endpoint
from model.errors import DatapathError
from model.networks import Network
from tests.support.cluster_world import Agent, ClusterWorld

MTU = 1450


@dataclass
class Node:
    """One node with a network."""

    world: ClusterWorld
    agent: Agent
    network: Network
    reattachment: Reattachment

    def run_container(self, name: str) -> Endpoint:
        endpoint = self.agent.run_container(name)
        self.agent.kernel.move_into_container(endpoint.endpoint_id)
        return endpoint

    def in_kernel(self) -> dict[str, object]:
        return {local.endpoint_id: local.spec for local in self.agent.kernel.local_endpoints()}


@pytest.fixture
def node() -> Iterator[Node]:
    world = ClusterWorld()
    agent = world.agent("node-a")
    network = agent.create_network()
    reattachment = Reattachment(
        endpoints=agent.endpoints,
        networks=agent.networks,
        datapath=agent.kernel,
        locks=KeyedLocks(),
        mtu_bytes=MTU,
    )
    yield Node(world, agent, network, reattachment)
    world.stop()


def test_all_running_containers_are_connected_by_their_records(node: Node) -> None:
    endpoints = [node.run_container("e1"), node.run_container("e2")]
    node.world.settle()
    node.agent.kernel.begin_another_layout()

    node.reattachment.reattach()

    wanted = {one.endpoint_id: endpoint_spec(one, node.network, node_mtu_bytes=MTU) for one in endpoints}
    assert wanted == node.in_kernel()


def test_what_the_maps_know_is_left_alone_and_costs_no_list_of_interfaces(node: Node) -> None:
    node.run_container("e1")
    node.world.settle()
    node.agent.kernel.failures["local_endpoints"] = DatapathError("must not be called")

    node.reattachment.reattach()

    assert node.agent.kernel.failures


def test_one_that_fails_costs_the_others_nothing_and_is_tried_again(node: Node) -> None:
    node.run_container("e1")
    node.run_container("e2")
    node.world.settle()
    node.agent.kernel.begin_another_layout()
    node.agent.kernel.failures["ensure_endpoint"] = DatapathError("busy")

    node.reattachment.reattach()
    assert sorted(spec is not None for spec in node.in_kernel().values()) == [False, True]

    node.reattachment.reattach()
    assert all(node.in_kernel().values())


def test_interfaces_that_wait_for_docker_or_have_no_record_are_left_to_others(node: Node) -> None:
    node.agent.run_container("waits")
    stray = node.run_container("stray")
    node.agent.endpoints.remove(stray.endpoint_id)
    node.world.settle()
    node.agent.kernel.begin_another_layout()
    before = node.world.store.list(keys.ROOT)

    node.reattachment.reattach()

    assert not any(node.in_kernel().values())
    assert before == node.world.store.list(keys.ROOT)
