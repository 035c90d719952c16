"""Agents of three nodes that compete for pools and addresses: nothing is granted twice, nothing leaks."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from ipam.config import IpamConfig
from ipam.pool_id import AddressSpace, PoolId
from ipam.service import Ipam
from kvstore import keys
from kvstore.etcd import EtcdStore
from kvstore.memory import MemoryStore
from kvstore.store import Compare, Delete, KeyValue, Newest, Op, Put, Snapshot, Store, TxnResult, Watch, absent
from model.addresses import IPAddress, IPNetwork, service_holder
from model.endpoints import Endpoint
from model.errors import Conflict, Exhausted, PoolNotFound
from model.ids import NodeName, ServiceId
from tests.support.etcd import EtcdServer

NODES = ("node-a", "node-b", "node-c")
THREADS = 8
POOL = ipaddress.ip_network("10.1.0.0/24")
LOCAL = AddressSpace.LOCAL


class NobodyUsesAnything:
    """No networks and no endpoints: the calls are IPAM's alone."""

    def holds_network(self, pool: IPNetwork, holder: str) -> bool:
        return False

    def endpoint_at(self, pool: IPNetwork, address: IPAddress) -> Endpoint | None:
        return None


@dataclass
class Ledger:
    """Who was told to have which address at this moment; what no two may have."""

    held: dict[IPAddress, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    grants: int = 0

    def granted(self, address: IPAddress, who: str) -> None:
        with self.lock:
            assert address not in self.held, f"{address} granted to {who} and to {self.held[address]}"
            self.held[address] = who
            self.grants += 1

    def released(self, address: IPAddress) -> None:
        with self.lock:
            del self.held[address]


@pytest.fixture(scope="module")
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("races")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    """A way for each agent to reach the one store that all share, empty."""
    stores: list[Store] = []
    memory = MemoryStore()

    def connected() -> Store:
        store = memory if request.param == "memory" else EtcdStore(request.getfixturevalue("own_etcd").config)
        stores.append(store)
        return store

    store = connected()
    for item in store.list(keys.ROOT).items:
        store.txn([], [Delete(item.key)])
    yield connected
    for store in stores:
        store.close()


@pytest.fixture
def agents(connect: Callable[[], Store]) -> Iterator[list[Ipam]]:
    agents = [an_agent(connect(), name) for name in NODES]
    for agent in agents:
        agent.start()
        assert agent.wait_synced(10)
    yield agents
    for agent in agents:
        agent.stop()


def an_agent(store: Store, name: str) -> Ipam:
    config = IpamConfig(
        node=NodeName(name), default_pools=(ipaddress.ip_network("10.9.0.0/20"),), default_pool_prefix=24
    )
    return Ipam(store, NobodyUsesAnything(), config)


def at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Run the jobs, each in a thread, from one moment on; the first error is the test's."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        start.wait(10)
        job()

    with ThreadPoolExecutor(len(jobs)) as threads:
        for running in [threads.submit(run, job) for job in jobs]:
            running.result(120)


def test_threads_of_three_nodes_never_share_an_address(agents: list[Ipam], connect: Callable[[], Store]) -> None:
    ledger = Ledger()
    pool_ids = [agent.request_pool(space=LOCAL, pool=POOL, sub_pool=None) for agent in agents]
    gateways = {
        agent.request_address(pool_id, address=None, gateway=True)
        for agent, pool_id in zip(agents, pool_ids, strict=True)
    }
    assert gateways == {ipaddress.ip_interface("10.1.0.1/24")}

    def work(number: int) -> None:
        agent, pool_id = agents[number % len(agents)], pool_ids[number % len(agents)]
        dice = random.Random(number)
        mine: list[IPAddress] = []
        for _ in range(40):
            if mine and (len(mine) >= 10 or dice.random() < 0.4):
                address = mine.pop(dice.randrange(len(mine)))
                ledger.released(address)
                agent.release_address(pool_id, address)
            else:
                address = agent.request_address(pool_id, address=None, gateway=False).ip
                ledger.granted(address, f"{NODES[number % len(agents)]} thread {number}")
                mine.append(address)
        for address in mine:
            ledger.released(address)
            agent.release_address(pool_id, address)

    at_once([lambda number=number: work(number) for number in range(len(agents) * THREADS)])

    store = connect()
    assert [item.key for item in store.list(keys.ADDRESSES).items] == [keys.address(POOL, POOL.network_address + 1)]
    for agent, pool_id in zip(agents, pool_ids, strict=True):
        agent.release_pool(pool_id)
    assert [item.key for item in store.list(keys.ROOT).items] == [keys.POOL_SET]
    assert ledger.grants > 300


def test_every_address_of_a_pool_is_granted_exactly_once(agents: list[Ipam], connect: Callable[[], Store]) -> None:
    ledger = Ledger()
    pool_id = PoolId(space=LOCAL, pool=POOL)
    for agent in agents:
        assert agent.request_pool(space=LOCAL, pool=POOL, sub_pool=None) == pool_id
    refused: list[str] = []

    def work(number: int) -> None:
        agent = agents[number % len(agents)]
        while True:
            try:
                address = agent.request_address(pool_id, address=None, gateway=False).ip
            except Exhausted as err:
                refused.append(str(err))
                return
            ledger.granted(address, str(number))

    at_once([lambda number=number: work(number) for number in range(len(agents) * THREADS)])

    assert ledger.grants == 254
    assert len(connect().list(keys.ADDRESSES).items) == 254
    assert all("all 254 addresses are in use" in text for text in refused)


def test_one_of_many_claims_of_one_address_wins(agents: list[Ipam]) -> None:
    pool_id = PoolId(space=LOCAL, pool=POOL)
    for agent in agents:
        assert agent.request_pool(space=LOCAL, pool=POOL, sub_pool=None) == pool_id
    winners: Counter[int] = Counter()

    def work(number: int) -> None:
        try:
            agents[number].request_address(pool_id, address=ipaddress.ip_address("10.1.0.77"), gateway=False)
        except Conflict:
            return
        winners[number] += 1

    at_once([lambda number=number % 3: work(number) for number in range(len(agents) * THREADS)])

    assert list(winners.values()) == [THREADS]


def test_one_of_many_overlapping_pools_is_made(agents: list[Ipam], connect: Callable[[], Store]) -> None:
    pools = [ipaddress.ip_network(text) for text in ("10.1.0.0/16", "10.1.0.0/24", "10.1.0.0/20", "10.0.0.0/8")]
    made: set[IPNetwork] = set()
    refusals: list[str] = []

    def work(number: int) -> None:
        pool = pools[number % len(pools)]
        try:
            agents[number % len(agents)].request_pool(space=LOCAL, pool=pool, sub_pool=None)
        except Conflict as err:
            refusals.append(str(err))
        else:
            made.add(pool)

    at_once([lambda number=number: work(number) for number in range(len(agents) * THREADS)])

    assert len(made) == 1
    assert all(f"overlaps pool {next(iter(made))}" in text for text in refusals)
    assert [keys.parse_pool(item.key) for item in connect().list(keys.POOLS).items] == list(made)


def test_default_pools_that_are_made_at_once_differ(agents: list[Ipam]) -> None:
    made: list[IPNetwork] = []

    def work(number: int) -> None:
        made.append(agents[number % len(agents)].request_pool(space=LOCAL, pool=None, sub_pool=None).pool)

    at_once([lambda number=number: work(number) for number in range(12)])

    assert len(set(made)) == 12


def test_pool_that_comes_and_goes_leaves_no_address(agents: list[Ipam], connect: Callable[[], Store]) -> None:
    """A grant in a pool that is just being removed either fails or goes with it."""

    def work(number: int) -> None:
        agent = agents[number % len(agents)]
        for _ in range(15):
            pool_id = agent.request_pool(space=LOCAL, pool=POOL, sub_pool=None)
            # Another thread of this node may have released the pool.
            with contextlib.suppress(PoolNotFound):
                agent.release_address(pool_id, agent.request_address(pool_id, address=None, gateway=False).ip)
            agent.release_pool(pool_id)

    at_once([lambda number=number: work(number) for number in range(6)])

    assert [item.key for item in connect().list(keys.ROOT).items] == [keys.POOL_SET]


def test_leader_and_worker_share_an_address_until_both_have_released_it(
    agents: list[Ipam], connect: Callable[[], Store]
) -> None:
    leader, worker = agents[0], agents[1]
    leader_id = leader.request_pool(space=AddressSpace.GLOBAL, pool=POOL, sub_pool=None)
    worker_id = worker.request_pool(space=LOCAL, pool=POOL, sub_pool=None)
    tasks = [leader.request_address(leader_id, address=None, gateway=False).ip for _ in range(20)]
    orders = random.Random(7)

    def work(address: IPAddress) -> None:
        for _ in range(2):
            assert worker.request_address(worker_id, address=address, gateway=False).ip == address
            assert leader.request_address(leader_id, address=address, gateway=False).ip == address
        releases = [
            lambda: worker.release_address(worker_id, address),
            lambda: leader.release_address(leader_id, address),
        ]
        orders.shuffle(releases)
        for release in [*releases, *releases]:
            release()

    at_once([lambda address=address: work(address) for address in tasks])

    assert connect().list(keys.ADDRESSES).items == ()


class CountingStore:
    """Counts round trips; everything else is the store's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls = 0

    def get(self, key: str) -> KeyValue | None:
        self.calls += 1
        return self._store.get(key)

    def list(self, prefix: str) -> Snapshot:
        self.calls += 1
        return self._store.list(prefix)

    def newest(self, prefix: str) -> Newest:
        self.calls += 1
        return self._store.newest(prefix)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        self.calls += 1
        return self._store.txn(compare, ops)

    def watch(self, prefix: str, start_revision: int) -> Watch:
        return self._store.watch(prefix, start_revision)


def test_uncontended_calls_take_few_round_trips(connect: Callable[[], Store]) -> None:
    store = CountingStore(connect())
    agent = an_agent(store, "node-a")  # type: ignore[arg-type]  # the rest of Store is not used
    leader = an_agent(connect(), "node-b")
    for one in (agent, leader):
        one.start()
        assert one.wait_synced(10)
    leader_id = leader.request_pool(space=AddressSpace.GLOBAL, pool=POOL, sub_pool=None)
    task = leader.request_address(leader_id, address=None, gateway=False).ip
    revision = connect().list(keys.ROOT).revision
    assert agent._views.addresses.wait_delivered(revision, 5)
    pool_id = PoolId(space=LOCAL, pool=POOL)
    address = POOL.network_address + 2

    def trips(call: Callable[[], object]) -> int:
        before = store.calls
        call()
        return store.calls - before

    try:
        assert {
            "join pool": trips(lambda: agent.request_pool(space=LOCAL, pool=POOL, sub_pool=None)),
            "join pool again": trips(lambda: agent.request_pool(space=LOCAL, pool=POOL, sub_pool=None)),
            "gateway": trips(lambda: agent.request_address(pool_id, address=POOL.network_address + 9, gateway=True)),
            "gateway again": trips(lambda: agent.request_address(pool_id, address=None, gateway=True)),
        } == {"join pool": 2, "join pool again": 1, "gateway": 2, "gateway again": 1}
        assert agent._views.pools.wait_delivered(connect().list(keys.ROOT).revision, 5)
        assert {
            "choose": trips(lambda: agent.request_address(pool_id, address=None, gateway=False)),
            "claim the leader's": trips(lambda: agent.request_address(pool_id, address=task, gateway=False)),
        } == {"choose": 1, "claim the leader's": 1}
        assert agent._views.addresses.wait_delivered(connect().list(keys.ROOT).revision, 5)
        assert {
            "release": trips(lambda: agent.release_address(pool_id, address)),
            "release the leader's": trips(lambda: agent.release_address(pool_id, task)),
        } == {"release": 1, "release the leader's": 1}
    finally:
        agent.stop()
        leader.stop()


def test_a_service_that_several_nodes_make_at_once_has_one_address(
    agents: list[Ipam], connect: Callable[[], Store]
) -> None:
    agents[0].request_pool(space=LOCAL, pool=POOL, sub_pool=None)
    made: list[tuple[str, int]] = []

    def work(number: int) -> None:
        name = f"service-{number % 5}"
        key = keys.service(ServiceId(name))
        revision = agents[number % 3].request_virtual(
            POOL, service_holder(ServiceId(name)), absent(key), lambda address: Put(key, str(address).encode())
        )
        if revision is not None:
            made.append((name, revision))

    at_once([lambda number=number: work(number) for number in range(30)])

    assert sorted(name for name, _ in made) == [f"service-{number}" for number in range(5)]
    stored = {item.value.decode() for item in connect().list(keys.SERVICES).items}
    held = {str(keys.parse_address(item.key)[1]) for item in connect().list(keys.ADDRESSES).items}
    assert len(stored) == 5
    assert stored == held


def test_allocation_rate_is_told(agents: list[Ipam], record_property: Callable[[str, object], None]) -> None:
    """Not a limit: a figure for the notes, from one thread and from all agents' threads at once."""
    pool = ipaddress.ip_network("10.64.0.0/16")
    pool_ids = [agent.request_pool(space=LOCAL, pool=pool, sub_pool=None) for agent in agents]

    def allocate(number: int, count: int) -> None:
        for _ in range(count):
            agents[number % 3].request_address(pool_ids[number % 3], address=None, gateway=False)

    began = time.perf_counter()
    allocate(0, 200)
    alone = 200 / (time.perf_counter() - began)
    began = time.perf_counter()
    at_once([lambda number=number: allocate(number, 25) for number in range(24)])
    together = 600 / (time.perf_counter() - began)

    record_property("addresses_per_second_one_thread", round(alone))
    record_property("addresses_per_second_24_threads", round(together))
    print(f"{alone:.0f} addresses/s in one thread, {together:.0f} addresses/s in 24 threads of 3 agents")  # noqa: T201
