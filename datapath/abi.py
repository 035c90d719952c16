"""Generated from datapath/bpf/abi.h by scripts/generate_abi.py: DO NOT EDIT, run «make abi»."""

from __future__ import annotations

import ctypes
import enum
from typing import Any, ClassVar, Final

_FieldsType = list[tuple[str, Any]]

ABI_VERSION: Final = 5
ROUTER_MAC: Final = 0x026861777365
"""of every host end and of the tunnel device"""
IDENTITY_HOST: Final = 1
"""never accepted from the wire"""
IDENTITY_WORLD: Final = 2
IDENTITY_INIT: Final = 5
"""labels are not known yet"""
IDENTITY_REMOTE: Final = 6
"""the hosts of other nodes"""
IDENTITY_CLUSTER: Final = 256
"""the first that was allocated for labels"""
IDENTITIES_MAX: Final = 65536
POLICY_MAX: Final = 131072
PREFIXES_MAX: Final = 16384
NETWORKS_MAX: Final = 16384
CONNTRACK_MAX: Final = 262144
FRAGMENTS_MAX: Final = 8192
EVENTS_BYTES: Final = 4194304
"""a power of two"""
EVENTS_PER_S: Final = 10000
"""of each kind on each CPU, also the largest burst"""
RULE_NONE: Final = 0
RULE_UNKNOWN: Final = 1
"""an identity is not known on this node yet"""
POLICY_BITS_ALL: Final = 56
"""of a policy key: up to the direction"""
POLICY_BITS_PROTO: Final = 64
"""up to the protocol"""
POLICY_BITS_PORT: Final = 80
"""up to the port"""
TCP_TIMEOUT_S: Final = 8000
SYN_TIMEOUT_S: Final = 60
CLOSE_TIMEOUT_S: Final = 10
OTHER_TIMEOUT_S: Final = 60
"""until an answer came"""
STREAM_TIMEOUT_S: Final = 180
"""after it"""
ENDPOINT_ID_LENGTH: Final = 64
"""longest endpoint id that Docker gives"""
ENDPOINTS_MAX: Final = 16384
IPCACHE_MAX: Final = 262144
NODES_MAX: Final = 16384
METRICS_MAX: Final = 512
"""256 reasons in 2 directions"""
SERVICES_MAX: Final = 65536
TABLES_MAX: Final = 16384
"""services that have backends"""
SERVICE_SOCKETS_MAX: Final = 65536
NAT_MAX: Final = 262144
"""two entries for each connection"""
PUBLISHED_MAX: Final = 65536
PUBLISHED_WORDS: Final = 1024
"""65536 ports"""
DEVICES_MAX: Final = 64
ROUTED_MAX: Final = 1024
NAT_TRIES: Final = 64
"""ports that are tried for a connection"""
MEMO_MAX: Final = 131072
SWEEP_AT_ONCE: Final = 64
"""entries that a test run takes: a page holds them"""
BUSY_PACKETS: Final = 16
"""of a connection in one second: then a memo is made"""


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
    POLICY_DENIED = 133, "Policy denied"
    INVALID_PACKET = 134, "Invalid packet"
    CT_INVALID_HEADER = 135, "CT: Truncated or invalid header"
    UNSUPPORTED_L3 = 139, "Unsupported L3 protocol"
    NO_TUNNEL_KEY = 147, "Error retrieving tunnel key"
    UNKNOWN_L3_TARGET = 150, "Unknown L3 target address"
    CT_CREATE_FAILED = 155, "CT: Map insertion failed"
    NO_SERVICE_BACKEND = 158, "Service backend not found"
    NO_TUNNEL_ENDPOINT = 160, "No tunnel/encapsulation endpoint"
    NO_CONFIGURATION = 165, "No configuration"
    UNSUPPORTED_L2 = 166, "Unsupported L2 protocol"
    NAT_NO_MAPPING = 167, "No mapping for NAT masquerade"
    NAT_UNSUPPORTED = 168, "Unsupported protocol for NAT masquerade"
    ENCAP_PROHIBITED = 170, "Encapsulation traffic is prohibited"
    INVALID_IDENTITY = 171, "Invalid identity"
    FRAGMENTATION_NEEDED = 136, "Fragmentation needed"
    MISSED_TAIL_CALL = 140, "Missed tail call"
    WRITE_FAILED = 141, "Error writing to packet"
    FRAGMENT_NOT_FOUND = 175, "First logical datagram fragment not found"
    POLICY_DENY = 181, "Policy denied by denylist"
    VLAN_FILTERED = 182, "VLAN filtered"
    UNKNOWN_ENDPOINT = 224, "Interface without endpoint entry"
    INVALID_TARGET_MAC = 225, "Target mac is not the router's"
    MULTICAST = 226, "Multicast and broadcast are not supported"
    UNKNOWN_NODE = 227, "Tunnel packet from unknown node"
    NOT_LOCAL = 228, "Tunnel packet for another node"
    BACKEND_GONE = 229, "Connection to an address that is gone"


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


class IpcacheFlags(enum.IntEnum):
    """``enum ipcache_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> IpcacheFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    GONE = 1, "its node is lost: connections to it are reset"


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
    """enum ipcache_flags"""
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
    """``struct config_value``, 48 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("node_address", ctypes.c_uint32.__ctype_be__ * 4),
        ("tunnel_ifindex", ctypes.c_uint32),
        ("abi_version", ctypes.c_uint32),
        ("policy_epoch", ctypes.c_uint32),
        ("places_epoch", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("host_ifindex", ctypes.c_uint32),
        ("nat_port_first", ctypes.c_uint16),
        ("nat_port_last", ctypes.c_uint16),
        ("tunnel_port", ctypes.c_uint16),
        ("memo_ticks", ctypes.c_uint16),
    ]
    node_address: ctypes.Array[Any]
    """source of tunnel packets; all zero = not configured"""
    tunnel_ifindex: int
    """the VXLAN device"""
    abi_version: int
    """HAWSE_ABI_VERSION"""
    policy_epoch: int
    """raised by every change of the policy maps"""
    places_epoch: int
    """raised by every change of who is where; read with the one before"""
    flags: int
    """enum config_flags"""
    host_ifindex: int
    """our end of the pair to the host's own stack; 0 = none"""
    nat_port_first: int
    """masqueraded connections get a port from here, this machine's order"""
    nat_port_last: int
    """to here; 0 = nothing is masqueraded"""
    tunnel_port: int
    """of the VXLAN device"""
    memo_ticks: int
    """how long a memo holds: a second, in ticks of this kernel's clock"""


class ConfigFlags(enum.IntEnum):
    """``enum config_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> ConfigFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    AUDIT = 1, "what policy denies is reported and passes"
    PUBLISHED = 2, "hawse_published is not empty"
    ROUTED = 4, "the outside may have routes to containers"


class IdentityFlags(enum.IntEnum):
    """``enum identity_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> IdentityFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    KNOWN = 1, "rules that name it as a peer are written"
    READY = 2, "rules of endpoints of this host that have it are written"
    INGRESS = 4, "closed by default for what comes in"
    EGRESS = 8, "closed by default for what goes out"


class IdentityValue(ctypes.Structure):
    """``struct identity_value``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("flags", ctypes.c_uint32),
    ]
    flags: int
    """enum identity_flags"""


class PolicyKey(ctypes.Structure):
    """``struct policy_key``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("prefix_bits", ctypes.c_uint32),
        ("remote", ctypes.c_uint32),
        ("local", ctypes.c_uint16),
        ("direction", ctypes.c_uint8),
        ("protocol", ctypes.c_uint8),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("unused", ctypes.c_uint16),
    ]
    prefix_bits: int
    """HAWSE_POLICY_BITS_ALL, _PROTO, or up to the last bit of the port"""
    remote: int
    """identity of the peer; 0 = anyone"""
    local: int
    """identity of the endpoint that is judged"""
    direction: int
    """enum direction"""
    protocol: int
    """of IP"""
    port: int
    """destination port; of ICMP the message type"""
    unused: int
    """0"""


class PolicyValue(ctypes.Structure):
    """``struct policy_value``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("rule", ctypes.c_uint32),
        ("deny", ctypes.c_uint32),
    ]
    rule: int
    """where it comes from; see datapath/policy_table.py"""
    deny: int
    """0 = allow, 1 = deny"""


class PrefixKey(ctypes.Structure):
    """``struct prefix_key``, 20 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("prefix_bits", ctypes.c_uint32),
        ("address", ctypes.c_uint32.__ctype_be__ * 4),
    ]
    prefix_bits: int
    """leading bits of the address that count; of IPv4 96 more"""
    address: ctypes.Array[Any]
    """IPv4-mapped or IPv6"""


class PrefixValue(ctypes.Structure):
    """``struct prefix_value``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("identity", ctypes.c_uint32),
    ]
    identity: int
    """local to this node"""


class NetworkFlags(enum.IntEnum):
    """``enum network_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> NetworkFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    ROUTED = 1, "leaves the host with its containers' addresses, not the host's"


class NetworkValue(ctypes.Structure):
    """``struct network_value``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("vni", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]
    vni: int
    """network"""
    flags: int
    """enum network_flags"""


class RoutedValue(ctypes.Structure):
    """``struct routed_value``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("flags", ctypes.c_uint32),
    ]
    flags: int
    """0; none defined yet"""


class DeviceKey(ctypes.Structure):
    """``struct device_key``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("ifindex", ctypes.c_uint32),
    ]
    ifindex: int
    """interface"""


class DeviceValue(ctypes.Structure):
    """``struct device_value``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__),
        ("flags", ctypes.c_uint32),
    ]
    address: int
    """IPv4 address that masqueraded packets get"""
    flags: int
    """0; none defined yet"""


class ServiceKey(ctypes.Structure):
    """``struct service_key``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("protocol", ctypes.c_uint8),
        ("unused", ctypes.c_uint8),
    ]
    address: int
    """virtual address"""
    port: int
    """0 = all"""
    protocol: int
    """of IP; 0 = all"""
    unused: int
    """0"""


class ServiceFlags(enum.IntEnum):
    """``enum service_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> ServiceFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    AFFINITY = 1, "a client keeps its backend"


class ServiceValue(ctypes.Structure):
    """``struct service_value``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("table", ctypes.c_uint32),
        ("slots", ctypes.c_uint32),
        ("vni", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]
    table: int
    """key of hawse_tables"""
    slots: int
    """of that table; 0 = there is no backend"""
    vni: int
    """network that the address is in"""
    flags: int
    """enum service_flags"""


class TableKey(ctypes.Structure):
    """``struct table_key``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("table", ctypes.c_uint32),
    ]
    table: int
    """number"""


class BackendValue(ctypes.Structure):
    """``struct backend_value``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("unused", ctypes.c_uint16),
    ]
    address: int
    """of the backend"""
    port: int
    """0 = the one that the client asked for"""
    unused: int
    """0"""


class ServiceSocketKey(ctypes.Structure):
    """``struct service_socket_key``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("cookie", ctypes.c_uint64),
        ("address", ctypes.c_uint32.__ctype_be__),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("unused", ctypes.c_uint16),
    ]
    cookie: int
    """of the socket"""
    address: int
    """of the backend"""
    port: int
    """of the backend"""
    unused: int
    """0"""


class ServiceSocketValue(ctypes.Structure):
    """``struct service_socket_value``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("unused", ctypes.c_uint16),
    ]
    address: int
    """virtual address"""
    port: int
    """port at it"""
    unused: int
    """0"""


class PublishedKey(ctypes.Structure):
    """``struct published_key``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("protocol", ctypes.c_uint8),
        ("unused", ctypes.c_uint8),
    ]
    address: int
    """address of the host; 0 = every one"""
    port: int
    """port of the host"""
    protocol: int
    """of IP"""
    unused: int
    """0"""


class PublishedValue(ctypes.Structure):
    """``struct published_value``, 12 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("address", ctypes.c_uint32.__ctype_be__),
        ("port", ctypes.c_uint16.__ctype_be__),
        ("unused", ctypes.c_uint16),
        ("vni", ctypes.c_uint32),
    ]
    address: int
    """of the container"""
    port: int
    """of the container"""
    unused: int
    """0"""
    vni: int
    """network of the container"""


class PublishedPortsValue(ctypes.Structure):
    """``struct published_ports_value``, 8 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("bits", ctypes.c_uint64),
    ]
    bits: int
    """1 << port % 64"""


class NatKey(ctypes.Structure):
    """``struct nat_key``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("source", ctypes.c_uint32.__ctype_be__),
        ("destination", ctypes.c_uint32.__ctype_be__),
        ("source_port", ctypes.c_uint16.__ctype_be__),
        ("destination_port", ctypes.c_uint16.__ctype_be__),
        ("protocol", ctypes.c_uint32),
    ]
    source: int
    """as it comes"""
    destination: int
    """as it comes"""
    source_port: int
    """of ICMP echo the id"""
    destination_port: int
    """of ICMP echo the id"""
    protocol: int
    """of IP"""


class NatKind(enum.IntEnum):
    """``enum nat_kind``."""

    text: str

    def __new__(cls, number: int, text: str) -> NatKind:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    MASQUERADE = 0, "to the outside with an address of the host"
    PUBLISHED = 1, "to a published port"
    SERVICE = 2, "to a virtual address"


class NatFlags(enum.IntEnum):
    """``enum nat_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> NatFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    USED = 1, "a packet of this direction has come"
    CLOSING = 2, "FIN of this direction has come"
    RESET = 4, "RST of this direction has come"


class NatValue(ctypes.Structure):
    """``struct nat_value``, 20 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("source", ctypes.c_uint32.__ctype_be__),
        ("destination", ctypes.c_uint32.__ctype_be__),
        ("source_port", ctypes.c_uint16.__ctype_be__),
        ("destination_port", ctypes.c_uint16.__ctype_be__),
        ("seen_s", ctypes.c_uint32),
        ("kind", ctypes.c_uint8),
        ("reply", ctypes.c_uint8),
        ("flags", ctypes.c_uint16),
    ]
    source: int
    """as it goes on"""
    destination: int
    """as it goes on"""
    source_port: int
    """of ICMP echo the id"""
    destination_port: int
    """of ICMP echo the id"""
    seen_s: int
    """last packet, CLOCK_MONOTONIC"""
    kind: int
    """enum nat_kind"""
    reply: int
    """1 = against the direction that opened the connection"""
    flags: int
    """enum nat_flags"""


class ConntrackKey(ctypes.Structure):
    """``struct conntrack_key``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("low", ctypes.c_uint32.__ctype_be__),
        ("high", ctypes.c_uint32.__ctype_be__),
        ("low_port", ctypes.c_uint16.__ctype_be__),
        ("high_port", ctypes.c_uint16.__ctype_be__),
        ("vni_and_protocol", ctypes.c_uint32),
    ]
    low: int
    """one address"""
    high: int
    """the other"""
    low_port: int
    """port of low; of ICMP echo the id"""
    high_port: int
    """port of high; of ICMP echo the id"""
    vni_and_protocol: int
    """VNI << 8 | protocol of IP"""


class ConntrackFlags(enum.IntEnum):
    """``enum conntrack_flags``."""

    text: str

    def __new__(cls, number: int, text: str) -> ConntrackFlags:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    OPENED_BY_HIGH = 1, "the connection was opened by high"
    REPLIED = 2, "the other end has answered"
    CLOSED_SOURCE = 4, "FIN from the end that opened it"
    CLOSED_TARGET = 8, "FIN from the other end"
    RESET = 16, "RST from either"
    TRANSLATED = 32, "its packets are translated; see hawse_nat"
    SOURCE_JUDGED = 64, "translated: policy of the end that opened it counts here"
    TARGET_JUDGED = 128, "translated: policy of the other end counts here"


class ConntrackValue(ctypes.Structure):
    """``struct conntrack_value``, 32 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("epoch", ctypes.c_uint32),
        ("reason", ctypes.c_uint8),
        ("direction", ctypes.c_uint8),
        ("packets", ctypes.c_uint16),
        ("seen_s", ctypes.c_uint32),
        ("source_identity", ctypes.c_uint32),
        ("destination_identity", ctypes.c_uint32),
        ("egress_rule", ctypes.c_uint32),
        ("ingress_rule", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]
    epoch: int
    """policy epoch that the verdict was made under"""
    reason: int
    """enum drop_reason when a policy cut it off, otherwise 0"""
    direction: int
    """enum direction of the policy that cut it off"""
    packets: int
    """in the second of the last one, up to HAWSE_BUSY_PACKETS"""
    seen_s: int
    """last packet, CLOCK_MONOTONIC"""
    source_identity: int
    """of the end that opened it"""
    destination_identity: int
    """of the other"""
    egress_rule: int
    """rule of the source's policy; 0 = none was needed"""
    ingress_rule: int
    """rule of the destination's policy; 0 = none was needed"""
    flags: int
    """enum conntrack_flags"""


class MemoHook(enum.IntEnum):
    """``enum memo_hook``."""

    text: str

    def __new__(cls, number: int, text: str) -> MemoHook:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    FROM_CONTAINER = 0, "came in through a veth pair"
    FROM_OVERLAY = 1, "came in through the tunnel"
    FROM_NODE = 2, "of the tunnel, before it is taken out of it; see lane.h"
    TO_NODE = 3, "of the tunnel, when it has been put into it; see lane.h"


class MemoKey(ctypes.Structure):
    """``struct memo_key``, 20 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("scope", ctypes.c_uint32),
        ("source", ctypes.c_uint32.__ctype_be__),
        ("destination", ctypes.c_uint32.__ctype_be__),
        ("ports", ctypes.c_uint32.__ctype_be__),
        ("protocol_and_hook", ctypes.c_uint32),
    ]
    scope: int
    """host end of the veth pair; of the tunnel the network; of a lane its own"""
    source: int
    """address"""
    destination: int
    """address"""
    ports: int
    """source and destination, as they stand in the packet"""
    protocol_and_hook: int
    """protocol of IP, and enum memo_hook << 8"""


class MemoValue(ctypes.Structure):
    """``struct memo_value``, 64 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("mark", ctypes.c_uint64),
        ("policy_epoch", ctypes.c_uint32),
        ("places_epoch", ctypes.c_uint32),
        ("until", ctypes.c_uint64),
        ("ifindex", ctypes.c_uint32),
        ("node", ctypes.c_uint32.__ctype_be__),
        ("vni", ctypes.c_uint32),
        ("identity", ctypes.c_uint16),
        ("mac", ctypes.c_uint8 * 6),
        ("underlay", ctypes.c_uint32),
        ("next_hop", ctypes.c_uint32.__ctype_be__),
        ("longest", ctypes.c_uint32),
        ("source_port", ctypes.c_uint16.__ctype_be__),
        ("fragment", ctypes.c_uint16.__ctype_be__),
        ("tos", ctypes.c_uint8),
        ("ttl", ctypes.c_uint8),
        ("unused", ctypes.c_uint16),
    ]
    mark: int
    """of the key: an entry may be used anew while it is read"""
    policy_epoch: int
    """that it was made under"""
    places_epoch: int
    """that it was made under"""
    until: int
    """jiffies"""
    ifindex: int
    """host end of the receiver's veth pair; 0 = through the tunnel"""
    node: int
    """where the tunnel leads, or where it has to come from; 0 = nowhere"""
    vni: int
    """network"""
    identity: int
    """of the sender, as the tunnel tells it"""
    mac: ctypes.Array[Any]
    """that the frame has to come from; through the tunnel any"""
    underlay: int
    """interface that the tunnel's packets come or go by; 0 = not known"""
    next_hop: int
    """address"""
    longest: int
    """bytes of the longest outer packet that was seen to leave whole"""
    source_port: int
    """of the outer header"""
    fragment: int
    """of the outer header: whether routers may make fragments"""
    tos: int
    """of the outer header, without the bits for congestion"""
    ttl: int
    """of the outer header"""
    unused: int
    """0"""


class FragmentKey(ctypes.Structure):
    """``struct fragment_key``, 16 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("source", ctypes.c_uint32.__ctype_be__),
        ("destination", ctypes.c_uint32.__ctype_be__),
        ("vni", ctypes.c_uint32),
        ("datagram", ctypes.c_uint16.__ctype_be__),
        ("protocol", ctypes.c_uint8),
        ("unused", ctypes.c_uint8),
    ]
    source: int
    """address"""
    destination: int
    """address"""
    vni: int
    """network"""
    datagram: int
    """identification field"""
    protocol: int
    """of IP"""
    unused: int
    """0"""


class FragmentValue(ctypes.Structure):
    """``struct fragment_value``, 4 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("source_port", ctypes.c_uint16.__ctype_be__),
        ("destination_port", ctypes.c_uint16.__ctype_be__),
    ]
    source_port: int
    """of ICMP echo the id"""
    destination_port: int
    """of ICMP echo the id"""


class EventKind(enum.IntEnum):
    """``enum event_kind``."""

    text: str

    def __new__(cls, number: int, text: str) -> EventKind:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    DROP = 0, "dropped, or let through by the audit mode only"
    FORWARD = 1, "first packet of a connection that was forwarded"


class EventLimitValue(ctypes.Structure):
    """``struct event_limit_value``, 24 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("refilled_ns", ctypes.c_uint64),
        ("left", ctypes.c_uint64),
        ("lost", ctypes.c_uint64),
    ]
    refilled_ns: int
    """CLOCK_MONOTONIC"""
    left: int
    """reports that may be made"""
    lost: int
    """reports that were not made"""


class EventVerdict(enum.IntEnum):
    """``enum event_verdict``."""

    text: str

    def __new__(cls, number: int, text: str) -> EventVerdict:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    FORWARDED = 0, "forwarded"
    DROPPED = 1, "dropped"
    AUDIT = 2, "would have been dropped"


class FlowEvent(ctypes.Structure):
    """``struct flow_event``, 88 bytes."""

    _fields_: ClassVar[_FieldsType] = [
        ("monotonic_ns", ctypes.c_uint64),
        ("source", ctypes.c_uint32.__ctype_be__ * 4),
        ("destination", ctypes.c_uint32.__ctype_be__ * 4),
        ("source_identity", ctypes.c_uint32),
        ("destination_identity", ctypes.c_uint32),
        ("rule", ctypes.c_uint32),
        ("other_rule", ctypes.c_uint32),
        ("vni", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("source_port", ctypes.c_uint16.__ctype_be__),
        ("destination_port", ctypes.c_uint16.__ctype_be__),
        ("line", ctypes.c_uint16),
        ("file", ctypes.c_uint8),
        ("reason", ctypes.c_uint8),
        ("verdict", ctypes.c_uint8),
        ("direction", ctypes.c_uint8),
        ("protocol", ctypes.c_uint8),
        ("tcp_flags", ctypes.c_uint8),
        ("is_reply", ctypes.c_uint8),
        ("unused", ctypes.c_uint8 * 7),
    ]
    monotonic_ns: int
    """CLOCK_MONOTONIC"""
    source: ctypes.Array[Any]
    """address, all zero = not read"""
    destination: ctypes.Array[Any]
    """address, all zero = not read"""
    source_identity: int
    """0 = not known"""
    destination_identity: int
    """0 = not known"""
    rule: int
    """that decided"""
    other_rule: int
    """of the other end, when both are on this host"""
    vni: int
    """network"""
    ifindex: int
    """interface that the packet came in through"""
    length: int
    """bytes with link-layer header"""
    source_port: int
    """0 = none; of ICMP 0"""
    destination_port: int
    """0 = none; of ICMP the message type"""
    line: int
    """of the source file that dropped it"""
    file: int
    """which file; see datapath/source.py"""
    reason: int
    """enum drop_reason"""
    verdict: int
    """enum event_verdict"""
    direction: int
    """enum direction"""
    protocol: int
    """of IP"""
    tcp_flags: int
    """as in the header"""
    is_reply: int
    """1 = goes against the direction that opened the connection"""
    unused: ctypes.Array[Any]
    """0"""


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
