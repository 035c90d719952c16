"""Managers that write services at the same time, on the store in memory and on etcd."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from balancer.registry import ServiceRegistry
from balancer.views import ServiceViews
from cluster.election import Election
from kvstore import keys
from kvstore.codec import decode
from kvstore.etcd import EtcdStore
from kvstore.memory import MemoryStore
from kvstore.store import Delete, LeaseId, Store
from model.errors import CasFailed
from model.ids import NodeName, ServiceId
from model.services import Service, ServiceSource, ServiceTask, VirtualAddress
from tests.support import wait
from tests.support.etcd import EtcdServer

POOL = ipaddress.ip_network("10.1.0.0/16")


@dataclass
class Manager:
    """One manager's agent."""

    store: Store
    name: str
    lease: LeaseId = field(init=False)
    views: ServiceViews = field(init=False)

    def __post_init__(self) -> None:
        self.lease = self.store.grant_lease(60)
        self.views = ServiceViews.of(self.store)
        self.services = ServiceRegistry(self.store, self.views.services)
        self.election = Election(self.store, NodeName(self.name), lambda: self.lease, key=keys.SWARM_LEADER)
        self.views.start()
        assert self.views.wait_synced(10)

    def write(self, *services: Service) -> int:
        return self.services.replace(ServiceSource.SWARM, services, guard=[self.election.claim])


@pytest.fixture(scope="module")
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("services")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def manager(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Manager]]:
    """Makes a manager; all share one store, empty at first."""
    stores: list[Store] = []
    managers: list[Manager] = []
    memory = MemoryStore()

    def connected() -> Store:
        store = memory if request.param == "memory" else EtcdStore(request.getfixturevalue("own_etcd").config)
        stores.append(store)
        return store

    def made(name: str) -> Manager:
        managers.append(Manager(connected(), name))
        return managers[-1]

    store = connected()
    for item in store.list(keys.ROOT).items:
        store.txn([], [Delete(item.key)])
    yield made
    for one in managers:
        one.views.stop()
    for store in stores:
        store.close()


def a_service(number: int, tasks: int = 20) -> Service:
    return Service(
        service_id=ServiceId(f"s{number}"),
        name=f"s{number}",
        source=ServiceSource.SWARM,
        addresses=(VirtualAddress(network=POOL, address=POOL[number + 1]),),
        tasks=tuple(
            ServiceTask(
                name=f"s{number}.{slot}",
                task_id=f"t{slot}".ljust(25, "0"),
                node="s1",
                addresses=(POOL[1000 + slot],),
                active=True,
                state="running",
            )
            for slot in range(tasks)
        ),
    )


def stored(store: Store) -> list[Service]:
    return [decode(Service, item.value, key=item.key) for item in store.list(keys.SERVICES).items]


def test_five_hundred_services_are_written_and_then_only_what_changes(manager: Callable[[str], Manager]) -> None:
    one = manager("m1")
    assert one.election.try_to_lead()
    services = [a_service(number) for number in range(500)]

    assert 500 == one.write(*services)
    services[7] = replace(services[7], tasks=services[7].tasks[1:])
    assert 1 == one.write(*services)
    assert 0 == one.write(*services)

    assert sorted(services, key=lambda service: service.service_id) == stored(one.store)


def test_after_a_hand_over_the_old_leader_writes_nothing(manager: Callable[[str], Manager]) -> None:
    old, new = manager("m1"), manager("m2")
    assert old.election.try_to_lead()
    assert not new.election.try_to_lead()
    old.write(a_service(1), a_service(2))
    wait.until("what the old leader wrote", lambda: len(new.views.services.items()) == 2, timeout_s=10)

    old.election.resign()
    assert new.election.try_to_lead()
    new.write(a_service(2), a_service(3))
    with pytest.raises(CasFailed, match="written by another node now"):
        old.write(a_service(1))

    assert [a_service(2), a_service(3)] == stored(new.store)


def test_of_many_candidates_one_leads(manager: Callable[[str], Manager]) -> None:
    candidates = [manager(f"m{number}") for number in range(8)]
    together = threading.Barrier(len(candidates))

    def stand(candidate: Manager) -> bool:
        together.wait()
        return candidate.election.try_to_lead()

    with ThreadPoolExecutor(len(candidates)) as pool:
        leads = list(pool.map(stand, candidates))

    assert 1 == leads.count(True)


def test_a_lead_ends_with_its_lease(manager: Callable[[str], Manager]) -> None:
    old, new = manager("m1"), manager("m2")
    assert old.election.try_to_lead()

    old.store.revoke_lease(old.lease)

    with pytest.raises(CasFailed):
        old.write(a_service(1))
    assert new.election.try_to_lead()
    assert [] == stored(new.store)


def test_those_who_write_label_services_do_not_undo_one_another(manager: Callable[[str], Manager]) -> None:
    writers = [manager(f"m{number}") for number in range(4)]
    assert writers[0].election.try_to_lead()
    labels = [replace(a_service(100 + number), source=ServiceSource.LABEL) for number in range(20)]

    def put_all(writer: Manager) -> None:
        for service in labels:
            writer.services.put(service)
        if writer is writers[0]:
            writer.write(a_service(1))
            writer.write(a_service(2))

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(put_all, writers))

    assert [*labels, a_service(2)] == stored(writers[0].store)
