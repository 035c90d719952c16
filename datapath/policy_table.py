"""What the policies say, in the form that the kernel looks up: entries, flags of identities, address prefixes.

How a packet of a new connection is judged, at one end and in one direction:

1. the flags of the local identity: not :attr:`IdentityFlags.READY` = closed; direction not enforced = allowed;
2. a remote identity that is not :attr:`IdentityFlags.KNOWN` = denied: rules that concern it may not be written yet;
3. two lookups, one under the remote identity and one under 0 (anyone), each for the longest prefix that covers protocol
   and port; a deny of either wins, an allow of either allows, nothing denies.

Because of 3 a table holds no allow below a deny that covers it: whoever compiles it leaves those out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from datapath.api import Direction
from model.addresses import IPNetwork

ANY_REMOTE: Final = 0
ANY_PROTOCOL: Final = 0
PORT_BITS: Final = 16

NO_RULE: Final = 0
"""Rule number of a verdict that no rule made."""
RULE_UNKNOWN_IDENTITY: Final = 1
"""Rule number of a denial because an identity is not known on this node yet."""
FIRST_RULE: Final = 16
"""Smaller rule numbers are reserved."""


class IdentityFlags(enum.IntFlag):
    """What the kernel knows of an identity; 0 for one it has never heard of."""

    KNOWN = 1
    """Rules that name it as a peer are written."""
    READY = 2
    """Rules of endpoints of this host that have it are written."""
    INGRESS = 4
    """Closed by default for what comes in."""
    EGRESS = 8
    """Closed by default for what goes out."""


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """What an entry is about.

    ``port_bits`` says how many leading bits of the port count: 16 = this port, 0 = all; with :data:`ANY_PROTOCOL` it
    has to be 0. The port of ICMP is the message type.
    """

    local: int
    remote: int
    """:data:`ANY_REMOTE` or an identity, those of address prefixes included."""
    direction: Direction
    protocol: int = ANY_PROTOCOL
    port: int = 0
    port_bits: int = 0


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What an entry says."""

    deny: bool
    rule: int
    """Number of the rule it came from, :data:`FIRST_RULE` or more, the same on every node and after a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTable:
    """Everything of one moment."""

    entries: Mapping[PolicyKey, PolicyVerdict] = field(default_factory=dict)
    identities: Mapping[int, IdentityFlags] = field(default_factory=dict)
    """Of reserved and cluster-wide identities; one that is absent has no flags."""
    prefixes: Mapping[IPNetwork, int] = field(default_factory=dict)
    """Identity of each address prefix that a policy names; outside of all of them is ``world``."""
    audit: bool = False
    """Report what would be denied, and let it pass."""
