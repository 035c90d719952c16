"""What the datapath is told of its node: settings that do not fit the host are refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

import pytest

from datapath.api import WayOut
from datapath.cgroup import find_cgroup
from model.errors import InvalidInput
from model.ids import NodeName
from model.nodes import Node
from plugin.datapath_config import datapath_config
from plugin.settings import Settings

NODE: Final = Node(
    name=NodeName("one"),
    address=IPv4Address("10.77.0.1"),
    tunnel_port=8472,
    mtu_bytes=1450,
    version="0.1.0",
    registered_at="2026-01-01T00:00:00Z",
)
CGROUP: Final = Path("/host/sys/fs/cgroup/unified")


@pytest.fixture
def local_ports(tmp_path: Path) -> Path:
    path = tmp_path / "ip_local_port_range"
    path.write_text("32768\t60999\n", encoding="ascii")
    return path


def test_defaults_masquerade_below_the_hosts_own_ports(local_ports: Path) -> None:
    config = datapath_config(Settings.from_env({}), NODE, local_ports=local_ports, find=lambda: CGROUP)

    assert config.way_out == WayOut(first_port=10240, last_port=32767, routed=())
    assert config.cgroup == CGROUP


def test_excluded_ranges_are_routed(local_ports: Path) -> None:
    settings = Settings.from_env({"MASQUERADE_EXCLUDE": "192.0.2.0/24"})

    config = datapath_config(settings, NODE, local_ports=local_ports, find=lambda: None)

    assert config.way_out is not None
    assert config.way_out.routed == (IPv4Network("192.0.2.0/24"),)


def test_ports_that_the_host_uses_itself_are_refused(local_ports: Path) -> None:
    settings = Settings.from_env({"MASQUERADE_PORTS": "10240-32768"})

    with pytest.raises(InvalidInput) as caught:
        datapath_config(settings, NODE, local_ports=local_ports, find=lambda: None)

    assert "MASQUERADE_PORTS=10240-32768" in str(caught.value)
    assert "32768-60999 (net.ipv4.ip_local_port_range)" in str(caught.value)


@pytest.mark.parametrize("wish", ["auto", "packet"])
def test_without_cgroup_v2_packets_are_translated(local_ports: Path, wish: str) -> None:
    settings = Settings.from_env({"SERVICE_TRANSLATION": wish})

    assert datapath_config(settings, NODE, local_ports=local_ports, find=lambda: None).cgroup is None


def test_packets_are_translated_when_that_is_wished_for(local_ports: Path) -> None:
    settings = Settings.from_env({"SERVICE_TRANSLATION": "packet", "CGROUP_ROOT": "/nowhere"})

    assert datapath_config(settings, NODE, local_ports=local_ports, find=lambda: CGROUP).cgroup is None


def test_sockets_without_cgroup_v2_are_refused(local_ports: Path) -> None:
    settings = Settings.from_env({"SERVICE_TRANSLATION": "socket"})

    with pytest.raises(InvalidInput, match=r"SERVICE_TRANSLATION=socket: .* CGROUP_ROOT"):
        datapath_config(settings, NODE, local_ports=local_ports, find=lambda: None)


def test_cgroup_root_that_is_none_is_refused(local_ports: Path, tmp_path: Path) -> None:
    settings = Settings.from_env({"CGROUP_ROOT": str(tmp_path)})

    with pytest.raises(InvalidInput, match=f"CGROUP_ROOT={tmp_path}"):
        datapath_config(settings, NODE, local_ports=local_ports, find=lambda: CGROUP)


def test_folders_of_other_file_systems_are_not_taken_for_a_cgroup(tmp_path: Path) -> None:
    assert find_cgroup([tmp_path, tmp_path / "missing"]) is None
