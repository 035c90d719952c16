"""What the kernel reports of packets: drops, and the first packet of each connection."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address

import msgspec

from datapath.api import Direction
from model.addresses import IPAddress


class FlowVerdict(enum.StrEnum):
    """What became of the packet."""

    FORWARDED = "forwarded"
    DROPPED = "dropped"
    AUDIT = "audit"
    """It would have been dropped by a policy."""


# Not a dataclass: tens of thousands are made in a second, and msgspec makes one in a fifth of the time.
class FlowEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One reported packet, as the kernel saw it."""

    monotonic_ns: int
    """CLOCK_MONOTONIC."""
    verdict: FlowVerdict
    direction: Direction
    """Whose policy decided, seen as the connection was opened: egress = that of the end that opened it, ingress = that
    of the other. So of a reply (``is_reply``) egress means the packet's destination."""
    reason: int
    """Drop reason of ``abi.h``; 0 when it was forwarded."""
    rule: int
    """Rule that decided (:mod:`datapath.policy_table`); 0 = none."""
    other_rule: int
    """Of a connection between two containers of this host: the rule of the other end, at ingress."""
    source_identity: int
    destination_identity: int
    source: IPAddress | None
    destination: IPAddress | None
    """None when the packet was dropped before its addresses were read."""
    source_port: int
    destination_port: int
    """0 for protocols without ports; for ICMP 0 and the message's type."""
    protocol: int
    tcp_flags: int
    is_reply: bool
    vni: int
    ifindex: int
    """The interface that the packet came in through."""
    length_bytes: int
    source_file: str = ""
    """File of the BPF source that dropped it, ``lib/policy.h``; empty when it was forwarded."""
    source_line: int = 0
    """Line in it; 0 when it was forwarded."""

    @property
    def judged_at_source(self) -> bool:
        """Whether the end whose policy decided is the one that sent this packet."""
        return (self.direction is Direction.EGRESS) is not self.is_reply


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvents:
    """What was reported since the last call."""

    events: tuple[FlowEvent, ...] = ()
    lost: int = 0
    """Reports that the kernel could not make: over the rate limit, or no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportEnd:
    """One end of a connection. ICMP has an id in place of the port."""

    address: IPv4Address
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedConnection:
    """One entry of the connection tracking."""

    vni: int
    protocol: int
    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int
    """Of the direction that opened the connection; for ICMP echo both ports are the id."""
    source_identity: int
    destination_identity: int
    state: str
    """``new``, ``established``, ``closing`` or ``denied``."""
    idle_s: float
    epoch: int
    """The policy epoch it was judged under."""
    egress_rule: int
    ingress_rule: int
