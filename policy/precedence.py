"""Deny above allow, in a table where the longest match of a port decides.

The kernel asks once under the peer and once under anyone, and each time sees the longest match only. An allow below a
deny of the same peer would hide it, so it is left out. What changes no verdict is left out as well: it would only take
room in a map that is shared by all endpoints of the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from datapath.policy_table import PolicyVerdict
from policy.port_prefixes import PortKey, covering

Verdicts: TypeAlias = Mapping[PortKey, PolicyVerdict]
"""What holds for one peer, by protocol and port."""


def settle(rules: Iterable[tuple[PolicyVerdict, Iterable[PortKey]]], anyone: Verdicts | None = None) -> Verdicts:
    """The entries of one peer.

    Args:
        rules: those that match the peer and what they say for which ports; denies first, and among equals the one that
            is to be named first.
        anyone: the settled entries that hold for every peer; nothing when it is those that are asked for.
    """
    said: dict[PortKey, PolicyVerdict] = {}
    for verdict, keys in rules:
        for key in keys:
            said.setdefault(key, verdict)
    return {key: verdict for key, verdict in said.items() if _changes_something(key, verdict, said, anyone or {})}


def _changes_something(key: PortKey, verdict: PolicyVerdict, said: Verdicts, anyone: Verdicts) -> bool:
    """Whether nothing wider says the same or, being a deny, more."""
    for entries in (said, anyone):
        for wider in covering(key):
            over = entries.get(wider)
            if over is not None and (over.deny or not verdict.deny):
                return False
    over = anyone.get(key)
    return over is None or not (over.deny or not verdict.deny)
