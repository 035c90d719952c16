"""The documents of ``/v1/flows``: field names, nesting and spelling of Hubble's Flow.

What Hubble does not have comes in fields of its own: ``sequence``, ``protocol``, ``vni``, ``policy_explanation``,
``drop_explanation``, ``node`` and ``service`` of an end, ``rule`` of a policy. Fields that do not apply are left out,
as Hubble's JSON does. What fills the documents is in ``observe/flow_describe.py``.

Source: https://github.com/cilium/cilium/blob/main/api/v1/flow/flow.proto
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from observe.document_fields import Address, IdentityNumber, Revision, Time

Flag: TypeAlias = bool | UnsetType


class TcpFlagsDocument(
    Struct,
    frozen=True,
    kw_only=True,
    rename={name: name.upper() for name in ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")},
):
    """Flags of the packet that was reported; those that are not set are left out."""

    fin: Flag = UNSET
    syn: Flag = UNSET
    rst: Flag = UNSET
    psh: Flag = UNSET
    ack: Flag = UNSET
    urg: Flag = UNSET
    ece: Flag = UNSET
    cwr: Flag = UNSET


class TcpDocument(Struct, frozen=True, kw_only=True):
    """A TCP segment."""

    source_port: int
    destination_port: int
    flags: TcpFlagsDocument


class PortsDocument(Struct, frozen=True, kw_only=True):
    """A datagram of UDP or SCTP."""

    source_port: int
    destination_port: int


class IcmpDocument(Struct, frozen=True, kw_only=True):
    """An ICMP message; its code is not reported."""

    type: int


class Layer4Document(
    Struct,
    frozen=True,
    kw_only=True,
    rename={"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp_v4": "ICMPv4", "icmp_v6": "ICMPv6"},
):
    """What is above IP: one of them, or none that is known here."""

    tcp: TcpDocument | UnsetType = UNSET
    udp: PortsDocument | UnsetType = UNSET
    sctp: PortsDocument | UnsetType = UNSET
    icmp_v4: IcmpDocument | UnsetType = UNSET
    icmp_v6: IcmpDocument | UnsetType = UNSET


class IpDocument(Struct, frozen=True, kw_only=True, rename={"ip_version": "ipVersion"}):
    """Addresses of the packet."""

    source: Address
    destination: Address
    ip_version: Literal["IPv4", "IPv6"]


class WorkloadDocument(Struct, frozen=True, kw_only=True):
    """The service that a container belongs to."""

    name: str
    kind: Literal["Service"]


class FlowEndDocument(Struct, frozen=True, kw_only=True):
    """One end of a flow."""

    identity: IdentityNumber
    labels: Annotated[
        list[str], Meta(description="key=value, or key; reserved:host and the like for what is no container.")
    ]
    namespace: Annotated[
        str | UnsetType, Meta(description="Stack, else Compose project, else default; only of containers.")
    ] = UNSET
    pod_name: Annotated[str | UnsetType, Meta(description="Name of the container.")] = UNSET
    workloads: Annotated[
        list[WorkloadDocument] | UnsetType, Meta(description="The Swarm or Compose service, if it is of one.")
    ] = UNSET
    node: Annotated[str | UnsetType, Meta(description="Node of the container.")] = UNSET
    service: Annotated[
        str | UnsetType,
        Meta(description="The service that a container answers for, or whose virtual address it is."),
    ] = UNSET


class FlowServiceDocument(Struct, frozen=True, kw_only=True):
    """A service that is asked at its virtual address."""

    name: str


class FlowPolicyDocument(Struct, frozen=True, kw_only=True):
    """A policy that decided, and its rule."""

    name: str
    namespace: Annotated[str | UnsetType, Meta(description="Only of a NetworkPolicy.")] = UNSET
    labels: list[str]
    revision: Annotated[Revision, Meta(description="Of its last change; 0 for the short form on a container.")]
    kind: Annotated[
        Literal["Policy", "NetworkPolicy", "Labels"], Meta(description="Labels: the short form on a container.")
    ]
    rule: Annotated[str, Meta(description="Where the rule stands: spec.ingress[0].")]


class EventTypeDocument(Struct, frozen=True, kw_only=True):
    """Cilium's number of the kind of report: 1 drop, 4 trace, 5 policy verdict."""

    type: int
    sub_type: Annotated[int, Meta(description="Of a drop its reason, else 0.")]


class FileDocument(Struct, frozen=True, kw_only=True):
    """Where in the BPF sources a packet was dropped."""

    name: str
    line: int


class InterfaceDocument(Struct, frozen=True, kw_only=True):
    """The interface that a packet came in through."""

    index: int


Policies: TypeAlias = list[FlowPolicyDocument] | UnsetType


class FlowDocument(Struct, frozen=True, kw_only=True, rename={"ip": "IP", "flow_type": "Type"}):
    """One packet: dropped, or the first of a connection that was forwarded."""

    time: Time
    uuid: str
    sequence: Annotated[int, Meta(description="Its number on this node since the agent's start.")]
    verdict: Literal["FORWARDED", "DROPPED", "AUDIT"]
    drop_reason: Annotated[int | UnsetType, Meta(description="Number of the reason.")] = UNSET
    drop_reason_desc: Annotated[
        str | UnsetType,
        Meta(description="POLICY_DENIED: no rule allows it; POLICY_DENY: a rule denies it; or another."),
    ] = UNSET
    ip: Annotated[IpDocument | UnsetType, Meta(description="Left out when the packet was dropped before.")] = UNSET
    l4: Layer4Document | UnsetType = UNSET
    protocol: Annotated[
        str, Meta(description="tcp, udp, icmp, icmpv6, sctp, or the number of another one; empty: not IP.")
    ]
    source: FlowEndDocument
    destination: FlowEndDocument
    flow_type: Literal["L3_L4"]
    node_name: Annotated[str, Meta(description="The node that saw it.")]
    event_type: EventTypeDocument
    source_service: Annotated[
        FlowServiceDocument | UnsetType, Meta(description="The source is the virtual address of a service.")
    ] = UNSET
    destination_service: Annotated[
        FlowServiceDocument | UnsetType, Meta(description="The destination is the virtual address of a service.")
    ] = UNSET
    traffic_direction: Annotated[
        Literal["INGRESS", "EGRESS"],
        Meta(description="Whose policy decided: INGRESS the destination's, EGRESS the source's."),
    ]
    policy_match_type: Annotated[int | UnsetType, Meta(description="0: no rule matched.")] = UNSET
    is_reply: bool
    vni: int
    interface: InterfaceDocument
    file: FileDocument | UnsetType = UNSET
    egress_allowed_by: Policies = UNSET
    ingress_allowed_by: Policies = UNSET
    egress_denied_by: Policies = UNSET
    ingress_denied_by: Policies = UNSET
    selected_by: Annotated[
        list[str] | UnsetType, Meta(description="When no rule allowed it: the policies that ask for one.")
    ] = UNSET
    policy_explanation: Annotated[
        str | UnsetType, Meta(description="Why, in words: denied by db-guard spec.ingressDeny[0].")
    ] = UNSET
    drop_explanation: Annotated[
        str | UnsetType,
        Meta(description="What a reason that is no policy's means, where its name does not say enough."),
    ] = UNSET


class FlowsEndDocument(Struct, frozen=True, kw_only=True):
    """Where an answer ends, and how to go on."""

    next: Annotated[int, Meta(description="since of the next request.")]
    lost: Annotated[
        int,
        Meta(
            description="Flows missing before next: the kernel could not report them, or newer ones took their place."
        ),
    ]
    epoch: Annotated[str, Meta(description="Names the numbers; another one: the agent was started anew.")]
    more: Annotated[bool, Meta(description="More flows are there already.")]
    node_name: str


class FlowsDocument(FlowsEndDocument, frozen=True, kw_only=True):
    """Flows of this node, oldest first."""

    flows: list[FlowDocument]


class FlowLineDocument(Struct, frozen=True, kw_only=True):
    """A flow as Hubble's command writes it, for an answer of one object a line; the last line is the end."""

    flow: FlowDocument
    node_name: str
    time: Time
