"""Real etcd servers for tests: one, or a cluster of three, on free ports of the loopback.

Start them from the main thread: a server dies with the thread that started it, so that none is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kvstore.etcd_config import EtcdConfig

START_S = 20.0
_NEVER_GIVEN: Final = range(15_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """Files with which a server shows itself and checks its clients."""

    ca: Path
    cert: Path
    key: Path


class EtcdServer:
    """One member. Survives :meth:`kill` and :meth:`start` with its address and its data.

    ``with EtcdServer(tmp_path) as etcd: EtcdStore(etcd.config)``
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "etcd",
        tls: ServerTls | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.directory = directory / name
        self.client_port, self.peer_port, self.health_port = free_ports(3)
        self.peer_url = f"http://127.0.0.1:{self.peer_port}"
        self.cluster = f"{name}={self.peer_url}"
        self._tls = tls
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """URL for clients."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def config(self) -> EtcdConfig:
        """Settings for a store on this server; without TLS."""
        return EtcdConfig(endpoints=(self.endpoint,))

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the process and wait until it answers (a member of a cluster does when a majority runs)."""
        binary = shutil.which("etcd")
        if binary is None:
            raise RuntimeError("these tests need an etcd server: install etcd-server (Debian) or put etcd into PATH")
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", binary, *self._command()],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("ETCD")},
            )
        if wait:
            self.wait_healthy()

    def wait_healthy(self, timeout_s: float = START_S) -> None:
        """Wait until the member has a leader and answers reads."""
        ends = time.monotonic() + timeout_s
        while not self._healthy():
            if not self.running or time.monotonic() > ends:
                tail = (self.directory / "log").read_text(errors="replace").splitlines()[-15:]
                raise RuntimeError(f"etcd {self.name} does not come up:\n" + "\n".join(tail))
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a power cut does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self._send(signal.SIGCONT)

    def wipe(self) -> None:
        """Forget all data of a server that does not run: the next start is a new cluster at the same address."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    def etcdctl(self, *arguments: str) -> str:
        """Run the operator's command against this server; without TLS."""
        command = ["etcdctl", "--endpoints", self.endpoint, *arguments]
        return subprocess.run(
            command, env=os.environ | {"ETCDCTL_API": "3"}, check=True, capture_output=True, text=True, timeout=10
        ).stdout

    def compact(self) -> None:
        """Forget the whole history."""
        status = json.loads(self.etcdctl("endpoint", "status", "-w", "json"))
        self.etcdctl("compact", "--physical", str(status[0]["Status"]["header"]["revision"]))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self._send(number)
        self._send(signal.SIGCONT)
        if self._process is not None:
            self._process.wait(10)

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            # etcd must not be looked for behind a proxy of the environment.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{self.health_port}/health", timeout=2) as answer:
                return str(json.load(answer).get("health")) == "true"
        return False

    def _command(self) -> list[str]:
        command = [
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.cluster}",
            f"--listen-metrics-urls=http://127.0.0.1:{self.health_port}",
            "--logger=zap",
            *self._arguments,
        ]
        if self._tls is not None:
            command += [
                f"--cert-file={self._tls.cert}",
                f"--key-file={self._tls.key}",
                f"--trusted-ca-file={self._tls.ca}",
                "--client-cert-auth",
            ]
        return command


class EtcdCluster:
    """Three members that find one another."""

    def __init__(self, directory: Path) -> None:
        self.members = tuple(EtcdServer(directory, name=f"m{number}") for number in range(3))
        for member in self.members:
            member.cluster = ",".join(f"{each.name}={each.peer_url}" for each in self.members)

    @property
    def config(self) -> EtcdConfig:
        """Settings for a store that knows all members."""
        return EtcdConfig(endpoints=tuple(member.endpoint for member in self.members))

    def leader(self) -> EtcdServer:
        """The member that leads now."""
        for member in self.members:
            if member.running:
                status = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
                if status["leader"] == status["header"]["member_id"]:
                    return member
        raise RuntimeError("no member leads")

    def __enter__(self) -> Self:
        for member in self.members:
            member.start(wait=False)
        for member in self.members:
            member.wait_healthy()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.kill()


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback that nobody listens on, all different.

    None that the kernel gives to connections: one of those could have it before a server that is restarted.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in random.sample(_NEVER_GIVEN, len(_NEVER_GIVEN)):
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return tuple(found)
    raise RuntimeError(f"{count} free ports are not to be found on the loopback")
