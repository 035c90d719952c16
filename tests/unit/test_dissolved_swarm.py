"""What a Swarm left behind is collected when nobody follows it any more, and nothing before that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancer.dissolved import DissolvedSwarm
from balancer.registry import LostNodes, ServiceRegistry
from balancer.views import ServiceViews
from kvstore import keys
from kvstore.codec import encode
from kvstore.store import Delete, KeyValue, Put
from model.endpoints import Endpoint
from model.errors import CasFailed
from model.ids import NodeName, ServiceId
from model.services import LostNode, Service, ServiceSource
from tests.support.cluster_world import Agent, ClusterWorld
from tests.support.service_world import endpoint, swarm_service, task

LABEL = Service(service_id=ServiceId("label-10.1.0.0-24-db"), name="db", source=ServiceSource.LABEL, addresses=())
LOST = [LostNode(node=NodeName(name), since="") for name in ("node-a", "node-b")]


class World(ClusterWorld):
    """The leader ``node-a``, whose agent runs, and ``node-b``, whose agent does not."""

    def begin(self) -> None:
        agent = self.agent("node-a")
        agent.nodes.start()
        self.views = ServiceViews.of(self.store)
        self.views.start()
        assert self.views.wait_synced(5)
        self.dissolved = self.collector(agent)

    def collector(self, agent: Agent) -> DissolvedSwarm:
        return DissolvedSwarm(
            self.store,
            services=ServiceRegistry(self.store, self.views.services),
            lost=LostNodes(self.store, agent.views.lost, self.clock),
            service_view=self.views.services,
            lost_view=agent.views.lost,
            alive=agent.views.alive,
            endpoints=agent.views.endpoints,
            clock=self.clock,
        )

    def put(self, *records: Service | LostNode | Endpoint) -> None:
        self.store.txn([], [Put(_key(record), encode(record)) for record in records])

    def after(self, seconds: float) -> None:
        """Look every ten seconds."""
        for _ in range(int(seconds / 10)):
            self.look()
            self.clock.time_s += 10
        self.look()

    def look(self) -> None:
        self.settle()
        revision = self.store.list(keys.ROOT).revision
        for view in (self.views.services, self.agents[0].views.lost):
            assert view.wait_delivered(revision, 5)
        self.dissolved.collect()

    def left(self) -> list[str]:
        return [key.removeprefix(keys.ROOT) for key in self.stored(keys.LOST) + self.stored(keys.SERVICES)]

    def stop(self) -> None:
        self.views.stop()
        super().stop()


def _key(record: Service | LostNode | Endpoint) -> str:
    match record:
        case Service():
            return keys.service(record.service_id)
        case LostNode():
            return keys.lost(record.node)
        case Endpoint():
            return keys.endpoint(record.node, record.endpoint_id)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.begin()
    yield world
    world.stop()


def test_hosts_that_are_there_are_not_lost_after_a_minute_and_services_go_after_ten(world: World) -> None:
    world.put(*LOST, swarm_service(task(5)), LABEL)

    world.after(50)
    assert ["lost/node-a", "lost/node-b", "services/idweb", f"services/{LABEL.service_id}"] == world.left()
    world.after(10)
    assert ["lost/node-b", "services/idweb", f"services/{LABEL.service_id}"] == world.left()
    world.after(530)
    assert "services/idweb" in world.left()
    world.after(10)

    assert ["lost/node-b", f"services/{LABEL.service_id}"] == world.left()


def test_while_somebody_follows_the_swarm_nothing_goes(world: World) -> None:
    world.put(*LOST, swarm_service())
    world.store.txn([], [Put(keys.SWARM_LEADER, b"s1")])

    world.after(1200)

    assert 3 == len(world.left())


def test_who_follows_it_in_between_begins_the_time_anew(world: World) -> None:
    world.put(*LOST, swarm_service())
    world.after(50)
    world.store.txn([], [Put(keys.SWARM_LEADER, b"s1")])
    world.look()
    world.store.txn([], [Delete(keys.SWARM_LEADER)])

    world.after(50)

    assert 3 == len(world.left())


def test_time_in_which_this_node_did_not_look_does_not_count(world: World) -> None:
    world.put(*LOST, swarm_service())
    world.look()
    world.clock.time_s += 3600

    world.after(50)

    assert 3 == len(world.left())


@pytest.mark.parametrize("container", ["web.5.t5", "renamed-t5", ""])
def test_a_service_whose_container_runs_stays(world: World, container: str) -> None:
    """The managers have no majority."""
    world.put(swarm_service(task(4), task(5)), endpoint(container or "e", 5))
    if not container:
        key = keys.endpoint(NodeName("node-b"), endpoint("e", 5).endpoint_id)
        world.store.txn([], [Put(key, encode(endpoint("e", 5)).replace(b'"container":"e"', b'"container":""'))])

    world.after(1200)

    assert ["services/idweb"] == world.left()


def test_another_container_at_a_tasks_address_keeps_no_service(world: World) -> None:
    world.put(swarm_service(task(5)), endpoint("db", 5))

    world.after(610)

    assert [] == world.left()


def test_a_view_that_is_not_followed_proves_nothing(world: World) -> None:
    world.put(*LOST, swarm_service())
    world.after(50)
    world.views.stop()
    world.clock.time_s += 10
    world.dissolved.collect()
    world.clock.time_s += 1200
    world.dissolved.collect()

    assert 3 == len(world.left())


def test_who_begins_to_follow_it_meanwhile_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(*LOST, swarm_service())
    world.after(50)
    world.store.txn([], [Put(keys.SWARM_LEADER, b"s1")])
    get = world.store.get

    def stale(key: str) -> KeyValue | None:
        return None if key == keys.SWARM_LEADER else get(key)

    monkeypatch.setattr(world.store, "get", stale)
    world.clock.time_s += 10

    with pytest.raises(CasFailed):
        world.look()

    assert 3 == len(world.left())
