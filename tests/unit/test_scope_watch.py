"""A host that joins a Swarm after the plugin was enabled is told what to do."""

from __future__ import annotations

import threading
from pathlib import Path

from driver.engine import EngineInfo
from driver.scope import AutoScope
from driver.swarm_memory import SwarmMemory
from model.errors import EngineUnavailable
from plugin.scope_watch import ScopeWatch


class Engine:
    """Is silent once, then says that it is in a Swarm."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self._silent = True

    def info(self, timeout_s: float) -> EngineInfo:
        self.asked.release()
        if self._silent:
            self._silent = False
            raise EngineUnavailable("it boots")
        return EngineInfo(version="28.5.2", in_swarm=True, swarm_address=None, live_restore=False)


def test_a_change_shows_once_the_engine_tells_it(tmp_path: Path) -> None:
    engine = Engine()
    memory = SwarmMemory(engine, tmp_path)
    watch = ScopeWatch(AutoScope(None, memory), interval_s=0.001)
    assert watch.warning is None

    watch.start()
    for _ in range(3):
        assert engine.asked.acquire(timeout=5)
    watch.stop()

    assert "has joined a Swarm since the plugin was enabled" in str(watch.warning)


def test_a_scope_that_was_set_is_never_doubted() -> None:
    watch = ScopeWatch(None, interval_s=0.001)

    watch.start()
    watch.stop()

    assert watch.warning is None
