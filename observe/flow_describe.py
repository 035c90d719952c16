"""From flows to documents: pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from msgspec import UNSET, UnsetType

from datapath.api import Direction
from datapath.flow_event import FlowEvent, FlowVerdict
from datapath.policy_table import NO_RULE
from model.clock import rfc3339
from model.identities import is_cluster_identity
from model.ids import IDENTITY_INIT
from model.labels import COMPOSE_SERVICE_LABEL, SWARM_SERVICE_LABEL
from model.policies import Protocol
from model.policy_answers import RuleReference
from observe.drop_reasons import reason_name
from observe.flow import End, Flow
from observe.flow_document import (
    EventTypeDocument,
    FileDocument,
    FlowDocument,
    FlowEndDocument,
    FlowPolicyDocument,
    FlowsDocument,
    FlowServiceDocument,
    IcmpDocument,
    InterfaceDocument,
    IpDocument,
    Layer4Document,
    PortsDocument,
    TcpDocument,
    TcpFlagsDocument,
    WorkloadDocument,
)
from observe.flow_explanation import deciding_rules, drop_explanation, explanation, is_policy_verdict
from observe.flow_ring import FlowLog, FlowPage

ICMP_V6: Final = 58
PROTOCOL_NAMES: Final = {
    Protocol.ICMP.value: "icmp",
    Protocol.TCP.value: "tcp",
    Protocol.UDP.value: "udp",
    ICMP_V6: "icmpv6",
    Protocol.SCTP.value: "sctp",
}

_DROP: Final = 1
_TRACE: Final = 4
_POLICY_VERDICT: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT_FORM: Final = "labels:"
_TCP_FLAGS: Final = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
"""By bit, lowest first."""


def page_document(log: FlowLog, page: FlowPage) -> FlowsDocument:
    """Describe what was read."""
    return FlowsDocument(
        flows=[flow_document(log, flow) for flow in page.flows],
        next=page.next,
        lost=page.lost,
        epoch=log.epoch,
        more=page.more,
        node_name=log.node,
    )


def flow_document(log: FlowLog, flow: Flow) -> FlowDocument:
    """Describe one flow of a log."""
    event = flow.event
    source, destination = flow.source, flow.destination
    forwarded = event.verdict is FlowVerdict.FORWARDED
    return FlowDocument(
        time=rfc3339(_EPOCH + timedelta(microseconds=flow.time_us)),
        uuid=log.uuid_of(flow),
        sequence=flow.number,
        verdict=_verdict(event.verdict),
        drop_reason=UNSET if forwarded else event.reason,
        drop_reason_desc=UNSET if forwarded else reason_name(event.reason),
        ip=_ip(event),
        l4=_layer4(event),
        protocol=_protocol(event),
        source=_end(source),
        destination=_end(destination),
        flow_type="L3_L4",
        node_name=log.node,
        event_type=_event_type(flow),
        source_service=_service(source),
        destination_service=_service(destination),
        traffic_direction="EGRESS" if event.direction is Direction.EGRESS else "INGRESS",
        policy_match_type=0 if not forwarded and is_policy_verdict(flow) and event.rule == NO_RULE else UNSET,
        is_reply=event.is_reply,
        vni=event.vni,
        interface=InterfaceDocument(index=event.ifindex),
        file=FileDocument(name=event.source_file, line=event.source_line) if event.source_line else UNSET,
        egress_allowed_by=_policies(flow, Direction.EGRESS, deny=False),
        ingress_allowed_by=_policies(flow, Direction.INGRESS, deny=False),
        egress_denied_by=_policies(flow, Direction.EGRESS, deny=True),
        ingress_denied_by=_policies(flow, Direction.INGRESS, deny=True),
        selected_by=list(flow.selecting) or UNSET,
        policy_explanation=explanation(flow) or UNSET,
        drop_explanation=drop_explanation(flow) or UNSET,
    )


def _verdict(verdict: FlowVerdict) -> Literal["FORWARDED", "DROPPED", "AUDIT"]:
    match verdict:
        case FlowVerdict.FORWARDED:
            return "FORWARDED"
        case FlowVerdict.DROPPED:
            return "DROPPED"
        case FlowVerdict.AUDIT:
            return "AUDIT"


def _ip(event: FlowEvent) -> IpDocument | UnsetType:
    if event.source is None or event.destination is None:
        return UNSET
    return IpDocument(
        source=str(event.source),
        destination=str(event.destination),
        ip_version="IPv4" if event.source.version == 4 else "IPv6",  # noqa: PLR2004 - what the version means
    )


def _layer4(event: FlowEvent) -> Layer4Document | UnsetType:
    if event.source is None:
        return UNSET
    ports = PortsDocument(source_port=event.source_port, destination_port=event.destination_port)
    message = IcmpDocument(type=event.destination_port)
    layers = {
        Protocol.UDP.value: Layer4Document(udp=ports),
        Protocol.SCTP.value: Layer4Document(sctp=ports),
        Protocol.ICMP.value: Layer4Document(icmp_v4=message),
        ICMP_V6: Layer4Document(icmp_v6=message),
        Protocol.TCP.value: Layer4Document(tcp=_tcp(event)),
    }
    return layers.get(event.protocol, UNSET)


def _tcp(event: FlowEvent) -> TcpDocument:
    flags = {name: True for bit, name in enumerate(_TCP_FLAGS) if event.tcp_flags >> bit & 1}
    return TcpDocument(
        source_port=event.source_port, destination_port=event.destination_port, flags=TcpFlagsDocument(**flags)
    )


def _protocol(event: FlowEvent) -> str:
    if event.source is None:
        return ""
    return PROTOCOL_NAMES.get(event.protocol, str(event.protocol))


def _event_type(flow: Flow) -> EventTypeDocument:
    if flow.event.verdict is FlowVerdict.DROPPED:
        return EventTypeDocument(type=_DROP, sub_type=flow.event.reason)
    return EventTypeDocument(type=_POLICY_VERDICT if is_policy_verdict(flow) else _TRACE, sub_type=0)


def _end(end: End) -> FlowEndDocument:
    endpoint = end.endpoint
    is_container = endpoint is not None or is_cluster_identity(end.identity) or end.identity == IDENTITY_INIT
    service = end.labels.get(SWARM_SERVICE_LABEL) or end.labels.get(COMPOSE_SERVICE_LABEL)
    return FlowEndDocument(
        identity=end.identity,
        labels=[f"{key}={value}" if value else key for key, value in end.labels.items()],
        namespace=end.labels.namespace if is_container else UNSET,
        pod_name=endpoint.container or UNSET if endpoint is not None else UNSET,
        workloads=[WorkloadDocument(name=service, kind="Service")] if service else UNSET,
        node=endpoint.node if endpoint is not None else UNSET,
        service=end.services[0] if end.services else UNSET,
    )


def _service(end: End) -> FlowServiceDocument | UnsetType:
    return FlowServiceDocument(name=end.services[0]) if end.virtual else UNSET


def _policies(flow: Flow, direction: Direction, *, deny: bool) -> list[FlowPolicyDocument] | UnsetType:
    found = [_policy(one.rule) for one in deciding_rules(flow) if one.direction is direction and one.deny is deny]
    return found or UNSET


def _policy(rule: RuleReference) -> FlowPolicyDocument:
    namespace, slash, name = rule.policy.rpartition("/")
    short = rule.policy.startswith(_SHORT_FORM)
    return FlowPolicyDocument(
        name=rule.policy if short else name,
        namespace=namespace if slash and not short else UNSET,
        labels=[],
        revision=rule.revision,
        kind="Labels" if short else "NetworkPolicy" if slash else "Policy",
        rule=rule.path,
    )
