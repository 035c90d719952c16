"""How the kernel follows the policies, in figures: for the status and for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHealth:
    """How the kernel follows the policies."""

    applied_revision: int = 0
    """Every policy write up to this store revision is in the kernel; 0 before the first time."""
    epoch: int = 0
    """The datapath's policy epoch."""
    failures: int = 0
    """Errors in a row; 0 when all is well."""
    error: str = ""
    """The last error while there are failures, otherwise empty."""
    exhausted: int = 0
    """How often a table did not fit into the kernel since the agent started."""
    compilations: int = 0
    """How often a table was compiled."""
    entries: int = 0
    """Entries of the table in the kernel."""
    last_apply_s: float = 0.0
    """Seconds from the last change (the first of those taken together) until it was in the kernel."""
