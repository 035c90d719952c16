"""SCOPE=auto: whether networks of this driver belong to the host or to its Swarm.

The engine asks for the scope once, when it enables the plugin or starts, and there is no answer to «does this host
belong to a Swarm?» while dockerd boots, since it serves no API then. So the last answer is kept in a file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, Protocol

from driver.engine import EngineInfo
from driver.protocol import Scope
from model.errors import EngineUnavailable

log = logging.getLogger(__name__)

ASK_TIMEOUT_S: Final = 0.3
"""The plugin's socket is not served before the scope is known; a busy engine answers in 15 ms."""

CHECK_TIMEOUT_S: Final = 5.0


class AsksEngine(Protocol):
    """The one question that is asked here: :class:`driver.engine.Engine`."""

    def info(self, timeout_s: float) -> EngineInfo:
        """Ask the engine; EngineUnavailable when it does not answer in time."""
        ...


class AutoScope:
    """Decides the scope once per process, and notices when it does not fit any more.

    Args:
        engine: the engine on this host.
        state_dir: where the last answer is kept over restarts and upgrades of the plugin.
    """

    def __init__(self, engine: AsksEngine, state_dir: Path) -> None:
        self._engine = engine
        self._file = state_dir / "scope"
        self._decided: Scope | None = None
        self._noticed: Scope | None = None

    def decide(self) -> Scope:
        """Ask the engine; when it does not answer, take what it said last; when it never did, the host's own scope."""
        try:
            scope = _scope(self._engine.info(ASK_TIMEOUT_S))
        except EngineUnavailable as err:
            scope = self._kept() or Scope.LOCAL
            log.info(
                "engine did not answer, scope is that of the last time", extra={"scope": scope, "reason": str(err)}
            )
        else:
            self._keep(scope)
            log.info("scope decided", extra={"scope": scope})
        self._decided = self._noticed = scope
        return scope

    def pending_change(self) -> str | None:
        """Ask the engine again; a sentence when the scope in use does not fit any more, else None.

        The new answer is kept, so a restart of the engine applies it as well.

        Raises:
            EngineUnavailable: the engine does not answer, so nothing is known.
        """
        scope = _scope(self._engine.info(CHECK_TIMEOUT_S))
        if scope is not self._noticed:
            self._keep(scope)
            self._noticed = scope
            log.warning("scope does not fit any more", extra={"in_use": self._decided, "would_be": scope})
        if self._decided is None or scope is self._decided:
            return None
        state = "has joined a Swarm" if scope is Scope.GLOBAL else "is not in a Swarm any more"
        return (
            f"this host {state} since the plugin was enabled: networks are still made with scope {self._decided}; "
            f"to make them with scope {scope}, run: docker plugin disable -f PLUGIN && docker plugin enable PLUGIN"
        )

    def _kept(self) -> Scope | None:
        try:
            return Scope(self._file.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as err:
            log.warning("kept scope cannot be read", extra={"file": str(self._file), "reason": str(err)})
            return None

    def _keep(self, scope: Scope) -> None:
        """Replace the file in one step: a half-written answer would be none."""
        written = self._file.with_suffix(".new")
        try:
            written.write_text(f"{scope}\n", encoding="ascii")
            written.replace(self._file)
        except OSError as err:
            # Without the file the engine's next boot falls back to the local scope; what runs now is right.
            log.warning("scope cannot be kept", extra={"file": str(self._file), "reason": str(err)})


def _scope(info: EngineInfo) -> Scope:
    return Scope.GLOBAL if info.in_swarm else Scope.LOCAL
