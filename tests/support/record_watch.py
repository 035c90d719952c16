"""Follows the endpoint records in etcd, and notes when each was seen: what a record said in between counts, too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

from kvstore import keys
from tests.support import wait
from tests.support.machine import Machine

_PORT: Final = 2379
"""Of the etcd that a machine's plugin runs for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One state of a record."""

    time_s: float
    """Since 1970, when the test got it: a little later than it was written."""
    endpoint_id: str
    labels: Mapping[str, str] | None
    container: str
    identity: int


class RecordWatch:
    """All states of all records since the start."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []

    def states(self, endpoint_id: str) -> list[Seen]:
        """What the record of an endpoint said, in order."""
        return [seen for seen in list(self._seen) if seen.endpoint_id == endpoint_id]

    def labelled(self, endpoint_id: str) -> Seen:
        """The first state with labels; waits for it."""
        return wait.until(
            f"labels of endpoint {endpoint_id}",
            lambda: next((seen for seen in self.states(endpoint_id) if seen.labels is not None), None),
            timeout_s=20,
        )

    def latest(self, endpoint_id: str) -> Seen:
        """The newest state."""
        return self.states(endpoint_id)[-1]

    def follow(self, output: IO[str]) -> None:
        """Read what ``etcdctl watch`` prints to its end: three lines for a write, two for a deletion."""
        for line in output:
            if line.startswith('{"endpoint_id"'):
                self._seen.append(_seen(json.loads(line)))


@contextlib.contextmanager
def watching_records(machine: Machine) -> Iterator[RecordWatch]:
    """Follow the records in the etcd that a machine's plugin runs, while the block runs."""
    watch = RecordWatch()
    now = json.loads(machine.must(*_etcdctl("get", keys.ROOT, "--write-out=json")))["header"]["revision"]
    argv = machine.argv(*_etcdctl("watch", "--prefix", keys.ENDPOINTS, f"--rev={now + 1}"))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=watch.follow, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield watch
        finally:
            # nsenter has made a child of it.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            reader.join()


def _etcdctl(*argv: str) -> list[str]:
    return ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=127.0.0.1:{_PORT}", *argv]


def _seen(record: dict[str, Any]) -> Seen:
    return Seen(
        time_s=time.time(),
        endpoint_id=record["endpoint_id"],
        labels=record.get("labels"),
        container=record["container"],
        identity=record["identity"],
    )
