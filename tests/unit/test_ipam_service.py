"""IPAM on the store in memory: every call of section 1.3, from one node, two nodes and the Swarm's leader."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from ipam.config import IpamConfig
from ipam.pool_id import AddressSpace, PoolId
from ipam.service import Ipam
from kvstore import keys
from kvstore.memory import MemoryStore
from kvstore.store import Compare, Op, Put, TxnResult
from model.addresses import SWARM_HOLDER, AddressKind, IPAddress, IPNetwork, MacAddress
from model.endpoints import Endpoint
from model.errors import Conflict, Exhausted, InvalidInput, PoolNotFound, StoreUnavailable
from model.ids import DockerNetworkId, EndpointId, NodeName, Vni

POOL = ipaddress.ip_network("10.1.0.0/24")
SMALL = ipaddress.ip_network("10.2.0.0/29")
LOCAL = AddressSpace.LOCAL
GLOBAL = AddressSpace.GLOBAL


def ip(text: str) -> IPAddress:
    return ipaddress.ip_address(text)


@dataclass
class FakeUsage:
    networks: set[tuple[IPNetwork, str]] = field(default_factory=set)
    endpoints: dict[tuple[IPNetwork, IPAddress], Endpoint] = field(default_factory=dict)

    def holds_network(self, pool: IPNetwork, holder: str) -> bool:
        return (pool, holder) in self.networks

    def endpoint_at(self, pool: IPNetwork, address: IPAddress) -> Endpoint | None:
        return self.endpoints.get((pool, address))

    def put_endpoint(self, node: str, pool: IPNetwork, address: IPAddress) -> Endpoint:
        endpoint = Endpoint(
            endpoint_id=EndpointId("e" * 64),
            node=NodeName(node),
            network=pool,
            docker_network=DockerNetworkId("d" * 64),
            vni=Vni(7),
            addresses=(address,),
            mac=MacAddress.for_address(7, address),
        )
        self.endpoints[pool, address] = endpoint
        return endpoint


@dataclass
class ManualClock:
    time_s: float = 1000.0

    def monotonic_s(self) -> float:
        return self.time_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time_s, UTC)


@dataclass
class Cluster:
    store: MemoryStore
    usage: FakeUsage
    clock: ManualClock
    agents: list[Ipam] = field(default_factory=list)

    def agent(self, node: str) -> Ipam:
        config = IpamConfig(
            node=NodeName(node), default_pools=(ipaddress.ip_network("10.9.0.0/22"),), default_pool_prefix=24
        )
        ipam = Ipam(self.store, self.usage, config, clock=self.clock)
        ipam.start()
        assert ipam.wait_synced(5)
        self.agents.append(ipam)
        return ipam

    def settle(self) -> None:
        """Wait until every agent has seen, and noted, all that is in the store."""
        revision = self.store.list(keys.ROOT).revision
        self.store.report_progress()
        for ipam in self.agents:
            for view in (ipam._views.pools, ipam._views.addresses, ipam._views.cursors):
                assert view.wait_delivered(revision, 5)

    def stored(self, prefix: str) -> list[str]:
        return [item.key for item in self.store.list(prefix).items]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(MemoryStore(), FakeUsage(), ManualClock())
    yield cluster
    for ipam in cluster.agents:
        ipam.stop()
    cluster.store.close()


@pytest.fixture
def node_a(cluster: Cluster) -> Ipam:
    return cluster.agent("node-a")


@pytest.fixture
def node_b(cluster: Cluster) -> Ipam:
    return cluster.agent("node-b")


def pool_on(ipam: Ipam, pool: IPNetwork = POOL, space: AddressSpace = LOCAL) -> PoolId:
    return ipam.request_pool(space=space, pool=pool, sub_pool=None)


# --- pools ---


def test_pool_is_joined_by_a_second_node(cluster: Cluster, node_a: Ipam, node_b: Ipam) -> None:
    first = pool_on(node_a)
    second = pool_on(node_b)
    cluster.settle()

    assert first == second
    assert [record.holders for record in node_a.pools()] == [("node-a", "node-b")]


def test_repeated_request_pool_changes_nothing(cluster: Cluster, node_a: Ipam) -> None:
    pool_on(node_a)
    before = cluster.store.list(keys.ROOT)
    pool_on(node_a)

    assert before == cluster.store.list(keys.ROOT)


def test_swarm_leader_and_worker_hold_one_pool_apart(cluster: Cluster, node_a: Ipam) -> None:
    pool_on(node_a, space=GLOBAL)
    pool_on(node_a, space=LOCAL)
    cluster.settle()

    assert [record.holders for record in node_a.pools()] == [(SWARM_HOLDER, "node-a")]


@pytest.mark.parametrize("other", ["10.1.0.0/16", "10.1.0.128/25", "10.0.0.0/8"])
def test_overlapping_pool_is_refused_and_names_the_other_and_its_holder(node_a: Ipam, node_b: Ipam, other: str) -> None:
    pool_on(node_a)

    with pytest.raises(
        Conflict, match=r"overlaps pool 10\.1\.0\.0/24, which is held by node-a: choose another --subnet"
    ):
        pool_on(node_b, ipaddress.ip_network(other))


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("10.0.0.1/32", "too small"),
        ("10.0.0.0/31", "too small"),
        ("224.0.0.0/8", "multicast"),
        ("127.5.0.0/16", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("0.0.0.0/8", "this network"),
        ("240.0.0.0/8", "reserved"),
        ("0.0.0.0/0", "this network"),
        ("fd00::/64", "IPv6"),
    ],
)
def test_pool_that_containers_cannot_use_is_refused(cluster: Cluster, node_a: Ipam, pool: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pool_on(node_a, ipaddress.ip_network(pool))

    assert cluster.stored(keys.ROOT) == []


def test_ip_range_outside_the_subnet_is_refused(node_a: Ipam) -> None:
    with pytest.raises(InvalidInput, match=r"--ip-range 10\.5\.0\.0/24 is not inside --subnet 10\.1\.0\.0/24"):
        node_a.request_pool(space=LOCAL, pool=POOL, sub_pool=ipaddress.ip_network("10.5.0.0/24"))


def test_every_request_without_a_subnet_gets_another_pool(node_a: Ipam) -> None:
    pools = [node_a.request_pool(space=LOCAL, pool=None, sub_pool=None).pool for _ in range(4)]

    assert [str(pool) for pool in pools] == ["10.9.0.0/24", "10.9.1.0/24", "10.9.2.0/24", "10.9.3.0/24"]


def test_default_pool_skips_what_overlaps_an_existing_pool(node_a: Ipam) -> None:
    pool_on(node_a, ipaddress.ip_network("10.9.0.128/25"))
    pool_on(node_a, ipaddress.ip_network("10.9.1.0/26"))

    assert str(node_a.request_pool(space=LOCAL, pool=None, sub_pool=None).pool) == "10.9.2.0/24"


def test_used_up_default_pools_say_what_to_change(node_a: Ipam) -> None:
    for _ in range(4):
        node_a.request_pool(space=LOCAL, pool=None, sub_pool=None)

    with pytest.raises(
        Exhausted, match=r"4 pools are in use in 10\.9\.0\.0/22, which has room for 4 of /24.*DEFAULT_POOLS"
    ):
        node_a.request_pool(space=LOCAL, pool=None, sub_pool=None)


def test_last_release_removes_every_key_of_the_pool(cluster: Cluster, node_a: Ipam, node_b: Ipam) -> None:
    pool_id = pool_on(node_a)
    pool_on(node_b)
    node_a.request_address(pool_id, address=None, gateway=True)
    node_a.reserve(POOL, [ip("10.1.0.9")])
    node_a.request_address(pool_id, address=None, gateway=False)

    node_a.release_pool(pool_id)
    assert keys.pool(POOL) in cluster.stored(keys.POOLS)
    node_b.release_pool(pool_id)

    assert cluster.stored(keys.ROOT) == [keys.POOL_SET]


def test_release_of_a_large_pool_takes_more_than_one_transaction(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    for _ in range(250):
        node_a.request_address(pool_id, address=None, gateway=False)

    node_a.release_pool(pool_id)

    assert cluster.stored(keys.ROOT) == [keys.POOL_SET]


def test_release_pool_waits_for_delete_network(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    cluster.usage.networks.add((POOL, "node-a"))
    node_a.release_pool(pool_id)
    assert keys.pool(POOL) in cluster.stored(keys.POOLS)

    cluster.usage.networks.clear()
    node_a.drop_hold(POOL, "node-a")

    assert cluster.stored(keys.POOLS) == []


def test_release_of_an_unknown_pool_is_no_error(node_a: Ipam) -> None:
    node_a.release_pool(PoolId(space=LOCAL, pool=POOL))


def test_pool_made_again_starts_empty(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    node_a.request_address(pool_id, address=ip("10.1.0.7"), gateway=False)
    leftover = cluster.store.get(keys.address(POOL, ip("10.1.0.7")))
    assert leftover is not None
    node_a.release_pool(pool_id)
    cluster.store.txn([], [Put(leftover.key, leftover.value)])

    pool_on(node_a)

    assert cluster.stored(keys.ADDRESSES) == []


# --- gateway ---


def test_gateway_is_the_first_address_and_the_same_for_all(node_a: Ipam, node_b: Ipam) -> None:
    pool_id = pool_on(node_a, space=GLOBAL)
    leader = node_a.request_address(pool_id, address=None, gateway=True)
    worker_id = pool_on(node_b)
    worker = node_b.request_address(worker_id, address=ip("10.1.0.1"), gateway=True)

    assert leader == worker == ipaddress.ip_interface("10.1.0.1/24")


def test_other_explicit_gateway_is_refused_and_names_the_recorded_one(node_a: Ipam, node_b: Ipam) -> None:
    node_a.request_address(pool_on(node_a), address=ip("10.1.0.254"), gateway=True)

    with pytest.raises(Conflict, match=r"pool 10\.1\.0\.0/24 has gateway 10\.1\.0\.254 on all nodes, not 10\.1\.0\.1"):
        node_b.request_address(pool_on(node_b), address=ip("10.1.0.1"), gateway=True)


def test_gateway_outlives_its_release_as_long_as_the_pool(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    node_a.request_address(pool_id, address=None, gateway=True)

    node_a.release_address(pool_id, ip("10.1.0.1"))

    assert cluster.stored(keys.ADDRESSES) == [keys.address(POOL, ip("10.1.0.1"))]


def test_gateway_on_a_container_address_is_refused(node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    node_a.request_address(pool_id, address=ip("10.1.0.1"), gateway=False)

    with pytest.raises(Conflict, match=r"10\.1\.0\.1 is held by node node-a; choose another --gateway"):
        node_a.request_address(pool_id, address=ip("10.1.0.1"), gateway=True)
    assert node_a.request_address(pool_id, address=None, gateway=True).ip == ip("10.1.0.2")


def test_container_cannot_have_the_gateway(node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    node_a.request_address(pool_id, address=None, gateway=True)

    with pytest.raises(Conflict, match="is the gateway of pool"):
        node_a.request_address(pool_id, address=ip("10.1.0.1"), gateway=False)


# --- choosing ---


def test_addresses_are_granted_in_order_and_never_the_gateway(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a, SMALL)
    node_a.request_address(pool_id, address=ip("10.2.0.3"), gateway=True)
    # Who loses a transaction, be it by a pool that has just got its gateway, may pass over an address.
    cluster.settle()

    granted = [str(node_a.request_address(pool_id, address=None, gateway=False)) for _ in range(5)]

    assert granted == ["10.2.0.1/29", "10.2.0.2/29", "10.2.0.4/29", "10.2.0.5/29", "10.2.0.6/29"]


def test_full_pool_says_which_and_how_many(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a, SMALL)
    node_a.request_address(pool_id, address=None, gateway=True)
    node_a.reserve(SMALL, [ip("10.2.0.2")])
    for _ in range(4):
        node_a.request_address(pool_id, address=None, gateway=False)
    before = cluster.store.list(keys.ROOT)

    with pytest.raises(
        Exhausted, match=r"pool 10\.2\.0\.0/29: all 4 addresses are in use \(node node-a: 4; besides 1 gateway"
    ):
        node_a.request_address(pool_id, address=None, gateway=False)
    assert before == cluster.store.list(keys.ROOT)


def test_seemingly_full_pool_is_verified_before_it_is_refused(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a, SMALL)
    granted = [node_a.request_address(pool_id, address=None, gateway=False).ip for _ in range(6)]
    node_b = cluster.agent("node-b")
    node_b.stop()
    node_a.release_address(pool_id, granted[2])

    assert node_b.request_address(pool_id, address=None, gateway=False).ip == granted[2]


def test_released_address_is_not_granted_at_once(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a, SMALL)
    granted = [node_a.request_address(pool_id, address=None, gateway=False).ip for _ in range(4)]
    for address in granted[:3]:
        node_a.release_address(pool_id, address)
        cluster.clock.time_s += 1

    again = [node_a.request_address(pool_id, address=None, gateway=False).ip for _ in range(3)]

    assert [str(address) for address in again] == ["10.2.0.5", "10.2.0.6", str(granted[0])]


def test_quarantine_ends(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a, SMALL)
    granted = [node_a.request_address(pool_id, address=None, gateway=False).ip for _ in range(6)]
    node_a.release_address(pool_id, granted[5])
    cluster.clock.time_s += 30
    node_a.release_address(pool_id, granted[0])
    cluster.clock.time_s += 40

    assert node_a.request_address(pool_id, address=None, gateway=False).ip == granted[5]


def test_quarantine_holds_on_other_nodes(cluster: Cluster, node_a: Ipam, node_b: Ipam) -> None:
    pool_id = pool_on(node_a, SMALL)
    granted = [node_a.request_address(pool_id, address=None, gateway=False).ip for _ in range(5)]
    cluster.settle()
    node_a.release_address(pool_id, granted[0])
    cluster.settle()

    assert str(node_b.request_address(pool_id, address=None, gateway=False).ip) == "10.2.0.6"


def test_ip_range_limits_what_is_chosen_but_not_what_is_asked_for(node_a: Ipam) -> None:
    part = ipaddress.ip_network("10.1.0.64/30")
    pool_id = node_a.request_pool(space=LOCAL, pool=POOL, sub_pool=part)

    chosen = [str(node_a.request_address(pool_id, address=None, gateway=False).ip) for _ in range(4)]

    assert chosen == ["10.1.0.64", "10.1.0.65", "10.1.0.66", "10.1.0.67"]
    assert str(node_a.request_address(pool_id, address=ip("10.1.0.200"), gateway=False).ip) == "10.1.0.200"
    with pytest.raises(Exhausted, match=r"--ip-range 10\.1\.0\.64/30 of pool 10\.1\.0\.0/24: all 4 addresses"):
        node_a.request_address(pool_id, address=None, gateway=False)


def test_address_in_an_unknown_pool_is_refused(node_a: Ipam) -> None:
    with pytest.raises(PoolNotFound, match=r"pool 10\.1\.0\.0/24 does not exist"):
        node_a.request_address(PoolId(space=LOCAL, pool=POOL), address=None, gateway=False)


class _AnswerLost(MemoryStore):
    """A store whose next write is done although its answer is lost."""

    lose_next = False

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        result = super().txn(compare, ops)
        if self.lose_next:
            self.lose_next = False
            raise StoreUnavailable("the answer was lost")
        return result


def test_grant_whose_answer_was_lost_is_answered_the_next_time(cluster: Cluster) -> None:
    store = _AnswerLost()
    cluster.store = store
    node_a = cluster.agent("node-a")
    pool_id = pool_on(node_a, space=GLOBAL)
    store.lose_next = True
    with pytest.raises(StoreUnavailable):
        node_a.request_address(pool_id, address=None, gateway=False)

    granted = node_a.request_address(pool_id, address=None, gateway=False)

    assert str(granted.ip) == "10.1.0.1"
    assert len(cluster.stored(keys.ADDRESSES)) == 1


# --- claiming ---


def test_worker_claims_what_the_leader_chose_and_neither_frees_it_under_the_other(
    cluster: Cluster, node_a: Ipam, node_b: Ipam
) -> None:
    leader_id = pool_on(node_a, space=GLOBAL)
    address = node_a.request_address(leader_id, address=None, gateway=False).ip
    worker_id = pool_on(node_b)
    assert node_b.request_address(worker_id, address=address, gateway=False).ip == address
    cluster.settle()
    assert [held.record.holders for held in node_a.addresses(POOL)] == [(SWARM_HOLDER, "node-b")]

    node_b.release_address(worker_id, address)
    assert len(cluster.stored(keys.ADDRESSES)) == 1
    node_a.release_address(leader_id, address)

    assert cluster.stored(keys.ADDRESSES) == []


def test_new_leader_replays_what_is_recorded(cluster: Cluster, node_a: Ipam, node_b: Ipam) -> None:
    old = pool_on(node_a, space=GLOBAL)
    address = node_a.request_address(old, address=None, gateway=False).ip
    node_a.request_address(old, address=None, gateway=True)
    pool_on(node_b)
    node_b.request_address(PoolId(space=LOCAL, pool=POOL), address=address, gateway=False)
    cluster.usage.put_endpoint("node-b", POOL, address)
    before = cluster.store.list(keys.ROOT).items

    replayed = pool_on(node_b, space=GLOBAL)
    assert node_b.request_address(replayed, address=ip("10.1.0.2"), gateway=True).ip == ip("10.1.0.2")
    assert node_b.request_address(replayed, address=address, gateway=False).ip == address

    assert before == cluster.store.list(keys.ROOT).items


def test_repeated_claim_without_an_endpoint_gets_the_same_answer(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    first = node_a.request_address(pool_id, address=ip("10.1.0.50"), gateway=False)
    before = cluster.store.list(keys.ROOT)
    second = node_a.request_address(pool_id, address=ip("10.1.0.50"), gateway=False)

    assert first == second
    assert before == cluster.store.list(keys.ROOT)


def test_claim_of_an_address_with_an_endpoint_names_the_endpoint(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    node_a.request_address(pool_id, address=ip("10.1.0.50"), gateway=False)
    cluster.usage.put_endpoint("node-a", POOL, ip("10.1.0.50"))

    with pytest.raises(Conflict, match=r"10\.1\.0\.50 is in use by endpoint e{64} on node node-a"):
        node_a.request_address(pool_id, address=ip("10.1.0.50"), gateway=False)


def test_claim_of_another_nodes_address_names_the_node(node_a: Ipam, node_b: Ipam) -> None:
    node_a.request_address(pool_on(node_a), address=ip("10.1.0.50"), gateway=False)

    with pytest.raises(Conflict, match=r"10\.1\.0\.50 is held by node node-a; choose another address"):
        node_b.request_address(pool_on(node_b), address=ip("10.1.0.50"), gateway=False)


def test_released_address_can_be_claimed_at_once(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    for _ in range(50):
        node_a.request_address(pool_id, address=ip("10.1.0.50"), gateway=False)
        assert cluster.stored(keys.ADDRESSES) == [keys.address(POOL, ip("10.1.0.50"))]
        node_a.release_address(pool_id, ip("10.1.0.50"))
        assert cluster.stored(keys.ADDRESSES) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.3.0.1", r"is not in pool 10\.1\.0\.0/24; choose one from 10\.1\.0\.1 to 10\.1\.0\.254"),
        ("10.1.0.0", "network address"),
        ("10.1.0.255", "broadcast address"),
        ("fd00::1", "is not in pool"),
    ],
)
@pytest.mark.parametrize("gateway", [False, True])
def test_impossible_address_is_refused(node_a: Ipam, address: str, message: str, gateway: bool) -> None:  # noqa: FBT001
    with pytest.raises(InvalidInput, match=message):
        node_a.request_address(pool_on(node_a), address=ip(address), gateway=gateway)


# --- reserving ---


def test_auxiliary_address_is_reserved_by_create_network_and_shared_by_nodes(
    cluster: Cluster, node_a: Ipam, node_b: Ipam
) -> None:
    aux = ip("10.1.0.2")
    for ipam in (node_a, node_b):
        pool_id = pool_on(ipam)
        ipam.request_address(pool_id, address=aux, gateway=False)
        ipam.reserve(POOL, [aux])
    cluster.usage.networks |= {(POOL, "node-a"), (POOL, "node-b")}
    cluster.settle()

    held = node_a.addresses(POOL)
    assert [(one.address, one.record.kind, one.record.holders) for one in held] == [
        (aux, AddressKind.RESERVED, ("node-a", "node-b"))
    ]
    with pytest.raises(Conflict, match="is reserved by --aux-address on node-a, node-b"):
        node_a.request_address(pool_on(node_a), address=aux, gateway=False)
    assert str(node_a.request_address(pool_on(node_a), address=None, gateway=False).ip) == "10.1.0.1"
    assert str(node_a.request_address(pool_on(node_a), address=None, gateway=False).ip) == "10.1.0.3"


def test_reserving_an_address_in_use_is_refused(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    node_a.request_address(pool_id, address=ip("10.1.0.5"), gateway=False)
    cluster.usage.put_endpoint("node-a", POOL, ip("10.1.0.5"))

    with pytest.raises(Conflict, match="in use by endpoint"):
        node_a.reserve(POOL, [ip("10.1.0.5")])


# --- releasing ---


def test_double_unknown_and_foreign_releases_change_nothing(cluster: Cluster, node_a: Ipam, node_b: Ipam) -> None:
    pool_id = pool_on(node_a)
    address = node_a.request_address(pool_id, address=None, gateway=False).ip
    before = cluster.store.list(keys.ROOT)

    node_b.release_address(pool_id, address)
    node_a.release_address(pool_id, ip("10.1.0.99"))
    node_a.release_address(PoolId(space=LOCAL, pool=SMALL), ip("10.2.0.1"))
    assert before == cluster.store.list(keys.ROOT)
    node_a.release_address(pool_id, address)
    node_a.release_address(pool_id, address)

    assert cluster.stored(keys.ADDRESSES) == []


def test_address_stays_held_while_its_endpoint_exists(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    address = node_a.request_address(pool_id, address=None, gateway=False).ip
    cluster.usage.put_endpoint("node-a", POOL, address)
    node_a.release_address(pool_id, address)
    assert len(cluster.stored(keys.ADDRESSES)) == 1

    cluster.usage.endpoints.clear()
    node_a.release_address(pool_id, address)

    assert cluster.stored(keys.ADDRESSES) == []


def test_leaving_a_pool_drops_the_holders_addresses_there(cluster: Cluster, node_a: Ipam, node_b: Ipam) -> None:
    pool_id = pool_on(node_a)
    pool_on(node_b)
    node_a.request_address(pool_id, address=None, gateway=True)
    node_a.reserve(POOL, [ip("10.1.0.9")])
    node_a.request_address(pool_id, address=None, gateway=False)
    node_b.request_address(pool_id, address=ip("10.1.0.20"), gateway=False)
    cluster.settle()

    node_a.drop_hold(POOL, "node-a")

    assert cluster.stored(keys.ADDRESSES) == [keys.address(POOL, ip("10.1.0.1")), keys.address(POOL, ip("10.1.0.20"))]


def test_store_that_is_away_is_said(cluster: Cluster, node_a: Ipam) -> None:
    pool_id = pool_on(node_a)
    cluster.store.fail_with(StoreUnavailable("etcd is away"))
    calls: list[Callable[[], object]] = [
        lambda: pool_on(node_a),
        lambda: node_a.request_address(pool_id, address=None, gateway=False),
        lambda: node_a.release_address(pool_id, ip("10.1.0.5")),
        lambda: node_a.release_pool(pool_id),
    ]

    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()
