"""Services and lost nodes in the store: only what changed is written, and only by who may."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from balancer.registry import LostNodes, ServiceRegistry
from balancer.views import ServiceViews
from cluster.views import ClusterViews
from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.memory import MemoryStore
from kvstore.store import Compare, Delete, Put, absent, unchanged
from model.deadline import deadline
from model.errors import CasFailed, NotFound, StoreError, StoreUnavailable
from model.ids import NodeName, ServiceId
from model.services import LostNode, Service, ServiceSource, ServiceTask, VirtualAddress
from tests.support.cluster_world import ManualClock

POOL = ipaddress.ip_network("10.1.0.0/24")


def a_service(name: str, *tasks: str, source: ServiceSource = ServiceSource.SWARM) -> Service:
    return Service(
        service_id=ServiceId(f"{source}-{name}"),
        name=name,
        source=source,
        addresses=(VirtualAddress(network=POOL, address=ipaddress.ip_address("10.1.0.2")),),
        tasks=tuple(
            ServiceTask(
                name=f"{name}.{number}",
                task_id=f"t{number}",
                node="node-a",
                addresses=(ipaddress.ip_address(address),),
                active=True,
                state="running",
            )
            for number, address in enumerate(tasks, start=1)
        ),
    )


@dataclass
class World:
    """One node's registries."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.views = ServiceViews.of(self.store)
        self.cluster = ClusterViews.of(self.store)
        self.services = ServiceRegistry(self.store, self.views.services)
        self.lost = LostNodes(self.store, self.cluster.lost, self.clock)

    def start(self) -> None:
        self.views.start()
        self.cluster.start()
        assert self.views.wait_synced(5)
        assert self.cluster.wait_synced(5)

    def revision(self) -> int:
        return self.store.list(keys.ROOT).revision

    def stored(self, service: Service) -> Service | None:
        item = self.store.get(keys.service(service.service_id))
        return None if item is None else decode(Service, item.value, key=item.key)

    def stop(self) -> None:
        self.views.stop()
        self.cluster.stop()
        self.store.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.start()
    yield world
    world.stop()


def test_only_records_that_changed_are_written(world: World) -> None:
    web, db, old = a_service("web", "10.1.0.5"), a_service("db"), a_service("old")
    assert 3 == world.services.replace(ServiceSource.SWARM, [web, db, old])
    untouched = world.store.get(keys.service(db.service_id))
    web = replace(web, affinity=True)

    assert 2 == world.services.replace(ServiceSource.SWARM, [web, db])

    assert [db, web] == world.services.all()
    assert world.store.get(keys.service(db.service_id)) == untouched
    revision = world.revision()
    assert 0 == world.services.replace(ServiceSource.SWARM, [web, db])
    assert revision == world.revision()


def test_services_of_labels_are_never_touched_by_the_swarms(world: World) -> None:
    label = a_service("web", source=ServiceSource.LABEL)
    assert world.services.put(label)
    imposter = replace(a_service("web", "10.1.0.9"), service_id=label.service_id)

    world.services.replace(ServiceSource.SWARM, [imposter])
    world.services.replace(ServiceSource.SWARM, [])

    assert not world.services.remove(label.service_id, ServiceSource.SWARM)
    assert [label] == world.services.all()


def test_one_service_is_put_found_and_removed(world: World) -> None:
    web = a_service("web")

    assert world.services.put(web)
    assert not world.services.put(web)
    assert web == world.services.get(web.service_id)

    assert world.services.remove(web.service_id, ServiceSource.SWARM)
    assert not world.services.remove(web.service_id, ServiceSource.SWARM)
    with pytest.raises(NotFound, match="there is no service swarm-web"):
        world.services.get(web.service_id)


def test_what_another_has_written_meanwhile_is_compared_anew(world: World) -> None:
    web, db, new = a_service("web", "10.1.0.5"), a_service("db"), a_service("new")
    world.services.replace(ServiceSource.SWARM, [web])
    # The view does not show this yet: another manager has written what this one wants, and something else.
    world.views.stop()
    world.store.txn([], [Put(keys.service(db.service_id), encode(db))])
    world.store.txn([], [Put(keys.service(web.service_id), encode(replace(web, tasks=())))])
    written_by_other = world.store.get(keys.service(db.service_id))
    web = replace(web, affinity=True)

    with deadline(0.5):
        world.services.replace(ServiceSource.SWARM, [web, db, new])

    assert [web, db, new] == [world.stored(service) for service in (web, db, new)]
    assert world.store.get(keys.service(db.service_id)) == written_by_other


def test_a_record_that_cannot_be_read_is_reported_and_put_right(world: World, caplog: pytest.LogCaptureFixture) -> None:
    web = a_service("web")
    world.services.replace(ServiceSource.SWARM, [web])
    revision = world.store.txn([], [Put(keys.service(web.service_id), b"{broken")]).revision
    assert world.views.services.wait_delivered(revision, 5)
    assert [] == world.services.all()
    assert "value in the store cannot be read, the key is treated as absent" in caplog.messages

    world.services.replace(ServiceSource.SWARM, [web])

    assert [web] == world.services.all()


def test_a_record_under_anothers_key_is_not_taken_for_it(world: World) -> None:
    web, db = a_service("web"), a_service("db")
    revision = world.store.txn([], [Put(keys.service(web.service_id), encode(db))]).revision

    assert world.views.services.wait_delivered(revision, 5)

    assert [] == world.services.all()


def test_nothing_is_written_when_the_guard_does_not_hold(world: World) -> None:
    world.store.txn([], [Put(keys.SWARM_LEADER, b"node-a")])
    leader = world.store.get(keys.SWARM_LEADER)
    assert leader is not None
    world.services.replace(ServiceSource.SWARM, [a_service("web")], guard=[unchanged(leader)])
    world.store.txn([], [Delete(keys.SWARM_LEADER)])
    revision = world.revision()

    with pytest.raises(CasFailed, match="written by another node now"):
        world.services.replace(ServiceSource.SWARM, [a_service("db")], guard=[unchanged(leader)])
    with pytest.raises(CasFailed):
        world.lost.replace([NodeName("node-b")], guard=[unchanged(leader)])

    assert revision == world.revision()


def test_many_services_are_written_in_few_transactions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    txn = world.store.txn

    def counted(compare: list[Compare], ops: list[Put | Delete]) -> object:
        sizes.append(len(ops))
        return txn(compare, ops)

    monkeypatch.setattr(world.store, "txn", counted)
    services = [a_service(f"s{number}") for number in range(500)]

    assert 500 == world.services.replace(ServiceSource.SWARM, services, guard=[absent(keys.SWARM_LEADER)])

    assert 500 == len(world.services.all())
    assert 500 == sum(sizes)
    assert 10 == len(sizes)


def test_a_service_of_many_tasks_has_a_transaction_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    txn = world.store.txn

    def counted(compare: list[Compare], ops: list[Put | Delete]) -> object:
        sizes.append(sum(len(op.value) for op in ops if isinstance(op, Put)))
        return txn(compare, ops)

    monkeypatch.setattr(world.store, "txn", counted)
    many = [f"10.1.{number // 250}.{number % 250}" for number in range(4000)]

    world.services.replace(ServiceSource.SWARM, [a_service(name, *many) for name in ("one", "two", "three")])

    assert 3 == len(sizes)
    assert max(sizes) < 1_500_000


def refusing(world: World, monkeypatch: pytest.MonkeyPatch, *names: str, error: Exception) -> None:
    """The store refuses transactions with a service of these names."""
    txn = world.store.txn

    def refuse(compare: list[Compare], ops: list[Put | Delete]) -> object:
        if any(op.key.endswith(name) for op in ops for name in names):
            raise error
        return txn(compare, ops)

    monkeypatch.setattr(world.store, "txn", refuse)


TOO_LARGE = StoreError("etcd refused the request: request is too large")


@pytest.mark.parametrize("error", [TOO_LARGE, CasFailed("again and again")])
def test_a_large_service_that_the_store_refuses_keeps_no_other_from_being_written(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    many = [f"10.1.{number // 250}.{number % 250}" for number in range(4500)]
    large, one, two = a_service("large", *many), a_service("one"), a_service("two")
    refusing(world, monkeypatch, "large", error=error)

    assert 2 == world.services.replace(ServiceSource.SWARM, [one, large, two])

    assert [one, two] == world.services.all()
    assert (f"/hawse/v1/services/swarm-large cannot be written to etcd: {error}",) == world.services.problems()
    assert 0 == world.services.replace(ServiceSource.SWARM, [one, large, two])
    assert 0 == world.services.replace(ServiceSource.SWARM, [one, two])
    assert () == world.services.problems()


@pytest.mark.parametrize("error", [TOO_LARGE, StoreUnavailable("etcd is away")])
def test_what_the_store_refuses_for_several_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refusing(world, monkeypatch, "one", error=error)

    with pytest.raises(StoreError):
        world.services.replace(ServiceSource.SWARM, [a_service("one"), a_service("two")])


def test_a_store_that_is_away_is_an_error_for_one_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(world, monkeypatch, "one", error=StoreUnavailable("etcd is away"))

    with pytest.raises(StoreUnavailable):
        world.services.replace(ServiceSource.SWARM, [a_service("one")])
    assert () == world.services.problems()


def test_before_the_first_read_nothing_is_concluded() -> None:
    world = World()
    world.store.fail_with(StoreUnavailable("etcd is away"))

    with deadline(0.1), pytest.raises(StoreUnavailable):
        world.services.replace(ServiceSource.SWARM, [])
    world.store.close()


def test_a_lost_node_keeps_the_time_of_its_loss_and_goes_when_it_is_back(world: World) -> None:
    node_b, node_c = NodeName("node-b"), NodeName("node-c")
    assert 1 == world.lost.replace([node_b])
    since = world.clock.now()
    world.clock.time_s += 100

    assert 1 == world.lost.replace([node_b, node_c])
    assert 0 == world.lost.replace([node_c, node_b])
    item = world.store.get(keys.lost(node_b))
    assert item is not None
    assert since.isoformat()[:19] == decode(LostNode, item.value, key=item.key).since[:19]
    assert {node_b, node_c} == world.lost.names()

    assert 2 == world.lost.replace([])
    assert frozenset() == world.lost.names()
