"""Services that labels of containers make."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.label_plan import LabelPlan, plan_services
from balancer.label_services import LabelServices
from balancer.service_labels import read_labels
from balancer.views import ServiceViews
from ipam.pool_id import AddressSpace, PoolId
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import decode, encode
from kvstore.store import Delete, Put
from model.addresses import AddressKind, AddressRecord, IPAddress
from model.endpoints import Endpoint
from model.errors import Conflict, StoreUnavailable
from model.ids import NodeName
from model.services import Service, ServicePort, ServiceSource
from tests.support.cluster_world import POOL, Agent, ClusterWorld
from tests.support.service_world import labelled, swarm_service
from tests.support.wait import until

LOCAL_POOL = PoolId(space=AddressSpace.LOCAL, pool=POOL)
WEB_KEY = keys.service("label-10.1.0.0-24-web")  # type: ignore[arg-type]  # the id of that service


def tcp(port: int, target: int | None = None) -> ServicePort:
    return ServicePort(port=port, protocol="tcp", target_port=target or port)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("web:80", [("web", tcp(80))]),
        ("web:80/tcp", [("web", tcp(80))]),
        ("web:80/udp", [("web", ServicePort(port=80, protocol="udp", target_port=80))]),
        ("web:8080=80", [("web", tcp(8080, 80))]),
        ("web:8080=80/sctp", [("web", ServicePort(port=8080, protocol="sctp", target_port=80))]),
        (" web:80 , My_api.v1-x:443 ", [("web", tcp(80)), ("My_api.v1-x", tcp(443))]),
        ("web:80,web:80", [("web", tcp(80))]),
    ],
)
def test_labels_that_are_read(label: str, expected: list[tuple[str, ServicePort]]) -> None:
    labels = read_labels(labelled("a", 2, label))

    assert expected == [(one.name, one.port) for one in labels.ports]
    assert not labels.problems


@pytest.mark.parametrize(
    "label",
    [
        "",
        "web",
        "web:",
        ":80",
        "web:0",
        "web:65536",
        "web:80=0",
        "web:80=",
        "web:80->90",
        "web:80/icmp",
        "web:80/TCP",
        "we b:80",
        "-web:80",
        "w" * 64 + ":80",
        "web:\u0668\u0660",
        "web:8\n0",
    ],
)
def test_labels_that_cannot_be_read_are_a_problem(label: str) -> None:
    labels = read_labels(labelled("a", 2, f"{label},api:1"))

    assert ["api"] == [one.name for one in labels.ports]
    (problem,) = labels.problems
    assert "which is not like web:80, web:8080=80 or dns:53/udp" in problem


def test_a_port_with_two_targets_has_the_first() -> None:
    labels = read_labels(labelled("a", 2, "web:80=1,web:80=2"))

    assert [tcp(80, 1)] == [one.port for one in labels.ports]
    assert ("hawse.service says two targets of web:80/tcp, of which the first counts, 1",) == labels.problems


@pytest.mark.parametrize(("text", "affinity"), [("true", True), ("True", True), ("false", False), ("maybe", False)])
def test_affinity_is_read(text: str, affinity: bool) -> None:  # noqa: FBT001
    labels = read_labels(labelled("a", 2, "web:80", affinity=text))

    assert affinity == labels.affinity
    assert ("maybe" == text) == bool(labels.problems)


@given(st.text(max_size=80))
def test_no_label_breaks_anything(text: str) -> None:
    endpoint = labelled("a", 2, text)

    read_labels(endpoint)
    plan_services([endpoint])


def plan(*endpoints: Endpoint) -> LabelPlan:
    return plan_services(endpoints)


def test_ports_of_all_containers_make_the_service() -> None:
    found = plan(labelled("a", 2, "web:80"), labelled("b", 3, "web:443,web:53/udp"))

    (service,) = found.services.values()
    assert ("label-10.1.0.0-24-web", "web", POOL) == (service.service_id, service.name, service.network)
    assert [(53, "udp"), (80, "tcp"), (443, "tcp")] == [(port.port, port.protocol) for port in service.ports]
    assert not found.warnings


def test_of_containers_that_contradict_each_other_the_first_counts() -> None:
    first = labelled("z", 9, "web:80=8080", created_at="2026-01-01T00:00:00Z", affinity="true")
    second = labelled("a", 2, "web:80=9090,web:443", created_at="2026-01-01T00:00:01Z")

    found = plan(second, first)

    (service,) = found.services.values()
    assert (tcp(80, 8080), tcp(443)) == service.ports
    assert service.affinity
    affinity, port = found.warnings
    assert (
        "container a on node node-b: service web has hawse.service.affinity=true, as container z on node node-b says, "
        "which was created first, not hawse.service.affinity=false"
    ) == affinity
    assert (
        "container a on node node-b: web:80/tcp leads to port 8080, as container z on node node-b says, which was "
        "created first, not to 9090; this container gets no connections there"
    ) == port


def test_the_same_name_in_two_networks_is_two_services() -> None:
    other = replace(labelled("b", 3, "web:80"), network=ipaddress.ip_network("10.2.0.0/24"))

    assert ["label-10.1.0.0-24-web", "label-10.2.0.0-24-web"] == sorted(
        plan(labelled("a", 2, "web:80"), other).services
    )


def test_the_swarms_names_are_not_for_labels() -> None:
    found = plan_services([labelled("a", 2, "web:80,api:80")], {(POOL, "web")})

    assert ["label-10.1.0.0-24-api"] == list(found.services)
    (warning,) = found.warnings
    assert "hawse.service names web, which is a service of the Swarm in network 10.1.0.0/24" in warning


class LabelWorld(ClusterWorld):
    """Agents that make services of labels."""

    def __init__(self) -> None:
        super().__init__()
        self.makers: dict[str, LabelServices] = {}
        self.service_views: list[ServiceViews] = []

    def maker(self, name: str) -> Agent:
        agent = Agent(self.store, name, len(self.agents) + 1, self.clock)
        views = ServiceViews.of(self.store)
        maker = LabelServices(
            self.store,
            views.services,
            agent.views.endpoints,
            agent.views.networks,
            addresses=agent.ipam,
            node=agent.name,
            clock=self.clock,
            backoff=Backoff(first_s=0.001, limit_s=0.001),
        )
        agent.start()
        views.start()
        assert views.wait_synced(5)
        self.agents.append(agent)
        self.service_views.append(views)
        self.makers[name] = maker
        return agent

    def run(self, agent: Agent, name: str, label: str) -> Endpoint:
        """Run a container with the label."""
        network = agent.networks.by_pool(POOL)
        assert network is not None
        granted = agent.ipam.request_address(LOCAL_POOL, address=None, gateway=False)
        endpoint = agent.an_endpoint(name, network, granted.ip)
        endpoint = replace(endpoint, labels=labelled(name, 2, label).labels, container=name)
        agent.endpoints.put(endpoint)
        return endpoint

    def service(self) -> Service | None:
        item = self.store.get(WEB_KEY)
        return None if item is None else decode(Service, item.value, key=item.key)

    def await_service(self) -> Service:
        return until("the service is recorded", self.service, timeout_s=5, interval_s=0.005)

    def virtual_addresses(self) -> list[IPAddress]:
        return [
            keys.parse_address(item.key)[1]
            for item in self.store.list(keys.ADDRESSES).items
            if decode(AddressRecord, item.value, key=item.key).kind is AddressKind.VIP
        ]

    def settle(self) -> None:
        super().settle()
        revision = self.store.list(keys.ROOT).revision
        for views in self.service_views:
            assert views.services.wait_delivered(revision, 5)

    def stop(self) -> None:
        for maker in self.makers.values():
            maker.stop()
        for views in self.service_views:
            views.stop()
        super().stop()


@pytest.fixture
def world() -> Iterator[LabelWorld]:
    world = LabelWorld()
    yield world
    world.stop()


@pytest.fixture
def agent(world: LabelWorld) -> Agent:
    agent = world.maker("node-a")
    agent.create_network()
    world.makers["node-a"].start()
    return agent


def test_a_label_makes_a_service_with_an_address(world: LabelWorld, agent: Agent) -> None:
    world.run(agent, "a", "web:8080=80")

    service = world.await_service()

    assert ("web", ServiceSource.LABEL, (tcp(8080, 80),)) == (service.name, service.source, service.ports)
    (virtual,) = service.addresses
    assert POOL == virtual.network
    assert [virtual.address] == world.virtual_addresses()


def test_a_change_of_labels_changes_the_record_but_not_the_address(world: LabelWorld, agent: Agent) -> None:
    world.run(agent, "a", "web:80")
    before = world.await_service()

    world.run(agent, "b", "web:80,web:443")

    after = until("the port", lambda: (s := world.service()) is not None and len(s.ports) == 2 and s, timeout_s=5)
    assert before.addresses == after.addresses


def test_two_nodes_at_once_end_with_one_address(world: LabelWorld) -> None:
    agents = [world.maker(f"node-{letter}") for letter in "abcd"]
    for agent in agents:
        agent.create_network()
    for number, agent in enumerate(agents):
        world.run(agent, f"c{number}", "web:80")
    world.settle()

    for maker in world.makers.values():
        maker.start()

    service = world.await_service()
    for maker in world.makers.values():
        until("every node has looked", lambda maker=maker: maker._plan.services, timeout_s=5)
        maker.stop()
    world.settle()
    assert [service.addresses[0].address] == world.virtual_addresses()
    assert service == world.service()


def test_a_virtual_address_is_given_to_nobody_else(world: LabelWorld, agent: Agent) -> None:
    world.run(agent, "a", "web:80")
    virtual = world.await_service().addresses[0].address
    world.settle()

    with pytest.raises(Conflict, match=r"is the virtual address of service label-10\.1\.0\.0-24-web"):
        agent.ipam.request_address(LOCAL_POOL, address=virtual, gateway=False)
    agent.ipam.release_address(LOCAL_POOL, virtual)

    assert [virtual] == world.virtual_addresses()


def test_a_name_that_the_swarm_has_is_not_made(world: LabelWorld, agent: Agent) -> None:
    swarm = swarm_service()
    world.store.txn([], [Put(keys.service(swarm.service_id), encode(swarm))])
    world.settle()

    world.run(agent, "a", "web:80")

    (warning,) = until("the warning", world.makers["node-a"].warnings, timeout_s=5)
    assert "is a service of the Swarm" in warning
    assert world.service() is None


def test_a_service_stays_while_a_container_says_the_name(world: LabelWorld, agent: Agent) -> None:
    world.run(agent, "a", "web:80")
    world.await_service()
    world.settle()

    for _ in range(3):
        world.makers["node-a"].collect()
        world.clock.time_s += 400

    assert world.service() is not None


def test_the_leader_removes_a_service_that_no_container_has_named_for_ten_minutes(
    world: LabelWorld, agent: Agent
) -> None:
    endpoint = world.run(agent, "a", "web:80")
    world.await_service()
    agent.endpoints.remove(endpoint.endpoint_id)
    world.settle()
    maker = world.makers["node-a"]

    maker.collect()
    world.clock.time_s += 599
    maker.collect()
    assert world.service() is not None
    world.clock.time_s += 1
    maker.collect()

    assert world.service() is None
    assert not world.virtual_addresses()


def test_a_container_that_comes_back_finds_the_address(world: LabelWorld, agent: Agent) -> None:
    endpoint = world.run(agent, "a", "web:80")
    before = world.await_service()
    agent.endpoints.remove(endpoint.endpoint_id)
    world.settle()
    world.makers["node-a"].collect()
    world.clock.time_s += 599

    world.run(agent, "b", "web:80")
    world.settle()
    world.makers["node-a"].collect()
    world.clock.time_s += 599
    world.makers["node-a"].collect()

    assert before == world.service()


def test_a_service_goes_with_its_network(world: LabelWorld, agent: Agent) -> None:
    endpoint = world.run(agent, "a", "web:80")
    world.await_service()
    agent.endpoints.remove(endpoint.endpoint_id)
    network = agent.networks.by_pool(POOL)
    assert network is not None
    agent.networks.leave(network.docker_ids[0][1], holder=agent.name)
    agent.ipam.drop_hold(POOL, agent.name)
    world.settle()

    world.makers["node-a"].collect()

    assert world.service() is None


def test_a_service_whose_address_was_lost_gets_another(world: LabelWorld, agent: Agent) -> None:
    endpoint = world.run(agent, "a", "web:80")
    (before,) = world.await_service().addresses
    agent.endpoints.remove(endpoint.endpoint_id)
    world.settle()
    world.store.txn([], [Delete(keys.address(POOL, before.address))])
    world.settle()

    world.run(agent, "b", "web:80")

    until("the address", world.virtual_addresses, timeout_s=5)
    service = world.service()
    assert service is not None
    assert [service.addresses[0].address] == world.virtual_addresses()


def test_a_record_that_cannot_be_read_is_made_anew(world: LabelWorld, agent: Agent) -> None:
    world.run(agent, "a", "web:80")
    world.await_service()
    # What nobody has seen whole does not change when it breaks; it is found at the next full look.
    world.settle()

    world.store.txn([], [Put(WEB_KEY, b"what a hand has broken")])

    until("it can be read", lambda: _readable(world), timeout_s=5)
    service = world.service()
    assert service is not None
    assert service.addresses[0].address in world.virtual_addresses()


def _readable(world: LabelWorld) -> bool:
    item = world.store.get(WEB_KEY)
    return item is not None and item.value.startswith(b"{")


def test_an_address_that_no_service_has_is_released(world: LabelWorld, agent: Agent) -> None:
    endpoint = world.run(agent, "a", "web:80")
    world.await_service()
    agent.endpoints.remove(endpoint.endpoint_id)
    world.settle()
    world.store.txn([], [Delete(WEB_KEY)])
    world.settle()
    maker = world.makers["node-a"]

    maker.collect()
    world.clock.time_s += 599
    maker.collect()
    assert world.virtual_addresses()
    world.clock.time_s += 1
    maker.collect()

    assert not world.virtual_addresses()


def test_a_full_pool_is_a_problem(world: LabelWorld, agent: Agent) -> None:
    while True:
        try:
            agent.ipam.request_address(LOCAL_POOL, address=None, gateway=False)
        except Exception:  # noqa: BLE001  # the pool is full
            break
    agent.ipam.release_address(LOCAL_POOL, POOL.network_address + 9)

    world.run(agent, "a", "web:80")

    (problem,) = until("the problem", world.makers["node-a"].problems, timeout_s=5)
    assert problem.startswith("service web in network 10.1.0.0/24 is not served: pool 10.1.0.0/24: all 253 addresses")


def test_a_store_that_is_away_is_waited_for(world: LabelWorld, agent: Agent) -> None:
    network = agent.networks.by_pool(POOL)
    assert network is not None
    endpoint = agent.an_endpoint("a", network, POOL.network_address + 9)
    endpoint = replace(endpoint, labels=labelled("a", 2, "web:80").labels)
    maker = world.makers["node-a"]
    until("first look", lambda: maker._worker._looked_at_s, timeout_s=5)

    real = world.store.txn
    world.store.txn = lambda *_: (_ for _ in ()).throw(StoreUnavailable("etcd is away"))  # type: ignore[method-assign]
    real([], [Put(keys.endpoint(NodeName("node-a"), endpoint.endpoint_id), encode(endpoint))])

    (problem,) = until("the problem", maker.problems, timeout_s=5)
    assert "services of labels are not recorded: etcd is away" == problem
    world.store.txn = real  # type: ignore[method-assign]
    world.await_service()
    until("all is well", lambda: not maker.problems(), timeout_s=5)
