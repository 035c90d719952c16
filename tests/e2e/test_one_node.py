"""One node, as managed plugin: everything that Docker's own drivers can do with a container's networks."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator

import pytest

from kvstore import keys
from tests.support import leaks, plugin
from tests.support.hosts import container_host, machine_host
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.testbed import Testbed


@pytest.fixture
def node(one_node: Node) -> Iterator[Node]:
    """A node on which every container and network of the test is removed, and nothing of them may stay."""
    yield one_node
    one_node.remove_everything()
    leaks.check_addresses(one_node)
    leaks.check([one_node])


@pytest.fixture
def network(node: Node) -> str:
    node.create_network("net", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.1")
    return "net"


def ping(node: Node, container: str, target: str, *options: str) -> bool:
    return node.execute(container, "ping", "-c", "2", "-i", "0.1", "-W", "1", *options, target).rc == 0


def test_plugin_is_well_after_enable(node: Node) -> None:
    status = node.hawse_json("status")

    assert status["healthy"], status["problems"]
    assert status["agent"]["node"] == node.name
    assert status["agent"]["address"] == str(node.address)
    assert status["agent"]["scope"] == "local"


def test_the_plugin_is_small(testbed: Testbed, node: Node) -> None:
    build = testbed.builds[node.engine.version()]

    assert build.rootfs_mb < 450
    assert build.create_s < 60, "25 s on a machine that does nothing else"


def test_network_is_created_inspected_and_removed(node: Node) -> None:
    node.create_network("net", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.254")
    inspected = node.engine.inspect("network", "net")

    assert inspected["Driver"] == plugin.NAME
    assert inspected["IPAM"]["Driver"] == plugin.NAME
    assert inspected["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.254"}]
    (listed,) = node.hawse_json("network", "ls")["networks"]
    assert (listed["pool"], listed["gateway"]) == ("10.1.0.0/24", "10.1.0.254")

    node.engine("network", "rm", "net")

    assert node.hawse_json("network", "ls")["networks"] == []


def test_network_without_subnet_gets_a_pool_of_its_own(node: Node) -> None:
    for name in ("one", "two"):
        node.create_network(name)
    pools = {node.engine.inspect("network", name)["IPAM"]["Config"][0]["Subnet"] for name in ("one", "two")}

    assert len(pools) == 2
    assert all(ipaddress.IPv4Network(pool).subnet_of(ipaddress.IPv4Network("10.210.0.0/16")) for pool in pools)


def test_containers_reach_each_other_by_name(node: Node, network: str) -> None:
    node.start("web", network)
    node.start("client", network)

    assert ping(node, "client", "web")
    assert ping(node, "web", "client")


def test_a_container_is_set_up_as_docker_says(node: Node, network: str) -> None:
    node.start("web", network)
    settings = node.engine.inspect("container", "web")["NetworkSettings"]["Networks"][network]
    inside = container_host(node.engine, "web")

    link = inside.run("ip -o link show eth0")
    address = inside.run("ip -o addr show eth0")
    route = inside.run("ip route")

    assert settings["MacAddress"] in link.stdout
    assert "mtu 1450" in link.stdout
    assert f"inet {settings['IPAddress']}/24" in address.stdout
    assert "default via 10.1.0.1 dev eth0" in route.stdout
    assert not inside.run("ip -o link show eth1").succeeded, "an interface on docker_gwbridge"


def test_the_host_has_one_link_for_a_container(node: Node, network: str) -> None:
    node.start("web", network)
    endpoint_id = node.engine.inspect("container", "web")["NetworkSettings"]["Networks"][network]["EndpointID"]
    host = machine_host(node.machine)

    assert host.interface(f"hw{endpoint_id[:12]}").exists
    assert not host.interface(f"hwp{endpoint_id[:12]}").exists
    assert node.links()[f"hw{endpoint_id[:12]}"]["ifalias"] == f"hawse:{endpoint_id}"


def test_endpoint_and_address_are_listed(node: Node, network: str) -> None:
    node.start("web", network)
    address = node.address_in("web", network)

    (endpoint,) = node.hawse_json("endpoint", "ls")["endpoints"]
    addresses = {entry["address"]: entry for entry in node.hawse_json("ipam", "ls")["addresses"]}

    assert (endpoint["node"], endpoint["network"], endpoint["addresses"]) == (node.name, "10.1.0.0/24", [address])
    assert addresses[address]["kind"] == "endpoint"
    assert addresses["10.1.0.1"]["kind"] == "gateway"
    assert f"{keys.ADDRESSES}10.1.0.0-24/{address}" in node.etcd.entries(keys.ADDRESSES)


def test_an_address_that_was_asked_for_is_given(node: Node, network: str) -> None:
    node.start("web", network, "--ip", "10.1.0.77")
    node.start("client", network)

    assert node.address_in("web", network) == "10.1.0.77"
    assert ping(node, "client", "10.1.0.77")


def test_a_mac_address_that_was_asked_for_is_given(node: Node, network: str) -> None:
    node.start("web", network, "--mac-address", "02:42:0a:01:00:99")
    node.start("client", network)

    link = container_host(node.engine, "web").run("cat /sys/class/net/eth0/address")

    assert link.stdout.strip() == "02:42:0a:01:00:99"
    assert ping(node, "client", "web")


def test_addresses_come_from_the_ip_range_only(node: Node) -> None:
    node.create_network("net", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.1", "--ip-range", "10.1.0.64/29")
    for number in range(4):
        node.start(f"c{number}", "net")
    given = {node.address_in(f"c{number}", "net") for number in range(4)}

    assert len(given) == 4
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network("10.1.0.64/29") for address in given)


def test_an_auxiliary_address_is_never_given(node: Node) -> None:
    node.create_network("net", "--subnet", "10.1.0.0/29", "--gateway", "10.1.0.1", "--aux-address", "printer=10.1.0.3")
    for number in range(4):
        node.start(f"c{number}", "net")

    given = {node.address_in(f"c{number}", "net") for number in range(4)}

    assert given == {"10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"}


def test_a_running_container_is_connected_and_disconnected(node: Node, network: str) -> None:
    node.start("web", network)
    node.engine("run", "-d", "--name", "late", "--network", "none", IMAGE)
    node.engine("network", "disconnect", "none", "late")

    node.engine("network", "connect", network, "late")
    assert ping(node, "late", "web")

    node.engine("network", "disconnect", network, "late")
    assert not ping(node, "late", node.address_in("web", network))
    assert len(node.hawse_json("endpoint", "ls")["endpoints"]) == 1

    node.engine("network", "connect", network, "late")
    assert ping(node, "web", "late")


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_container_in_two_networks_reaches_both(node: Node, first: str) -> None:
    second = {"one": "two", "two": "one"}[first]
    node.create_network("one", "--subnet", "10.1.0.0/24")
    node.create_network("two", "--subnet", "10.2.0.0/24")
    node.start("alice", "one")
    node.start("bob", "two")
    node.start("both", first)
    node.engine("network", "connect", second, "both")

    assert ping(node, "both", "alice")
    assert ping(node, "both", "bob")
    assert ping(node, "alice", "both")
    assert ping(node, "bob", "both")
    assert not ping(node, "alice", node.address_in("bob", "two")), "two networks are not one"

    node.engine("network", "disconnect", first, "both")

    reached = {"one": "alice", "two": "bob"}[second]
    assert ping(node, "both", reached)


def test_containers_of_different_networks_do_not_reach_each_other(node: Node) -> None:
    node.create_network("one", "--subnet", "10.1.0.0/24")
    node.create_network("two", "--subnet", "10.2.0.0/24")
    node.start("alice", "one")
    node.start("bob", "two")

    assert not ping(node, "alice", node.address_in("bob", "two"))
    assert node.execute("alice", "nslookup", "bob").rc != 0


def test_an_internal_network_has_no_way_out(node: Node) -> None:
    node.create_network("inside", "--subnet", "10.1.0.0/24", "--internal")
    node.start("web", "inside")
    node.start("client", "inside")

    route = container_host(node.engine, "client").run("ip route")

    assert ping(node, "client", "web")
    assert "default" not in route.stdout
    assert not ping(node, "client", str(node.address))


def test_a_container_is_stopped_started_and_restarted(node: Node, network: str) -> None:
    node.start("web", network)
    node.start("client", network)
    before = node.engine.inspect("container", "web")["NetworkSettings"]["Networks"][network]["EndpointID"]

    node.engine("stop", "web")
    assert len(node.hawse_json("endpoint", "ls")["endpoints"]) == 1

    node.engine("start", "web")
    assert ping(node, "client", "web")

    node.engine("restart", "web")
    assert ping(node, "client", "web")
    after = node.engine.inspect("container", "web")["NetworkSettings"]["Networks"][network]["EndpointID"]
    assert after != before
    assert len(node.hawse_json("endpoint", "ls")["endpoints"]) == 2


def test_a_running_container_is_removed_by_force(node: Node, network: str) -> None:
    node.start("web", network)

    node.engine("rm", "-f", "web")

    assert node.hawse_json("endpoint", "ls")["endpoints"] == []
    assert [name for name in node.links() if name.startswith("hw") and name != "hawse0"] == []


def test_a_container_that_ends_by_itself_leaves_nothing(node: Node, network: str) -> None:
    node.engine("run", "--rm", "--network", network, IMAGE, "true")

    assert node.hawse_json("endpoint", "ls")["endpoints"] == []


def test_a_network_in_use_is_not_removed(node: Node, network: str) -> None:
    node.start("web", network)

    result = node.engine.run("network", "rm", network)

    assert result.rc != 0
    assert "active endpoints" in result.err
    assert len(node.hawse_json("network", "ls")["networks"]) == 1


def test_a_released_address_is_not_given_out_at_once(node: Node, network: str) -> None:
    seen = []
    for number in range(4):
        node.start(f"c{number}", network)
        seen.append(node.address_in(f"c{number}", network))
        node.remove(f"c{number}")

    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    "carry",
    [
        pytest.param(lambda address: ("ping", "-c", "2", "-i", "0.1", "-M", "do", "-s", "1422", address), id="mtu"),
        pytest.param(lambda address: ("ping", "-c", "2", "-i", "0.1", "-s", "8000", address), id="fragmented"),
        pytest.param(lambda address: ("iperf3", "-c", address, "-t", "1"), id="tcp"),
        pytest.param(lambda address: ("iperf3", "-c", address, "-t", "1", "-u", "-b", "5M"), id="udp"),
    ],
)
def test_all_kinds_of_packets_arrive(node: Node, network: str, carry: Callable[[str], tuple[str, ...]]) -> None:
    node.start("server", network, command=("iperf3", "-s"))
    node.start("client", network)

    result = node.execute("client", *carry(node.address_in("server", network)))

    assert result.rc == 0, str(result)


def test_a_forged_source_address_does_not_get_out(node: Node, network: str) -> None:
    node.start("victim", network)
    node.start("attacker", network, "--cap-add", "NET_ADMIN")
    before = _dropped(node)

    container_host(node.engine, "attacker").check_output("ip addr add 10.1.0.200/32 dev eth0")

    assert not ping(node, "attacker", "victim", "-I", "10.1.0.200")
    assert _dropped(node) >= before + 2


def test_the_command_says_so_when_there_is_no_agent(node: Node) -> None:
    result = node.hawse("--socket", "/run/hawse/none.sock", "status")

    assert result.rc == 3
    assert len(result.err.strip().splitlines()) == 1
    assert "Traceback" not in result.err


def _dropped(node: Node) -> int:
    counters = json.loads(node.hawse("counters", "-o", "json").out)["counters"]
    return sum(int(row["packets"]) for row in counters if "source" in row["text"].lower())
