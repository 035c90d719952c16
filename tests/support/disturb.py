"""What happens to an agent or its engine while packets are on their way; each returns when all is well again."""

from __future__ import annotations

import re

from tests.support import wait
from tests.support.node import Node


def kill_the_agent(node: Node) -> None:
    """End the agent's first process; the engine starts the plugin again."""
    before = node.plugin.pid()
    node.machine.must("kill", "-KILL", str(before))

    def again() -> bool:
        state = node.machine.run("cat", f"/run/docker/runtime-runc/plugins.moby/{node.plugin.ident()}/state.json")
        pid = re.search(r'"init_process_pid":(\d+)', state.out)
        return pid is not None and int(pid[1]) != before

    wait.until("the engine starts the agent again", again, timeout_s=30)
    node.wait_healthy()


def kill_the_worker(node: Node) -> None:
    """End the process that serves; the first one starts another."""
    first = node.plugin.pid()
    (worker,) = (pid for pid, process in node.plugin.processes().items() if pid != first and process.is_agent)
    node.machine.must("kill", "-KILL", str(worker))
    node.wait_healthy()


def disable_and_enable(node: Node) -> None:
    node.plugin.disable(force=True)
    node.plugin.enable()
    node.wait_healthy()


def move_to_maps_of_another_layout(node: Node) -> None:
    """What an upgrade does whose maps have another layout: those of before are there, under another version."""
    node.plugin.disable(force=True)
    node.machine.must("sh", "-c", "cd /sys/fs/bpf/hawse && mv v[0-9]* v0")
    node.plugin.enable()
    node.wait_healthy()


def restart_the_engine(node: Node) -> None:
    """dockerd ends as a service manager ends it, and comes back; with live-restore its containers stay."""
    node.engine.restart()
    node.wait_healthy()


def kill_the_engine(node: Node) -> None:
    node.engine.kill()
    node.engine.start()
    node.wait_healthy()
