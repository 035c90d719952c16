"""Endpoints, programs and maps over restarts, upgrades, crashes and deaths of namespaces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath import abi, entries, maps, names, pins, programs, source
from datapath.api import IpcacheKey, RemoteEndpoint
from datapath.linux import LinuxDatapath
from datapath.maps import TypedMap
from datapath.pins import Pins
from datapath.programs import open_programs
from model.errors import AbiMismatch, DatapathError, LinkError, ProgramLoadError
from model.ids import EndpointId, IdentityId
from tests.support.netns import run
from tests.support.overlay import OPEN, VNI, Node, Overlay, an_endpoint
from tests.support.wait import until

pytestmark = pytest.mark.kernel

ELSEWHERE: Final = RemoteEndpoint(tunnel_endpoint=IPv4Address("10.77.0.9"), identity=IdentityId(400))


@pytest.fixture
def node(overlay: Overlay) -> Node:
    return overlay.add_node()


@pytest.fixture
def changed_source(tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of the C files with something replaced."""

    def change(old: str, new: str) -> Path:
        folder = tmp_path / "bpf"
        shutil.copytree(source.FOLDER, folder)
        path = folder / "endpoint.c"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        return folder

    return change


def builds(node: Node) -> set[str]:
    return {path.name for path in Pins(node.root).maps.glob("programs-*")}


def attached_program(node: Node, ifname: str) -> str:
    """Id of the program on the ingress of an interface."""
    words = run("tc", "-n", node.namespace.name, "filter", "show", "dev", ifname, "ingress").split()
    return words[words.index("id") + 1]


def ipcache(node: Node) -> dict[str, abi.IpcacheValue]:
    opened = TypedMap(Pins(node.root).maps, "hawse_ipcache", maps.IPCACHE)
    try:
        return {f"{key.vni}/{entries.address(key.address)}": value for key, value in opened.items()}
    finally:
        opened.close()


def test_restart_loads_nothing_and_loses_no_endpoint(
    overlay: Overlay, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = overlay.add_container(node, "10.5.0.2"), overlay.add_container(node, "10.5.0.3")
    before = node.datapath.local_endpoints()
    program = attached_program(node, one.endpoint.host_ifname)
    node.datapath.close()
    monkeypatch.delattr(programs, "load")

    node.datapath = node.another_agent()
    node.datapath.start(node.config)

    assert before == node.datapath.local_endpoints()
    assert program == attached_program(node, one.endpoint.host_ifname)
    assert one.ping(other.address)


def test_packets_pass_while_no_agent_runs(overlay: Overlay, node: Node) -> None:
    one, other = overlay.add_container(node, "10.5.0.2"), overlay.add_container(node, "10.5.0.3")
    node.datapath.close()

    assert one.ping(other.address)

    node.datapath = node.another_agent()


def test_changed_programs_replace_the_old_ones_everywhere(
    overlay: Overlay, node: Node, changed_source: Callable[[str, str], Path]
) -> None:
    one, other = overlay.add_container(node, "10.5.0.2"), overlay.add_container(node, "10.5.0.3")
    ends = [one.endpoint.host_ifname, other.endpoint.host_ifname, names.TUNNEL_IFNAME]
    programs_before = [attached_program(node, ifname) for ifname in ends]
    builds_before = builds(node)
    endpoints = node.datapath.local_endpoints()
    node.datapath.close()

    node.datapath = node.another_agent(changed_source("DROP(DROP_UNSUPPORTED_L3)", "DROP(DROP_UNSUPPORTED_L2)"))
    node.datapath.start(node.config)

    programs_after = [attached_program(node, ifname) for ifname in ends]
    assert not set(programs_before) & set(programs_after)
    assert len(builds(node)) == 1
    assert builds(node) != builds_before
    assert endpoints == node.datapath.local_endpoints()
    assert one.ping(other.address)


def test_switch_that_was_interrupted_is_finished_by_the_next_start(overlay: Overlay, node: Node) -> None:
    one = overlay.add_container(node, "10.5.0.2")
    left_over = Pins(node.root).programs("0123456789abcdef")
    left_over.mkdir()
    program = attached_program(node, one.endpoint.host_ifname)
    run("tc", "-n", node.namespace.name, "filter", "del", "dev", one.endpoint.host_ifname, "ingress")

    node.datapath.start(node.config)

    assert program == attached_program(node, one.endpoint.host_ifname)
    assert not left_over.exists()


def test_source_that_does_not_compile_leaves_everything_as_it_is(
    overlay: Overlay, node: Node, changed_source: Callable[[str, str], Path]
) -> None:
    one, other = overlay.add_container(node, "10.5.0.2"), overlay.add_container(node, "10.5.0.3")
    node.datapath.close()
    node.datapath = node.another_agent(changed_source("return answer_arp(skb, endpoint);", "return answer_it(skb);"))

    with pytest.raises(ProgramLoadError, match=r"endpoint\.c:\d+:\d+: error: .*answer_it") as caught:
        node.datapath.start(node.config)

    assert "answer_it" in caught.value.log
    assert one.ping(other.address)


def test_program_that_the_verifier_refuses_is_reported_with_its_log(
    overlay: Overlay, changed_source: Callable[[str, str], Path]
) -> None:
    node = overlay.add_node(started=False)
    node.datapath.close()
    node.datapath = node.another_agent(
        changed_source("	if (!endpoint)\n		return DROP(DROP_UNKNOWN_ENDPOINT);\n", "")
    )

    with pytest.raises(ProgramLoadError, match="judge_container") as caught:
        node.datapath.start(node.config)

    assert "map_value_or_null" in caught.value.log
    assert not builds(node)


def test_pinned_map_of_another_layout_is_refused(overlay: Overlay) -> None:
    node = overlay.add_node(started=False)
    folder = Pins(node.root).maps
    folder.mkdir(parents=True)
    run(
        "bpftool", "map", "create", str(folder / "hawse_nodes"), "type", "hash",
        "key", "8", "value", "4", "entries", "16384", "name", "hawse_nodes", "flags", "1",
    )  # fmt: skip

    with pytest.raises((AbiMismatch, ProgramLoadError), match="hawse_nodes"):
        node.datapath.start(node.config)


def test_maps_of_another_abi_version_are_removed(node: Node) -> None:
    old = node.root / "v0"
    old.mkdir()

    node.datapath.start(node.config)

    assert not old.exists()


def test_containers_go_on_with_maps_of_another_layout_when_they_are_connected_anew(
    overlay: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = overlay.add_node(started=False)  # others use the folders of the rest again
    node.datapath.start(node.config)
    node.datapath.apply_policy(OPEN)
    one, other = overlay.add_container(node, "10.5.0.2"), overlay.add_container(node, "10.5.0.3")
    before = attached_program(node, one.endpoint.host_ifname)
    node.datapath.close()
    monkeypatch.setattr(pins, "ABI_VERSION", abi.ABI_VERSION + 1)
    node.datapath = node.another_agent()

    node.datapath.start(node.config)
    node.datapath.apply_policy(OPEN)

    assert [(local.spec, local.in_container) for local in node.datapath.local_endpoints()] == [(None, True)] * 2
    # Until then they are closed, not open.
    until("the programs of before end", lambda: not one.ping(other.address), timeout_s=10)
    for container in (one, other):
        node.datapath.ensure_endpoint(container.spec)
    assert one.ping(other.address)
    assert before != attached_program(node, one.endpoint.host_ifname)
    assert [path.name for path in node.root.glob("v*")] == [f"v{abi.ABI_VERSION + 1}"]


def test_folder_outside_a_bpf_file_system_is_refused_with_the_command(overlay: Overlay, tmp_path: Path) -> None:
    node = overlay.add_node(started=False)
    with node.namespace.entered():
        datapath = LinuxDatapath(root=tmp_path / "hawse")

    with pytest.raises(DatapathError, match=f"mount -t bpf bpf {tmp_path}"):
        datapath.start(node.config)

    datapath.close()


def test_layouts_are_what_the_compiler_sees(bpf_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bpf"
    shutil.copytree(source.FOLDER, folder, ignore=shutil.ignore_patterns("compiled"))

    open_programs(Pins(bpf_root / "layouts"), folder).close()  # compares them, see datapath.compile


def test_compiled_programs_need_no_compiler(bpf_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_programs(Pins(bpf_root / "first")).close()
    monkeypatch.setattr("sys.executable", "/bin/false")  # the compiler's process cannot run

    opened = open_programs(Pins(bpf_root / "second"))

    assert opened.loaded
    opened.close()


def test_layout_that_differs_from_the_compilers_is_refused(bpf_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bpf"
    shutil.copytree(source.FOLDER, folder)
    header = folder / "abi.h"
    text = header.read_text(encoding="utf-8")
    header.write_text(text.replace("__u32 flags;", "__u32 other;", 1), encoding="utf-8")

    with pytest.raises(AbiMismatch, match="run «make abi»"):
        open_programs(Pins(bpf_root / "differ"), folder)


def test_removal_after_the_namespace_died_leaves_no_entry(overlay: Overlay, node: Node) -> None:
    one = overlay.add_container(node, "10.5.0.2")
    run("ip", "netns", "del", one.namespace.name)
    until("the kernel has removed the pair", lambda: node.links() == [names.TUNNEL_IFNAME], timeout_s=10)

    node.datapath.remove_endpoint(one.spec.endpoint_id)

    assert not ipcache(node)
    assert not node.datapath.local_endpoints()


def test_a_pair_has_one_queue_at_each_end_however_many_processors_there_are(node: Node) -> None:
    made = node.datapath.ensure_endpoint(an_endpoint("10.5.0.2"))

    shown = json.loads(node.namespace.ip("-j", "-d", "link", "show", "type", "veth"))

    ends = [link for link in shown if link["ifname"] in {made.host_ifname, made.container_ifname}]
    assert [(link["num_tx_queues"], link["num_rx_queues"]) for link in ends] == [(1, 1)] * 2


def test_interface_in_a_container_is_told_from_one_that_waits_for_docker(overlay: Overlay, node: Node) -> None:
    waiting = an_endpoint("10.5.0.3")
    node.datapath.ensure_endpoint(waiting)
    moved = overlay.add_container(node, "10.5.0.2")

    found = {local.endpoint_id: local.in_container for local in node.datapath.local_endpoints()}

    assert found == {waiting.endpoint_id: False, moved.spec.endpoint_id: True}


def test_endpoint_whose_namespace_died_is_forgotten_at_the_next_start(overlay: Overlay, node: Node) -> None:
    one = overlay.add_container(node, "10.5.0.2")
    kept = overlay.add_container(node, "10.5.0.3")
    run("ip", "netns", "del", one.namespace.name)
    until("the kernel has removed the pair", lambda: len(node.links()) == 2, timeout_s=10)

    node.datapath.start(node.config)

    assert list(ipcache(node)) == [f"{VNI}/{kept.address}"]


def test_pair_without_alias_is_removed_at_the_next_start(node: Node) -> None:
    half_made = names.host_ifname(EndpointId("ab" * 32))
    node.namespace.ip("link", "add", half_made, "address", str(names.router_mac()), "type", "veth", "peer", "hwpeer")

    node.datapath.start(node.config)

    assert node.links() == [names.TUNNEL_IFNAME]


def test_foreign_interfaces_are_left_alone(node: Node) -> None:
    node.namespace.ip("link", "add", "hwforeign", "type", "veth", "peer", "other")

    node.datapath.start(node.config)
    node.datapath.destroy()

    assert node.links() == ["hwforeign", "other"]


def test_half_made_pair_is_finished_when_the_call_is_repeated(node: Node) -> None:
    spec = an_endpoint("10.5.0.2")
    ifname = names.host_ifname(spec.endpoint_id)
    node.namespace.ip("link", "add", ifname, "type", "veth", "peer", names.container_ifname(spec.endpoint_id))

    made = node.datapath.ensure_endpoint(spec)

    assert [made] == list(node.datapath.local_endpoints())
    assert attached_program(node, ifname)


def test_pair_without_map_entry_is_listed_without_spec_and_can_be_finished(node: Node) -> None:
    spec = an_endpoint("10.5.0.2")
    ifname = names.host_ifname(spec.endpoint_id)
    node.namespace.ip("link", "add", ifname, "type", "veth", "peer", names.container_ifname(spec.endpoint_id))
    node.namespace.ip("link", "set", ifname, "alias", names.alias(spec.endpoint_id))

    assert [endpoint.spec for endpoint in node.datapath.local_endpoints()] == [None]
    node.datapath.ensure_endpoint(spec)

    assert [endpoint.spec for endpoint in node.datapath.local_endpoints()] == [spec]


def test_failed_connect_leaves_nothing_behind(node: Node) -> None:
    spec = an_endpoint("10.5.0.2", mtu_bytes=10_000_000)

    with pytest.raises(LinkError):
        node.datapath.ensure_endpoint(spec)

    assert node.links() == [names.TUNNEL_IFNAME]
    assert not ipcache(node)


def test_interface_of_another_endpoint_is_not_touched(node: Node) -> None:
    first = an_endpoint("10.5.0.2", endpoint_id="ab" * 32)
    alike = an_endpoint("10.5.0.3", endpoint_id="ab" * 16 + "cd" * 16)
    node.datapath.ensure_endpoint(first)

    with pytest.raises(LinkError, match="exists already"):
        node.datapath.ensure_endpoint(alike)
    node.datapath.remove_endpoint(alike.endpoint_id)

    assert [endpoint.spec for endpoint in node.datapath.local_endpoints()] == [first]


def test_address_here_wins_over_the_same_elsewhere_until_it_is_gone(node: Node) -> None:
    key = IpcacheKey(VNI, IPv4Address("10.5.0.2"))
    spec = an_endpoint("10.5.0.2")
    node.datapath.replace_remotes({key: ELSEWHERE})
    node.datapath.ensure_endpoint(spec)
    assert ipcache(node)[f"{VNI}/10.5.0.2"].ifindex

    node.datapath.update_remotes({key: ELSEWHERE}, [])
    assert ipcache(node)[f"{VNI}/10.5.0.2"].ifindex
    node.datapath.replace_remotes({key: ELSEWHERE})
    assert ipcache(node)[f"{VNI}/10.5.0.2"].ifindex

    node.datapath.remove_endpoint(spec.endpoint_id)
    assert entries.remote_endpoint(ipcache(node)[f"{VNI}/10.5.0.2"]) == ELSEWHERE


def test_late_news_that_an_address_left_elsewhere_does_not_remove_it_here(node: Node) -> None:
    key = IpcacheKey(VNI, IPv4Address("10.5.0.2"))
    spec = an_endpoint("10.5.0.2")
    node.datapath.replace_remotes({key: ELSEWHERE})
    node.datapath.ensure_endpoint(spec)

    node.datapath.update_remotes({}, [key])

    assert ipcache(node)[f"{VNI}/10.5.0.2"].ifindex
    node.datapath.remove_endpoint(spec.endpoint_id)
    assert not ipcache(node)


def test_newer_endpoint_keeps_an_address_that_an_older_one_had(node: Node) -> None:
    older, newer = an_endpoint("10.5.0.2"), an_endpoint("10.5.0.2")
    node.datapath.ensure_endpoint(older)
    made = node.datapath.ensure_endpoint(newer)

    node.datapath.remove_endpoint(older.endpoint_id)

    assert ipcache(node)[f"{VNI}/10.5.0.2"].ifindex == made.ifindex


def test_tunnel_device_is_made_as_it_is_needed(node: Node) -> None:
    node.namespace.ip("link", "del", names.TUNNEL_IFNAME)
    node.namespace.ip("link", "add", names.TUNNEL_IFNAME, "type", "vxlan", "id", "5", "dstport", "4789", "dev", "eth0")

    node.datapath.start(node.config)

    shown = node.namespace.ip("-d", "link", "show", names.TUNNEL_IFNAME)
    for word in ("external", "gbp", "dstport 8472", "nolearning", "mtu 1450", str(names.router_mac()), "UP"):
        assert word in shown


def test_tunnel_port_that_is_taken_is_reported(overlay: Overlay) -> None:
    node = overlay.add_node(started=False)
    node.namespace.ip("link", "add", "taken", "type", "vxlan", "id", "5", "dstport", "8472", "dev", "eth0")
    node.namespace.ip("link", "set", "taken", "up")

    with pytest.raises(LinkError, match="set another TUNNEL_PORT"):
        node.datapath.start(node.config)

    assert node.links() == ["taken"]


def test_destroy_leaves_nothing(overlay: Overlay, node: Node) -> None:
    overlay.add_container(node, "10.5.0.2")

    node.datapath.destroy()

    assert not node.links()
    assert not node.root.exists()
