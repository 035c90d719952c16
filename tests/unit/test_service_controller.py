"""The kernel's services follow the records of the cluster."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from balancer.service_table import ServiceTable
from datapath.api import Balancing, Frontend
from datapath.fake import FakeDatapath
from model.errors import Exhausted, StoreUnavailable
from model.ids import NodeName, ServiceId, Vni
from model.networks import Network
from model.service_answers import BackendState, ServiceAnswer
from model.services import LostNode, Service, ServicePort, ServiceSource, VirtualAddress
from tests.support.cluster_world import POOL
from tests.support.service_world import (
    VIP,
    VNI,
    ServiceWorld,
    endpoint,
    labelled,
    swarm_service,
    task,
)
from tests.support.wait import until

NETWORK = Network(pool=POOL, vni=VNI)
WEB = Service(
    service_id=ServiceId("label-10.1.0.0-24-web"),
    name="web",
    source=ServiceSource.LABEL,
    addresses=(VirtualAddress(network=POOL, address=VIP),),
    ports=(
        ServicePort(port=80, protocol="tcp", target_port=8080),
        ServicePort(port=53, protocol="udp", target_port=53),
    ),
)


@pytest.fixture
def world() -> Iterator[ServiceWorld]:
    world = ServiceWorld()
    world.balancing()
    yield world
    world.stop()


def states(answer: ServiceAnswer) -> dict[str, BackendState]:
    return {one.name: one.state for one in answer.backends}


def test_tasks_with_an_endpoint_get_connections_at_every_port(world: ServiceWorld) -> None:
    world.put(NETWORK, swarm_service(task(2), task(3), task(4)), endpoint("web.2", 2), endpoint("web.3", 3))

    world.await_backends("10.1.0.2:0", "10.1.0.3:0")


def test_a_task_that_is_drained_gets_none(world: ServiceWorld) -> None:
    world.put(NETWORK, swarm_service(task(2), task(3)), endpoint("web.2", 2), endpoint("web.3", 3))
    world.await_backends("10.1.0.2:0", "10.1.0.3:0")

    world.put(swarm_service(task(2), task(3, active=False)))

    world.await_backends("10.1.0.2:0")


def test_a_task_that_is_unhealthy_gets_none(world: ServiceWorld) -> None:
    world.put(NETWORK, swarm_service(task(2), task(3)), endpoint("web.2", 2, unhealthy=True), endpoint("web.3", 3))
    world.await_backends("10.1.0.3:0")

    world.put(endpoint("web.2", 2))

    world.await_backends("10.1.0.2:0", "10.1.0.3:0")


def test_an_endpoint_of_another_network_at_the_same_address_does_not_count(world: ServiceWorld) -> None:
    other = ipaddress.ip_network("10.1.0.0/16")

    world.put(NETWORK, swarm_service(task(2)), replace(endpoint("web.2", 2), network=other))

    world.await_backends()


def test_a_service_without_backends_refuses(world: ServiceWorld) -> None:
    world.put(NETWORK, swarm_service())

    world.await_backends()


def test_a_service_of_a_network_that_nobody_knows_is_left_out(world: ServiceWorld) -> None:
    revision = world.put(swarm_service(task(2)), endpoint("web.2", 2))
    assert world.controller.wait_applied(revision, 5)
    assert world.backends() is None

    world.put(NETWORK)

    world.await_backends("10.1.0.2:0")


def test_a_service_in_two_networks_has_two_frontends(world: ServiceWorld) -> None:
    other = ipaddress.ip_network("10.2.0.0/24")
    both = replace(
        swarm_service(replace(task(2), addresses=(POOL.network_address + 2, other.network_address + 9))),
        addresses=(
            VirtualAddress(network=POOL, address=VIP),
            VirtualAddress(network=other, address=ipaddress.ip_address("10.2.0.200")),
        ),
    )

    world.put(
        NETWORK,
        Network(pool=other, vni=Vni(9)),
        both,
        endpoint("web.2", 2),
        replace(endpoint("web.2b", 9, pool=other), vni=Vni(9)),
    )

    world.await_backends("10.1.0.2:0")
    second = Frontend(address=ipaddress.IPv4Address("10.2.0.200"), vni=Vni(9))
    assert ["10.2.0.9"] == [str(one.address) for one in world.agents[0].kernel.balanced[second].backends]


def test_affinity_reaches_the_kernel(world: ServiceWorld) -> None:
    world.put(NETWORK, swarm_service(task(2)), endpoint("web.2", 2))
    world.await_backends("10.1.0.2:0")

    world.put(swarm_service(task(2), affinity=True))

    frontend = Frontend(address=VIP, vni=VNI)
    until("affinity", lambda: world.agents[0].kernel.balanced[frontend].affinity, timeout_s=5)


def test_labelled_endpoints_get_connections_at_their_ports(world: ServiceWorld) -> None:
    world.put(
        NETWORK,
        WEB,
        labelled("a", 2, "web:80=8080,web:53/udp"),
        labelled("b", 3, "web:80=8080"),
        labelled("c", 4, "web:80=9090"),
        labelled("d", 5, "other:80=8080"),
        labelled("e", 6, "web:80=8080", unhealthy=True),
        endpoint("f", 7),
    )

    world.await_backends("10.1.0.2:8080", "10.1.0.3:8080", port=80, protocol=6)
    world.await_backends("10.1.0.2:53", port=53, protocol=17)
    assert world.backends() is None


def test_labels_that_come_later_count(world: ServiceWorld) -> None:
    world.put(NETWORK, WEB, endpoint("a", 2))
    world.await_backends(port=80, protocol=6)

    world.put(labelled("a", 2, "web:80=8080"))
    world.await_backends("10.1.0.2:8080", port=80, protocol=6)

    world.put(endpoint("a", 2))
    world.await_backends(port=80, protocol=6)


def test_endpoints_of_a_lost_host_get_none(world: ServiceWorld) -> None:
    lost = LostNode(node=NodeName("node-b"), since="")
    world.put(NETWORK, WEB, labelled("a", 2, "web:80=8080"), labelled("b", 3, "web:80=8080", node="node-c"))
    world.await_backends("10.1.0.2:8080", "10.1.0.3:8080", port=80, protocol=6)

    world.put(lost)
    world.await_backends("10.1.0.3:8080", port=80, protocol=6)

    world.remove(lost)
    world.await_backends("10.1.0.2:8080", "10.1.0.3:8080", port=80, protocol=6)


def test_the_address_of_an_endpoint_is_never_taken_for_a_service(world: ServiceWorld) -> None:
    intruder = endpoint("intruder", 200)
    world.put(NETWORK, swarm_service(task(2)), endpoint("web.2", 2), intruder)
    (problem,) = until("the problem", world.controller.problems, timeout_s=5)

    assert "its address 10.1.0.200 is that of intruder on node node-b" in problem
    assert world.backends() is None

    world.remove(intruder)
    world.await_backends("10.1.0.2:0")
    assert not world.controller.problems()


def test_of_two_endpoints_at_one_address_the_newer_one_counts(world: ServiceWorld) -> None:
    left_over = endpoint("a-left-over", 2, node="node-a", unhealthy=True, created_at="2025-12-31T00:00:00.000000Z")

    world.put(NETWORK, swarm_service(task(2)), left_over, endpoint("web.2", 2))

    world.await_backends("10.1.0.2:0")


def test_ports_that_nobody_knows_are_left_out(world: ServiceWorld) -> None:
    odd = (ServicePort(port=80, protocol="quic", target_port=80), ServicePort(port=0, protocol="tcp", target_port=1))
    world.put(NETWORK, replace(WEB, ports=(*odd, *WEB.ports)), labelled("a", 2, "web:80=8080"))

    world.await_backends("10.1.0.2:8080", port=80, protocol=6)
    assert 2 == len(world.agents[0].kernel.balanced)


def test_a_service_that_is_removed_goes(world: ServiceWorld) -> None:
    service = swarm_service(task(2))
    world.put(NETWORK, service, endpoint("web.2", 2))
    world.await_backends("10.1.0.2:0")

    world.remove(service)

    until("the frontend goes", lambda: world.backends() is None, timeout_s=5)


class WatchedKernel(FakeDatapath):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Mapping[Frontend, Balancing]] = []

    def replace_services(self, services: Mapping[Frontend, Balancing]) -> None:
        self.calls.append(services)
        super().replace_services(services)


def test_only_what_a_change_concerns_is_made_anew(world: ServiceWorld) -> None:
    other = swarm_service(task(9, name="api"), name="api", vip="10.1.0.201")
    world.put(NETWORK, swarm_service(task(2), task(3)), other, endpoint("web.2", 2), endpoint("api.9", 9))
    world.await_backends("10.1.0.9:0", vip="10.1.0.201")
    world.await_backends("10.1.0.2:0")
    frontend = Frontend(address=ipaddress.IPv4Address("10.1.0.201"), vni=VNI)
    before = world.agents[0].kernel.balanced[frontend]

    world.put(endpoint("web.3", 3))

    world.await_backends("10.1.0.2:0", "10.1.0.3:0")
    assert before is world.agents[0].kernel.balanced[frontend]


def test_nothing_is_written_before_the_store_has_been_read() -> None:
    world = ServiceWorld()
    world.put(NETWORK, swarm_service(task(2)), endpoint("web.2", 2))
    world.store.fail_with(StoreUnavailable("etcd is away"))
    agent = world.balancing(wait=False)
    kept = {Frontend(address=VIP, vni=VNI): Balancing()}
    agent.kernel.balanced = dict(kept)
    try:
        with pytest.raises(StoreUnavailable):
            world.controller.services()
        assert kept == agent.kernel.balanced

        world.store.fail_with(None)

        world.await_backends("10.1.0.2:0")
    finally:
        world.stop()


def test_an_error_of_the_kernel_is_tried_again(world: ServiceWorld) -> None:
    kernel = world.agents[0].kernel
    world.put(NETWORK, swarm_service(task(2)))
    world.await_backends()
    kernel.failures["replace_services"] = Exhausted("the map of services is full")

    world.put(endpoint("web.2", 2))

    world.await_backends("10.1.0.2:0")
    until("all is well", lambda: not world.controller.health().failures, timeout_s=5)
    assert "replace_services" not in kernel.failures


def test_a_failure_is_told(world: ServiceWorld) -> None:
    class Full(FakeDatapath):
        def replace_services(self, services: Mapping[Frontend, Balancing]) -> None:
            raise Exhausted("the map of services is full")

    world.controller._datapath = Full()

    world.put(NETWORK, swarm_service(task(2)))

    (problem,) = until("the problem", world.controller.problems, timeout_s=5)
    assert problem.endswith("it spreads connections as before: the map of services is full")
    assert world.controller.health().failures


def test_answers_say_who_answers(world: ServiceWorld) -> None:
    tasks = (
        task(2),
        task(3),
        task(4, active=False),
        task(5, active=False, state="starting"),
        task(6, active=False, state="failed"),
        task(7),
        task(8),
    )
    world.put(
        NETWORK,
        swarm_service(*tasks, affinity=True),
        *(endpoint(f"web.{number}", number) for number in (2, 3, 4)),
        endpoint("web.7", 7, unhealthy=True),
    )
    world.await_backends("10.1.0.2:0", "10.1.0.3:0")

    (answer,) = world.controller.services()

    assert ("web", ServiceSource.SWARM, POOL, VIP, (), True, "") == (
        answer.name,
        answer.source,
        answer.network,
        answer.vip,
        answer.ports,
        answer.affinity,
        answer.problem,
    )
    assert {
        "web.2": BackendState.ACTIVE,
        "web.3": BackendState.ACTIVE,
        "web.4": BackendState.DRAINING,
        "web.5": BackendState.STARTING,
        "web.6": BackendState.GONE,
        "web.7": BackendState.UNHEALTHY,
        "web.8": BackendState.GONE,
    } == states(answer)
    shares = {one.name: one.share for one in answer.backends if one.share}
    assert {"web.2", "web.3"} == shares.keys()
    assert 1.0 == pytest.approx(sum(shares.values()))
    assert 0.5 == pytest.approx(shares["web.2"], rel=0.02)


def test_answers_of_labels_say_every_port(world: ServiceWorld) -> None:
    world.put(NETWORK, WEB, labelled("a", 2, "web:80=8080,web:53/udp"), labelled("b", 3, "web:80=8080"))
    world.await_backends("10.1.0.2:8080", "10.1.0.3:8080", port=80, protocol=6)

    (answer,) = world.controller.services()

    assert [("a", 53), ("a", 8080), ("b", 8080)] == [(one.name, one.port) for one in answer.backends]
    assert [1.0, 0.5, 0.5] == [pytest.approx(one.share, rel=0.02) for one in answer.backends]
    assert WEB.ports == answer.ports


def test_an_answer_says_why_nobody_answers(world: ServiceWorld) -> None:
    revision = world.put(swarm_service(), swarm_service(name="api", vip="10.1.0.201"))
    assert world.controller.wait_applied(revision, 5)
    assert {"there is no hawse network 10.1.0.0/24"} == {one.problem for one in world.controller.services()}

    world.put(NETWORK)

    until(
        "the problem",
        lambda: {"nobody answers, connections are refused"} == {one.problem for one in world.controller.services()},
        timeout_s=5,
    )


def test_health_counts(world: ServiceWorld) -> None:
    world.put(NETWORK, WEB, labelled("a", 2, "web:80=8080,web:53/udp"), labelled("b", 3, "web:80=8080"))
    world.await_backends("10.1.0.2:8080", "10.1.0.3:8080", port=80, protocol=6)

    health = until("all is written", lambda: (h := world.controller.health()).backends == 3 and h, timeout_s=5)

    assert (1, 2, 3, 0, "") == (health.services, health.frontends, health.backends, health.failures, health.error)


def test_a_change_reaches_the_kernel_at_once(world: ServiceWorld) -> None:
    world.put(NETWORK, swarm_service(task(2), task(3)), endpoint("web.2", 2), endpoint("web.3", 3))
    world.await_backends("10.1.0.2:0", "10.1.0.3:0")
    took_s = []
    for _ in range(10):
        started_s = time.monotonic()
        world.remove(endpoint("web.3", 3))
        world.await_backends("10.1.0.2:0")
        took_s.append(time.monotonic() - started_s)
        world.put(endpoint("web.3", 3))
        world.await_backends("10.1.0.2:0", "10.1.0.3:0")

    print(f"from the deletion of an endpoint to the kernel: {sorted(took_s)[5] * 1000:.1f} ms")  # noqa: T201
    # The quickest of ten: how busy this machine is does not matter.
    assert min(took_s) < 0.02


def test_500_services_of_20_backends_are_worked_out_in_time() -> None:
    table = ServiceTable()
    table.set_networks([Network(pool=ipaddress.ip_network("10.0.0.0/8"), vni=VNI)])
    pool = ipaddress.ip_network("10.0.0.0/8")
    services, endpoints = {}, {}
    for number in range(500):
        addresses = [pool.network_address + 256 * number + last for last in range(1, 21)]
        services[ServiceId(f"s{number}")] = replace(
            swarm_service(*(replace(task(2), addresses=(address,)) for address in addresses)),
            service_id=ServiceId(f"s{number}"),
            addresses=(VirtualAddress(network=pool, address=pool.network_address + 256 * number + 200),),
        )
        for address in addresses:
            endpoints[str(address)] = replace(endpoint("a", 2), network=pool, addresses=(address,))
    started_s = time.process_time()

    table.set_endpoints(endpoints)
    table.set_services(services)
    served = {ident: table.serve(ident) for ident in services}

    took_s = time.process_time() - started_s
    print(f"500 services of 20 backends worked out: {took_s:.2f} s")  # noqa: T201
    assert 500 == sum(len(one.frontends) for one in served.values())
    assert took_s < 10
