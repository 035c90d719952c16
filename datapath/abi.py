"""Generated from datapath/bpf/abi.h by scripts/generate_abi.py: DO NOT EDIT, run «make abi»."""

from __future__ import annotations

import ctypes
import enum
from typing import Any, ClassVar, Final

_FieldsType = list[tuple[str, Any]]

ABI_VERSION: Final = 1
ROUTER_MAC: Final = 0x026861777365
"""of every host end and of the tunnel device"""
IDENTITY_HOST: Final = 1
"""never accepted from the wire"""
ENDPOINT_ID_LENGTH: Final = 64
"""longest endpoint id that Docker gives"""
ENDPOINTS_MAX: Final = 16384
IPCACHE_MAX: Final = 262144
NODES_MAX: Final = 16384
METRICS_MAX: Final = 512
"""256 reasons in 2 directions"""


class Direction(enum.IntEnum):
    """``enum direction``."""

    text: str

    def __new__(cls, number: int, text: str) -> Direction:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    INGRESS = 0, "ingress"
    EGRESS = 1, "egress"


class DropReason(enum.IntEnum):
    """``enum drop_reason``."""

    text: str

    def __new__(cls, number: int, text: str) -> DropReason:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    FORWARDED = 0, "Forwarded"
    INVALID_SOURCE_MAC = 130, "Invalid source mac"
    INVALID_SOURCE_IP = 132, "Invalid source ip"
    INVALID_PACKET = 134, "Invalid packet"
    UNSUPPORTED_L3 = 139, "Unsupported L3 protocol"
    NO_TUNNEL_KEY = 147, "Error retrieving tunnel key"
    UNKNOWN_L3_TARGET = 150, "Unknown L3 target address"
    NO_TUNNEL_ENDPOINT = 160, "No tunnel/encapsulation endpoint"
    NO_CONFIGURATION = 165, "No configuration"
    UNSUPPORTED_L2 = 166, "Unsupported L2 protocol"
    INVALID_IDENTITY = 171, "Invalid identity"
    VLAN_FILTERED = 182, "VLAN filtered"
    UNKNOWN_ENDPOINT = 224, "Interface without endpoint entry"
    INVALID_TARGET_MAC = 225, "Target mac is not the router's"
    MULTICAST = 226, "Multicast and broadcast are not supported"
    UNKNOWN_NODE = 227, "Tunnel packet from unknown node"
    NOT_LOCAL = 228, "Tunnel packet for another node"


class EndpointKey(ctypes.Structure):
    """``struct endpoint_key``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("ifindex", ctypes.c_uint32),
    ]
    ifindex: int
    """host end of the veth pair"""


class EndpointValue(ctypes.Structure):
    """``struct endpoint_value``, 128 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("ipv4", ctypes.c_uint32.__ctype_be__ * 4),
        ("ipv6", ctypes.c_uint32.__ctype_be__ * 4),
        ("gateway", ctypes.c_uint32.__ctype_be__ * 4),
        ("mac", ctypes.c_uint8 * 6),
        ("identity", ctypes.c_uint16),
        ("vni", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("endpoint_id", ctypes.c_uint8 * 64),
    ]
    ipv4: ctypes.Array[Any]
    """address, IPv4-mapped; all zero = none"""
    ipv6: ctypes.Array[Any]
    """address; all zero = none"""
    gateway: ctypes.Array[Any]
    """gateway of the network, IPv4-mapped; all zero = none"""
    mac: ctypes.Array[Any]
    """address of the container's end"""
    identity: int
    """security identity"""
    vni: int
    """network"""
    flags: int
    """0; none defined yet"""
    endpoint_id: ctypes.Array[Any]
    """Docker's id, padded with zeros; for the agent only"""


class IpcacheKey(ctypes.Structure):
    """``struct ipcache_key``, 20 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("vni", ctypes.c_uint32),
        ("address", ctypes.c_uint32.__ctype_be__ * 4),
    ]
    vni: int
    """network"""
    address: ctypes.Array[Any]
    """address inside the network"""


class IpcacheValue(ctypes.Structure):
    """``struct ipcache_value``, 32 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("tunnel_endpoint", ctypes.c_uint32.__ctype_be__ * 4),
        ("ifindex", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("identity", ctypes.c_uint16),
        ("mac", ctypes.c_uint8 * 6),
    ]
    tunnel_endpoint: ctypes.Array[Any]
    """underlay address of its node; all zero = this host"""
    ifindex: int
    """host end of the veth pair on this host; 0 = on another"""
    flags: int
    """0; none defined yet"""
    identity: int
    """security identity"""
    mac: ctypes.Array[Any]
    """address of the container's end on this host; all zero = on another"""


class NodeKey(ctypes.Structure):
    """``struct node_key``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__ * 4),
    ]
    address: ctypes.Array[Any]
    """underlay address"""


class NodeValue(ctypes.Structure):
    """``struct node_value``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("flags", ctypes.c_uint32),
    ]
    flags: int
    """0; none defined yet"""


class ArrayKey(ctypes.Structure):
    """``struct array_key``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("index", ctypes.c_uint32),
    ]
    index: int
    """position"""


class ConfigValue(ctypes.Structure):
    """``struct config_value``, 24 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("node_address", ctypes.c_uint32.__ctype_be__ * 4),
        ("tunnel_ifindex", ctypes.c_uint32),
        ("abi_version", ctypes.c_uint32),
    ]
    node_address: ctypes.Array[Any]
    """source of tunnel packets; all zero = not configured"""
    tunnel_ifindex: int
    """the VXLAN device"""
    abi_version: int
    """HAWSE_ABI_VERSION"""


class MetricsValue(ctypes.Structure):
    """``struct metrics_value``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("packets", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
    ]
    packets: int
    """packets on the wire: the segments of a large one are counted"""
    bytes: int
    """bytes with link-layer header"""
