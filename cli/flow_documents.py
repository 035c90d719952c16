"""The agent's flows as this command reads them; repeats ``observe/flow_document.py`` as :mod:`cli.documents` does.

A class whose name begins with a line has the fields that are always there, the one that extends it those that are left
out when they do not apply.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class TcpFlags(TypedDict, total=False):
    """Flags that are set."""

    FIN: bool
    SYN: bool
    RST: bool
    PSH: bool
    ACK: bool
    URG: bool
    ECE: bool
    CWR: bool


class Tcp(TypedDict):
    """A TCP segment."""

    source_port: int
    destination_port: int
    flags: TcpFlags


class Ports(TypedDict):
    """A datagram of UDP or SCTP."""

    source_port: int
    destination_port: int


class Icmp(TypedDict):
    """An ICMP message."""

    type: int


class Layer4(TypedDict, total=False):
    """What is above IP."""

    TCP: Tcp
    UDP: Ports
    SCTP: Ports
    ICMPv4: Icmp
    ICMPv6: Icmp


class Ip(TypedDict):
    """Addresses of the packet."""

    source: str
    destination: str
    ipVersion: Literal["IPv4", "IPv6"]


class Workload(TypedDict):
    """The service that a container belongs to."""

    name: str
    kind: Literal["Service"]


class _FlowEnd(TypedDict):
    identity: int
    labels: list[str]


class FlowEnd(_FlowEnd, total=False):
    """One end of a flow."""

    namespace: str
    pod_name: str
    workloads: list[Workload]
    node: str
    service: str


class FlowService(TypedDict):
    """A service that is asked at its virtual address."""

    name: str


class _FlowPolicy(TypedDict):
    name: str
    labels: list[str]
    revision: int
    kind: Literal["Policy", "NetworkPolicy", "Labels"]
    rule: str


class FlowPolicy(_FlowPolicy, total=False):
    """A policy that decided."""

    namespace: str


class EventType(TypedDict):
    """Cilium's number of the kind of report."""

    type: int
    sub_type: int


class File(TypedDict):
    """Where a packet was dropped."""

    name: str
    line: int


class Interface(TypedDict):
    """Where a packet came in."""

    index: int


class _Flow(TypedDict):
    time: str
    uuid: str
    sequence: int
    verdict: Literal["FORWARDED", "DROPPED", "AUDIT"]
    protocol: str
    source: FlowEnd
    destination: FlowEnd
    Type: Literal["L3_L4"]
    node_name: str
    event_type: EventType
    traffic_direction: Literal["INGRESS", "EGRESS"]
    is_reply: bool
    vni: int
    interface: Interface


class Flow(_Flow, total=False):
    """One packet."""

    drop_reason: int
    drop_reason_desc: str
    IP: Ip
    l4: Layer4
    source_service: FlowService
    destination_service: FlowService
    policy_match_type: int
    file: File
    egress_allowed_by: list[FlowPolicy]
    ingress_allowed_by: list[FlowPolicy]
    egress_denied_by: list[FlowPolicy]
    ingress_denied_by: list[FlowPolicy]
    selected_by: list[str]
    policy_explanation: str
    drop_explanation: str


class FlowsEnd(TypedDict):
    """Where an answer of ``/v1/flows`` ends; the last of its lines."""

    next: int
    lost: int
    epoch: str
    more: bool
    node_name: str


class Flows(FlowsEnd):
    """``/v1/flows`` as one document."""

    flows: list[Flow]
