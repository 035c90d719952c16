"""The hosts and the world as peers of containers: ways, identities and policy."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from typing import Final

import pytest

from datapath.abi import DropReason
from datapath.api import Direction, NetworkSpec
from datapath.policy_table import ANY_REMOTE, IdentityFlags, PolicyKey, PolicyTable, PolicyVerdict
from model.ids import IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD
from tests.support.netns import Namespace
from tests.support.overlay import IDENTITY, OPEN, Container, Node, Overlay

pytestmark = pytest.mark.kernel

RULE: Final = 1000
PREFIX_IDENTITY: Final = 0x01000005
WORLD_ADDRESS: Final = "192.0.2.10"
WORLD: Final = IPv4Network("192.0.2.0/24")
PEERS: Final = (IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD)


def closed_but_for(
    *remotes: int, direction: Direction, deny: bool = False, prefixes: Mapping[IPv4Network, int] | None = None
) -> PolicyTable:
    """The containers are closed in one direction but for these peers, or open to anyone but these."""
    flags = IdentityFlags.INGRESS if direction is Direction.INGRESS else IdentityFlags.EGRESS
    entries = {PolicyKey(IDENTITY, one, direction): PolicyVerdict(deny=deny, rule=RULE) for one in remotes}
    if deny:
        entries[PolicyKey(IDENTITY, ANY_REMOTE, direction)] = PolicyVerdict(deny=False, rule=RULE + 1)
    identities = {**OPEN.identities, **dict.fromkeys(PEERS, IdentityFlags.KNOWN)}
    identities[IDENTITY] = identities[IDENTITY] | flags
    return PolicyTable(entries=entries, identities=identities, prefixes=prefixes or {})


def pings(source: Namespace, target: str, *options: str) -> bool:
    output = source.run("ping", "-c", "1", "-W", "1", *options, target, check=False)
    return "1 packets transmitted, 1 received" in output


@pytest.fixture
def pair(overlay: Overlay) -> tuple[Container, Container]:
    """A container on each of two hosts."""
    first, second = overlay.add_node(), overlay.add_node()
    one, other = overlay.add_container(first, "10.5.0.2"), overlay.add_container(second, "10.5.0.3")
    overlay.connect()
    return one, other


@pytest.fixture
def outsider(overlay: Overlay, pair: tuple[Container, Container]) -> Namespace:
    """A machine outside of the cluster, to which the first host routes."""
    node = pair[0].node
    world = overlay.namespaces.make("world")
    node.namespace.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", world.name)
    node.namespace.ip("addr", "add", "192.0.2.1/24", "dev", "uplink")
    node.namespace.ip("link", "set", "uplink", "up")
    node.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    world.ip("addr", "add", f"{WORLD_ADDRESS}/24", "dev", "eth0")
    world.ip("link", "set", "eth0", "up")
    world.ip("route", "add", "10.5.0.0/24", "via", "192.0.2.1")
    return world


def test_host_and_its_containers_reach_one_another(pair: tuple[Container, Container]) -> None:
    one, _ = pair

    assert pings(one.node.namespace, one.address)
    assert one.ping(str(one.node.address))


def test_host_and_containers_of_another_host_reach_one_another(pair: tuple[Container, Container]) -> None:
    one, other = pair

    assert pings(one.node.namespace, other.address)
    assert one.ping(str(other.node.address))


def test_world_and_containers_reach_one_another_where_routes_say_so(
    pair: tuple[Container, Container], outsider: Namespace
) -> None:
    one, _ = pair

    assert pings(outsider, one.address)
    assert one.ping(WORLD_ADDRESS)


def test_world_does_not_reach_containers_of_another_host_through_the_tunnel(
    pair: tuple[Container, Container], outsider: Namespace
) -> None:
    one, other = pair

    assert not pings(outsider, other.address)
    assert one.node.count(DropReason.NO_TUNNEL_ENDPOINT, Direction.INGRESS) == 1


def test_host_cannot_speak_for_a_container(pair: tuple[Container, Container]) -> None:
    one, _ = pair
    one.node.namespace.ip("addr", "add", "10.5.0.77/32", "dev", "lo")

    assert not pings(one.node.namespace, one.address, "-I", "10.5.0.77")
    assert one.node.count(DropReason.INVALID_SOURCE_IP, Direction.INGRESS) == 1


@pytest.mark.parametrize("peer", [IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD])
def test_ingress_policy_tells_own_host_other_hosts_and_the_world_apart(
    pair: tuple[Container, Container], outsider: Namespace, peer: int
) -> None:
    one, other = pair
    one.node.datapath.apply_policy(closed_but_for(peer, direction=Direction.INGRESS))

    assert {
        IDENTITY_HOST: pings(one.node.namespace, one.address),
        IDENTITY_REMOTE_NODE: pings(other.node.namespace, one.address),
        IDENTITY_WORLD: pings(outsider, one.address),
    } == {one: one == peer for one in PEERS}
    assert one.node.count(DropReason.POLICY_DENIED, Direction.INGRESS) == 2


@pytest.mark.parametrize("peer", [IDENTITY_HOST, IDENTITY_REMOTE_NODE, IDENTITY_WORLD])
def test_egress_policy_tells_own_host_other_hosts_and_the_world_apart(
    pair: tuple[Container, Container], outsider: Namespace, peer: int
) -> None:
    one, other = pair
    one.node.datapath.apply_policy(closed_but_for(peer, direction=Direction.EGRESS, deny=True))

    assert {
        IDENTITY_HOST: one.ping(str(one.node.address)),
        IDENTITY_REMOTE_NODE: one.ping(str(other.node.address)),
        IDENTITY_WORLD: one.ping(WORLD_ADDRESS),
    } == {one: one != peer for one in PEERS}
    assert one.node.count(DropReason.POLICY_DENY, Direction.EGRESS) == 1


def test_longest_prefix_decides_who_an_address_of_the_world_is(
    pair: tuple[Container, Container], outsider: Namespace
) -> None:
    one, _ = pair
    outsider.ip("addr", "add", "192.0.2.200/24", "dev", "eth0")
    table = closed_but_for(
        PREFIX_IDENTITY,
        direction=Direction.INGRESS,
        prefixes={WORLD: PREFIX_IDENTITY + 1, ip_network("192.0.2.128/25"): PREFIX_IDENTITY},
    )
    one.node.datapath.apply_policy(table)

    assert pings(outsider, one.address, "-I", "192.0.2.200")
    assert not pings(outsider, one.address, "-I", WORLD_ADDRESS)


def test_host_keeps_a_route_of_its_own_to_the_same_network(pair: tuple[Container, Container]) -> None:
    node = pair[0].node
    node.datapath.replace_networks({})
    node.namespace.ip("route", "add", "blackhole", "10.5.0.0/24")

    node.datapath.replace_networks({IPv4Network("10.5.0.0/24"): NetworkSpec(vni=pair[0].spec.vni)})

    assert "blackhole 10.5.0.0/24" in node.namespace.ip("route", "show")


def test_routes_and_the_pair_go_with_the_rest(overlay: Overlay) -> None:
    node = overlay.add_node()
    overlay.connect()
    assert "dev hawse_host" in routes(node)

    node.datapath.destroy()

    assert "hawse" not in routes(node) + node.namespace.ip("link", "show")


def routes(node: Node) -> str:
    return node.namespace.ip("route", "show")


def test_new_agent_adopts_the_pair_and_changes_nothing(pair: tuple[Container, Container]) -> None:
    one, _ = pair
    before = one.node.namespace.ip("-o", "link", "show", "hawse_host")
    pinging = subprocess.Popen(
        ["ip", "netns", "exec", one.node.namespace.name, "ping", "-i", "0.01", "-c", "100", "-W", "1", one.address],
        stdout=subprocess.PIPE,
        text=True,
    )

    one.node.datapath.start(one.node.config)

    output, _ = pinging.communicate(timeout=20)
    assert "100 packets transmitted, 100 received" in output
    assert before == one.node.namespace.ip("-o", "link", "show", "hawse_host")
