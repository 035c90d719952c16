"""plugin/config.json: the engine ignores keys it does not know and only fails at «enable», so the form is checked here.

Source: https://docs.docker.com/engine/extend/config/, moby daemon/pkg/plugin/v2/plugin_linux.go.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

TOP = {
    "description",
    "documentation",
    "interface",
    "entrypoint",
    "workDir",
    "network",
    "pidHost",
    "ipcHost",
    "propagatedMount",
    "linux",
    "mounts",
    "env",
}
MOUNT = {"name", "description", "source", "destination", "type", "options", "settable"}
ALWAYS_THERE = {"/var/run", "/sys/fs/bpf", "/sys/fs/cgroup", "/etc/opt"}
"""From base-files or the kernel: a source that is missing makes «docker plugin enable» fail."""


@pytest.fixture(name="config")
def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((ROOT / "plugin/config.json").read_text())
    return config


def test_only_known_keys_are_used(config: dict[str, Any]) -> None:
    assert set(config) == TOP
    assert all(set(mount) == MOUNT for mount in config["mounts"])
    assert all(set(env) == {"name", "description", "value", "settable"} for env in config["env"])
    assert set(config["linux"]) == {"capabilities", "allowAllDevices", "devices"}


def test_serves_both_kinds_of_driver(config: dict[str, Any]) -> None:
    assert config["interface"]["types"] == ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"]


def test_asks_for_these_capabilities_and_no_more(config: dict[str, Any]) -> None:
    # CAP_SYS_RESOURCE, for one, cannot be granted everywhere, and then the plugin does not start at all.
    assert config["linux"]["capabilities"] == ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_RAW"]
    assert not config["linux"]["allowAllDevices"]


def test_mount_sources_exist_on_every_debian_host(config: dict[str, Any]) -> None:
    assert {mount["source"] for mount in config["mounts"]} <= ALWAYS_THERE


def test_mounts_can_be_pointed_elsewhere(config: dict[str, Any]) -> None:
    assert all(mount["settable"] == ["source"] for mount in config["mounts"])


def test_mount_points_are_made_by_the_build(config: dict[str, Any]) -> None:
    steps = (ROOT / "plugin/install_rootfs.sh").read_text()

    for mount in config["mounts"]:
        assert mount["destination"] in steps or mount["destination"].startswith("/sys/"), mount["name"]


def test_pinned_programs_and_later_mounts_are_shared_with_the_host(config: dict[str, Any]) -> None:
    options = {mount["name"]: mount["options"] for mount in config["mounts"]}

    assert options["bpffs"] == ["rbind", "rshared", "rw"]
    assert options["run"] == ["rbind", "rslave", "rw"]
    assert {"ro"} <= set(options["cgroup"]) & set(options["etcd-tls"])


def test_image_build_gets_every_folder_that_it_copies() -> None:
    copied = re.findall(r"^COPY ([a-z]+)/ /opt/hawse/", (ROOT / "plugin/Dockerfile").read_text(), re.MULTILINE)
    let_in = re.findall(r"^!([a-z]+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)

    assert len(copied) > 5
    assert set(copied) <= set(let_in)
