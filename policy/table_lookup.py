"""Ask a table as the kernel does (``datapath/bpf/lib/policy.h``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from datapath.api import Direction
from datapath.policy_table import (
    ANY_REMOTE,
    NO_RULE,
    PORT_BITS,
    RULE_UNKNOWN_IDENTITY,
    IdentityFlags,
    PolicyKey,
    PolicyTable,
    PolicyVerdict,
)
from model.identities import CIDR_IDENTITY_BASE
from policy.port_prefixes import covering

CLOSED_FLAGS: Final = {Direction.INGRESS: IdentityFlags.INGRESS, Direction.EGRESS: IdentityFlags.EGRESS}
"""The flag of an identity that is judged in a direction."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the first packet of a connection at one end."""

    allowed: bool
    rule: int
    """Number of the rule that decided; reserved ones are in :mod:`datapath.policy_table`."""


def enforced(table: PolicyTable, local: int, direction: Direction) -> bool:
    """Whether anything is judged."""
    return bool(table.identities.get(local, 0) & CLOSED_FLAGS[direction])


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuestion:
    """Who asks whom, seen from the end that judges."""

    local: int
    remote: int
    direction: Direction

    def judge(self, table: PolicyTable, protocol: int, port: int) -> Judgement:
        """Judge a packet; ``port`` is the destination's, of ICMP the message type."""
        if not table.identities.get(self.local, 0) & IdentityFlags.READY:
            return Judgement(allowed=False, rule=RULE_UNKNOWN_IDENTITY)
        if not enforced(table, self.local, self.direction):
            return Judgement(allowed=True, rule=NO_RULE)
        known = self.remote >= CIDR_IDENTITY_BASE or table.identities.get(self.remote, 0) & IdentityFlags.KNOWN
        if not known:
            return Judgement(allowed=False, rule=RULE_UNKNOWN_IDENTITY)
        found = [self._longest(table, remote, protocol, port) for remote in (self.remote, ANY_REMOTE)]
        said = [one for one in found if one is not None]
        for one in sorted(said, key=lambda one: not one.deny):
            return Judgement(allowed=not one.deny, rule=one.rule)
        return Judgement(allowed=False, rule=NO_RULE)

    def _longest(self, table: PolicyTable, remote: int, protocol: int, port: int) -> PolicyVerdict | None:
        exact = protocol, port, PORT_BITS
        for key in (exact, *reversed(covering(exact))):
            found = table.entries.get(PolicyKey(self.local, remote, self.direction, *key))
            if found is not None:
                return found
        return None
