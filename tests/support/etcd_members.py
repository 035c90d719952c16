"""An etcd cluster in the underlay that all nodes share, with certificates as in production."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support import shell, wait
from tests.support.machine import Machine
from tests.support.underlay import ADDRESS, Underlay

_EMBEDDED_PORT: Final = 2379
_TRANSACTION: Final = 128
"""Operations: etcd's own limit."""
_CERTIFICATES: Final = "/etc/opt/hawse"


class EtcdMembers:
    """Members 0, 1, … of one cluster; clients need a certificate."""

    def __init__(self, underlay: Underlay, name: str, *, count: int, first_port: int) -> None:
        self._underlay = underlay
        self._first_port = first_port
        self._folder = underlay.data / f"etcd-{name}"
        self._folder.mkdir()
        _make_certificates(self._folder)
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self.endpoints: Final = ",".join(self._client_url(n) for n in range(count))
        self.start()

    def start(self) -> None:
        """Start all members, with what they knew when they were stopped, and wait until they serve."""
        cluster = ",".join(f"m{n}={self._peer_url(n)}" for n in range(self._count))
        self._processes = [self._start(number, cluster) for number in range(self._count)]
        wait.until("etcd is healthy", lambda: self._etcdctl("endpoint", "health").rc == 0, timeout_s=30)

    def stop(self) -> None:
        """End all members with SIGKILL; what they have promised is on their disks."""
        for process in self._processes:
            # nsenter waits for the etcd that it has started in the underlay's PID namespace.
            (etcd,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(etcd), signal.SIGKILL)
            process.wait(timeout=20)
        self._processes = []

    def _start(self, number: int, cluster: str) -> subprocess.Popen[bytes]:
        argv = [
            "etcd",
            f"--name=m{number}",
            f"--data-dir={self._folder}/m{number}",
            f"--listen-client-urls={self._client_url(number)}",
            f"--advertise-client-urls={self._client_url(number)}",
            f"--listen-peer-urls={self._peer_url(number)}",
            f"--initial-advertise-peer-urls={self._peer_url(number)}",
            f"--initial-cluster={cluster}",
            f"--trusted-ca-file={self._folder}/ca.pem",
            "--client-cert-auth",
            f"--cert-file={self._folder}/server.pem",
            f"--key-file={self._folder}/server.key",
            "--logger=zap",
        ]
        with (self._folder / f"m{number}.log").open("a") as log:
            return self._underlay.spawn(argv, log=log)

    def admit(self, machine: Machine) -> Mapping[str, str]:
        """Give a machine its client certificate; returns the plugin's settings for this cluster."""
        machine.must("mkdir", "-p", _CERTIFICATES)
        for name in ("ca.pem", "client.pem", "client.key"):
            machine.must("cp", str(self._folder / name), _CERTIFICATES)
        return {
            "ETCD_ENDPOINTS": self.endpoints,
            "ETCD_CA": f"/host{_CERTIFICATES}/ca.pem",
            "ETCD_CERT": f"/host{_CERTIFICATES}/client.pem",
            "ETCD_KEY": f"/host{_CERTIFICATES}/client.key",
        }

    def entries(self, prefix: str) -> dict[str, str]:
        """Everything below a prefix."""
        return parse_entries(self._must("get", "--prefix", prefix, "--write-out=json"))

    def delete(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        self._must("del", "--prefix", prefix)

    def _client_url(self, number: int) -> str:
        return f"https://{ADDRESS}:{self._first_port + number}"

    def _peer_url(self, number: int) -> str:
        return f"http://127.0.0.1:{self._first_port + 50 + number}"

    def _must(self, *argv: str) -> str:
        return self._underlay.must(*self._argv(*argv))

    def _etcdctl(self, *argv: str) -> shell.Result:
        return self._underlay.run(*self._argv(*argv))

    def _argv(self, *argv: str) -> list[str]:
        folder = self._folder
        return [
            "env",
            "ETCDCTL_API=3",
            "etcdctl",
            f"--endpoints={self.endpoints}",
            f"--cacert={folder}/ca.pem",
            f"--cert={folder}/client.pem",
            f"--key={folder}/client.key",
            *argv,
        ]


class EmbeddedEtcd:
    """The etcd that a node's plugin runs for itself."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def entries(self, prefix: str) -> dict[str, str]:
        """Everything below a prefix."""
        return parse_entries(self._must("get", "--prefix", prefix, "--write-out=json"))

    def put(self, entries: Mapping[str, str]) -> None:
        """Write entries, as many in one transaction as etcd takes."""
        lines = [f"put {key} {json.dumps(value)}" for key, value in entries.items()]
        for first in range(0, len(lines), _TRANSACTION):
            requests = "\n".join(lines[first : first + _TRANSACTION])
            # No condition; requests; none for when it does not hold.
            self._must("txn", stdin=f"\n{requests}\n\n\n")

    def delete(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        self._must("del", "--prefix", prefix)

    def _must(self, *argv: str, stdin: str | None = None) -> str:
        command = ("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=127.0.0.1:{_EMBEDDED_PORT}", *argv)
        return self._machine.must(*command, stdin=stdin)


def parse_entries(answer: str) -> dict[str, str]:
    """Read what ``etcdctl get --write-out=json`` printed."""
    return {
        base64.b64decode(kv["key"]).decode(): base64.b64decode(kv["value"]).decode()
        for kv in json.loads(answer).get("kvs", [])
    }


def _make_certificates(folder: Path) -> None:
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    shell.must(
        [
            "openssl",
            "req",
            "-x509",
            *new_key,
            "-days",
            "2",
            "-subj",
            "/CN=hawse test authority",
            "-keyout",
            f"{folder}/ca.key",
            "-out",
            f"{folder}/ca.pem",
        ]
    )
    for name in ("server", "client"):
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{ADDRESS},IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        shell.must(
            [
                "openssl",
                "req",
                *new_key,
                "-subj",
                f"/CN=hawse {name}",
                "-keyout",
                f"{folder}/{name}.key",
                "-out",
                f"{folder}/{name}.csr",
            ]
        )
        shell.must(
            [
                "openssl",
                "x509",
                "-req",
                "-days",
                "2",
                "-CA",
                f"{folder}/ca.pem",
                "-CAkey",
                f"{folder}/ca.key",
                "-CAcreateserial",
                "-in",
                f"{folder}/{name}.csr",
                "-extfile",
                str(extensions),
                "-out",
                f"{folder}/{name}.pem",
            ]
        )
