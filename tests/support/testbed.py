"""All that one test run needs: the underlay, the image, and nodes on demand."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import images, plugin
from tests.support.engine import Engine
from tests.support.etcd_members import EmbeddedEtcd, EtcdMembers
from tests.support.leftovers import Leftovers
from tests.support.machine import Machine
from tests.support.node import Node
from tests.support.plugin import Plugin
from tests.support.shell import must
from tests.support.underlay import NETWORK, Underlay
from tests.support.world import World

_ROOT: Final = Path(__file__).parents[2]
_HOST: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How long the plugin took to become one."""

    create_s: float
    """``docker plugin create``, seconds."""
    rootfs_mb: float


class Testbed:
    """Makes nodes; everything is gone after :meth:`remove`."""

    __test__ = False

    def __init__(self) -> None:
        self._leftovers = Leftovers()
        self.underlay: Final = Underlay(self._leftovers)
        self._image = images.build(self._leftovers.data)
        self._templates: dict[Path, Path] = {}
        self._nodes = 0
        self._one_at_a_time = threading.Lock()
        self._clusters = 0
        self.builds: Final[dict[str, Build]] = {}
        self.data: Final = self._leftovers.data
        """A folder that this host and all machines see at the same path; gone with the rest."""
        self.probe: Final = images.probe(self.data)
        """The program of ``tests/support/probe.c``, for machines; containers have it as ``probe``."""

    def remove(self) -> None:
        """End and remove everything."""
        self._leftovers.remove()

    def etcd(self, name: str, members: int) -> EtcdMembers:
        """Start a cluster that nodes can share."""
        first_port = 2379 + 100 * self._clusters
        self._clusters += 1
        return EtcdMembers(self.underlay, name, count=members, first_port=first_port)

    def world(self) -> World:
        """Start what stands for the world; once in a run."""
        return World(self._leftovers, self.underlay, self._image.with_suffix(""))

    def node(
        self,
        name: str,
        *,
        base: Path = _HOST,
        etcd: EtcdMembers | None = None,
        settings: Mapping[str, str] | None = None,
        live_restore: bool = False,
        enable: bool = True,
    ) -> Node:
        """Start a machine with engine and plugin. Without ``etcd`` the plugin runs its own.

        Several may be started at once, each by a thread.
        """
        with self._one_at_a_time:
            template = self._template(base)
            self._nodes += 1
            number = self._nodes
        machine, engine = self._machine(name, base, live_restore=live_restore)
        address = self.underlay.connect(machine, number)
        plugin.copy(template, engine)
        engine.start()
        images.load(engine, self._image)
        node = Node(
            machine=machine, address=address, engine=engine, plugin=Plugin(engine), etcd=etcd or EmbeddedEtcd(machine)
        )
        shared = etcd.admit(machine) if etcd is not None else {}
        node.plugin.set({**shared, **(settings or {})})
        if enable:
            node.plugin.enable()
            node.wait_healthy()
        return node

    def power_off(self, node: Node) -> None:
        """Take a node's power away: all that runs on it is gone at once, what is on its disk stays."""
        # The kernel ends the connections of a process that it kills; of a host without power nobody hears anything.
        self.underlay.disconnect(node.machine)
        node.machine.power_off()

    def power_on(self, node: Node) -> None:
        """Start a node again after :meth:`power_off`, and wait until it is well."""
        node.machine.power_on()
        self.underlay.connect(node.machine, int(node.address) - int(NETWORK.network_address))
        if isinstance(node.etcd, EtcdMembers):
            node.etcd.admit(node.machine)
        node.engine.start()
        node.wait_healthy(timeout_s=60)

    def _machine(self, name: str, base: Path, *, live_restore: bool = False) -> tuple[Machine, Engine]:
        machine = Machine(name, self._leftovers, base=base)
        return machine, Engine(machine, live_restore=live_restore)

    def _template(self, base: Path) -> Path:
        """Make the plugin once for every kind of engine, and keep what the engine made of it."""
        if base not in self._templates:
            machine, engine = self._machine(f"template{len(self._templates)}", base)
            engine.start()
            create_s = Plugin(engine).create()
            self.builds[engine.version()] = Build(create_s=create_s, rootfs_mb=_megabytes(plugin.BUILD / "rootfs"))
            engine.stop()
            kept = self._leftovers.data / f"plugins{len(self._templates)}"
            shutil.move(engine.data / "plugins", kept)
            machine.power_off()
            self._templates[base] = kept
        return self._templates[base]


def debian_with_docker(suite: str) -> Path:
    """The root of a Debian release with its own engine, made once and kept in the cache."""
    cache = _cache()
    base = cache / f"base-{suite}"
    must(
        [str(_ROOT / "scripts/base_image.sh"), suite, str(base), "docker.io", "docker-cli", "iptables", "iproute2"],
        timeout_s=600,
    )
    return base


def _cache() -> Path:
    return Path(os.environ.get("HAWSE_CACHE", "/var/cache/hawse"))


def _megabytes(folder: Path) -> float:
    return int(must(["du", "-s", "-B1", str(folder)]).split()[0]) / 1e6
