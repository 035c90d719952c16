"""Random histories of several nodes and the Swarm's leader: nothing is granted twice, nothing is left in the end."""

from __future__ import annotations

import ipaddress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from ipam import rules
from ipam.book import AddressBook
from ipam.check import Records, check
from ipam.inventory import read_records
from ipam.pool_id import AddressSpace, PoolId
from kvstore import keys
from model.addresses import IPAddress, IPNetwork
from model.errors import Conflict, Exhausted, InvalidInput, PoolNotFound
from tests.support.cluster_world import Agent, ClusterWorld

POOLS = [ipaddress.ip_network(text) for text in ("10.1.0.0/29", "10.1.0.8/29", "10.1.0.0/28")]
NODES = ["node-a", "node-b", "node-c"]
SPACES = st.sampled_from(list(AddressSpace))


class IpamHistory(RuleBasedStateMachine):
    """What engines may do, in any order; the model is a dictionary of who was granted what."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ClusterWorld()
        self.agents = {name: self.world.agent(name) for name in NODES}
        self.pools: dict[IPNetwork, set[str]] = {}
        self.held: dict[tuple[IPNetwork, IPAddress], set[str]] = {}
        self.implicit: set[tuple[IPNetwork, IPAddress]] = set()

    granted = Bundle("granted")

    def teardown(self) -> None:
        for (pool, address), holders in list(self.held.items()):
            for holder in list(holders):
                self._agent(holder).ipam.release_address(_pool_id(holder, pool), address)
        for pool, holders in list(self.pools.items()):
            for holder in list(holders):
                self._agent(holder).ipam.release_pool(_pool_id(holder, pool))
        left = self.world.stored()
        self.world.stop()
        assert set(left) <= {keys.POOL_SET}

    @initialize()
    def first_pool(self) -> None:
        self.request_pool("node-a", AddressSpace.GLOBAL, POOLS[0])

    @rule(node=st.sampled_from(NODES), space=SPACES, pool=st.sampled_from(POOLS))
    def request_pool(self, node: str, space: AddressSpace, pool: IPNetwork) -> None:
        overlaps = any(other != pool and other.overlaps(pool) for other in self.pools)
        try:
            self.agents[node].ipam.request_pool(space=space, pool=pool, sub_pool=None)
        except Conflict:
            assert overlaps
        else:
            assert not overlaps
            self.pools.setdefault(pool, set()).add(space.holder(self.agents[node].name))

    @rule(node=st.sampled_from(NODES), space=SPACES, pool=st.sampled_from(POOLS))
    def release_pool(self, node: str, space: AddressSpace, pool: IPNetwork) -> None:
        holder = space.holder(self.agents[node].name)
        self.world.settle()
        self.agents[node].ipam.release_pool(PoolId(space=space, pool=pool))
        self.pools.get(pool, set()).discard(holder)
        for place in [place for place in self.held if place[0] == pool]:
            self._drop(place, holder)
        if not self.pools.get(pool):
            self.pools.pop(pool, None)
            self.held = {place: holders for place, holders in self.held.items() if place[0] != pool}

    @rule(target=granted, node=st.sampled_from(NODES), space=SPACES, pool=st.sampled_from(POOLS))
    def request_any(self, node: str, space: AddressSpace, pool: IPNetwork) -> object:
        holder = space.holder(self.agents[node].name)
        try:
            address = self.agents[node].ipam.request_address(_pool_id(holder, pool), address=None, gateway=False).ip
        except PoolNotFound:
            assert pool not in self.pools
            return multiple()
        except Exhausted:
            assert len([place for place in self.held if place[0] == pool]) >= len(rules.selectable(pool)) - 1
            return multiple()
        assert (pool, address) not in self.held, "granted twice"
        self.held[pool, address] = {holder}
        return (pool, address, holder)

    @rule(
        target=granted, node=st.sampled_from(NODES), space=SPACES, pool=st.sampled_from(POOLS), offset=st.integers(0, 9)
    )
    def request_one(self, node: str, space: AddressSpace, pool: IPNetwork, offset: int) -> object:
        holder = space.holder(self.agents[node].name)
        address = pool.network_address + offset
        holders = self.held.get((pool, address), set())
        try:
            self.agents[node].ipam.request_address(_pool_id(holder, pool), address=address, gateway=False)
        except InvalidInput:
            assert int(address) not in rules.selectable(pool)
            return multiple()
        except PoolNotFound:
            assert pool not in self.pools
            return multiple()
        except Conflict:
            others = holders - {holder, "@swarm"}
            assert space is AddressSpace.LOCAL
            assert others
            return multiple()
        assert space is AddressSpace.GLOBAL or holders <= {holder, "@swarm"}, "granted twice"
        self.held.setdefault((pool, address), set()).add(holder)
        return (pool, address, holder)

    @rule(grant=consumes(granted))
    def release_address(self, grant: tuple[IPNetwork, IPAddress, str]) -> None:
        pool, address, holder = grant
        self._agent(holder).ipam.release_address(_pool_id(holder, pool), address)
        self._drop((pool, address), holder)

    @invariant()
    def store_is_what_was_granted(self) -> None:
        records = self._records()
        assert {place: set(record.holders) for place, record in records.addresses.items()} == self.held
        assert {record.pool: set(record.holders) for record in records.pools} == self.pools

    def _records(self) -> Records:
        return read_records(self.world.store, now=self.world.clock.now(), docker=None)

    def _agent(self, holder: str) -> Agent:
        return self.agents.get(holder, self.agents["node-a"])

    def _drop(self, place: tuple[IPNetwork, IPAddress], holder: str) -> None:
        holders = self.held.get(place, set())
        holders.discard(holder)
        if not holders:
            self.held.pop(place, None)


def _pool_id(holder: str, pool: IPNetwork) -> PoolId:
    return PoolId(space=AddressSpace.GLOBAL if holder == "@swarm" else AddressSpace.LOCAL, pool=pool)


IpamHistory.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestIpamHistory = IpamHistory.TestCase


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40))
def test_containers_that_come_and_go_leave_a_clean_check(steps: list[tuple[int, bool]]) -> None:
    world = ClusterWorld()
    agents = [world.agent(name) for name in NODES]
    running = []
    try:
        for agent in agents:
            agent.nodes.refresh()
            agent.create_network()
        for number, (index, start) in enumerate(steps):
            if start or not running:
                running.append((agents[index], agents[index].run_container(f"{number:064x}")))
            else:
                agent, endpoint = running.pop(0)
                agent.stop_container(endpoint)
        world.clock.time_s += 3600
        records = read_records(world.store, now=world.clock.now(), docker=None)

        assert check(records) == []
        assert len(records.addresses) == len(running) + 1
        assert len({endpoint.addresses for _, endpoint in running}) == len(running)
    finally:
        world.stop()


@given(
    prefix=st.integers(24, 28),
    taken=st.sets(st.integers(0, 255), max_size=60),
)
def test_default_pool_overlaps_nothing_and_is_the_first_that_does_not(prefix: int, taken: set[int]) -> None:
    outer = ipaddress.ip_network("10.9.0.0/22")
    used = [ipaddress.ip_network(f"10.9.{number // 64}.{number % 64 * 4}/30") for number in taken]

    found = rules.next_free_subnet([outer], prefix, used)

    free = [net for net in outer.subnets(new_prefix=prefix) if not any(net.overlaps(other) for other in used)]
    assert found == (free[0] if free else None)


@given(
    pool=st.sampled_from([ipaddress.ip_network("10.1.0.0/28"), ipaddress.ip_network("fd00::/64")]),
    taken=st.sets(st.integers(1, 14)),
    released=st.sets(st.integers(1, 14)),
    cursor=st.integers(0, 15),
    skip=st.integers(0, 20),
)
def test_choice_is_free_and_recent_only_when_nothing_else_is(
    pool: IPNetwork, taken: set[int], released: set[int], cursor: int, skip: int
) -> None:
    book = AddressBook(quarantine_s=60, monotonic_s=lambda: 0.0)
    for number in released:
        book.take(pool, pool.network_address + number)
        book.release(pool, pool.network_address + number)
    for number in taken:
        book.take(pool, pool.network_address + number)
    book.granted(pool, pool.network_address + cursor)

    chosen = book.choose(pool, None, skip=skip)

    free = [number for number in rules.selectable(pool)[:14] if number - int(pool.network_address) not in taken]
    if chosen is None:
        assert free == []
    else:
        offset = int(chosen) - int(pool.network_address)
        assert offset not in taken
        assert int(chosen) in rules.selectable(pool)
        fresh = [number for number in free if number - int(pool.network_address) not in released]
        assert offset not in released or (pool.version == 4 and fresh == [])


@given(space=SPACES, pool=st.sampled_from(POOLS))
def test_pool_id_is_read_as_it_was_written(space: AddressSpace, pool: IPNetwork) -> None:
    for sub_pool in (None, next(iter(pool.subnets()))):
        written = PoolId(space=space, pool=pool, sub_pool=sub_pool)
        assert PoolId.parse(str(written)) == written
