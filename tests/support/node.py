"""A node: a machine on the underlay with an engine and hawse, and what a test asks of it."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from cli.client import TIMEOUT_S, AgentClient, ClientError
from tests.support import shell, wait
from tests.support.engine import Engine
from tests.support.images import IMAGE
from tests.support.machine import Machine
from tests.support.plugin import NAME, Plugin

_TOO_LATE: Final = ("attaching to network failed", "context deadline exceeded")
_BEING_REMOVED: Final = "is already in progress"
_GONE: Final = "No such container"
COMMAND: Final = Path(__file__).parents[2] / "build/hawse"


class Entries(Protocol):
    """What is in etcd."""

    def entries(self, prefix: str) -> Mapping[str, str]: ...

    def delete(self, prefix: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the testbed."""

    machine: Machine
    address: ipaddress.IPv4Address
    engine: Engine
    plugin: Plugin
    etcd: Entries

    @property
    def name(self) -> str:
        """The host's name, which is the node's name in hawse and in the Swarm."""
        return self.machine.name

    def hawse(self, *argv: str, stdin: str | None = None) -> shell.Result:
        """Run the ``hawse`` command on this node."""
        return self.machine.run(str(COMMAND), *argv, stdin=stdin)

    def hawse_json(self, *argv: str) -> Any:
        """Run a ``hawse`` command that has to work, and read its answer."""
        return json.loads(self.machine.must(str(COMMAND), *argv, "-o", "json"))

    def agent(self, *, timeout_s: float = TIMEOUT_S) -> AgentClient:
        """Ask the agent without a command."""
        return AgentClient(f"/proc/{self.machine.pid}/root/run/hawse/agent.sock", timeout_s=timeout_s)

    def wait_healthy(self, *, timeout_s: float = 90) -> float:
        """Wait until the agent says that all is well (it compiles and connects in the background); returns seconds."""
        started = time.monotonic()
        # Asked without the command: its start takes the processor that the agent starts on.
        agent = self.agent()

        def well() -> None:
            try:
                answer: Any = agent.get("/v1/status", dict)
            except ClientError as error:
                answer = {"healthy": False, "error": str(error)}
            assert answer["healthy"], answer

        try:
            wait.until_passes(well, timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError("\n".join([f"{self.name}: {error}", *self.plugin.log_lines()[-30:]])) from error
        return time.monotonic() - started

    def create_network(self, name: str, *options: str) -> str:
        """Make a hawse network; returns Docker's id of it."""
        return self.engine("network", "create", "-d", NAME, "--ipam-driver", NAME, *options, name)

    def start(self, name: str, network: str, *options: str, command: tuple[str, ...] = ()) -> None:
        """Start a container in the background.

        To attach one to a network of the Swarm the engine waits 20 s for its manager, which is not always enough where
        three engines share two processors. That is no failure of the network's, and is tried again.
        """
        argv = ("run", "-d", "--name", name, "--network", network, *options, IMAGE, *command)
        result = self.engine.run(*argv)
        if result.rc != 0 and all(words in result.err for words in _TOO_LATE):
            self.engine("rm", "-f", name)
            result = self.engine.run(*argv)
        if result.rc != 0:
            raise shell.CommandFailed(result)

    def remove(self, *containers: str) -> None:
        """Remove containers, running or not.

        One after the other: the engine miscounts a network's endpoints when many leave at once, and then refuses to
        remove the network (https://github.com/moby/moby/issues/42119, engine 20.10). One that the engine itself is
        just removing, like a task of a service that ended, is waited for.
        """
        for container in containers:
            result = self.engine.run("rm", "-f", container)
            if _BEING_REMOVED in result.err:
                self._wait_gone(container)
            elif result.rc != 0 and _GONE not in result.err:
                raise shell.CommandFailed(result)

    def _wait_gone(self, container: str) -> None:
        inspect = ("container", "inspect", container)
        wait.until(f"{container} is gone", lambda: _GONE in self.engine.run(*inspect).err, timeout_s=60)

    def remove_everything(self) -> None:
        """Remove every container, and every network of hawse."""
        self.remove(*self.engine("ps", "-aq").split())
        for name in self.engine("network", "ls", "--filter", f"driver={NAME}", "-q").split():
            self.engine("network", "rm", name)

    def execute(self, container: str, *argv: str) -> shell.Result:
        """Run a command in a container to its end, whatever that is."""
        return self.engine.run("exec", container, *argv)

    def address_in(self, container: str, network: str) -> str:
        """The container's address in a network, as Docker says."""
        return str(self.engine.inspect("container", container)["NetworkSettings"]["Networks"][network]["IPAddress"])

    def links(self) -> dict[str, dict[str, Any]]:
        """Network interfaces of the host by name."""
        return {link["ifname"]: link for link in json.loads(self.machine.must("ip", "-j", "-d", "link"))}
