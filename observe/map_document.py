"""The documents of ``/v1/bpf``: the kernel's maps, decoded. What fills them is in ``observe/map_describe.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from observe.document_fields import Address, IdentityNumber, PolicyName


@dataclass(frozen=True, slots=True, kw_only=True)
class MapIdentityDocument:
    """An identity as a map has it, and whom it stands for."""

    number: IdentityNumber
    text: Annotated[str, Meta(description="Labels, reserved:<name> or an address prefix; empty when not known.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRuleDocument:
    """The number of a rule as a map has it, and where the rule stands."""

    number: Annotated[int, Meta(description="0: no rule.")]
    policy: Annotated[PolicyName | None, Meta(description="Null when this agent knows no rule of this number.")]
    path: Annotated[str | None, Meta(description="spec.ingress[0]; null like policy.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntryDocument:
    """One entry of the policy map."""

    local: MapIdentityDocument
    direction: Literal["egress", "ingress"]
    deny: bool
    remote: Annotated[MapIdentityDocument | None, Meta(description="Null: anyone.")]
    protocol: Annotated[str | None, Meta(description="TCP, or the number of another one; null: any.")]
    first_port: Annotated[int, Meta(description="Of ICMP the message type.")]
    last_port: int
    rule: MapRuleDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMapDocument:
    """The policy map of this node, by identity and direction."""

    entries: list[PolicyEntryDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionDocument:
    """One tracked connection; source and destination are those of the packet that opened it."""

    vni: int
    protocol: Annotated[str, Meta(description="TCP, or the number of another one.")]
    source: Address
    source_port: Annotated[int, Meta(description="Of ICMP the id of the echo.")]
    source_identity: MapIdentityDocument
    destination: Address
    destination_port: Annotated[int, Meta(description="Of ICMP the id of the echo.")]
    destination_identity: MapIdentityDocument
    state: Annotated[str, Meta(description="new, established, closing or denied.")]
    idle_s: Annotated[float, Meta(description="Seconds since its last packet.")]
    epoch: Annotated[int, Meta(description="The policy epoch it was judged under.")]
    egress_rule: MapRuleDocument
    ingress_rule: MapRuleDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsDocument:
    """The connections that this node tracks, those that were used last first."""

    connections: list[ConnectionDocument]
    left_out: Annotated[int, Meta(description="How many others there are, which were used less lately.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IpcacheEntryDocument:
    """Where one address is."""

    vni: int
    address: Address
    identity: MapIdentityDocument
    tunnel_endpoint: Annotated[Address | None, Meta(description="Underlay address of its node; null: this one.")]
    ifindex: Annotated[int, Meta(description="Host end of its veth pair; 0 on another node.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class IpcacheDocument:
    """The ipcache of this node: every address it can reach inside the networks."""

    entries: list[IpcacheEntryDocument]
