"""Notice that the host has joined or left a Swarm since the scope was decided."""

from __future__ import annotations

import logging
import threading
from typing import Final

from driver.scope import AutoScope
from model.errors import EngineUnavailable

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 30.0
_STOP_S: Final = 2.0


class ScopeWatch:
    """Asks the engine from time to time, in a thread of its own; an engine that does not answer changes nothing.

    Args:
        scope: what was decided; None when the operator has set the scope, so that there is nothing to notice.
        interval_s: time between questions.
    """

    def __init__(self, scope: AutoScope | None, *, interval_s: float = _INTERVAL_S) -> None:
        self._scope = scope
        self._interval_s = interval_s
        self._warning: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scope", daemon=True)

    @property
    def warning(self) -> str | None:
        """What to do about it, in a sentence; None while the scope fits."""
        return self._warning

    def start(self) -> None:
        """Begin to ask."""
        if self._scope is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        scope = self._scope
        while scope is not None and not self._stopping.wait(self._interval_s):
            try:
                self._warning = scope.pending_change()
            except EngineUnavailable as err:
                log.debug("engine did not say whether it is in a Swarm", extra={"reason": str(err)})
