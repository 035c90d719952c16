"""What is left behind is collected, what is in use never is."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from cluster.garbage import GarbageCollector
from ipam.pool_id import AddressSpace, PoolId
from kvstore import keys
from kvstore.codec import encode
from kvstore.store import Delete, Put
from model.addresses import SWARM_HOLDER
from model.errors import StoreUnavailable
from model.ids import DockerNetworkId
from model.services import LostNode
from tests.support.cluster_world import DOCKER_ID, POOL, Agent, ClusterWorld

LOCAL = PoolId(space=AddressSpace.LOCAL, pool=POOL)
GLOBAL = PoolId(space=AddressSpace.GLOBAL, pool=POOL)


@pytest.fixture
def world() -> Iterator[ClusterWorld]:
    world = ClusterWorld()
    yield world
    world.stop()


@pytest.fixture
def node_a(world: ClusterWorld) -> Agent:
    return world.agent("node-a")


def after(world: ClusterWorld, agent: Agent, seconds: float) -> None:
    """Look now and again after some time, with one look in between."""
    for step in (0, seconds / 2, seconds / 2):
        world.clock.time_s += step
        world.settle()
        agent.garbage.collect()
    world.settle()


def test_running_containers_are_left_alone(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.run_container("e1")
    node_a.docker = frozenset({DOCKER_ID})
    before = world.stored()

    after(world, node_a, 3600)

    assert before == world.stored()
    assert node_a.interfaces() == {"e1"}


def test_endpoint_whose_interface_vanished_goes_with_its_address(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.garbage.collect()
    endpoint = node_a.run_container("e1")
    node_a.lose_interfaces()

    after(world, node_a, 20)
    assert list(node_a.endpoints.local()) == [endpoint]
    after(world, node_a, 11)

    assert world.stored(keys.ENDPOINTS) == []
    assert world.stored(keys.ADDRESSES) == [keys.address(POOL, ipaddress.ip_address("10.1.0.1"))]


def test_swarm_leaders_hold_survives_the_collection_of_a_task(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.ipam.request_pool(space=AddressSpace.GLOBAL, pool=POOL, sub_pool=None)
    endpoint = node_a.run_container("e1")
    node_a.ipam.request_address(GLOBAL, address=endpoint.addresses[0], gateway=False)
    node_a.lose_interfaces()

    after(world, node_a, 600)

    assert [held.record.holders for held in node_a.ipam.addresses(POOL) if held.address == endpoint.addresses[0]] == [
        (SWARM_HOLDER,)
    ]


def test_rebooted_host_forgets_its_endpoints_at_the_first_look(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.run_container("e1")
    world.clock.time_s += 3600
    young = node_a.run_container("e2")
    node_a.lose_interfaces()

    world.settle()
    node_a.garbage.collect()
    world.settle()

    assert list(node_a.endpoints.local()) == [young]


def test_other_nodes_endpoints_are_not_ours_to_collect(world: ClusterWorld, node_a: Agent) -> None:
    node_b = world.agent("node-b")
    node_b.create_network()
    node_b.run_container("e1")
    before = world.stored()

    after(world, node_a, 3600)

    assert before == world.stored()


def test_interface_without_a_record_goes_after_a_while(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    world.store.txn([], [Delete(keys.endpoint("node-a", endpoint.endpoint_id))])  # type: ignore[arg-type]

    after(world, node_a, 20)
    assert node_a.interfaces() == {"e1"}
    after(world, node_a, 11)

    assert node_a.interfaces() == set()


def test_interface_of_a_running_container_stays_when_its_record_is_lost(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    node_a.kernel.move_into_container(endpoint.endpoint_id)
    world.store.txn([], [Delete(keys.endpoint("node-a", endpoint.endpoint_id))])  # type: ignore[arg-type]

    after(world, node_a, 3600)

    assert node_a.interfaces() == {"e1"}


def test_address_that_no_endpoint_took_is_released_after_two_minutes(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.ipam.request_address(LOCAL, address=None, gateway=False)
    node_a.ipam.reserve(POOL, [ipaddress.ip_address("10.1.0.200")])

    after(world, node_a, 100)
    assert len(world.stored(keys.ADDRESSES)) == 3
    after(world, node_a, 21)

    assert world.stored(keys.ADDRESSES) == [
        keys.address(POOL, ipaddress.ip_address("10.1.0.1")),
        keys.address(POOL, ipaddress.ip_address("10.1.0.200")),
    ]


def test_network_that_docker_forgot_is_left_with_its_pool(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.docker = frozenset()

    after(world, node_a, 100)
    assert world.stored(keys.NETWORKS) != []
    after(world, node_a, 21)

    assert world.stored() == [keys.POOL_SET]


def test_network_is_kept_while_docker_cannot_be_asked_or_an_endpoint_is_on_it(
    world: ClusterWorld, node_a: Agent
) -> None:
    node_a.create_network()
    after(world, node_a, 3600)
    assert world.stored(keys.NETWORKS) != []
    node_a.run_container("e1")
    node_a.docker = frozenset({DockerNetworkId("another")})

    after(world, node_a, 3600)

    assert world.stored(keys.NETWORKS) != []


def test_pool_whose_network_was_never_made_is_left(world: ClusterWorld, node_a: Agent) -> None:
    node_a.ipam.request_pool(space=AddressSpace.LOCAL, pool=None, sub_pool=None)

    after(world, node_a, 121)

    assert world.stored(keys.POOLS) == []


def test_failure_of_one_step_does_not_stop_the_others(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    node_a.ipam.request_address(LOCAL, address=None, gateway=False)
    node_a.kernel.local_endpoints = _fail  # type: ignore[method-assign]  # the kernel does not answer

    after(world, node_a, 121)

    assert len(world.stored(keys.ADDRESSES)) == 1


def _fail() -> list[object]:
    raise StoreUnavailable("away")


# --- the cluster's leader ---


def test_node_that_does_not_come_back_is_removed_with_all_it_left(world: ClusterWorld) -> None:
    leader, lost = world.agent("node-a"), world.agent("node-b")
    for agent in (leader, lost):
        agent.nodes.start()
        assert agent.nodes._keeper.wait_kept(5)
    leader.create_network()
    lost.create_network(docker_id=DockerNetworkId("e" * 64))
    kept = leader.run_container("e1")
    lost.run_container("e2")
    lost.ipam.reserve(POOL, [ipaddress.ip_address("10.1.0.200")])
    for agent in (leader, lost):
        world.store.txn([], [Put(keys.enforced(agent.name), b"{}")])
    world.store.txn([], [Put(keys.lost(lost.name), encode(LostNode(node=lost.name, since="")))])
    lost.nodes.stop()
    world.settle()

    leader.departed.collect()
    world.clock.time_s += 24 * 3600 - 1
    leader.departed.collect()
    assert len(world.stored(keys.NODES)) == 2
    world.clock.time_s += 1
    leader.departed.collect()
    world.settle()

    assert world.stored(keys.NODES) == [keys.node(leader.name)]
    assert list(leader.endpoints.all()) == [kept]
    assert [str(held.address) for held in leader.ipam.addresses()] == ["10.1.0.1", str(kept.addresses[0])]
    assert leader.ipam.pools()[0].holders == ("node-a",)
    assert leader.networks.all()[0].docker_ids == (("node-a", DOCKER_ID),)
    assert world.stored(keys.ENFORCED) == [keys.enforced(leader.name)]
    assert world.stored(keys.LOST) == []


def test_node_that_comes_back_in_time_is_kept(world: ClusterWorld) -> None:
    leader, other = world.agent("node-a"), world.agent("node-b")
    other.nodes.refresh()
    world.settle()
    leader.departed.collect()
    world.clock.time_s += 24 * 3600 - 1
    other.nodes.start()
    assert other.nodes._keeper.wait_kept(5)
    world.settle()
    leader.departed.collect()
    world.clock.time_s += 10
    leader.departed.collect()

    assert world.stored(keys.NODES) == [keys.node(other.name)]


def test_nodes_are_kept_for_ever_when_so_configured(world: ClusterWorld) -> None:
    leader, other = world.agent("node-a", absence_s=0), world.agent("node-b")
    other.nodes.refresh()
    for _ in range(3):
        world.settle()
        leader.departed.collect()
        world.clock.time_s += 1e9

    assert world.stored(keys.NODES) == [keys.node(other.name)]


def test_removal_that_was_cut_short_is_finished(world: ClusterWorld) -> None:
    leader, lost = world.agent("node-a"), world.agent("node-b")
    lost.create_network()
    lost.run_container("e2")
    for _ in range(2):
        world.settle()
        leader.departed.collect()
        world.clock.time_s += 24 * 3600
    leader.departed.collect()

    assert world.stored() == [keys.POOL_SET]


def test_addresses_of_a_pool_that_is_gone_are_swept(world: ClusterWorld, node_a: Agent) -> None:
    world.store.txn(
        [], [Put(keys.address(POOL, ipaddress.ip_address("10.1.0.7")), b'{"kind":"endpoint","holders":["x"]}')]
    )
    world.settle()

    node_a.departed.collect()

    assert world.stored(keys.ADDRESSES) == []


def test_nothing_is_collected_while_the_views_are_out_of_date(world: ClusterWorld, node_a: Agent) -> None:
    collector = GarbageCollector(
        views=node_a.views,
        holds=node_a.ipam,
        nodes=node_a.nodes,
        local=node_a.garbage,
        departed=node_a.departed,
        election=node_a.election,
    )
    assert collector.look()
    node_a.views.stop()

    assert not collector.look()
