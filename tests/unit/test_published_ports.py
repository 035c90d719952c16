"""Ports of the host that lead to containers, from the engine's call to the kernel's map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from balancer.published import PublishedPorts
from datapath.api import PublishedPort, PublishedTarget
from kvstore import keys
from model.clock import SystemClock
from model.endpoints import PortRequest, Publication
from model.errors import DatapathError, Exhausted, StoreUnavailable
from model.ids import EndpointId, IdentityId
from model.policies import Protocol
from tests.support.driver_world import (
    ENDPOINT_ID,
    NETWORK_ID,
    NODE,
    POOL_ID,
    World,
    create_endpoint,
    endpoint,
    join,
    port,
    program,
)
from tests.support.host_ports import FakeHostPorts
from tests.support.wait import until

OTHER_ID = EndpointId("f2" * 32)
PROGRAM = "NetworkDriver.ProgramExternalConnectivity"
REVOKE = "NetworkDriver.RevokeExternalConnectivity"
HTTP = Publication(port=80, protocol="tcp", host_port=8080)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world.with_endpoint()


def target(world: World, container_port: int, endpoint_id: EndpointId = ENDPOINT_ID) -> PublishedTarget:
    record = world.endpoints.get(endpoint_id)
    (address,) = record.addresses
    assert isinstance(address, IPv4Address)
    return PublishedTarget(address=address, vni=record.vni, port=container_port)


def tcp(number: int, address: str | None = None) -> PublishedPort:
    return PublishedPort(port=number, protocol=Protocol.TCP, address=None if address is None else IPv4Address(address))


def another_container(world: World, name: str = "") -> None:
    """A second endpoint in the same network; the first gets a name."""
    if name:
        world.endpoints.set_identity(ENDPOINT_ID, identity=IdentityId(300), labels=None, container=name)
    address = world.ok("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": "", "Options": None})["Address"]
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=OTHER_ID, address=address))


def nothing_is_published(world: World) -> bool:
    return not world.kernel.ports and not world.host.held and not world.record().published


def test_a_port_is_published_and_revoked(world: World) -> None:
    world.ok("NetworkDriver.Join", join())

    assert {} == world.ok(PROGRAM, program(port(80, 8080), port(53, 5353, proto=17)))

    assert world.record().published == (HTTP, Publication(port=53, protocol="udp", host_port=5353))
    assert world.kernel.ports == {
        tcp(8080): target(world, 80),
        PublishedPort(port=5353, protocol=Protocol.UDP): target(world, 53),
    }
    assert world.host.held == [(Protocol.TCP, 8080, None), (Protocol.UDP, 5353, None)]

    assert {} == world.ok(REVOKE, endpoint())
    assert nothing_is_published(world)
    assert {} == world.ok(REVOKE, endpoint())


@pytest.mark.parametrize("call", ["Leave", "DeleteEndpoint"])
def test_ports_go_with_the_endpoint_even_if_they_are_not_revoked(world: World, call: str) -> None:
    world.ok(PROGRAM, program(port()))

    world.ok(f"NetworkDriver.{call}", endpoint())

    assert ({}, []) == (world.kernel.ports, world.host.held)


def test_ports_go_with_a_record_that_somebody_removes(world: World) -> None:
    world.ports.start()
    world.ok(PROGRAM, program(port()))

    world.endpoints.remove(ENDPOINT_ID)

    until("the port is free", lambda: not world.kernel.ports and not world.host.held, timeout_s=5)
    world.ports.stop()


def test_what_somebody_took_out_of_the_kernel_comes_back(world: World) -> None:
    ports = PublishedPorts(
        node=NODE,
        endpoints=world.endpoints,
        view=world.views.endpoints,
        datapath=world.kernel,
        host=(host := FakeHostPorts()),
        clock=SystemClock(),
        resync_s=0.05,
    )
    world.ok(PROGRAM, program(port()))
    ports.start()
    until("all is as it is recorded", lambda: host.held, timeout_s=5)

    world.kernel.ports.clear()

    until("the port leads to its container again", lambda: tcp(8080) in world.kernel.ports, timeout_s=5)
    ports.stop()


def test_ports_stay_published_and_revoked_while_the_view_does_not_follow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.endpoints.wait_visible", lambda *_: None)
    ports = PublishedPorts(
        node=NODE,
        endpoints=world.endpoints,
        view=world.views.endpoints,
        datapath=world.kernel,
        host=(host := FakeHostPorts()),
        clock=SystemClock(),
        resync_s=0.01,
    )
    wanted = [PortRequest(port=80, protocol="tcp", first_host_port=8080, last_host_port=8080)]
    world.views.endpoints.stop()
    ports.start()

    ports.publish(world.record(), wanted)
    for _ in range(3):
        world.kernel.ports.clear()
        until("it is written anew", lambda: {tcp(8080)} == world.kernel.ports.keys(), timeout_s=5, interval_s=0.005)
    assert [(Protocol.TCP, 8080, None)] == host.held
    ports.withdraw(ENDPOINT_ID)
    for _ in range(3):
        world.kernel.ports[tcp(9090)] = target(world, 80)
        until("it is written anew", lambda: not world.kernel.ports, timeout_s=5, interval_s=0.005)
    ports.stop()

    assert [] == host.held


def test_a_change_that_is_visible_is_a_change_no_more(world: World) -> None:
    world.ports.start()
    world.ok(PROGRAM, program(port()))

    world.endpoints.set_published(ENDPOINT_ID, (replace(HTTP, host_port=9090),))

    until("the record counts", lambda: {tcp(9090)} == world.kernel.ports.keys(), timeout_s=5)
    world.ports.stop()


def test_without_ports_nothing_is_done(world: World) -> None:
    world.faults.calls.clear()

    world.ok(PROGRAM, program())
    world.ok(REVOKE, endpoint())

    assert [] == world.faults.calls


def test_chosen_ports_stay_when_the_call_is_repeated(world: World) -> None:
    wanted = program(port(80, 0), port(80, 0), port(81, 9000, 9002), port(82, 9000, 9002), port(83, 9001))

    world.ok(PROGRAM, wanted)
    first = world.record().published
    world.ok(PROGRAM, wanted)

    assert [40000, 40001, 9000, 9002, 9001] == [one.host_port for one in first]
    assert first == world.record().published
    assert 5 == len(world.host.held) == len(world.kernel.ports)


def test_what_is_asked_for_no_more_is_over(world: World) -> None:
    world.ok(PROGRAM, program(port(80, 8080), port(81, 8081), port(82, 0)))

    world.ok(PROGRAM, program(port(80, 8080), port(99, 8081), port(83, 0)))

    assert [(80, 8080), (99, 8081), (83, 40001)] == [(one.port, one.host_port) for one in world.record().published]
    assert {8080, 8081, 40001} == {one.port for one in world.kernel.ports} == {one[1] for one in world.host.held}


def test_a_restarted_agent_has_all_ports_again(world: World) -> None:
    wanted = program(port(80, 8080), port(80, 0))
    world.ok(PROGRAM, wanted)
    published = world.record().published
    with World(store=world.store) as restarted:
        restarted.kernel.ensure_endpoint(spec) if (spec := world.kernel.local_endpoints()[0].spec) else None
        restarted.ports.start()
        until("the map is restored", lambda: len(restarted.kernel.ports) == 2, timeout_s=5)

        assert restarted.kernel.ports == world.kernel.ports
        assert sorted(restarted.host.held) == sorted(world.host.held)
        restarted.ok(PROGRAM, wanted)
        assert published == restarted.record().published
        restarted.ports.stop()
        assert [] == restarted.host.held
        assert restarted.kernel.ports == world.kernel.ports


def test_a_call_that_comes_before_the_restart_is_over_respects_the_ports_of_others(world: World) -> None:
    world.ok(PROGRAM, program(port(80, 8080)))
    another_container(world, name="web")
    with World(store=world.store) as restarted:
        for local in world.kernel.local_endpoints():
            assert local.spec is not None
            restarted.kernel.ensure_endpoint(local.spec)

        said = restarted.refused(PROGRAM, program(port(80, 8080), endpoint_id=OTHER_ID))

    assert "port 8080/tcp is published by container web already" in said


def test_a_port_that_was_taken_while_no_agent_ran_is_a_problem(world: World) -> None:
    world.ok(PROGRAM, program(port(80, 8080)))
    with World(store=world.store) as restarted:
        restarted.host.processes[Protocol.TCP, 8080] = "nginx.service"
        restarted.ports.start()
        until("it is told", restarted.ports.problems, timeout_s=5)

        [problem] = restarted.ports.problems()
        assert "port 8080/tcp of this host leads to endpoint e1e1e1e1e1e1 and cannot be kept for it" in problem
        assert "is used by nginx.service on this host" in problem
        assert {8080} == {one.port for one in restarted.kernel.ports}
        restarted.host.processes.clear()
        restarted.ok(PROGRAM, program(port(80, 8080)))
        assert [] == restarted.ports.problems()
        restarted.ports.stop()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (port(80, 8080), port(81, 8080), "port 8080/tcp is published by container web already"),
        (port(80, 8080), port(80, 8080, host_ip="127.0.0.1"), "port 8080/tcp is published by container web already"),
        (
            port(80, 8080, host_ip="127.0.0.1"),
            port(80, 8080),
            "port 8080/tcp of 127.0.0.1 is published by container web already",
        ),
        (
            port(80, 8080, host_ip="127.0.0.1"),
            port(80, 8080, host_ip="127.0.0.1"),
            "port 8080/tcp of 127.0.0.1 is published by container web already",
        ),
    ],
    ids=["every", "one-of-every", "every-of-one", "one"],
)
def test_a_port_of_another_container_is_refused_with_its_name(
    world: World, first: dict[str, object], second: dict[str, object], said: str
) -> None:
    world.ok(PROGRAM, program(first))
    another_container(world, name="web")
    before = world.state(), dict(world.kernel.ports), list(world.host.held)

    message = world.refused(PROGRAM, program(port(443, 8443), second, endpoint_id=OTHER_ID))

    assert f"{said}; choose another host port" == message
    assert before == (world.state(), world.kernel.ports, world.host.held)


@pytest.mark.parametrize(
    "other",
    [port(80, 8080, proto=17), port(80, 8081), port(80, 8080, host_ip="127.0.0.2")],
    ids=["protocol", "port", "address"],
)
def test_what_does_not_overlap_is_no_conflict(world: World, other: dict[str, object]) -> None:
    world.ok(PROGRAM, program(port(80, 8080, host_ip="127.0.0.1")))
    another_container(world)

    world.ok(PROGRAM, program(other, endpoint_id=OTHER_ID))

    assert 2 == len(world.kernel.ports)


def test_a_port_of_a_process_is_refused_with_its_name(world: World) -> None:
    world.host.processes[Protocol.TCP, 22] = "ssh.service"

    message = world.refused(PROGRAM, program(port(80, 8080), port(22, 22)))

    assert message == "port 22/tcp is used by ssh.service on this host; choose another host port"
    assert nothing_is_published(world)


def test_a_range_takes_the_first_port_that_is_free(world: World) -> None:
    world.host.processes[Protocol.TCP, 8000] = "ssh.service"
    world.ok(PROGRAM, program(port(80, 8000, 8002)))
    another_container(world)
    world.ok(PROGRAM, program(port(80, 8000, 8002), endpoint_id=OTHER_ID))

    assert [8001, 8002] == sorted(one.port for one in world.kernel.ports)
    assert 8001 == world.record().published[0].host_port


def test_a_range_without_a_free_port_is_refused(world: World) -> None:
    for number in (8000, 8001):
        world.host.processes[Protocol.TCP, number] = f"{number}.service"

    said = world.refused(PROGRAM, program(port(80, 8000, 8001)))

    assert "no port of 8000-8001/tcp is free: port 8000/tcp is used by 8000.service on this host" in said


def test_one_container_cannot_have_one_port_twice(world: World) -> None:
    said = world.refused(PROGRAM, program(port(80, 8080), port(81, 8080)))

    assert "port 8080/tcp is asked for twice by this container" in said
    assert nothing_is_published(world)


def test_ports_of_a_container_that_a_boot_left_behind_are_free(world: World) -> None:
    world.ok(PROGRAM, program(port(80, 8080), port(81, 8081)))
    another_container(world)
    world.kernel.remove_endpoint(ENDPOINT_ID)

    world.ok(PROGRAM, program(port(80, 8080), endpoint_id=OTHER_ID))

    assert world.kernel.ports == {tcp(8080): target(world, 80, OTHER_ID)}
    assert () == world.record().published
    assert [(Protocol.TCP, 8080, None)] == world.host.held


@pytest.mark.parametrize("error", [DatapathError("refused"), Exhausted("full"), StoreUnavailable("away")])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["MemoryStore.txn", "FakeDatapath.replace_published"])
def test_what_fails_leaves_nothing(world: World, step: str, when: str, error: Exception) -> None:
    world.ok(PROGRAM, program(port(80, 8080)))
    world.ok(REVOKE, endpoint())
    world.faults.calls.clear()
    world.ok(PROGRAM, program(port(80, 8080)))
    position = world.faults.calls.index(step)
    world.ok(REVOKE, endpoint())
    before = world.state()
    world.faults.calls.clear()
    world.faults.once = (position, when, error)

    world.refused(PROGRAM, program(port(80, 8080)))

    assert before == world.state()
    assert nothing_is_published(world)
    world.faults.once = None
    world.ok(PROGRAM, program(port(80, 8080)))
    assert world.kernel.ports == {tcp(8080): target(world, 80)}


@pytest.mark.parametrize(
    "odd",
    [
        Publication(port=80, protocol="quic", host_port=8443),
        Publication(port=80, protocol="tcp", host_port=70000),
        Publication(port=0, protocol="tcp", host_port=8443),
    ],
    ids=["protocol", "host-port", "port"],
)
def test_what_a_record_says_and_nobody_knows_is_left_out(world: World, odd: Publication) -> None:
    another_container(world)
    world.endpoints.set_published(OTHER_ID, (odd, replace(HTTP, host_port=9090)))

    world.ok(PROGRAM, program(port(80, 8080)))

    assert world.kernel.ports == {tcp(8080): target(world, 80), tcp(9090): target(world, 80, OTHER_ID)}
    assert {8080, 9090} == {number for _, number, _ in world.host.held}


def test_an_unknown_endpoint_is_refused_and_revoked_with_success(world: World) -> None:
    assert OTHER_ID in world.refused(PROGRAM, program(port(), endpoint_id=OTHER_ID))
    assert {} == world.ok(REVOKE, endpoint(OTHER_ID))


def test_an_endpoint_of_another_network_is_refused(world: World) -> None:
    said = world.refused(PROGRAM, {**program(port()), "NetworkID": "6d" * 32})

    assert NETWORK_ID in said
    assert nothing_is_published(world)


def test_a_repeated_create_endpoint_keeps_the_ports(world: World) -> None:
    world.ok(PROGRAM, program(port(80, 8080)))

    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())
    world.endpoints.put(replace(world.record(), published=()))

    assert (HTTP,) == world.record().published


def test_two_thousand_ports_are_one_record_and_one_change(world: World) -> None:
    world.ok(PROGRAM, program(*(port(number, number) for number in range(8000, 10000))))

    assert 2000 == len(world.kernel.ports) == len(world.host.held)
    [item] = world.store.list(keys.ENDPOINTS).items
    assert len(item.value) < 200_000
