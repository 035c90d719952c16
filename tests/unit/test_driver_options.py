"""Options and subnets that users give: what is accepted, and what the refusal tells them to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from driver.options import EndpointOptions, NetworkOptions
from kvstore import keys
from model.errors import InvalidInput
from model.ids import NodeName
from tests.support.driver_world import World, create_endpoint, create_network, join

MTU = "com.docker.network.driver.mtu"
MASQUERADE = "hawse.masquerade"
SWARM_ID = "k2s7n8h0u3f1q5x9b4w6c7d8e"


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.mark.parametrize("text", ["68", "1450", "9000", "65535"])
def test_an_mtu_is_accepted(text: str) -> None:
    assert int(text) == NetworkOptions.parse({MTU: text}).mtu_bytes


@pytest.mark.parametrize("text", ["", "0", "67", "65536", "-1", "1e3", " 1450", "1450b", "9" * 5000, "١٤٥٠"])
def test_another_mtu_is_refused_with_its_range(text: str) -> None:
    with pytest.raises(InvalidInput, match="68 to 65535") as caught:
        NetworkOptions.parse({MTU: text})

    assert MTU in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("options", "masquerade"), [({}, True), ({MASQUERADE: "true"}, True), ({MASQUERADE: "false"}, False)]
)
def test_a_network_is_masqueraded_unless_it_says_no(
    world: World,
    options: Mapping[str, str],
    masquerade: bool,  # noqa: FBT001
) -> None:
    world.with_network(generic=options)

    assert [masquerade] == [network.masquerade for network in world.networks.all()]


@pytest.mark.parametrize("text", ["", "no", "False", "0", "x" * 5000])
def test_what_is_no_truth_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"-o hawse\.masquerade=.* is neither true nor false") as caught:
        NetworkOptions.parse({MASQUERADE: text})

    assert len(str(caught.value)) < 200


def test_masquerade_is_the_same_on_every_host(world: World) -> None:
    world.with_network(generic={MASQUERADE: "false"})
    with World(node=NodeName("node-2"), store=world.store) as other:
        other.request_pool()
        said = other.refused("NetworkDriver.CreateNetwork", create_network(network_id="6d" * 32))

    assert "is not masqueraded; add -o hawse.masquerade=false" in said


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"encrypted, vlan: hawse has no such option") as caught:
        NetworkOptions.parse({"vlan": "7", "encrypted": "", MTU: "1400"})

    assert MTU in str(caught.value)


def test_labels_are_kept_and_the_engines_own_options_are_passed_over() -> None:
    options = EndpointOptions.parse(
        {
            "com.docker.network.endpoint.ifname": "net0",
            "com.docker.network.portmap": None,
            "label.app": "web",
            "label.a.b": "",
        }
    )

    assert {"app": "web", "a.b": ""} == options.labels


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"bandwidth": "5"}, "'bandwidth': hawse has no such option", id="unknown"),
        pytest.param({"label.": "x"}, "write label.<key>=<value>", id="no-key"),
        pytest.param({"label.reserved:host": ""}, "labels that begin with 'reserved:' are hawse's own", id="reserved"),
        pytest.param({"label.app": 7}, "'label.app' has to be text", id="number"),
        pytest.param({"label.app": None}, "'label.app' has to be text", id="null"),
    ],
)
def test_another_endpoint_option_is_refused(world: World, options: Mapping[str, object], said: str) -> None:
    world.with_network()
    before = world.state()

    assert said in world.refused("NetworkDriver.CreateEndpoint", create_endpoint(options=options))
    assert before == world.state()


IPV6 = {"AddressSpace": "hawse-local", "Pool": "fd00:1::/64", "Gateway": "fd00:1::1/64"}

BAD_NETWORKS = [
    pytest.param(create_network(generic={"vlan": "7"}), "hawse has no such option", id="option"),
    pytest.param(create_network(generic={MTU: "10"}), "68 to 65535", id="mtu"),
    pytest.param(create_network(options={"com.docker.network.enable_ipv6": True}), "IPv6 yet", id="enable-ipv6"),
    pytest.param(create_network(options={"com.docker.network.enable_ipv4": False}), "--ipv4=false", id="no-ipv4"),
    pytest.param(create_network(ipv6=[IPV6]), "IPv6 yet", id="ipv6-pool"),
    pytest.param({**create_network(), "IPv4Data": []}, "--ipam-driver", id="no-pool"),
    pytest.param(create_network(pool="", gateway=""), "--ipam-driver", id="empty-pool"),
    pytest.param(create_network(pool="10.2.0.0/16", gateway="10.2.0.1/16"), "--ipam-driver", id="foreign-pool"),
    pytest.param(create_network(pool="0.0.0.0/0", gateway=""), "--ipam-driver", id="null-ipam"),
    pytest.param(create_network(gateway="10.9.0.1/16"), "gateway 10.9.0.1 is not in", id="gateway"),
    pytest.param(create_network(aux={"r": "10.9.0.9/16"}), "aux-address r 10.9.0.9 is not in", id="aux"),
    pytest.param(create_network(aux={"r": "10.1.0.0/16"}), "network address of pool", id="aux-is-the-subnet"),
    pytest.param(
        {**create_network(), "IPv4Data": [{"Pool": "10.1.0.0/16"}, {"Pool": "10.2.0.0/16"}]},
        "one subnet, not 2 (10.1.0.0/16, 10.2.0.0/16)",
        id="two-subnets",
    ),
]


@pytest.mark.parametrize(("body", "said"), BAD_NETWORKS)
def test_a_network_that_cannot_be_is_refused_and_nothing_changes(
    world: World, body: Mapping[str, object], said: str
) -> None:
    world.request_pool()
    before = world.state()

    assert said in world.refused("NetworkDriver.CreateNetwork", body)
    assert before == world.state()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"address": ""}, "--ipam-driver", id="no-address"),
        pytest.param({"address": "10.9.0.5/16"}, "address 10.9.0.5 is not in the network's subnet", id="outside"),
        pytest.param({"address_ipv6": "fd00::5/64"}, "IPv6 yet", id="ipv6"),
        pytest.param({"network_id": "ab" * 32}, "ab" * 32, id="unknown-network"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_and_nothing_changes(
    world: World, change: dict[str, str], said: str
) -> None:
    world.with_network()
    before = world.state()

    assert said in world.refused("NetworkDriver.CreateEndpoint", create_endpoint(**change))
    assert before == world.state()


@pytest.mark.parametrize(("options", "mtu_bytes"), [({MTU: "1300"}, 1300), ({}, 1450)])
def test_the_mtu_of_a_network_reaches_the_kernel(world: World, options: dict[str, str], mtu_bytes: int) -> None:
    world.with_network(generic=options)

    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    [spec] = world.state()[1]
    assert spec is not None
    assert mtu_bytes == spec.mtu_bytes


def test_aux_addresses_are_reserved(world: World) -> None:
    world.with_network(aux={"router": "10.1.0.9/16", "again": "10.1.0.9/16", "dns": "10.1.0.8/16"})

    assert ["10.1.0.1", "10.1.0.8", "10.1.0.9"] == world.held_addresses()


def allocate(**changes: object) -> dict[str, object]:
    return {
        "NetworkID": SWARM_ID,
        "Options": {MTU: "1400"},
        "IPv4Data": [{"AddressSpace": "", "Pool": "10.1.0.0/16", "Gateway": "10.1.0.1/16"}],
        "IPv6Data": None,
        **changes,
    }


def test_allocate_network_answers_the_options_that_workers_get(world: World) -> None:
    world.request_pool("hawse-global")

    first = world.ok("NetworkDriver.AllocateNetwork", allocate())
    again = world.ok("NetworkDriver.AllocateNetwork", allocate())

    assert {"Options": {MTU: "1400"}} == first == again


def test_a_swarm_network_lives_on_leader_and_worker_and_leaves_nothing(world: World) -> None:
    before = world.state()
    world.request_pool("hawse-global")
    options = world.ok("NetworkDriver.AllocateNetwork", allocate())["Options"]
    world.with_network(network_id=SWARM_ID, generic=options)

    world.ok("IpamDriver.ReleaseAddress", {"PoolID": "hawse-local:10.1.0.0/16", "Address": "10.1.0.1"})
    world.ok("IpamDriver.ReleasePool", {"PoolID": "hawse-local:10.1.0.0/16"})
    world.ok("NetworkDriver.DeleteNetwork", {"NetworkID": SWARM_ID})
    assert 1 == len(world.store.list(keys.NETWORKS).items), "the Swarm still has it"
    world.ok("NetworkDriver.FreeNetwork", {"NetworkID": SWARM_ID})
    world.ok("IpamDriver.ReleaseAddress", {"PoolID": "hawse-global:10.1.0.0/16", "Address": "10.1.0.1"})
    world.ok("IpamDriver.ReleasePool", {"PoolID": "hawse-global:10.1.0.0/16"})

    assert before == world.state()


def test_an_internal_swarm_network_is_internal_although_the_leader_is_not_told(world: World) -> None:
    internal = {"com.docker.network.internal": True}
    world.request_pool("hawse-global")
    world.ok("NetworkDriver.AllocateNetwork", allocate(Options={}))
    world.with_network(network_id=SWARM_ID, options=internal)

    with World(node=NodeName("node-2"), store=world.store) as worker:
        worker.with_network(network_id=SWARM_ID, options=internal)
        world.ok("NetworkDriver.AllocateNetwork", allocate(Options={}))
        worker.ok("NetworkDriver.CreateEndpoint", create_endpoint(network_id=SWARM_ID))
        joined = worker.ok("NetworkDriver.Join", {**join(), "NetworkID": SWARM_ID})

        [network] = worker.networks.all()

    assert (True, None, 3) == (network.internal, network.gateway, len(network.docker_ids))
    assert joined["DisableGatewayService"] is True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"Options": {"vlan": "7"}}, "hawse has no such option", id="option"),
        pytest.param({"IPv6Data": [IPV6]}, "IPv6 yet", id="ipv6"),
        pytest.param({"IPv4Data": [{"Pool": "10.3.0.0/16"}]}, "--ipam-driver", id="foreign-pool"),
        pytest.param({"IPv4Data": None}, "--ipam-driver", id="no-pool"),
    ],
)
def test_a_swarm_network_that_cannot_be_is_refused(world: World, change: Mapping[str, object], said: str) -> None:
    world.request_pool("hawse-global")
    before = world.state()

    assert said in world.refused("NetworkDriver.AllocateNetwork", allocate(**change))
    assert before == world.state()


def test_a_pool_of_another_holder_is_not_enough(world: World) -> None:
    """That the Swarm's leader holds the pool says nothing of the IPAM driver of a network that this host makes."""
    world.request_pool("hawse-global")

    assert "--ipam-driver" in world.refused("NetworkDriver.CreateNetwork", create_network())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({"AddressSpace": "hawse-local", "Pool": "fd00::/64", "V6": True}, "IPv6 yet", id="ipv6"),
        pytest.param({"AddressSpace": "LocalDefault", "Pool": "10.1.0.0/16"}, "--ipam-driver", id="space"),
        pytest.param({"AddressSpace": "hawse-local", "SubPool": "10.1.0.0/16"}, "needs a --subnet", id="range-only"),
        pytest.param(
            {"AddressSpace": "hawse-local", "Pool": "10.1.0.0/16", "Options": {"foo": "bar"}},
            "--ipam-opt foo",
            id="ipam-opt",
        ),
    ],
)
def test_a_pool_that_cannot_be_is_refused(world: World, body: Mapping[str, object], said: str) -> None:
    before = world.state()

    assert said in world.refused("IpamDriver.RequestPool", body)
    assert before == world.state()


def test_a_pool_is_chosen_when_none_is_asked_for(world: World) -> None:
    answer = world.ok("IpamDriver.RequestPool", {"AddressSpace": "hawse-local", "Pool": "", "SubPool": ""})

    assert {"PoolID": "hawse-local:10.200.0.0/24", "Pool": "10.200.0.0/24", "Data": {}} == answer


def test_an_ip_range_is_part_of_the_pools_name(world: World) -> None:
    answer = world.ok(
        "IpamDriver.RequestPool", {"AddressSpace": "hawse-local", "Pool": "10.1.0.0/16", "SubPool": "10.1.5.0/24"}
    )
    address = world.ok("IpamDriver.RequestAddress", {"PoolID": answer["PoolID"], "Address": ""})

    assert "10.1.0.0/16" == answer["Pool"]
    assert str(address["Address"]).startswith("10.1.5.")
    assert str(address["Address"]).endswith("/16")


def test_what_the_swarm_puts_into_ipam_options_is_accepted(world: World) -> None:
    options = {"com.docker.network.ipam.serial": "true", "RequestAddressType": "com.docker.network.gateway"}

    answer = world.ok(
        "IpamDriver.RequestPool", {"AddressSpace": "hawse-global", "Pool": "10.1.0.0/16", "Options": options}
    )

    assert "hawse-global:10.1.0.0/16" == answer["PoolID"]


@pytest.mark.parametrize("method", ["ReleasePool", "RequestAddress", "ReleaseAddress"])
def test_a_pool_id_of_someone_else_is_refused(world: World, method: str) -> None:
    body = {"PoolID": "LocalDefault/10.0.0.0/8"}

    assert "was not made by hawse" in world.refused(f"IpamDriver.{method}", body)


def test_releasing_no_address_is_success(world: World) -> None:
    assert {} == world.ok("IpamDriver.ReleaseAddress", {"PoolID": "hawse-local:10.1.0.0/16", "Address": ""})
