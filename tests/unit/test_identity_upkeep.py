"""Identities of running containers that are lost from etcd come back, to the record and to the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cluster.garbage import GarbageCollector
from driver.locks import KeyedLocks
from kvstore import keys
from kvstore.codec import encode
from kvstore.store import Delete, Put
from kvstore.watcher import View
from model.endpoints import Endpoint
from model.errors import DatapathError, StoreUnavailable
from model.identities import IdentityRecord
from model.ids import IDENTITY_INIT, EndpointId, IdentityId
from model.labels import Labels
from plugin.identity_upkeep import IdentityUpkeep
from policy.identities import IdentityRegistry
from policy.identity_garbage import GRACE_S, IdentityGarbage
from policy.identity_view import identity_view
from tests.support.cluster_world import Agent, ClusterWorld

WEB = Labels.of({"app": "web"})
DB = Labels.of({"app": "db"})


@dataclass
class Node:
    """One node's agent, and what it does about identities."""

    world: ClusterWorld
    agent: Agent
    view: View[IdentityRecord]
    identities: IdentityRegistry
    upkeep: IdentityUpkeep
    awaited: list[IdentityId]

    def run_container(self, name: str, labels: Labels) -> Endpoint:
        """Start a container and learn its labels."""
        endpoint = self.agent.run_container(name)
        number = self.identities.ensure(labels)
        endpoint = self.agent.endpoints.set_identity(
            endpoint.endpoint_id, identity=number, labels=labels, container=f"container of {name}"
        )
        self.upkeep.keep()
        return endpoint

    def in_kernel(self, name: str) -> IdentityId | None:
        for local in self.agent.kernel.local_endpoints():
            if local.endpoint_id == name and local.spec is not None:
                return local.spec.identity
        return None

    def write(self, *ops: Put | Delete) -> None:
        self.world.store.txn([], list(ops))
        self.settle()

    def settle(self) -> None:
        self.world.settle()
        assert self.view.wait_delivered(self.world.store.list(keys.ROOT).revision, 5)


@pytest.fixture
def node() -> Iterator[Node]:
    world = ClusterWorld()
    agent = world.agent("node-a")
    agent.create_network()
    view = identity_view(world.store)
    identities = IdentityRegistry(world.store, view, world.clock, held=agent.endpoints.identities)
    awaited: list[IdentityId] = []
    upkeep = IdentityUpkeep(
        endpoints=agent.endpoints,
        identities=identities,
        garbage=IdentityGarbage(world.store, view, world.clock),
        datapath=agent.kernel,
        locks=KeyedLocks(),
        await_rules=awaited.append,
    )
    view.start()
    assert view.wait_synced(5)
    yield Node(world, agent, view, identities, upkeep, awaited)
    view.stop()
    world.stop()


def forget(number: IdentityId, labels: Labels) -> tuple[Delete, Delete]:
    """What an operator's slip does."""
    return Delete(keys.identity(number)), Delete(keys.identity_labels(labels))


def test_kernel_follows_a_record_that_is_ahead_of_it(node: Node) -> None:
    endpoint = node.run_container("e1", WEB)

    assert endpoint.identity == node.in_kernel("e1") != IDENTITY_INIT


def test_what_is_well_is_left_alone(node: Node) -> None:
    node.run_container("e1", WEB)
    node.agent.run_container("e2")
    before = node.world.store.list(keys.ROOT)
    expensive = {"ensure_endpoint", "local_endpoints"}
    node.agent.kernel.failures.update(dict.fromkeys(expensive, DatapathError("must not be called")))
    node.upkeep.keep()

    assert before == node.world.store.list(keys.ROOT)
    assert expensive == node.agent.kernel.failures.keys()
    node.agent.kernel.failures.clear()
    assert node.in_kernel("e2") == IDENTITY_INIT


def test_deleted_identity_of_a_running_container_comes_back(node: Node) -> None:
    endpoint = node.run_container("e1", WEB)
    node.write(*forget(endpoint.identity, WEB))
    node.upkeep.keep()

    assert node.identities.labels_of(endpoint.identity) == WEB
    assert node.agent.endpoints.get(endpoint.endpoint_id) == endpoint
    assert node.in_kernel("e1") == endpoint.identity


def test_container_whose_number_was_given_away_gets_another_in_record_and_kernel(node: Node) -> None:
    endpoint = node.run_container("e1", WEB)
    other = IdentityRecord(labels=DB)
    node.write(
        Put(keys.identity(endpoint.identity), encode(other)),
        Put(keys.identity_labels(DB), str(endpoint.identity).encode()),
        Delete(keys.identity_labels(WEB)),
    )
    node.upkeep.keep()

    changed = node.agent.endpoints.get(endpoint.endpoint_id)
    assert changed.identity == node.in_kernel("e1") == node.identities.ensure(WEB) != endpoint.identity
    assert node.awaited == [endpoint.identity, changed.identity]
    assert (changed.labels, changed.container) == (WEB, "container of e1")
    assert changed.addresses == endpoint.addresses


def test_interface_that_is_gone_is_not_made_anew(node: Node) -> None:
    endpoint = node.run_container("e1", WEB)
    node.write(*forget(endpoint.identity, WEB))
    node.agent.lose_interfaces()
    node.upkeep.keep()

    assert node.identities.labels_of(endpoint.identity) == WEB
    assert node.agent.interfaces() == set()


def test_trouble_with_one_container_does_not_stop_the_others(node: Node) -> None:
    for name, labels in (("e1", WEB), ("e2", DB)):
        endpoint = node.agent.run_container(name)
        node.agent.endpoints.set_identity(
            endpoint.endpoint_id, identity=node.identities.ensure(labels), labels=labels, container=""
        )
    node.agent.kernel.failures["ensure_endpoint"] = DatapathError("once")
    node.upkeep.keep()
    assert node.in_kernel("e1") == IDENTITY_INIT
    assert node.in_kernel("e2") == node.identities.ensure(DB)
    node.upkeep.keep()

    assert node.in_kernel("e1") == node.identities.ensure(WEB)


def test_nothing_is_taken_for_lost_while_etcd_is_away(node: Node) -> None:
    endpoint = node.run_container("e1", WEB)
    node.write(*forget(endpoint.identity, WEB))
    node.world.store.fail_with(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        node.upkeep.keep()

    assert node.in_kernel("e1") == endpoint.identity


def test_identity_of_a_container_stays_and_goes_some_time_after_it(node: Node) -> None:
    endpoint = node.run_container("e1", WEB)

    def looks(count: int = 3) -> None:
        for _ in range(count):
            node.settle()
            node.upkeep.collect()
            node.world.clock.time_s += GRACE_S

    looks()
    assert node.identities.all() == {endpoint.identity: WEB}
    node.agent.stop_container(endpoint)
    looks()

    assert node.world.stored(keys.IDENTITIES) == []


def test_collectors_thread_does_both_steps(node: Node) -> None:
    agent = node.agent
    agent.nodes.start()
    agent.run_container("e1")
    endpoint = agent.endpoints.set_identity(EndpointId("e1"), identity=IdentityId(300), labels=WEB, container="")
    unused = node.identities.ensure(DB)
    steps: list[str] = []

    def broken() -> None:
        steps.append("broken")
        raise DatapathError("on purpose")

    collector = GarbageCollector(
        views=agent.views,
        holds=agent.ipam,
        nodes=agent.nodes,
        local=agent.garbage,
        departed=agent.departed,
        election=agent.election,
        node_steps=[broken, node.upkeep.keep],
        leader_steps=[broken, node.upkeep.collect],
    )
    node.settle()

    assert collector.look()
    assert steps == ["broken", "broken"]
    assert node.identities.labels_of(endpoint.identity) == WEB
    assert node.in_kernel("e1") == 300
    node.settle()
    assert node.identities.records()[unused].unused_since
