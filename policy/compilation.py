"""What was compiled, and from what: the state that everything about policies is answered from."""

from __future__ import annotations

from dataclasses import dataclass

from policy.compiler import Compiled
from policy.inputs import Gathered


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What was gathered at one moment, and the table that came of it."""

    gathered: Gathered
    compiled: Compiled
    revision: int
    """Every policy write up to this store revision is in it."""
