"""Networks, endpoints, nodes and leadership on the store in memory."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cluster.election import Election
from cluster.networks import NetworkRegistry
from cluster.nodes import NodeRegistry
from kvstore import keys
from kvstore.store import Put
from model.deadline import deadline
from model.errors import Conflict, DeadlineExceeded, EndpointNotFound, NetworkNotFound, StoreUnavailable
from model.ids import IDENTITY_INIT, VNI_MAX, DockerNetworkId, EndpointId, IdentityId, Vni
from model.labels import Labels
from tests.support import wait
from tests.support.cluster_world import DOCKER_ID, POOL, Agent, ClusterWorld

GATEWAY = ipaddress.ip_address("10.1.0.1")
OTHER_ID = DockerNetworkId("e" * 64)


@pytest.fixture
def world() -> Iterator[ClusterWorld]:
    world = ClusterWorld()
    yield world
    world.stop()


@pytest.fixture
def node_a(world: ClusterWorld) -> Agent:
    return world.agent("node-a")


@pytest.fixture
def node_b(world: ClusterWorld) -> Agent:
    return world.agent("node-b")


class Behind:
    """An agent whose view of endpoints shows nothing new for a while."""

    def __init__(self, world: ClusterWorld) -> None:
        self._may_go_on = threading.Event()
        self._stopped = threading.Event()
        self.agent = Agent(world.store, "behind", 9, world.clock)
        self.agent.views.endpoints.subscribe_writes(self._wait)
        self._may_go_on.set()
        self.agent.start()
        world.agents.append(self.agent)
        self._store = world.store

    def stop_here(self) -> None:
        """Show what is in the store now, and nothing that is written later."""
        self._stopped.clear()
        self._may_go_on.clear()
        # Something that is no endpoint, and has the view look.
        self._store.txn([], [Put(keys.ENDPOINTS + "nobody", b"{}")])
        assert self._stopped.wait(10)

    def go_on(self) -> None:
        """Show all again."""
        self._may_go_on.set()

    def _wait(self) -> None:
        if not self._may_go_on.is_set():
            self._stopped.set()
        assert self._may_go_on.wait(20)


@pytest.fixture
def behind(world: ClusterWorld) -> Iterator[Behind]:
    made = Behind(world)
    yield made
    made.go_on()


# --- networks ---


def test_same_pool_on_two_nodes_is_one_network(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    first = node_a.create_network()
    second = node_b.create_network(docker_id=OTHER_ID)

    assert first.vni == second.vni
    assert second.docker_ids == (("node-a", DOCKER_ID), ("node-b", OTHER_ID))
    world.settle()
    assert node_a.networks.by_docker_id(OTHER_ID) == node_b.networks.by_docker_id(DOCKER_ID) == second


def test_repeated_ensure_changes_nothing(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    before = world.store.list(keys.ROOT)
    node_a.create_network()

    assert before == world.store.list(keys.ROOT)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"gateway": ipaddress.ip_address("10.1.0.9")},
            r"exists already with gateway 10\.1\.0\.1, not gateway 10\.1\.0\.9",
        ),
        ({"gateway": None}, "exists already with gateway 10.1.0.1, not no gateway"),
        ({"internal": True, "gateway": None}, "exists already and is not internal; leave out --internal"),
        ({"mtu_bytes": 1400}, "exists already with the nodes' own MTU, not MTU 1400"),
        ({"masquerade": False}, "exists already and is masqueraded; leave out -o hawse.masquerade=false"),
    ],
)
def test_different_options_on_one_pool_are_refused(
    node_a: Agent, node_b: Agent, other: dict[str, object], message: str
) -> None:
    node_a.create_network()
    options = {"gateway": GATEWAY, "internal": False, "mtu_bytes": None, **other}

    with pytest.raises(Conflict, match=message):
        node_b.networks.ensure(POOL, holder="node-b", docker_id=OTHER_ID, **options)  # type: ignore[arg-type]


def test_vni_in_use_is_passed_over_and_wraps(world: ClusterWorld, node_a: Agent) -> None:
    for taken in (VNI_MAX, 1, 2):
        world.store.txn([], [Put(keys.vni(Vni(taken)), b"another pool")])
    registry = NetworkRegistry(world.store, node_a.views.networks, first_vni=lambda: VNI_MAX)

    network = registry.ensure(POOL, holder="node-a", docker_id=DOCKER_ID, gateway=None, internal=True, mtu_bytes=None)

    assert network.vni == 3


def test_last_docker_network_takes_network_and_vni_with_it(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    node_a.create_network()
    node_b.create_network(docker_id=OTHER_ID)

    left = node_a.networks.leave(DOCKER_ID, holder="node-a")
    assert left is not None
    assert left.pool == POOL
    assert node_a.networks.leave(DOCKER_ID, holder="node-a") is None
    assert not node_a.networks.holds_network(POOL, "node-a")
    assert node_a.networks.holds_network(POOL, "node-b")
    node_b.networks.leave(OTHER_ID, holder="node-b")

    assert world.stored(keys.NETWORKS) == world.stored(keys.VNIS) == []
    with pytest.raises(NetworkNotFound, match=OTHER_ID):
        node_b.networks.by_docker_id(OTHER_ID)


# --- endpoints ---


def test_endpoint_is_found_by_id_and_by_address_on_every_node(
    world: ClusterWorld, node_a: Agent, node_b: Agent
) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    world.settle()

    assert node_a.endpoints.get(endpoint.endpoint_id) == endpoint
    assert node_b.endpoints.endpoint_at(POOL, endpoint.addresses[0]) == endpoint
    assert list(node_a.endpoints.local()) == [endpoint]
    assert list(node_b.endpoints.local()) == []
    with pytest.raises(EndpointNotFound, match="not recorded on node node-b"):
        node_b.endpoints.get(endpoint.endpoint_id)


def test_learned_labels_are_recorded_once_and_known_everywhere(
    world: ClusterWorld, node_a: Agent, node_b: Agent
) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    node_a.endpoints.set_sandbox(endpoint.endpoint_id, "/run/docker/netns/0123456789ab")
    learned = {"identity": IdentityId(300), "labels": Labels.of({"app": "web"}), "container": "web-1"}

    changed = node_a.endpoints.set_identity(endpoint.endpoint_id, **learned)  # type: ignore[arg-type]
    before = world.store.list(keys.ROOT)
    again = node_a.endpoints.set_identity(endpoint.endpoint_id, **learned)  # type: ignore[arg-type]

    assert changed == again == replace(endpoint, sandbox_key="/run/docker/netns/0123456789ab", **learned)  # type: ignore[arg-type]
    assert before == world.store.list(keys.ROOT)
    world.settle()
    assert node_b.endpoints.all() == [changed]
    assert node_b.endpoints.identities() == {300}
    with pytest.raises(EndpointNotFound, match="not recorded on node node-b"):
        node_b.endpoints.set_identity(endpoint.endpoint_id, **learned)  # type: ignore[arg-type]


def test_empty_labels_are_not_unknown_labels(node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    assert endpoint.labels is None

    known = node_a.endpoints.set_identity(endpoint.endpoint_id, identity=IdentityId(300), labels=Labels(), container="")
    assert known.labels == Labels()
    assert node_a.endpoints.get(endpoint.endpoint_id).labels is not None
    forgotten = node_a.endpoints.set_identity(endpoint.endpoint_id, identity=IDENTITY_INIT, labels=None, container="")
    assert forgotten == endpoint


def test_repeated_put_keeps_what_was_learned_since(node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    learned = node_a.endpoints.set_identity(
        endpoint.endpoint_id, identity=IdentityId(300), labels=Labels.of({"app": "web"}), container="web-1"
    )

    node_a.endpoints.put(endpoint)

    assert node_a.endpoints.get(endpoint.endpoint_id) == learned


def test_sandbox_and_identity_that_are_written_at_once_are_both_kept(node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    names = [f"web-{number}" for number in range(10)]
    boxes = [f"/run/docker/netns/{number}" for number in range(10)]

    def name(container: str) -> None:
        node_a.endpoints.set_identity(endpoint.endpoint_id, identity=IdentityId(300), labels=None, container=container)

    with ThreadPoolExecutor(4) as threads:
        for running in [
            *(threads.submit(name, container) for container in names),
            *(threads.submit(node_a.endpoints.set_sandbox, endpoint.endpoint_id, box) for box in boxes),
        ]:
            running.result(20)

    known = node_a.endpoints.get(endpoint.endpoint_id)
    assert (known.container in names, known.sandbox_key in boxes, known.identity) == (True, True, 300)


def test_repeated_put_changes_nothing_and_another_content_is_refused(world: ClusterWorld, node_a: Agent) -> None:
    network = node_a.create_network()
    endpoint = node_a.run_container("e1")
    node_a.endpoints.set_sandbox(endpoint.endpoint_id, "/run/docker/netns/0123456789ab")
    before = world.store.list(keys.ROOT)

    node_a.endpoints.put(replace(endpoint, created_at="later"))
    with pytest.raises(Conflict, match="endpoint e1 is recorded with another"):
        node_a.endpoints.put(node_a.an_endpoint("e1", network, ipaddress.ip_address("10.1.0.99")))

    assert before == world.store.list(keys.ROOT)


def test_second_endpoint_on_one_address_is_refused(node_a: Agent) -> None:
    network = node_a.create_network()
    endpoint = node_a.run_container("e1")

    with pytest.raises(Conflict, match="of endpoint e2 is in use by endpoint e1 on node node-a"):
        node_a.endpoints.put(node_a.an_endpoint("e2", network, endpoint.addresses[0]))


def test_an_endpoint_that_only_the_view_still_has_keeps_no_address(
    world: ClusterWorld, node_b: Agent, behind: Behind
) -> None:
    agent = behind.agent
    network = node_b.create_network()
    removed = node_b.run_container("e1")
    world.settle()
    behind.stop_here()
    node_b.endpoints.remove(removed.endpoint_id)
    wanted = agent.an_endpoint("e3", network, removed.addresses[0])

    with ThreadPoolExecutor(1) as threads:
        putting = threads.submit(agent.endpoints.put, wanted)
        wait.until(
            "it is recorded or refused",
            lambda: putting.done() or keys.endpoint(agent.name, wanted.endpoint_id) in world.stored(keys.ENDPOINTS),
            timeout_s=10,
        )
        behind.go_on()
        assert putting.result(10) == wanted

    assert agent.endpoints.endpoint_at(POOL, removed.addresses[0]) == wanted


def test_one_of_many_endpoints_on_one_address_is_recorded(world: ClusterWorld, node_a: Agent) -> None:
    network = node_a.create_network()
    address = ipaddress.ip_address("10.1.0.77")
    start = threading.Barrier(16)
    refused: list[str] = []

    def put(number: int) -> None:
        start.wait(5)
        try:
            node_a.endpoints.put(node_a.an_endpoint(f"e{number}", network, address))
        except Conflict as err:
            refused.append(str(err))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(put, range(16)))

    assert len(world.stored(keys.ENDPOINTS)) == 1
    assert len(refused) == 15


def test_sandbox_is_recorded_and_taken_back(node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")

    node_a.endpoints.set_sandbox(endpoint.endpoint_id, "/run/docker/netns/0123456789ab")
    assert node_a.endpoints.get(endpoint.endpoint_id).sandbox_key == "/run/docker/netns/0123456789ab"
    node_a.endpoints.set_sandbox(endpoint.endpoint_id, None)

    assert node_a.endpoints.get(endpoint.endpoint_id) == endpoint
    with pytest.raises(EndpointNotFound):
        node_a.endpoints.set_sandbox(EndpointId("unknown"), None)


def test_a_sandbox_counts_before_the_view_shows_it(world: ClusterWorld, behind: Behind) -> None:
    agent = behind.agent
    agent.create_network()
    endpoint = agent.run_container("e1")
    behind.stop_here()

    agent.endpoints.set_sandbox(endpoint.endpoint_id, "/run/docker/netns/0123456789ab")
    known = agent.endpoints.get(endpoint.endpoint_id)
    agent.endpoints.set_sandbox(endpoint.endpoint_id, None)
    behind.go_on()
    world.settle()

    assert known.sandbox_key == "/run/docker/netns/0123456789ab"
    assert agent.endpoints.get(endpoint.endpoint_id) == endpoint
    assert agent.endpoints.seen(endpoint.endpoint_id) == endpoint


def test_removal_is_seen_at_once_and_may_be_repeated(node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")

    assert node_a.endpoints.remove(endpoint.endpoint_id) == endpoint
    assert node_a.endpoints.endpoint_at(POOL, endpoint.addresses[0]) is None
    assert node_a.endpoints.remove(endpoint.endpoint_id) is None


def test_unread_store_is_not_taken_for_an_empty_one(world: ClusterWorld) -> None:
    world.store.fail_with(StoreUnavailable("etcd is away"))
    agent = Agent(world.store, "node-x", 9, world.clock)
    agent.views.start()
    try:
        for look in (
            agent.endpoints.local,
            lambda: agent.endpoints.endpoint_at(POOL, GATEWAY),
            lambda: agent.networks.holds_network(POOL, "node-x"),
        ):
            with deadline(0.05), pytest.raises((StoreUnavailable, DeadlineExceeded)):
                look()
        with pytest.raises(StoreUnavailable):
            agent.endpoints.get(EndpointId("e1"))
        with pytest.raises(StoreUnavailable):
            agent.networks.by_docker_id(DOCKER_ID)
    finally:
        world.store.fail_with(None)
        agent.views.stop()


def test_agent_that_has_just_started_waits_for_its_first_look(world: ClusterWorld, node_a: Agent) -> None:
    node_a.create_network()
    endpoint = node_a.run_container("e1")
    again = Agent(world.store, "node-a", 1, world.clock)
    again.views.start()
    try:
        assert again.networks.holds_network(POOL, "node-a")
        assert again.endpoints.endpoint_at(POOL, endpoint.addresses[0]) == endpoint
    finally:
        again.views.stop()


# --- nodes ---


def test_node_is_registered_for_good_and_alive_for_now(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    node_a.nodes.start()
    assert node_a.nodes._keeper.wait_kept(5)
    world.settle()
    assert node_b.nodes.alive() == frozenset({"node-a"})

    node_a.nodes.stop()
    world.settle()

    assert list(node_b.nodes.all()) == [node_a.node]
    assert node_b.nodes.alive() == frozenset()


def test_name_of_a_live_node_is_refused(world: ClusterWorld, node_a: Agent) -> None:
    node_a.nodes.start()
    assert node_a.nodes._keeper.wait_kept(5)
    double = Agent(world.store, "node-a", 9, world.clock)

    with pytest.raises(Conflict, match=r"node name node-a is in use by the host at 192\.0\.2\.1, .* NODE_NAME"):
        double.nodes.start()

    world.settle()
    assert list(node_a.nodes.all()) == [node_a.node]


def test_node_that_is_down_may_come_back_with_another_address(world: ClusterWorld, node_a: Agent) -> None:
    node_a.nodes.refresh()
    moved = replace(node_a.node, address=ipaddress.ip_address("192.0.2.77"))

    NodeRegistry(world.store, node_a.views.nodes, node_a.views.alive, moved).refresh()
    world.settle()

    assert list(node_a.nodes.all()) == [moved]


@pytest.mark.parametrize("value", [None, b"{broken"])
def test_lost_or_broken_record_is_written_again(world: ClusterWorld, node_a: Agent, value: bytes | None) -> None:
    if value is not None:
        world.store.txn([], [Put(keys.node(node_a.name), value)])

    node_a.nodes.refresh()
    world.settle()

    assert list(node_a.nodes.all()) == [node_a.node]


# --- leadership ---


def test_one_of_two_leads_and_the_other_follows_when_it_ends(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    for agent in (node_a, node_b):
        agent.nodes.start()
        assert agent.nodes._keeper.wait_kept(5)

    assert node_a.election.try_to_lead()
    assert not node_b.election.try_to_lead()
    assert node_a.election.try_to_lead()
    node_a.nodes.stop()
    assert not node_a.election.leading

    assert node_b.election.try_to_lead()
    assert not node_a.election.try_to_lead()


def test_who_resigns_leaves_the_lead_to_another_at_once(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    for agent in (node_a, node_b):
        agent.nodes.start()
        assert agent.nodes._keeper.wait_kept(5)
    assert node_a.election.try_to_lead()
    assert node_a.election.open()
    assert not node_b.election.open()
    node_b.election.resign()
    assert node_a.election.try_to_lead()

    node_a.election.resign()
    node_a.election.resign()

    assert not node_a.election.leading
    assert node_b.election.open()
    assert node_b.election.try_to_lead()


def test_a_claim_holds_until_another_leads(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    for agent in (node_a, node_b):
        agent.nodes.start()
        assert agent.nodes._keeper.wait_kept(5)
    assert node_a.election.try_to_lead()
    claim = node_a.election.claim
    assert node_a.election.try_to_lead()
    assert claim == node_a.election.claim
    assert world.store.txn([claim], []).succeeded

    node_a.election.resign()
    assert not world.store.txn([claim], []).succeeded
    node_b.election.try_to_lead()
    assert not world.store.txn([claim], []).succeeded


def test_a_key_that_this_node_left_behind_is_its_own(world: ClusterWorld, node_a: Agent) -> None:
    world.store.txn([], [Put(keys.LEADER, node_a.name.encode(), world.store.grant_lease(15))])
    node_a.nodes.start()
    assert node_a.nodes._keeper.wait_kept(5)

    assert node_a.election.try_to_lead()

    item = world.store.get(keys.LEADER)
    assert item is not None
    assert node_a.nodes.lease == item.lease


def test_offices_are_apart(world: ClusterWorld, node_a: Agent, node_b: Agent) -> None:
    for agent in (node_a, node_b):
        agent.nodes.start()
        assert agent.nodes._keeper.wait_kept(5)
    other = Election(world.store, node_b.name, lambda: node_b.nodes.lease, key=keys.SWARM_LEADER)

    assert node_a.election.try_to_lead()
    assert other.try_to_lead()


def test_nobody_leads_without_a_lease(node_a: Agent) -> None:
    assert not node_a.election.try_to_lead()
