"""Use cases of the network driver: repeated, reordered and failing calls."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kvstore import keys
from model.addresses import MacAddress
from model.errors import DeadlineExceeded, LinkError, StoreUnavailable
from model.ids import NodeName
from tests.support.driver_world import (
    ADDRESS,
    ENDPOINT_ID,
    NETWORK_ID,
    POOL,
    POOL_ID,
    World,
    create_endpoint,
    create_network,
    endpoint,
    join,
)

GIVEN_MAC = "02:42:ac:00:00:09"


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def test_a_container_is_connected_and_disconnected(world: World) -> None:
    world.with_network()
    before = world.state()

    address = world.ok("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": "", "Options": None})["Address"]
    created = world.ok("NetworkDriver.CreateEndpoint", create_endpoint(address=address))
    record = world.record()
    joined = world.ok("NetworkDriver.Join", join())

    assert {"Interface": {"MacAddress": str(MacAddress.for_address(record.vni, record.addresses[0]))}} == created
    assert {
        "InterfaceName": {"SrcName": f"hwp{ENDPOINT_ID[:12]}", "DstPrefix": "eth"},
        "Gateway": "10.1.0.1",
    } == joined
    assert join()["SandboxKey"] == world.record().sandbox_key

    assert {} == world.ok("NetworkDriver.Leave", endpoint())
    assert world.record().sandbox_key is None
    assert {} == world.ok("NetworkDriver.DeleteEndpoint", endpoint())
    world.ok("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": address.split("/")[0]})
    assert before == world.state()


def test_a_network_is_created_and_deleted(world: World) -> None:
    before = world.state()
    world.with_network(aux={"router": "10.1.0.9/16"})

    world.ok("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": "10.1.0.1"})
    world.ok("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": "10.1.0.9"})
    world.ok("IpamDriver.ReleasePool", {"PoolID": POOL_ID})
    world.ok("NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK_ID})

    assert before == world.state()


def test_the_pool_stays_until_its_last_network_is_deleted(world: World) -> None:
    other = "6d" * 32
    world.with_network()
    world.with_network(network_id=other)

    for network_id, pools_left in ((NETWORK_ID, 1), (other, 0)):
        world.ok("IpamDriver.ReleasePool", {"PoolID": POOL_ID})
        world.ok("NetworkDriver.DeleteNetwork", {"NetworkID": network_id})

        assert pools_left == len(world.store.list(keys.POOLS).items)


def test_repeated_create_endpoint_returns_same_answer(world: World) -> None:
    world.with_network()

    first = world.ok("NetworkDriver.CreateEndpoint", create_endpoint())
    world.ok("NetworkDriver.Join", join())
    state = world.state()
    second = world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    assert first == second
    assert state == world.state()


def test_a_mac_address_that_was_given_is_not_answered(world: World) -> None:
    world.with_network()

    answer = world.ok("NetworkDriver.CreateEndpoint", create_endpoint(mac=GIVEN_MAC.upper()))

    assert {"Interface": {}} == answer
    assert GIVEN_MAC == str(world.record().mac)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"address": "10.1.0.6/16"}, "address 10.1.0.5, not 10.1.0.6", id="address"),
        pytest.param({"mac": GIVEN_MAC}, f"not {GIVEN_MAC}", id="mac"),
    ],
)
def test_create_endpoint_with_other_content_names_what_differs(world: World, change: dict[str, str], said: str) -> None:
    world.with_endpoint()
    state = world.state()

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint(**change))

    assert ENDPOINT_ID in message
    assert said in message
    assert state == world.state()


def test_two_endpoints_cannot_have_one_address(world: World) -> None:
    world.with_endpoint()
    state = world.state()

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id="f2" * 32))

    assert ENDPOINT_ID in message
    assert state == world.state()


ERRORS = [StoreUnavailable("no leader"), LinkError("refused", errno=12), DeadlineExceeded("late"), RuntimeError("bug")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["before", "after"])
def test_create_endpoint_that_fails_at_any_step_leaves_nothing(world: World, when: str, error: Exception) -> None:
    world.with_network()
    before = world.state()

    for step in failing_steps(world, "NetworkDriver.CreateEndpoint", create_endpoint(), when, error):
        assert before == world.state(), step


@pytest.mark.parametrize("when", ["before", "after"])
def test_create_network_that_fails_at_any_step_leaves_nothing(world: World, when: str) -> None:
    world.request_pool()
    before = world.state()
    body = create_network(aux={"router": "10.1.0.9/16"})

    for step in failing_steps(world, "NetworkDriver.CreateNetwork", body, when, StoreUnavailable("no leader")):
        # What the engine sends after a CreateNetwork that failed, and before the next.
        world.ok("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": "10.1.0.9"})
        world.ok("IpamDriver.ReleasePool", {"PoolID": POOL_ID})
        assert ({}, []) == world.state(), step
        world.request_pool()
        assert before[0].keys() == world.state()[0].keys()


def failing_steps(world: World, method: str, body: Mapping[str, object], when: str, error: Exception) -> Iterator[str]:
    """Let the first call to store or kernel fail, then the second, until the method needs no more calls than that."""
    for position in itertools.count():
        world.faults.calls.clear()
        world.faults.once = (position, when, error)
        status, answer = world.post(method, body)
        if len(world.faults.calls) <= position:
            assert 200 == status
            assert position >= 2, "it writes at least twice"
            return
        assert 500 == status, answer
        world.faults.once = None
        yield f"{when} {world.faults.calls[position]} at {position}"


def test_a_repeated_create_endpoint_that_fails_leaves_nothing_either(world: World) -> None:
    """After an error the engine releases the address, whatever an earlier call had answered."""
    world.with_network()
    before = world.state()
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())
    world.faults.before["FakeDatapath.ensure_endpoint"] = LinkError("no memory", errno=12)

    world.refused("NetworkDriver.CreateEndpoint", create_endpoint())

    assert before == world.state()


def test_everything_is_undone_even_if_one_undo_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.with_network()
    before = world.state()
    world.faults.after["FakeDatapath.ensure_endpoint"] = LinkError("the filter was refused")
    world.faults.after["FakeDatapath.remove_endpoint"] = LinkError("busy")

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint())

    assert "the filter was refused" == message
    assert before == world.state()
    assert "undo failed" in caplog.messages


def test_the_record_is_removed_even_if_the_kernel_refuses(world: World) -> None:
    world.with_endpoint()
    world.faults.before["FakeDatapath.remove_endpoint"] = LinkError("busy", errno=16)

    assert "busy" == world.refused("NetworkDriver.DeleteEndpoint", endpoint())

    assert () == world.store.list(keys.ENDPOINTS).items


def test_unknown_ids_are_deleted_and_left_with_success(world: World) -> None:
    before = world.state()

    for method in ("Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "EndpointOperInfo"):
        world.ok(f"NetworkDriver.{method}", endpoint())
    for method in ("DeleteNetwork", "FreeNetwork"):
        world.ok(f"NetworkDriver.{method}", {"NetworkID": NETWORK_ID})

    assert before == world.state()


def test_everything_may_come_twice(world: World) -> None:
    before = world.state()
    gateway = {"RequestAddressType": "com.docker.network.gateway"}
    sequence = [
        ("IpamDriver.RequestPool", {"AddressSpace": "hawse-local", "Pool": POOL, "SubPool": "", "Options": None}),
        ("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": "", "Options": gateway}),
        ("NetworkDriver.CreateNetwork", create_network()),
        ("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": "10.1.0.5", "Options": None}),
        ("NetworkDriver.CreateEndpoint", create_endpoint()),
        ("NetworkDriver.EndpointOperInfo", endpoint()),
        ("NetworkDriver.Join", join()),
        ("NetworkDriver.ProgramExternalConnectivity", {**endpoint(), "Options": {}}),
        ("NetworkDriver.RevokeExternalConnectivity", endpoint()),
        ("NetworkDriver.Leave", endpoint()),
        ("NetworkDriver.DeleteEndpoint", endpoint()),
        ("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": "10.1.0.5"}),
        ("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": "10.1.0.1"}),
        ("IpamDriver.ReleasePool", {"PoolID": POOL_ID}),
        ("NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK_ID}),
    ]

    for method, body in sequence:
        assert world.ok(method, body) == world.ok(method, body), method

    assert before == world.state()


def test_delete_may_come_without_leave_and_leave_without_join(world: World) -> None:
    world.with_network()
    before = world.state()

    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())
    world.ok("NetworkDriver.Leave", endpoint())
    world.ok("NetworkDriver.Join", join())
    world.ok("NetworkDriver.DeleteEndpoint", endpoint())
    world.ok("NetworkDriver.Leave", endpoint())

    assert before == world.state()


def test_join_of_an_unknown_endpoint_is_refused(world: World) -> None:
    world.with_network()

    assert ENDPOINT_ID in world.refused("NetworkDriver.Join", join())


def test_join_in_another_network_is_refused(world: World) -> None:
    world.with_endpoint()

    message = world.refused("NetworkDriver.Join", {**join(), "NetworkID": "ab" * 32})

    assert f"is in network {NETWORK_ID}" in message


def test_an_interface_that_vanished_is_made_again_at_join(world: World) -> None:
    world.with_endpoint()
    before = world.state()
    world.kernel.remove_endpoint(ENDPOINT_ID)

    world.ok("NetworkDriver.Join", join())

    assert before[1] == world.state()[1]


def test_an_internal_network_has_no_way_out(world: World) -> None:
    world.with_network(options={"com.docker.network.internal": True})
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    joined = world.ok("NetworkDriver.Join", join())

    assert joined["DisableGatewayService"] is True
    assert joined.keys().isdisjoint({"Gateway", "GatewayIPv6", "StaticRoutes"})


def test_create_network_twice_is_success(world: World) -> None:
    world.with_network()
    state = world.state()

    world.ok("NetworkDriver.CreateNetwork", create_network())

    assert state == world.state()


def test_a_network_id_on_another_pool_is_refused(world: World) -> None:
    world.with_network()
    world.request_pool(pool="10.2.0.0/16")
    state = world.state()

    message = world.refused("NetworkDriver.CreateNetwork", create_network(pool="10.2.0.0/16", gateway="10.2.0.1/16"))

    assert f"is on pool {POOL}, not 10.2.0.0/16" in message
    assert state == world.state()


def test_delete_network_collects_what_the_engine_forgot(world: World) -> None:
    before = world.state()
    world.with_endpoint()

    world.ok("IpamDriver.ReleasePool", {"PoolID": POOL_ID})
    assert ["10.1.0.1", ADDRESS.split("/")[0]] == world.held_addresses(), "the pool stays until DeleteNetwork"
    world.ok("NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK_ID})

    assert before == world.state()


def test_delete_network_keeps_endpoints_of_another_network_on_the_pool(world: World) -> None:
    other = "6d" * 32
    world.with_endpoint()
    world.ok("NetworkDriver.CreateNetwork", create_network(network_id=other))
    state = world.state()[1]

    world.ok("NetworkDriver.DeleteNetwork", {"NetworkID": other})

    assert state == world.state()[1]
    assert NETWORK_ID == world.record().docker_network


def test_the_same_subnet_on_two_hosts_is_one_network(world: World) -> None:
    with World(node=NodeName("node-2"), store=world.store) as other:
        world.with_network()
        other.with_network(network_id="6d" * 32)
        address = other.ok("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": "", "Options": None})["Address"]
        other.ok("NetworkDriver.CreateEndpoint", create_endpoint(network_id="6d" * 32, address=address))

        [network] = other.networks.all()
        assert [("node-1", NETWORK_ID), ("node-2", "6d" * 32)] == list(network.docker_ids)
        assert network.vni == other.record().vni


def test_many_containers_start_and_stop_at_once(world: World) -> None:
    world.with_network()
    before = world.state()
    clients = [world.client.application.test_client() for _ in range(30)]

    def start(number: int) -> str:
        def call(method: str, body: Mapping[str, object]) -> Any:
            response = clients[number].post(f"/{method}", data=json.dumps(body).encode())
            assert 200 == response.status_code, response.data
            return json.loads(response.data)

        ident = f"{number:064x}"
        address = call("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": "", "Options": None})["Address"]
        call("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=ident, address=address))
        call("NetworkDriver.Join", join(ident))
        call("NetworkDriver.Leave", endpoint(ident))
        call("NetworkDriver.DeleteEndpoint", endpoint(ident))
        call("IpamDriver.ReleaseAddress", {"PoolID": POOL_ID, "Address": address.partition("/")[0]})
        return str(address)

    with ThreadPoolExecutor(len(clients)) as pool:
        addresses = list(pool.map(start, range(len(clients))))

    assert len(clients) == len(set(addresses))
    assert before == world.state()


def test_one_endpoint_created_by_several_threads_is_one_endpoint(world: World) -> None:
    world.with_network()
    body = json.dumps(create_endpoint()).encode()
    clients = [world.client.application.test_client() for _ in range(8)]

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: client.post("/NetworkDriver.CreateEndpoint", data=body), clients))

    assert [200] * len(clients) == [answer.status_code for answer in answers]
    assert 1 == len({answer.data for answer in answers})
    assert 1 == len(world.state()[1])


@pytest.mark.parametrize("method", ["DiscoverNew", "DiscoverDelete"])
def test_nodes_of_the_swarm_are_taken_note_of(world: World, method: str) -> None:
    node = {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.7", "BindAddress": "", "Self": False}}

    assert {} == world.ok(f"NetworkDriver.{method}", node)
    assert [] == world.faults.calls


def test_create_endpoint_asks_the_store_once(world: World) -> None:
    world.with_network()
    world.faults.calls.clear()

    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    assert ["MemoryStore.txn"] == [call for call in world.faults.calls if call.startswith("MemoryStore.")]


def test_repeated_create_endpoint_is_compared_with_a_record_that_is_not_known_here_yet(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.with_endpoint()
    record = world.record()
    monkeypatch.setattr(world.endpoints, "seen", lambda _: None)

    assert world.ok("NetworkDriver.CreateEndpoint", create_endpoint()) == {"Interface": {"MacAddress": str(record.mac)}}
    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint(mac="02:11:22:33:44:55"))

    assert "MAC address" in message
    assert record == world.record()
