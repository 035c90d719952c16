"""Policy tables that tests begin with."""

from __future__ import annotations

from datapath.policy_table import IdentityFlags, PolicyTable


def open_policy(*identities: int) -> PolicyTable:
    """These identities are known, and no policy selects them."""
    return PolicyTable(identities=dict.fromkeys(identities, IdentityFlags.KNOWN | IdentityFlags.READY))
