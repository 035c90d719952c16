"""testinfra hosts: look at a node or into a container from the outside, with testinfra's modules."""

from __future__ import annotations

import shlex

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from tests.support.engine import CLIENT, SOCKET, Engine
from tests.support.machine import Machine


class MachineBackend(BaseBackend):  # type: ignore[misc] # testinfra is untyped
    """Runs testinfra's commands in a machine."""

    NAME = "machine"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.name)
        self._machine = machine

    def run(self, command: str, *args: str, **_: object) -> CommandResult:
        argv = self._machine.argv("/bin/sh", "-c", self.get_command(command, *args))
        return self.run_local(shlex.join(argv))


class ContainerBackend(BaseBackend):  # type: ignore[misc] # testinfra is untyped
    """Runs testinfra's commands in a container, through the engine it runs on."""

    NAME = "container"

    def __init__(self, engine: Engine, container: str) -> None:
        super().__init__(container)
        self._engine = engine

    def run(self, command: str, *args: str, **_: object) -> CommandResult:
        inside = [CLIENT, f"--host=unix://{SOCKET}", "exec", self.hostname, "/bin/sh", "-c"]
        argv = self._engine.machine.argv(*inside, self.get_command(command, *args), own_root=True)
        return self.run_local(shlex.join(argv))


def machine_host(machine: Machine) -> Host:
    """Look at a node."""
    return Host(MachineBackend(machine))


def container_host(engine: Engine, container: str) -> Host:
    """Look into a container."""
    return Host(ContainerBackend(engine, container))
