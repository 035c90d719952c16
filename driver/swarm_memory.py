"""What the engine says of its place in a Swarm, and what it said last.

There is no answer while dockerd boots, since it serves no API then; that is just when a plugin is started. So the last
answer is kept in a file.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from driver.engine import EngineInfo
from kvstore.codec import decode, encode
from model.addresses import IPAddress
from model.errors import EngineUnavailable, InvalidInput

log = logging.getLogger(__name__)

ASK_TIMEOUT_S: Final = 0.3
"""No call of dockerd is answered before this is known; a busy engine answers in 15 ms."""

CHECK_TIMEOUT_S: Final = 5.0


class AsksEngine(Protocol):
    """The one question that is asked here: :class:`driver.engine.Engine`."""

    def info(self, timeout_s: float) -> EngineInfo:
        """Ask the engine; EngineUnavailable when it does not answer in time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmState:
    """This host's place in a Swarm."""

    member: bool
    address: IPAddress | None = None
    """The address that the other nodes of the Swarm know this host by (``--advertise-addr``)."""


class SwarmMemory:
    """Asks the engine, and remembers.

    Args:
        engine: the engine on this host.
        state_dir: where the last answer is kept over restarts and upgrades of the plugin.
    """

    def __init__(self, engine: AsksEngine, state_dir: Path) -> None:
        self._engine = engine
        self._file = state_dir / "swarm.json"
        self._written: SwarmState | None = None

    def at_start(self) -> SwarmState | None:
        """Ask the engine; when it does not answer, take what it said last; None when it never did."""
        try:
            return self._ask(ASK_TIMEOUT_S)
        except EngineUnavailable as err:
            kept = self._kept()
            log.info("engine did not answer, its last answer counts", extra={"state": kept, "reason": str(err)})
            return kept

    def now(self) -> SwarmState:
        """Ask the engine again.

        Raises:
            EngineUnavailable: the engine does not answer, so nothing is known.
        """
        return self._ask(CHECK_TIMEOUT_S)

    def _ask(self, timeout_s: float) -> SwarmState:
        info = self._engine.info(timeout_s)
        state = SwarmState(member=info.in_swarm, address=info.swarm_address)
        if state != self._written:
            self._keep(state)
        return state

    def _kept(self) -> SwarmState | None:
        try:
            return decode(SwarmState, self._file.read_bytes(), key=str(self._file))
        except FileNotFoundError:
            return None
        except (OSError, InvalidInput) as err:
            log.warning("kept state cannot be read", extra={"file": str(self._file), "reason": str(err)})
            return None

    def _keep(self, state: SwarmState) -> None:
        """Replace the file in one step: a half-written answer would be none."""
        written = self._file.with_suffix(".new")
        try:
            written.write_bytes(encode(state))
            written.replace(self._file)
        except OSError as err:
            # Without the file the next boot of the engine falls back to a host of its own; what runs now is right.
            log.warning("state cannot be kept", extra={"file": str(self._file), "reason": str(err)})
        else:
            self._written = state
