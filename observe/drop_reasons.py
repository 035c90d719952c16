"""Names of drop reasons, spelled as the ``DropReason`` enum of Hubble's Flow, so that its dashboards and filters fit.

Numbers are those of ``abi.h``; the ones that Cilium does not have (224 and more) keep the name they have there.

Source: https://github.com/cilium/cilium/blob/main/api/v1/flow/flow.proto (enum DropReason).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from datapath import abi

POLICY_DENIED: Final = 133
"""No rule allows it."""
POLICY_DENY: Final = 181
"""A deny rule matched."""
NO_BACKEND: Final = 158
"""Nobody answers for a service."""

_CILIUM: Final[Mapping[int, str]] = MappingProxyType({
    130: "INVALID_SOURCE_MAC",
    131: "INVALID_DESTINATION_MAC",
    132: "INVALID_SOURCE_IP",
    POLICY_DENIED: "POLICY_DENIED",
    134: "INVALID_PACKET_DROPPED",
    135: "CT_TRUNCATED_OR_INVALID_HEADER",
    137: "CT_UNKNOWN_L4_PROTOCOL",
    139: "UNSUPPORTED_L3_PROTOCOL",
    140: "MISSED_TAIL_CALL",
    141: "ERROR_WRITING_TO_PACKET",
    142: "UNKNOWN_L4_PROTOCOL",
    147: "ERROR_RETRIEVING_TUNNEL_KEY",
    150: "UNKNOWN_L3_TARGET_ADDRESS",
    151: "STALE_OR_UNROUTABLE_IP",
    153: "ERROR_WHILE_CORRECTING_L3_CHECKSUM",
    154: "ERROR_WHILE_CORRECTING_L4_CHECKSUM",
    155: "CT_MAP_INSERTION_FAILED",
    156: "INVALID_IPV6_EXTENSION_HEADER",
    157: "IP_FRAGMENTATION_NOT_SUPPORTED",
    NO_BACKEND: "SERVICE_BACKEND_NOT_FOUND",
    160: "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT",
    163: "UNKNOWN_CONNECTION_TRACKING_STATE",
    164: "LOCAL_HOST_IS_UNREACHABLE",
    165: "NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION",
    166: "UNSUPPORTED_L2_PROTOCOL",
    167: "NO_MAPPING_FOR_NAT_MASQUERADE",
    168: "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE",
    169: "FIB_LOOKUP_FAILED",
    170: "ENCAPSULATION_TRAFFIC_IS_PROHIBITED",
    171: "INVALID_IDENTITY",
    172: "UNKNOWN_SENDER",
    175: "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND",
    POLICY_DENY: "POLICY_DENY",
    182: "VLAN_FILTERED",
    183: "INVALID_VNI",
    196: "TTL_EXCEEDED",
})  # fmt: skip

_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {reason.value: reason.name for reason in abi.DropReason if reason} | dict(_CILIUM)
)
_NUMBERS: Final[Mapping[str, int]] = MappingProxyType({name: number for number, name in _NAMES.items()})
_MEANINGS: Final[Mapping[int, str]] = MappingProxyType({
    abi.DropReason.FRAGMENTATION_NEEDED: "it is larger than its way allows and must not be cut; its sender is told",
    abi.DropReason.WRITE_FAILED: "the kernel refused to change the packet",
    NO_BACKEND: "nobody answers for the service; the client is refused",
    abi.DropReason.NAT_NO_MAPPING: "MASQUERADE_PORTS has no free port, or the connection that it answers is forgotten",
    abi.DropReason.NAT_UNSUPPORTED: "only TCP, UDP and ICMP echo are translated, and of SCTP only the addresses",
    abi.DropReason.ENCAP_PROHIBITED: "to the tunnel's port: outside it would pass for a packet of this host's tunnel",
    abi.DropReason.BACKEND_GONE: "its container is gone or its host is lost; the connection is reset",
})  # fmt: skip


def reason_meaning(number: int) -> str:
    """Say what a drop reason means for services and translation; empty for others, whose names say enough."""
    return _MEANINGS.get(number, "")


def reason_name(number: int) -> str:
    """Name a drop reason; ``DROP_REASON_UNKNOWN``, as Hubble does, for a number that has no name here."""
    return _NAMES.get(number, "DROP_REASON_UNKNOWN")


def reason_number(name: str) -> int | None:
    """Find the number of a name, in any case; None when there is no such reason."""
    return _NUMBERS.get(name.upper())
