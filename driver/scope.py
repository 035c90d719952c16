"""SCOPE=auto: whether networks of this driver belong to the host or to its Swarm.

The engine asks for the scope once, when it enables the plugin or starts.
"""

from __future__ import annotations

import logging

from driver.protocol import Scope
from driver.swarm_memory import SwarmMemory, SwarmState

log = logging.getLogger(__name__)


class AutoScope:
    """The scope that was decided for this process, and whether it still fits.

    Args:
        at_start: the host's place in a Swarm; None when it is not known, which counts as none.
        memory: asks again.
    """

    def __init__(self, at_start: SwarmState | None, memory: SwarmMemory) -> None:
        self._memory = memory
        self.decided = _scope(at_start)
        self._noticed = self.decided
        log.info("scope decided", extra={"scope": self.decided})

    def pending_change(self) -> str | None:
        """Ask the engine again; a sentence when the scope in use does not fit any more, else None.

        The new answer is kept, so a restart of the engine applies it as well.

        Raises:
            EngineUnavailable: the engine does not answer, so nothing is known.
        """
        scope = _scope(self._memory.now())
        if scope is not self._noticed:
            self._noticed = scope
            log.warning("scope does not fit any more", extra={"in_use": self.decided, "would_be": scope})
        if scope is self.decided:
            return None
        state = "has joined a Swarm" if scope is Scope.GLOBAL else "is not in a Swarm any more"
        return (
            f"this host {state} since the plugin was enabled: networks are still made with scope {self.decided}; "
            f"to make them with scope {scope}, run: docker plugin disable -f PLUGIN && docker plugin enable PLUGIN"
        )


def _scope(state: SwarmState | None) -> Scope:
    return Scope.GLOBAL if state is not None and state.member else Scope.LOCAL
