"""The host's own interfaces, settings and control group: what of them the datapath uses, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath import abi, maps, names, source
from datapath.api import Datapath, DatapathConfig, PublishedPort, PublishedTarget, TranslationMode
from datapath.cgroup import find_cgroup
from datapath.maps import TypedMap
from datapath.pins import Pins
from tests.support.netns import Namespace, run
from tests.support.overlay import OPEN, VNI, Node, Overlay, an_endpoint, standing_overlay

pytestmark = pytest.mark.kernel

PUBLISHED: Final = {
    PublishedPort(port=8080, protocol=6): PublishedTarget(address=IPv4Address("10.5.0.2"), vni=VNI, port=80)
}
PASS_ON: Final = "1,6 0 0 0,"
"""A filter of somebody else: it matches nothing."""
HOOKS: Final = 4
"""Programs for sockets."""


@pytest.fixture(scope="module")
def hosts(bpf_root: Path) -> Iterator[Overlay]:
    """One for all tests: programs and maps are loaded once."""
    with standing_overlay(bpf_root) as made:
        made.add_node()
        yield made


@pytest.fixture
def node(hosts: Overlay) -> Node:
    """As it was at first."""
    node = hosts.nodes[0]
    node.datapath.start(node.config)
    node.datapath.replace_networks({})
    node.datapath.replace_published({})
    return node


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group of our own."""
    above = find_cgroup()
    assert above is not None
    made = above / f"hwk-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    made.mkdir()
    yield made
    made.rmdir()


def filters(node: Node, ifname: str, side: str = "ingress") -> list[str]:
    """Names of the programs on one side of an interface."""
    listed = json.loads(run("tc", "-j", "-n", node.namespace.name, "filter", "show", "dev", ifname, side) or "[]")
    return [entry["options"].get("bpf_name", entry["kind"]) for entry in listed if "options" in entry]


def devices(node: Node) -> Mapping[str, str]:
    """Addresses by interface, as the programs see them."""
    links = {link["ifindex"]: link["ifname"] for link in json.loads(node.namespace.ip("-j", "link", "show"))}
    opened = TypedMap(Pins(node.root).maps, "hawse_devices", maps.DEVICES)
    try:
        return {links[key.ifindex]: str(IPv4Address(value.address)) for key, value in opened.items()}
    finally:
        opened.close()


@pytest.fixture
def uplink(node: Node) -> Iterator[str]:
    """Another interface of the host, without a route so far."""
    node.namespace.ip("link", "add", "uplink", "type", "veth", "peer", "uplink-peer")
    node.namespace.ip("link", "set", "uplink", "up")
    node.namespace.ip("link", "set", "uplink-peer", "up")
    node.namespace.ip("addr", "add", "192.0.2.1/24", "dev", "uplink")
    yield "uplink"
    node.namespace.ip("link", "del", "uplink", check=False)


def test_interface_with_the_nodes_address_leads_outside(node: Node) -> None:
    assert devices(node) == {"eth0": str(node.address)}
    assert filters(node, "eth0") == ["from_underlay"]
    assert filters(node, "eth0", "egress") == ["to_underlay"]


@pytest.mark.parametrize(
    "route",
    [
        ["via", "192.0.2.254"],
        ["nexthop", "via", "192.0.2.254", "nexthop", "via", "192.0.2.253"],
    ],
)
def test_interface_leads_outside_as_long_as_it_has_a_default_route(node: Node, uplink: str, route: list[str]) -> None:
    node.namespace.ip("addr", "add", "192.0.2.7/24", "dev", uplink)
    node.namespace.ip("route", "add", "default", *route)

    node.datapath.replace_networks({})
    assert devices(node) == {"eth0": str(node.address), uplink: "192.0.2.1"}
    assert filters(node, uplink) == ["from_underlay"]

    node.namespace.ip("route", "del", "default")
    node.datapath.replace_networks({})
    assert devices(node) == {"eth0": str(node.address)}
    assert filters(node, uplink) == []


def test_interface_that_is_gone_is_forgotten(node: Node, uplink: str) -> None:
    node.namespace.ip("route", "add", "default", "via", "192.0.2.254")
    node.datapath.replace_networks({})
    node.namespace.ip("link", "del", uplink)

    node.datapath.replace_networks({})

    assert devices(node) == {"eth0": str(node.address)}


def test_program_that_somebody_removed_comes_back(node: Node) -> None:
    run("tc", "-n", node.namespace.name, "qdisc", "del", "dev", "eth0", "clsact")

    node.datapath.replace_networks({})

    assert filters(node, "eth0") == ["from_underlay"]


def test_filters_of_others_stay(node: Node, uplink: str) -> None:
    node.namespace.ip("route", "add", "default", "via", "192.0.2.254")
    for side in ("ingress", "egress"):
        run("tc", "-n", node.namespace.name, "qdisc", "replace", "dev", uplink, "clsact")
        run(
            "tc", "-n", node.namespace.name, "filter", "add", "dev", uplink, side,
            "protocol", "all", "prio", "1", "bpf", "bytecode", PASS_ON,
        )  # fmt: skip

    node.datapath.replace_networks({})
    assert sorted(filters(node, uplink)) == ["bpf", "from_underlay"]
    assert sorted(filters(node, uplink, "egress")) == ["bpf", "to_underlay"]

    node.namespace.ip("route", "del", "default")
    node.datapath.replace_networks({})
    assert filters(node, uplink) == ["bpf"]
    assert filters(node, uplink, "egress") == ["bpf"]


def test_loopback_is_watched_only_while_ports_are_published(node: Node) -> None:
    assert filters(node, "lo") == []

    node.datapath.replace_published(PUBLISHED)
    assert filters(node, "lo") == ["from_loopback"]

    node.datapath.start(node.config)
    assert filters(node, "lo") == ["from_loopback"]

    node.datapath.replace_published({})
    assert filters(node, "lo") == []


def test_programs_look_for_published_ports_only_while_there_are_some(node: Node) -> None:
    def flags() -> int:
        return node.datapath._open_maps.config.read().flags

    assert flags() == 0
    node.datapath.replace_published(PUBLISHED)
    assert flags() == abi.ConfigFlags.PUBLISHED
    node.datapath.apply_policy(dataclasses.replace(OPEN, audit=True))
    assert flags() == abi.ConfigFlags.PUBLISHED | abi.ConfigFlags.AUDIT
    node.datapath.replace_published({})
    assert flags() == abi.ConfigFlags.AUDIT
    node.datapath.replace_published(PUBLISHED)
    node.datapath.apply_policy(OPEN)
    assert flags() == abi.ConfigFlags.PUBLISHED


def setting(namespace: Namespace, ifname: str, name: str) -> str:
    return namespace.run("cat", f"/proc/sys/net/ipv4/conf/{ifname}/{name}").strip()


@pytest.mark.parametrize("ifname", [names.HOST_IFNAME, names.HOST_PEER_IFNAME])
def test_pair_to_the_hosts_stack_takes_packets_of_any_address(node: Node, ifname: str) -> None:
    found = {
        name: setting(node.namespace, ifname, name)
        for name in ("forwarding", "accept_local", "route_localnet", "rp_filter")
    }

    assert found == {"forwarding": "1", "accept_local": "0", "route_localnet": "0", "rp_filter": "2"}


def test_loopback_takes_answers_of_published_ports(node: Node) -> None:
    node.datapath.replace_published(PUBLISHED)

    assert [setting(node.namespace, "lo", name) for name in ("accept_local", "route_localnet")] == ["1", "1"]


def test_packets_of_containers_may_be_forwarded_by_programs(node: Node) -> None:
    node.namespace.run("sysctl", "-qw", "net.ipv4.conf.default.forwarding=0")

    made = node.datapath.ensure_endpoint(an_endpoint("10.5.0.2"))

    assert setting(node.namespace, made.host_ifname, "forwarding") == "1"
    node.datapath.remove_endpoint(made.endpoint_id)


def attached(cgroup: Path) -> list[tuple[str, int]]:
    """Hook and program, for each program at a control group."""
    listed = json.loads(run("bpftool", "-j", "cgroup", "show", str(cgroup)).strip() or "[]")
    return sorted((entry["attach_type"], entry["id"]) for entry in listed)


def with_cgroup(node: Node, cgroup: Path) -> DatapathConfig:
    return dataclasses.replace(node.config, cgroup=cgroup)


def at_sockets(datapath: Datapath) -> str:
    """Why services are not translated at sockets."""
    return next(feature.detail for feature in datapath.features() if feature.name == "services at sockets")


def test_programs_for_sockets_stay_over_restarts_and_go_when_not_wished_for(node: Node, cgroup: Path) -> None:
    node.datapath.start(with_cgroup(node, cgroup))
    before = attached(cgroup)
    assert len({hook for hook, _ in before}) == len(before) == HOOKS
    assert node.datapath.translation_mode() is TranslationMode.SOCKET
    assert not at_sockets(node.datapath)

    again = node.another_agent()
    assert attached(cgroup) == before
    again.start(with_cgroup(node, cgroup))
    assert attached(cgroup) == before

    again.start(node.config)
    assert attached(cgroup) == []
    assert again.translation_mode() is TranslationMode.PACKET
    assert at_sockets(again)
    again.close()


def test_another_build_replaces_the_programs_for_sockets(node: Node, cgroup: Path, tmp_path: Path) -> None:
    node.datapath.start(with_cgroup(node, cgroup))
    before = attached(cgroup)
    shutil.copytree(source.FOLDER, tmp_path / "bpf")
    with (tmp_path / "bpf" / "sock.c").open("a", encoding="utf-8") as file:
        file.write("/* another build */\n")

    newer = node.another_agent(tmp_path / "bpf")
    newer.start(with_cgroup(node, cgroup))

    after = attached(cgroup)
    assert [hook for hook, _ in after] == [hook for hook, _ in before]
    assert not {program for _, program in after} & {program for _, program in before}
    newer.close()


def test_programs_for_sockets_follow_to_another_control_group(node: Node, cgroup: Path) -> None:
    node.datapath.start(with_cgroup(node, cgroup))
    (cgroup / "below").mkdir()

    node.datapath.start(with_cgroup(node, cgroup / "below"))

    assert attached(cgroup) == []
    assert len(attached(cgroup / "below")) == HOOKS
    (cgroup / "below").rmdir()


def test_control_group_that_was_removed_and_made_again_gets_its_programs(node: Node, cgroup: Path) -> None:
    node.datapath.start(with_cgroup(node, cgroup))
    cgroup.rmdir()
    cgroup.mkdir()
    assert attached(cgroup) == []

    node.datapath.start(with_cgroup(node, cgroup))

    assert len(attached(cgroup)) == HOOKS


def test_control_group_that_does_not_exist_leaves_the_translation_to_packets(node: Node, cgroup: Path) -> None:
    node.datapath.start(with_cgroup(node, cgroup / "missing"))

    assert node.datapath.translation_mode() is TranslationMode.PACKET
    assert "No such file" in at_sockets(node.datapath)


def test_destroying_takes_away_what_is_ours_and_nothing_else(hosts: Overlay, cgroup: Path) -> None:
    node, other = hosts.add_node(), hosts.nodes[0]
    run(
        "tc", "-n", node.namespace.name, "filter", "add", "dev", "eth0", "ingress",
        "protocol", "all", "prio", "1", "bpf", "bytecode", PASS_ON,
    )  # fmt: skip
    for one in (node, other):
        one.datapath.start(with_cgroup(one, cgroup))
    node.datapath.replace_published(PUBLISHED)
    assert len(attached(cgroup)) == 2 * HOOKS

    node.datapath.destroy()

    assert filters(node, "eth0") == ["bpf"]
    assert filters(node, "lo") == []
    assert len(attached(cgroup)) == HOOKS


def test_destroying_without_having_started_takes_away_the_same(hosts: Overlay, cgroup: Path) -> None:
    node = hosts.add_node()
    node.datapath.start(with_cgroup(node, cgroup))
    node.datapath.replace_published(PUBLISHED)
    node.datapath.close()
    node.datapath = node.another_agent()

    node.datapath.destroy()

    assert filters(node, "eth0") == []
    assert filters(node, "lo") == []
    assert attached(cgroup) == []
    assert not Pins(node.root).maps.exists()


def test_tables_that_a_dying_agent_left_behind_are_removed(node: Node) -> None:
    opened = node.datapath._open_maps.services
    with maps.new_inner_array(maps.TABLE, bytes(8)) as reference:
        opened._tables.update(abi.TableKey(table=77), reference)

    node.datapath.start(node.config)
    node.datapath.replace_services({})

    assert not list(node.datapath._open_maps.services._tables.all_keys())
