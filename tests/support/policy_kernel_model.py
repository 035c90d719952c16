"""The kernel's judgement (datapath/bpf/lib/policy.h) over a compiled table, for tests without a kernel."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from datapath.api import Direction
from datapath.policy_table import (
    ANY_PROTOCOL,
    ANY_REMOTE,
    NO_RULE,
    RULE_UNKNOWN_IDENTITY,
    IdentityFlags,
    PolicyKey,
    PolicyTable,
    PolicyVerdict,
)
from model.addresses import IPAddress
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_WORLD

_CLOSED: Final = {Direction.INGRESS: IdentityFlags.INGRESS, Direction.EGRESS: IdentityFlags.EGRESS}


def judge(  # noqa: PLR0917  # as policy_judge() of the kernel
    table: PolicyTable, local: int, remote: int, direction: Direction, protocol: int, port: int
) -> tuple[bool, int]:
    """Whether the first packet of a connection passes, and the number of the rule that decided."""
    return KernelModel(table).judge(local, remote, direction, protocol, port)


class KernelModel:
    """The same for many questions to one table."""

    def __init__(self, table: PolicyTable) -> None:
        self._table = table
        self._entries: dict[tuple[int, int, Direction], list[tuple[PolicyKey, PolicyVerdict]]] = defaultdict(list)
        for key, verdict in table.entries.items():
            self._entries[key.local, key.remote, key.direction].append((key, verdict))
        for found in self._entries.values():
            found.sort(key=lambda entry: (entry[0].protocol != ANY_PROTOCOL, entry[0].port_bits), reverse=True)

    def identity_of(self, address: IPAddress) -> int:
        """The identity of an address that no endpoint has."""
        around = [prefix for prefix in self._table.prefixes if address in prefix]
        return self._table.prefixes[max(around, key=lambda prefix: prefix.prefixlen)] if around else IDENTITY_WORLD

    def judge(self, local: int, remote: int, direction: Direction, protocol: int, port: int) -> tuple[bool, int]:
        flags = self._flags(local)
        if IdentityFlags.READY not in flags:
            return False, RULE_UNKNOWN_IDENTITY
        if _CLOSED[direction] not in flags:
            return True, NO_RULE
        if IdentityFlags.KNOWN not in self._flags(remote):
            return False, RULE_UNKNOWN_IDENTITY
        named = self._longest(local, remote, direction, protocol, port)
        anyone = self._longest(local, ANY_REMOTE, direction, protocol, port)
        for found in (named, anyone):
            if found is not None and found.deny:
                return False, found.rule
        winner = named or anyone
        return (False, NO_RULE) if winner is None else (True, winner.rule)

    def _flags(self, identity: int) -> IdentityFlags:
        if identity >= CIDR_IDENTITY_BASE:
            return IdentityFlags.KNOWN
        return self._table.identities.get(identity, IdentityFlags(0))

    def _longest(self, local: int, remote: int, direction: Direction, protocol: int, port: int) -> PolicyVerdict | None:
        for key, verdict in self._entries.get((local, remote, direction), ()):
            if key.protocol == ANY_PROTOCOL:
                return verdict
            rest = 16 - key.port_bits
            if key.protocol == protocol and key.port >> rest == port >> rest:
                return verdict
        return None
