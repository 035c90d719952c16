"""Policy tables that tests begin with, and the few words to write others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from datapath.api import Direction
from datapath.policy_table import (
    ANY_PROTOCOL,
    ANY_REMOTE,
    FIRST_RULE,
    PORT_BITS,
    IdentityFlags,
    PolicyKey,
    PolicyTable,
    PolicyVerdict,
)
from model.ids import IDENTITY_HOST, IDENTITY_INIT, IDENTITY_WORLD

SOME_RULE: Final = FIRST_RULE
OTHER_RULE: Final = FIRST_RULE + 1
EVERYONE: Final = (IDENTITY_HOST, IDENTITY_WORLD, IDENTITY_INIT, *range(300, 306))
"""Identities that the tables of :func:`closing` know."""

Entry = tuple[PolicyKey, PolicyVerdict]


def open_policy(*identities: int) -> PolicyTable:
    """These identities are known, and no policy selects them."""
    return PolicyTable(identities=dict.fromkeys(identities, IdentityFlags.KNOWN | IdentityFlags.READY))


def closing(closed: Mapping[int, IdentityFlags], *entries: Entry, audit: bool = False) -> PolicyTable:
    """Everyone is known; these identities are closed in these directions but for the entries."""
    known = IdentityFlags.KNOWN | IdentityFlags.READY
    return PolicyTable(
        entries=dict(entries),
        identities={one: known | closed.get(one, IdentityFlags(0)) for one in (*EVERYONE, *closed)},
        audit=audit,
    )


def allow(  # the words of a rule, in the order of the key
    local: int,
    remote: int = ANY_REMOTE,
    direction: Direction = Direction.INGRESS,
    protocol: int = ANY_PROTOCOL,
    port: int | None = None,
    *,
    rule: int = SOME_RULE,
    deny: bool = False,
) -> Entry:
    """An entry for one port (of ICMP: message type), one protocol, or everything."""
    key = PolicyKey(local, remote, direction, protocol, port or 0, 0 if port is None else PORT_BITS)
    return key, PolicyVerdict(deny=deny, rule=rule)
