"""A Docker engine in a machine."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from tests.support import shell, wait
from tests.support.machine import Machine

SOCKET: Final = "/run/docker.sock"
CLIENT: Final = "/usr/bin/docker"
"""Debian's, of the engine's own version; another one may come first on the PATH."""
_PIDFILE: Final = "/run/docker.pid"


class Engine:
    """dockerd, its own containerd below it, and the docker client of the same version."""

    def __init__(self, machine: Machine, *, live_restore: bool = False) -> None:
        self.machine: Final = machine
        self.data: Final = machine.data / "docker"
        self.log: Final = machine.data / "dockerd.log"
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)

    def start(self) -> None:
        """Start dockerd and wait until it serves its API."""
        argv = [
            # A Swarm task takes the image that is there, without asking a registry first.
            "env",
            "DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1",
            "/usr/sbin/dockerd",
            f"--host=unix://{SOCKET}",
            f"--data-root={self.data}",
            "--exec-root=/run/docker",
            f"--pidfile={_PIDFILE}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--storage-driver=overlay2",
            "--experimental=false",
            "--log-level=info",
            "--shutdown-timeout=5",
        ]
        if self._live_restore:
            argv.append("--live-restore")
        with self.log.open("a") as log:
            self._process = self.machine.spawn(argv, log=log, own_root=True)
        process = self._process

        def serves() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"dockerd on {self.machine.name} ended: {self.log_text()[-3000:]}")
            return self.run("version", "--format", "{{.Server.Version}}").rc == 0

        wait.until(f"dockerd on {self.machine.name} serves", serves, timeout_s=90)

    def stop(self) -> None:
        """Ask dockerd to end, as a service manager does, and wait until it has."""
        self._signal("TERM")

    def kill(self) -> None:
        """End dockerd with SIGKILL; its containers and plugins run on."""
        self._signal("KILL")

    def restart(self) -> None:
        """Stop, then start."""
        self.stop()
        self.start()

    def _signal(self, name: str) -> None:
        if self._process is None:
            raise RuntimeError(f"dockerd on {self.machine.name} does not run")
        pid = self.machine.must("cat", _PIDFILE).strip()
        self.machine.must("kill", f"-{name}", pid)
        self._process.wait(timeout=60)
        self._process = None
        self.machine.must("rm", "-f", _PIDFILE)

    def run(self, *argv: str, stdin: str | None = None, timeout_s: float = 120.0) -> shell.Result:
        """Call the docker client, whatever it says."""
        command = self.machine.argv(CLIENT, f"--host=unix://{SOCKET}", *argv, own_root=True)
        return shell.run(command, stdin=stdin, timeout_s=timeout_s)

    def __call__(self, *argv: str, stdin: str | None = None, timeout_s: float = 120.0) -> str:
        """Call the docker client with something that has to work, and return what it printed, stripped.

        Raises:
            shell.CommandFailed: it did not.
        """
        result = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        if result.rc != 0:
            raise shell.CommandFailed(result)
        return result.out.strip()

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What ``docker <kind> inspect`` says about one thing."""
        (found,) = json.loads(self(kind, "inspect", name))
        return dict(found)

    def version(self) -> str:
        """The engine's own version."""
        return self("version", "--format", "{{.Server.Version}}")

    def log_text(self) -> str:
        """What dockerd has logged so far, with what its plugins print."""
        return self.log.read_text(errors="replace")
