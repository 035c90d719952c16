"""Use cases of the network driver: repeated, reordered and failing calls."""

from __future__ import annotations

import pytest

from model.addresses import MacAddress
from model.errors import LinkError, StoreUnavailable
from tests.support.driver_world import (
    ADDRESS,
    ENDPOINT_ID,
    NETWORK_ID,
    POOL,
    World,
    create_endpoint,
    create_network,
    endpoint,
    join,
)


@pytest.fixture
def world() -> World:
    return World()


def test_a_container_is_connected_and_disconnected(world: World) -> None:
    world.with_network()
    before = world.state()

    created = world.ok("NetworkDriver.CreateEndpoint", create_endpoint())
    joined = world.ok("NetworkDriver.Join", join())

    mac = str(MacAddress.for_address(1, next(iter(world.endpoints.records.values())).addresses[0]))
    assert {"Interface": {"MacAddress": mac}} == created
    assert {
        "InterfaceName": {"SrcName": f"hwp{ENDPOINT_ID[:12]}", "DstPrefix": "eth"},
        "Gateway": "10.1.0.1",
    } == joined

    assert {} == world.ok("NetworkDriver.Leave", endpoint())
    assert {} == world.ok("NetworkDriver.DeleteEndpoint", endpoint())
    assert before == world.state()


def test_repeated_create_endpoint_returns_same_answer(world: World) -> None:
    world.with_network()

    first = world.ok("NetworkDriver.CreateEndpoint", create_endpoint())
    state = world.state()
    second = world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    assert first == second
    assert state == world.state()


def test_a_mac_address_that_was_given_is_not_answered(world: World) -> None:
    world.with_network()

    answer = world.ok("NetworkDriver.CreateEndpoint", create_endpoint(mac="02:42:AC:00:00:09"))

    assert {"Interface": {}} == answer
    assert "02:42:ac:00:00:09" == str(world.endpoints.records[ENDPOINT_ID].mac)  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"address": "10.1.0.6/16"}, "address 10.1.0.5, not 10.1.0.6", id="address"),
        pytest.param({"mac": "02:42:ac:00:00:09"}, "not 02:42:ac:00:00:09", id="mac"),
    ],
)
def test_create_endpoint_with_other_content_names_what_differs(world: World, change: dict[str, str], said: str) -> None:
    world.with_endpoint()
    state = world.state()

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint(**change))

    assert ENDPOINT_ID in message
    assert said in message
    assert state == world.state()


@pytest.mark.parametrize(
    ("when", "step"),
    [
        ("before", "Networks.by_docker_id"),
        ("before", "Endpoints.get"),
        ("before", "Endpoints.endpoint_at"),
        ("before", "Endpoints.put"),
        ("after", "Endpoints.put"),
        ("before", "Kernel.ensure_endpoint"),
        ("after", "Kernel.ensure_endpoint"),
    ],
)
@pytest.mark.parametrize("error", [StoreUnavailable("no leader"), LinkError("no", errno=12), RuntimeError("bug")])
def test_create_endpoint_that_fails_leaves_nothing(world: World, step: str, when: str, error: Exception) -> None:
    world.with_network()
    before = world.state()
    getattr(world.faults, when)[step] = error

    world.refused("NetworkDriver.CreateEndpoint", create_endpoint())

    assert before == world.state()


def test_everything_is_undone_even_if_one_undo_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.with_network()
    before = world.state()
    world.faults.after["Kernel.ensure_endpoint"] = LinkError("the filter was refused")
    world.faults.after["Kernel.remove_endpoint"] = LinkError("busy")

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint())

    assert "the filter was refused" == message
    assert before == world.state()
    assert "undo failed" in caplog.messages


def test_unknown_ids_are_deleted_and_left_with_success(world: World) -> None:
    before = world.state()

    for method in ("Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "EndpointOperInfo"):
        world.ok(f"NetworkDriver.{method}", endpoint())
    for method in ("DeleteNetwork", "FreeNetwork"):
        world.ok(f"NetworkDriver.{method}", {"NetworkID": NETWORK_ID})

    assert before == world.state()


def test_join_of_an_unknown_endpoint_is_refused(world: World) -> None:
    world.with_network()

    assert ENDPOINT_ID in world.refused("NetworkDriver.Join", join())


def test_an_interface_that_vanished_is_made_again_at_join(world: World) -> None:
    world.with_endpoint()
    world.kernel.endpoints.clear()

    world.ok("NetworkDriver.Join", join())

    assert [ENDPOINT_ID] == list(world.kernel.endpoints)


def test_an_internal_network_has_no_way_out(world: World) -> None:
    world.with_network(options={"com.docker.network.internal": True})
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    joined = world.ok("NetworkDriver.Join", join())

    assert joined["DisableGatewayService"] is True
    assert "Gateway" not in joined
    assert "StaticRoutes" not in joined


def test_create_network_twice_is_success(world: World) -> None:
    world.with_network()
    state = world.state()

    world.ok("NetworkDriver.CreateNetwork", create_network())

    assert state == world.state()


def test_a_pool_of_another_ipam_driver_is_refused(world: World) -> None:
    message = world.refused("NetworkDriver.CreateNetwork", create_network())

    assert "--ipam-driver" in message
    assert POOL in message


def test_delete_network_collects_what_the_engine_forgot(world: World) -> None:
    world.with_endpoint()
    world.ok(
        "IpamDriver.RequestAddress",
        {"PoolID": f"hawse-local:{POOL}", "Address": ADDRESS.split("/")[0], "Options": None},
    )

    world.ok("IpamDriver.ReleasePool", {"PoolID": f"hawse-local:{POOL}"})
    assert world.addresses.holders, "the pool stays until DeleteNetwork"
    world.ok("NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK_ID})

    assert ({}, {}, {}) == world.state()
    assert ({}, {}) == (world.addresses.holders, world.addresses.held)
