"""Tends the tables of connections from time to time, with or without etcd."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from datapath.api import Datapath
from model.errors import DatapathError

log = logging.getLogger(__name__)

PERIOD_S: Final = 30.0
PROBE_PERIOD_S: Final = 1.0
_STOP_S: Final = 2.0


class Sweeper:
    """One thread.

    Args:
        datapath: started.
        period_s: between two sweeps.
        probe_period_s: between two looks for half-open connections.
    """

    def __init__(
        self, datapath: Datapath, *, period_s: float = PERIOD_S, probe_period_s: float = PROBE_PERIOD_S
    ) -> None:
        self._datapath = datapath
        self._period_s = period_s
        self._probe_period_s = probe_period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End it. Idempotent; waits two seconds at most."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        next_sweep_s = time.monotonic() + self._period_s
        while not self._stopping.wait(self._probe_period_s):
            self._probe()
            if time.monotonic() >= next_sweep_s:
                self._sweep()
                next_sweep_s = time.monotonic() + self._period_s

    def _probe(self) -> None:
        try:
            probed = self._datapath.probe_half_open()
        except DatapathError as err:
            log.warning("connections to containers that are gone are not reset", extra={"error": str(err)})
            return
        if probed:
            log.info("connections to containers that are gone are reset", extra={"connections": probed})

    def _sweep(self) -> None:
        try:
            swept = self._datapath.sweep()
        except DatapathError as err:
            log.warning("connections that are over are not removed", extra={"error": str(err)})
            return
        log.debug(
            "connections that are over are removed",
            extra={"connections": swept.connections, "translations": swept.translations},
        )
