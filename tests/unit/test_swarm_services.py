"""The follower of a Swarm: one manager writes what its engine says, and another when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from balancer.registry import LostNodes, ServiceRegistry
from balancer.views import ServiceViews
from cluster.election import Election
from driver.engine import Engine
from driver.swarm_engine import SwarmEngine
from driver.swarm_services import Pace, SwarmFollower
from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.memory import MemoryStore
from kvstore.store import Compare, Delete, Op, Put, TxnResult
from model.clock import SystemClock
from model.errors import StoreError, StoreUnavailable
from model.ids import DockerNetworkId, ServiceId, Vni
from model.networks import Network
from model.services import Service, ServiceSource
from tests.support import swarm_objects, wait
from tests.support.cluster_world import POOL, Agent, ManualClock
from tests.support.fake_dockerd import FakeDockerd, FakeSwarm, serving

SOON_S = 10
ODD = [("odd", 2), ("task", 3), ("ok", 4)]
"""Services, with the number of their task."""
QUICK = Pace(
    busy_s=0.01, idle_s=0.01, share=0, busy_share=0, silent_s=0.3, candidate_s=0.02, worker_s=0.02, outside_s=0.02
)
PATIENT = replace(QUICK, busy_s=60, idle_s=60, candidate_s=60)
"""Asks only when an event comes."""
RELUCTANT = replace(QUICK, worker_s=60, outside_s=60)
"""Asks once whether it is a manager."""


@dataclass
class Manager:
    """One node with its agent, as far as it follows the Swarm."""

    agent: Agent
    dockerd: FakeDockerd
    views: ServiceViews
    services: ServiceRegistry
    follower: SwarmFollower


@dataclass
class World:
    """Nodes of one Swarm: what one manager says, all say."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    swarm: FakeSwarm = field(default_factory=FakeSwarm)
    nodes: list[Manager] = field(default_factory=list)
    _stack: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        network = Network(pool=POOL, vni=Vni(7), docker_ids=(("@swarm", DockerNetworkId(swarm_objects.NET)),))
        self.put(keys.network(POOL), network)

    def put(self, key: str, value: object) -> int:
        return self.store.txn([], [Put(key, encode(value))]).revision

    def node(
        self,
        *,
        pace: Pace = QUICK,
        swarm: FakeSwarm | None = None,
        in_swarm: bool = True,
        broken: Iterable[str] = (),
    ) -> Manager:
        number = len(self.nodes) + 1
        agent = Agent(self.store, f"s{number}", number, ManualClock())
        agent.start()
        agent.nodes.start()
        assert agent.nodes._keeper.wait_kept(5)
        dockerd = FakeDockerd()
        dockerd.swarm = (swarm or self.swarm) if in_swarm else None
        dockerd.broken.update(broken)
        server = serving(dockerd, self.folder / f"docker{number}.sock")
        socket = server.__enter__()
        self._stack.append(server)
        views = ServiceViews.of(self.store)
        services = ServiceRegistry(self.store, views.services)
        follower = SwarmFollower(
            host=Engine(socket),
            manager=SwarmEngine(socket),
            election=Election(self.store, agent.name, lambda: agent.nodes.lease, key=keys.SWARM_LEADER),
            services=services,
            lost=LostNodes(self.store, agent.views.lost, agent.clock),
            service_view=views.services,
            cluster=agent.views,
            clock=SystemClock(),
            pace=pace,
        )
        views.start()
        assert views.wait_synced(5)
        made = Manager(agent, dockerd, views, services, follower)
        self.nodes.append(made)
        follower.start()
        return made

    def leader(self) -> str | None:
        item = self.store.get(keys.SWARM_LEADER)
        return None if item is None else item.value.decode()

    def wait_leader(self, name: str) -> None:
        wait.until(f"{name} leads", lambda: self.leader() == name, timeout_s=SOON_S, interval_s=0.005)

    def service(self, name: str) -> Service | None:
        item = self.store.get(keys.service(ServiceId(name.ljust(25, "0"))))
        return None if item is None else decode(Service, item.value, key=item.key)

    def wait_active(self, name: str, *numbers: int) -> None:
        def as_wanted() -> bool:
            service = self.service(name)
            active = [task.name for task in service.tasks if task.active] if service else None
            return active == [f"{name}.{number}" for number in numbers]

        wait.until(f"tasks {numbers} of {name} are active", as_wanted, timeout_s=SOON_S, interval_s=0.005)

    def lost(self) -> list[str]:
        return [item.key.removeprefix(keys.LOST) for item in self.store.list(keys.LOST).items]

    def stop(self) -> None:
        for node in self.nodes:
            node.follower.stop()
            node.views.stop()
            node.agent.stop()
        for server in self._stack:
            server.__exit__(None, None, None)  # type: ignore[attr-defined]
        self.store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.swarm.nodes = [swarm_objects.node(f"s{number}", f"192.0.2.{number}") for number in (1, 2, 3)]
    yield world
    world.stop()


def test_a_service_comes_changes_and_goes(world: World) -> None:
    node = world.node()
    world.swarm.services = [swarm_objects.service("web")]
    world.swarm.tasks = [swarm_objects.task("web", number, f"10.1.0.{number}/24") for number in (3, 4, 5)]
    world.wait_active("web", 3, 4, 5)

    world.swarm.tasks[0] = swarm_objects.task("web", 3, "10.1.0.3/24", desired="shutdown")
    world.wait_active("web", 4, 5)
    world.swarm.services = []
    wait.until("it is gone", lambda: world.service("web") is None, timeout_s=SOON_S)

    assert node.follower.leading
    assert node.follower.problem is None


def test_only_one_of_the_managers_asks_for_services(world: World) -> None:
    first = world.node()
    world.wait_leader("s1")
    second = world.node()
    wait.until("s2 has looked", lambda: "/info" in second.dockerd.asked, timeout_s=SOON_S)
    asked = len(first.dockerd.asked)
    wait.until("s1 goes on", lambda: len(first.dockerd.asked) > asked + 20, timeout_s=SOON_S)

    assert {"/_ping", "/info"} == set(second.dockerd.asked)
    assert 1 == second.dockerd.asked.count("/info")


@pytest.mark.parametrize(("in_swarm", "manager"), [(True, False), (False, False)])
def test_who_is_no_manager_never_leads_and_asks_for_nothing(world: World, *, in_swarm: bool, manager: bool) -> None:
    node = world.node(swarm=FakeSwarm(manager=manager), in_swarm=in_swarm)
    wait.until("it has asked", lambda: node.dockerd.asked.count("/info") > 5, timeout_s=SOON_S)

    assert world.leader() is None
    assert {"/_ping", "/info"} == set(node.dockerd.asked)
    assert node.follower.problem is None


def test_a_worker_that_becomes_a_manager_leads(world: World) -> None:
    swarm = replace(world.swarm, manager=False)
    node = world.node(swarm=swarm)
    wait.until("it has asked", lambda: "/info" in node.dockerd.asked, timeout_s=SOON_S)

    swarm.manager = True

    world.wait_leader("s1")


def test_a_manager_that_is_demoted_gives_up_the_lead_at_once(world: World) -> None:
    swarm = replace(world.swarm)
    first = world.node(swarm=swarm, pace=replace(QUICK, silent_s=60))
    world.wait_leader("s1")
    world.node()

    swarm.manager = False

    world.wait_leader("s2")
    wait.until("s1 knows", lambda: not first.follower.leading, timeout_s=SOON_S)
    assert first.follower.problem is None


def test_a_manager_whose_engine_does_not_answer_gives_up_the_lead(world: World) -> None:
    first = world.node()
    world.wait_leader("s1")

    first.dockerd.broken |= {"/services", "/info"}

    # As long as nobody else leads: then it is no problem of s1 any more.
    problem = wait.until("s1 says so", lambda: first.follower.problem, timeout_s=SOON_S)
    assert "the engine answers /v1.41/services with 500" in problem
    world.node()
    world.wait_leader("s2")
    first.dockerd.broken.clear()
    wait.until("s1 stands by", lambda: first.follower.problem is None, timeout_s=SOON_S)
    assert "s2" == world.leader()


def test_a_manager_without_a_majority_never_leads(world: World) -> None:
    alone = world.node(broken={"/nodes"}, pace=RELUCTANT)
    wait.until("it has tried", lambda: alone.dockerd.asked.count("/nodes") > 3, timeout_s=SOON_S)
    # Without a leader of the Swarm an engine answers this late, too.
    alone.dockerd.broken.add("/info")
    asked = alone.dockerd.asked.count("/nodes")
    wait.until("it tries again", lambda: alone.dockerd.asked.count("/nodes") > asked + 3, timeout_s=SOON_S)
    assert world.leader() is None
    assert alone.follower.problem is not None

    alone.dockerd.broken.clear()

    world.wait_leader("s1")
    wait.until("no problem", lambda: alone.follower.problem is None, timeout_s=SOON_S)


def test_an_engine_that_boots_is_asked_again_soon(world: World) -> None:
    node = world.node(broken={"/info"}, pace=RELUCTANT)
    wait.until("it has asked", lambda: node.dockerd.asked.count("/info") > 3, timeout_s=SOON_S)

    node.dockerd.broken.clear()

    world.wait_leader("s1")


def test_the_only_manager_leads_again_as_soon_as_its_engine_answers(world: World) -> None:
    node = world.node(pace=RELUCTANT)
    world.wait_leader("s1")
    node.dockerd.broken |= {"/services", "/info"}
    wait.until("it gives up", lambda: world.leader() is None, timeout_s=SOON_S)

    node.dockerd.broken.clear()

    world.wait_leader("s1")


def test_an_agent_that_ends_gives_up_the_lead(world: World) -> None:
    first = world.node()
    world.wait_leader("s1")
    world.node()

    first.follower.stop()

    world.wait_leader("s2")
    assert {"swarm services", "swarm events"} & {thread.name for thread in threading.enumerate()}


def test_an_agent_that_was_killed_takes_its_own_key_again(world: World) -> None:
    world.store.txn([], [Put(keys.SWARM_LEADER, b"s1", world.store.grant_lease(15))])

    node = world.node()

    wait.until("it leads", lambda: node.follower.leading, timeout_s=SOON_S)
    item = world.store.get(keys.SWARM_LEADER)
    assert item is not None
    assert node.agent.nodes.lease == item.lease


def test_who_leads_no_more_writes_nothing(world: World) -> None:
    first = world.node(pace=replace(QUICK, candidate_s=60))
    world.swarm.services = [swarm_objects.service("web")]
    wait.until("it is written", lambda: world.service("web"), timeout_s=SOON_S)

    # Another one leads, and this one does not know it yet.
    world.store.txn([], [Put(keys.SWARM_LEADER, b"s9")])
    world.swarm.services = []
    wait.until("s1 knows", lambda: not first.follower.leading, timeout_s=SOON_S)

    assert world.service("web") is not None
    assert "s9" == world.leader()


def test_an_event_is_enough_to_ask_at_once(world: World) -> None:
    node = world.node(pace=PATIENT)
    wait.until("events are followed", lambda: node.dockerd.listeners, timeout_s=SOON_S)
    wait.until("it asks and leads", lambda: node.dockerd.asked.count("/tasks") >= 2, timeout_s=SOON_S)
    world.swarm.services = [swarm_objects.service("web")]

    node.dockerd.emit("service", "create", "web", {"name": "web"})

    wait.until("it is written", lambda: world.service("web"), timeout_s=SOON_S)


@pytest.mark.parametrize(
    ("took_s", "busy", "wait_s"),
    [(0.001, True, 0.25), (0.001, False, 0.5), (0.1, True, 0.4), (0.1, False, 2.0), (0.5, True, 2.0)],
)
def test_questions_take_a_small_part_of_the_time(*, took_s: float, busy: bool, wait_s: float) -> None:
    assert pytest.approx(wait_s) == Pace().wait_s(took_s, busy=busy)


def test_a_record_that_a_hand_has_changed_is_put_right(world: World) -> None:
    world.node()
    world.swarm.services = [swarm_objects.service("web")]
    web = wait.until("it is written", lambda: world.service("web"), timeout_s=SOON_S)
    key = keys.service(web.service_id)

    world.put(key, replace(web, affinity=True))
    wait.until("put right", lambda: world.service("web") == web, timeout_s=SOON_S)
    world.store.txn([], [Put(key, b"{broken")])
    wait.until("read again", lambda: (item := world.store.get(key)) and item.value == encode(web), timeout_s=SOON_S)
    world.store.txn([], [Delete(key)])
    wait.until("there again", lambda: world.service("web") == web, timeout_s=SOON_S)


def test_services_of_labels_stay(world: World) -> None:
    label = Service(service_id=ServiceId("label-10.1.0.0-24-db"), name="db", source=ServiceSource.LABEL, addresses=())
    world.put(keys.service(label.service_id), label)
    world.node()
    world.swarm.services = [swarm_objects.service("web")]
    wait.until("the Swarm's is written", lambda: world.service("web"), timeout_s=SOON_S)

    world.swarm.services = []
    wait.until("and gone", lambda: world.service("web") is None, timeout_s=SOON_S)

    assert [keys.service(label.service_id)] == [item.key for item in world.store.list(keys.SERVICES).items]


def test_what_cannot_be_read_stays_as_it_stands_and_the_rest_is_followed(world: World) -> None:
    node = world.node()
    world.swarm.services = [swarm_objects.service(name, vip=f"10.1.0.{last}/24") for name, last in ODD]
    world.swarm.tasks = [swarm_objects.task(name, last, f"10.1.0.1{last}/24") for name, last in ODD]
    for name, last in ODD:
        world.wait_active(name, last)

    world.swarm.services[0] = {**world.swarm.services[0], "Spec": "broken"}
    world.swarm.tasks[1:] = [{**world.swarm.tasks[1], "Status": "broken"}]
    world.wait_active("ok")
    wait.until("both are told", lambda: len(node.follower.warnings) == 2, timeout_s=SOON_S)

    world.wait_active("odd", 2)
    world.wait_active("task", 3)
    service, task = node.follower.warnings
    assert "service odd0000000000000000000000 of the Swarm cannot be read, so it stays as it was: Spec: " in service
    assert "task taskt3" in task
    assert node.follower.problem is None

    world.swarm.services, world.swarm.tasks = [swarm_objects.service("web")], []
    wait.until("all is read", lambda: not node.follower.warnings, timeout_s=SOON_S)
    wait.until("they are gone", lambda: not any(world.service(name) for name, _ in ODD), timeout_s=SOON_S)


def test_a_network_that_becomes_ours_later_brings_its_services(world: World) -> None:
    network = world.store.get(keys.network(POOL))
    assert network is not None
    world.store.txn([], [Delete(network.key)])
    world.swarm.services = [swarm_objects.service("web")]
    node = world.node()
    wait.until("it has looked", lambda: node.dockerd.asked.count("/tasks") > 3, timeout_s=SOON_S)
    assert world.service("web") is None

    world.store.txn([], [Put(network.key, network.value)])

    wait.until("it is written", lambda: world.service("web"), timeout_s=SOON_S)


def test_hosts_that_are_down_are_lost_until_they_are_ready(world: World) -> None:
    world.node()
    world.put(keys.node(world.nodes[0].agent.name), world.nodes[0].agent.node)
    world.node(swarm=FakeSwarm(manager=False))
    world.wait_leader("s1")

    world.swarm.nodes[1] = swarm_objects.node("s2", "192.0.2.2", state="down")
    wait.until("s2 is lost", lambda: world.lost() == ["s2"], timeout_s=SOON_S)
    world.swarm.nodes[1] = swarm_objects.node("s2", "192.0.2.2", state="unknown")
    world.swarm.services = [swarm_objects.service("web")]
    wait.until("that was seen", lambda: world.service("web"), timeout_s=SOON_S)
    assert ["s2"] == world.lost()
    world.swarm.nodes[1] = swarm_objects.node("s2", "192.0.2.2")

    wait.until("s2 is back", lambda: not world.lost(), timeout_s=SOON_S)


def test_it_goes_on_when_the_store_is_back(world: World) -> None:
    node = world.node()
    world.wait_leader("s1")
    world.store.fail_with(StoreUnavailable("etcd is away"))
    problem = wait.until("it says so", lambda: node.follower.problem, timeout_s=SOON_S)
    assert problem == "the Swarm's services are not followed: etcd is away"
    world.swarm.services = [swarm_objects.service("web")]

    world.store.fail_with(None)

    wait.until("it is written", lambda: world.service("web"), timeout_s=SOON_S)
    wait.until("no problem", lambda: node.follower.problem is None, timeout_s=SOON_S)


def test_a_service_that_the_store_refuses_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    txn, refusals = world.store.txn, []

    def refuse(compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        if len(refusals) < 3 and any(op.key.startswith(keys.SERVICES) for op in ops):
            refusals.append(ops)
            raise StoreError("no space")
        return txn(compare, ops)

    monkeypatch.setattr(world.store, "txn", refuse)
    node = world.node(pace=replace(QUICK, refused_s=0.05))
    world.swarm.services = [swarm_objects.service("web")]

    wait.until("it is a problem", node.services.problems, timeout_s=SOON_S, interval_s=0.005)
    wait.until("it is written", lambda: world.service("web"), timeout_s=SOON_S)
    wait.until("no problem", lambda: not node.services.problems(), timeout_s=SOON_S)


def test_it_stops_at_once(world: World) -> None:
    node = world.node()
    world.wait_leader("s1")

    node.follower.stop()
    node.follower.stop()

    assert not {thread.name for thread in threading.enumerate()} & {"swarm services", "swarm events"}
