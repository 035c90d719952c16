"""The kernel follows the cluster, also through errors."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pytest

from cluster.forwarding import ForwardingController
from cluster.remotes import RemoteTable
from datapath.api import IpcacheKey, NetworkSpec, RemoteEndpoint
from datapath.fake import FakeDatapath
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.store import Delete, Put
from model.addresses import IPAddress
from model.endpoints import Endpoint
from model.errors import LinkError, StoreUnavailable
from model.ids import IDENTITY_INIT, IdentityId, NodeName, Vni
from model.networks import Network
from model.services import LostNode
from tests.support.cluster_world import POOL, Agent, ClusterWorld
from tests.support.wait import until


class WatchedKernel(FakeDatapath):
    """Notes what it is asked for, and can be broken for longer than one call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.error: LinkError | None = None
        self.failed = threading.Event()

    def replace_nodes(self, addresses: Iterable[IPAddress]) -> None:
        self._called("replace_nodes")
        super().replace_nodes(addresses)

    def replace_remotes(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        self._called("replace_remotes")
        super().replace_remotes(remotes)

    def update_remotes(self, upserts: Mapping[IpcacheKey, RemoteEndpoint], deletes: Iterable[IpcacheKey]) -> None:
        self._called("update_remotes")
        super().update_remotes(upserts, deletes)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.error is not None:
            self.failed.set()
            raise self.error


NETWORK = Network(pool=POOL, vni=Vni(7))


class ForwardingWorld(ClusterWorld):
    """One watching node and others that only exist in the store."""

    def watcher(self) -> Agent:
        agent = Agent(self.store, "node-a", 1, self.clock, kernel=WatchedKernel())
        self.controller = ForwardingController(
            agent.kernel,
            agent.views.endpoints,
            agent.views.nodes,
            agent.views.networks,
            agent.name,
            lost=agent.views.lost,
            backoff=Backoff(first_s=0.001, limit_s=0.001),
            clock=self.clock,
        )
        self.controller.start()
        agent.start()
        self.agents.append(agent)
        self.put(keys.node(agent.name), agent.node)
        return agent

    def put(self, key: str, value: object) -> int:
        return self.store.txn([], [Put(key, encode(value))]).revision

    def put_endpoint(self, endpoint: Endpoint) -> int:
        return self.put(keys.endpoint(endpoint.node, endpoint.endpoint_id), endpoint)

    def remove_endpoint(self, endpoint: Endpoint) -> int:
        return self.store.txn([], [Delete(keys.endpoint(endpoint.node, endpoint.endpoint_id))]).revision

    def applied(self, revision: int) -> None:
        assert self.controller.wait_applied(revision, 5), self.controller.health

    def stop(self) -> None:
        self.controller.stop()
        super().stop()


@pytest.fixture
def world() -> Iterator[ForwardingWorld]:
    world = ForwardingWorld()
    yield world
    world.stop()


@pytest.fixture
def kernel(world: ForwardingWorld) -> WatchedKernel:
    kernel = world.watcher().kernel
    assert isinstance(kernel, WatchedKernel)
    return kernel


def on(world: ClusterWorld, node: str, number: int, name: str, address: str) -> Endpoint:
    agent = Agent(world.store, node, number, world.clock)
    return agent.an_endpoint(name, NETWORK, ipaddress.ip_address(address))


def place(address: str) -> IpcacheKey:
    return IpcacheKey(NETWORK.vni, ipaddress.ip_address(address))


def remote(number: int) -> RemoteEndpoint:
    return RemoteEndpoint(ipaddress.ip_address("192.0.2.0") + number, IDENTITY_INIT)


def register(world: ForwardingWorld, node: str, number: int, *, waits: bool = True) -> None:
    """Make a node known; its endpoints are another view, which may be faster."""
    other = Agent(world.store, node, number, world.clock).node
    world.put(keys.node(NodeName(node)), other)
    for agent in world.agents if waits else ():
        until(f"{node} is known", lambda agent=agent: other.address in agent.kernel.nodes, timeout_s=10)


def test_remote_endpoints_appear_change_and_go(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    register(world, "node-b", 2)
    first = on(world, "node-b", 2, "e1", "10.1.0.5")
    world.put_endpoint(first)
    world.applied(world.put_endpoint(on(world, "node-a", 1, "e2", "10.1.0.6")))
    assert kernel.remotes == {place("10.1.0.5"): remote(2)}
    assert kernel.nodes == {remote(2).tunnel_endpoint}

    world.applied(world.put_endpoint(replace(first, addresses=(ipaddress.ip_address("10.1.0.9"),))))
    assert kernel.remotes == {place("10.1.0.9"): remote(2)}
    world.applied(world.remove_endpoint(first))

    assert kernel.remotes == {}


def test_endpoint_of_a_node_that_registers_later_is_not_forgotten(
    world: ForwardingWorld, kernel: WatchedKernel
) -> None:
    world.applied(world.put_endpoint(on(world, "node-b", 2, "e1", "10.1.0.5")))
    assert kernel.remotes == {}

    register(world, "node-b", 2)
    world.controller.resync()
    world.settle()
    world.applied(world.put_endpoint(on(world, "node-b", 2, "e2", "10.1.0.6")))

    assert kernel.remotes == {place("10.1.0.5"): remote(2), place("10.1.0.6"): remote(2)}


def test_moved_address_is_never_deleted_in_between(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    register(world, "node-b", 2)
    register(world, "node-c", 3)
    old = on(world, "node-b", 2, "e1", "10.1.0.5")
    world.put_endpoint(old)
    world.clock.time_s += 1
    world.put_endpoint(on(world, "node-c", 3, "e2", "10.1.0.5"))
    world.applied(world.remove_endpoint(old))

    # Nodes are another view, and may be known later.
    moved = {place("10.1.0.5"): remote(3)}
    until("the newer one counts", lambda: kernel.remotes == moved, timeout_s=5)


def test_kernel_error_is_followed_by_a_full_comparison(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    register(world, "node-b", 2)
    world.applied(world.put_endpoint(on(world, "node-b", 2, "e1", "10.1.0.5")))
    kernel.error = LinkError("no space left", errno=28)
    revision = world.put_endpoint(on(world, "node-b", 2, "e2", "10.1.0.6"))
    assert kernel.failed.wait(5)
    kernel.remotes.clear()
    assert not world.controller.wait_applied(revision, 0.05)
    assert world.controller.health.error == "no space left"
    kernel.error = None

    world.applied(revision)

    assert kernel.remotes.keys() == {place("10.1.0.5"), place("10.1.0.6")}
    until("it is well again", lambda: world.controller.health.failures == 0, timeout_s=5)


def test_networks_with_a_gateway_reach_their_host_and_internal_ones_do_not(world: ForwardingWorld) -> None:
    agent = world.watcher()
    kernel = agent.kernel
    gateway = ipaddress.ip_address("10.2.0.1")
    open_pool, internal_pool = ipaddress.ip_network("10.2.0.0/24"), ipaddress.ip_network("10.3.0.0/24")
    routed_pool, routed_gateway = ipaddress.ip_network("10.4.0.0/24"), ipaddress.ip_address("10.4.0.1")
    routed = Network(pool=routed_pool, vni=Vni(10), gateway=routed_gateway, masquerade=False)
    world.put(keys.network(internal_pool), Network(pool=internal_pool, vni=Vni(9), internal=True))
    world.put(keys.network(routed_pool), routed)
    world.put(keys.network(open_pool), Network(pool=open_pool, vni=Vni(8), gateway=gateway))

    known = {open_pool: NetworkSpec(vni=Vni(8)), routed_pool: NetworkSpec(vni=Vni(10), routed=True)}
    until("the networks are known", lambda: kernel.networks == known, timeout_s=5)

    world.store.txn([], [Delete(keys.network(open_pool)), Delete(keys.network(routed_pool))])
    until("the network is gone", lambda: not kernel.networks, timeout_s=5)


def test_nothing_is_written_before_the_cluster_is_known(world: ForwardingWorld) -> None:
    world.store.fail_with(StoreUnavailable("etcd is away"))
    kernel = WatchedKernel()
    agent = Agent(world.store, "node-a", 1, world.clock, kernel=kernel)
    world.controller = ForwardingController(
        agent.kernel, agent.views.endpoints, agent.views.nodes, agent.views.networks, agent.name, lost=agent.views.lost
    )
    world.controller.start()
    agent.views.start()
    world.agents.append(agent)
    assert not world.controller.wait_applied(1, 0.1)
    assert kernel.calls == []

    world.store.fail_with(None)
    agent.ipam.start()
    register(world, "node-a", 1, waits=False)
    world.applied(1)

    assert kernel.calls[:2] == ["replace_nodes", "replace_remotes"]


def test_changes_made_while_the_watch_was_broken_are_caught_up(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    register(world, "node-b", 2)
    gone = on(world, "node-b", 2, "e1", "10.1.0.5")
    world.applied(world.put_endpoint(gone))
    world.store.break_watches()
    world.remove_endpoint(gone)

    world.applied(world.put_endpoint(on(world, "node-b", 2, "e2", "10.1.0.6")))

    assert kernel.remotes == {place("10.1.0.6"): remote(2)}


def test_endpoints_of_a_lost_node_are_gone_until_it_is_back(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    register(world, "node-b", 2)
    register(world, "node-c", 3)
    world.put_endpoint(on(world, "node-b", 2, "e1", "10.1.0.5"))
    world.applied(world.put_endpoint(on(world, "node-c", 3, "e2", "10.1.0.6")))
    lost = LostNode(node=NodeName("node-b"), since="2026-01-01T00:00:00Z")

    world.put(keys.lost(lost.node), lost)
    until("it is gone", lambda: kernel.remotes.get(place("10.1.0.5")) == replace(remote(2), gone=True), timeout_s=5)
    assert kernel.remotes[place("10.1.0.6")] == remote(3)
    kernel.calls.clear()
    world.applied(world.put_endpoint(on(world, "node-b", 2, "e3", "10.1.0.7")))
    assert kernel.remotes[place("10.1.0.7")] == replace(remote(2), gone=True)
    assert kernel.calls == ["update_remotes"]

    world.store.txn([], [Delete(keys.lost(lost.node))])
    until("it is back", lambda: kernel.remotes.get(place("10.1.0.5")) == remote(2), timeout_s=5)
    assert kernel.remotes[place("10.1.0.7")] == remote(2)


def test_newer_of_two_endpoints_on_one_address_counts(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    table = RemoteTable(NodeName("node-a"))
    nodes = [Agent(world.store, f"node-{letter}", number, world.clock).node for number, letter in ((2, "b"), (3, "c"))]
    table.set_nodes(nodes)
    old = on(world, "node-b", 2, "e1", "10.1.0.5")
    new = replace(on(world, "node-c", 3, "e2", "10.1.0.5"), created_at="2999-01-01T00:00:00Z")
    table.set_endpoint("1", new)
    table.set_endpoint("2", old)

    assert table.remote(place("10.1.0.5")) == remote(3)
    table.set_endpoint("1", None)
    assert table.remote(place("10.1.0.5")) == remote(2)


def test_change_that_moves_nothing_is_not_written(world: ForwardingWorld, kernel: WatchedKernel) -> None:
    agent = Agent(world.store, "node-b", 2, world.clock)
    world.put(keys.node(agent.name), agent.node)
    elsewhere, here = on(world, "node-b", 2, "e1", "10.1.0.5"), on(world, "node-a", 1, "e2", "10.1.0.6")
    world.applied(world.put_endpoint(elsewhere))
    until("it is in the kernel", lambda: kernel.remotes.get(place("10.1.0.5")) == remote(2), timeout_s=5)
    kernel.calls.clear()

    for endpoint in (here, replace(here, sandbox_key="/a"), replace(elsewhere, sandbox_key="/b", container="web")):
        world.applied(world.put_endpoint(endpoint))
    assert kernel.calls == []

    world.applied(world.put_endpoint(replace(elsewhere, identity=IdentityId(300))))
    assert kernel.calls == ["update_remotes"]
    assert kernel.remotes[place("10.1.0.5")].identity == 300
    world.applied(world.remove_endpoint(elsewhere))
    assert place("10.1.0.5") not in kernel.remotes
