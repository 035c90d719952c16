"""The managed plugin of one engine, as an operator handles it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support import shell
from tests.support.engine import CLIENT, SOCKET, Engine
from tests.support.machine import Machine

NAME: Final = "hawse:latest"
"""Driver names carry the tag."""
BUILD: Final = Path(__file__).parents[2] / "build/plugin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the plugin."""

    name: str
    resident_mb: float
    share_mb: float
    """Its share of the memory: pages that several processes have are divided among them."""

    @property
    def is_agent(self) -> bool:
        """Whether it is part of the agent, and not the etcd it may run."""
        return self.name != "etcd"


class Plugin:
    """hawse in one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self) -> float:
        """Make the plugin from what ``make plugin`` built; returns the seconds that took."""
        if not (BUILD / "config.json").exists():
            raise RuntimeError(f"{BUILD} has no plugin; «make plugin» builds it")
        started = time.monotonic()
        # With this host's client: the client of an engine in a chroot does not see the checkout.
        argv = self._engine.machine.argv(CLIENT, f"--host=unix://{SOCKET}", "plugin", "create", NAME, str(BUILD))
        shell.must(argv, timeout_s=180)
        return time.monotonic() - started

    def set(self, settings: Mapping[str, str]) -> None:
        """Change settings; the plugin must be disabled."""
        if settings:
            self._engine("plugin", "set", NAME, *(f"{name}={value}" for name, value in settings.items()))

    def enable(self) -> float:
        """Start it; returns the seconds until the engine said so."""
        started = time.monotonic()
        self._engine("plugin", "enable", NAME)
        return time.monotonic() - started

    def disable(self, *, force: bool = False) -> None:
        """Stop it; networks in use need ``force``."""
        self._engine("plugin", "disable", *(["--force"] if force else []), NAME)

    def remove(self) -> None:
        """Remove it; it must be disabled."""
        self._engine("plugin", "rm", NAME)

    def ident(self) -> str:
        """The engine's id of it, which its log lines carry."""
        return str(self._engine.inspect("plugin", NAME)["Id"])

    def pid(self) -> int:
        """The agent's first process, as the machine numbers it."""
        state = f"/run/docker/runtime-runc/plugins.moby/{self.ident()}/state.json"
        return int(json.loads(self._engine.machine.must("cat", state))["init_process_pid"])

    def processes(self) -> dict[int, Process]:
        """All processes of the plugin by their number in the machine."""
        machine = self._engine.machine
        listed = machine.must("ps", "-e", "-o", "pid=,ppid=,comm=")
        rows = {int(pid): (int(ppid), name) for pid, ppid, name in map(str.split, listed.splitlines())}
        family = {self.pid()}
        while grown := {pid for pid, row in rows.items() if row[0] in family} - family:
            family |= grown
        return {pid: _process(machine, pid, rows[pid][1]) for pid in sorted(family)}

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Send a message to the plugin's socket as dockerd does; returns status and answer."""
        machine = self._engine.machine
        folder = os.open(f"/proc/{machine.pid}/root/run/docker/plugins/{self.ident()}", os.O_PATH | os.O_DIRECTORY)
        # By descriptor, because the path is longer than a socket's may be.
        connection = _UnixConnection(f"/proc/self/fd/{folder}/hawse.sock")
        try:
            # An early refusal may close the connection before the body is sent; the answer is there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", path, body, {"Accept": "application/vnd.docker.plugins.v1.2+json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
            os.close(folder)
        return answer.status, json.loads(text) if text.startswith(b"{") else {}

    def log_lines(self) -> list[str]:
        """What the plugin has printed, as dockerd logged it."""
        mark = f"plugin={self.ident()}"
        return [line for line in self._engine.log_text().splitlines() if mark in line]


def _process(machine: Machine, pid: int, name: str) -> Process:
    rollup = machine.must("cat", f"/proc/{pid}/smaps_rollup")
    fields = {line.split()[0].rstrip(":"): line.split()[1] for line in rollup.splitlines()[1:]}
    return Process(name=name, resident_mb=int(fields["Rss"]) * 1024 / 1e6, share_mb=int(fields["Pss"]) * 1024 / 1e6)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("plugin.moby.localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def copy(template: Path, engine: Engine) -> None:
    """Give a stopped engine the plugins of another one of the same version: what takes its time is done once."""
    # cp and not shutil: a root file system has device files.
    shell.must(["cp", "--archive", str(template), str(engine.data / "plugins")])
