"""The node's own etcd, for a host without a cluster: a single member on loopback, kept running by a thread.

How it works:

1. A thread starts ``etcd`` and waits for its end through a pidfd; when it ends unasked, it is started again, later each
   time it fails soon.
2. The process outlives a killed agent on purpose: it has no pipe to the agent and writes to the agent's standard output
   itself. The next agent finds it by its command line, which is the same word for word, and takes it over; there is no
   pid file that could be stale, or missing for an etcd started a moment before the agent died.
3. A port held by somebody else is told from a failing etcd by trying to bind it first.

Cost: 25 to 40 MB of resident memory; the database stays below its quota because old revisions are compacted hourly and
their pages are used again.

Source: https://etcd.io/docs/v3.5/op-guide/configuration/, pidfd_open(2).
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kvstore.backoff import Backoff
from model.errors import StoreUnavailable

log = logging.getLogger(__name__)

_ADDRESS: Final = "127.0.0.1"
_PROGRAM: Final = "etcd"
_QUOTA_BYTES: Final = 1 << 30
_RETRY: Final = Backoff(first_s=0.5, limit_s=30.0)
_STABLE_AFTER_S: Final = 10.0
"""An etcd that ran for this long did not fail at its start: the next wait is the shortest again."""
_STOP_WITHIN_S: Final = 4.0
"""Then SIGKILL: the engine allows the whole plugin 10 s."""


class EmbeddedEtcd:
    """Keeps one ``etcd`` running from :meth:`start` to :meth:`stop`.

    Args:
        directory: where etcd keeps its data; made when missing. The mark by which a running etcd is known as ours.
        port: TCP port on 127.0.0.1 that clients use.
    """

    def __init__(self, *, directory: Path, port: int) -> None:
        self.endpoint: Final = f"http://{_ADDRESS}:{port}"
        self._directory = directory
        self._port = port
        self._problem: str | None = "the embedded etcd has not been started yet"
        self._stop_reader, self._stop_writer = os.pipe()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-etcd", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why no etcd is running, in a sentence; None while one is."""
        return self._problem

    def start(self) -> None:
        """Start etcd, or take over the one a killed agent left; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End etcd and the thread. Idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.close(self._stop_writer)
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._stop_reader)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started_at = time.monotonic()
            try:
                self._supervise()
            except (OSError, StoreUnavailable) as err:
                stable = time.monotonic() - started_at > _STABLE_AFTER_S
                failures = 1 if stable else failures + 1
                if str(err) != self._problem:
                    log.error("embedded etcd does not run", extra={"reason": str(err)})  # noqa: TRY400 # the reason says it
                self._problem = str(err)
                self._stopping.wait(_RETRY.delay_s(failures))
        self._problem = "the embedded etcd was stopped"

    def _supervise(self) -> None:
        """Have one etcd process from its start or adoption to its end.

        Raises:
            StoreUnavailable: it cannot be started, or it ended unasked.
            OSError: the same, from the operating system.
        """
        with self._adopted() as found:
            if found is not None:
                self._watch(found)
                raise StoreUnavailable("the embedded etcd ended, see its messages above")
        self._check_port()
        self._directory.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(  # noqa: S603 # no part of the command is anybody else's
            self._command(),
            cwd=self._directory,
            env={"PATH": os.defpath},  # etcd reads ETCD_… variables; ours mean something else
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,  # and no stdout of its own: see 2. above
            start_new_session=True,
        ) as process:
            log.info("embedded etcd started", extra={"etcd_pid": process.pid, "endpoint": self.endpoint})
            pidfd = os.pidfd_open(process.pid)
            try:
                self._watch(pidfd)
            finally:
                os.close(pidfd)
        if not self._stopping.is_set():
            raise StoreUnavailable(f"the embedded etcd ended with status {process.returncode}, see its messages above")

    def _command(self) -> list[str]:
        # Of its peers, of which there are none, etcd wants an address all the same: a socket in its directory.
        peer = "unix://peer:0"
        return [
            _PROGRAM,
            "--name=hawse",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=hawse={peer}",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            f"--quota-backend-bytes={_QUOTA_BYTES}",
            "--snapshot-count=10000",
            "--logger=zap",
            "--log-level=warn",
            "--log-outputs=stdout",
        ]

    @contextmanager
    def _adopted(self) -> Iterator[int | None]:
        """Find an etcd that a killed agent has left, as a pidfd."""
        pidfd = self._find()
        try:
            yield pidfd
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _find(self) -> int | None:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or not self._is_ours(entry):
                continue
            try:
                pidfd = os.pidfd_open(int(entry.name))
            except ProcessLookupError:
                continue
            if self._is_ours(entry):  # still, so the pidfd is not that of a later process with the same number
                log.info("embedded etcd taken over", extra={"etcd_pid": int(entry.name), "endpoint": self.endpoint})
                return pidfd
            os.close(pidfd)
        return None

    def _is_ours(self, process: Path) -> bool:
        try:
            return (process / "cmdline").read_bytes().split(b"\0")[:-1] == [os.fsencode(arg) for arg in self._command()]
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_ADDRESS, self._port))
            except OSError as err:
                if err.errno != errno.EADDRINUSE:
                    raise
                raise StoreUnavailable(
                    f"port {self._port} on {_ADDRESS}, which the embedded etcd needs, is in use by another process: "
                    "stop that, set EMBEDDED_ETCD_PORT to a free port, or set ETCD_ENDPOINTS to use that etcd"
                ) from err

    def _watch(self, pidfd: int) -> None:
        """Return when the process has ended; when the agent stops, see to it that it does."""
        self._problem = None
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        ended = pidfd in {fd for fd, _ in poll.poll()}
        poll.unregister(self._stop_reader)
        if not ended:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not poll.poll(_STOP_WITHIN_S * 1000):
                log.warning("embedded etcd does not end, killing it")
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                poll.poll()
