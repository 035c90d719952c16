"""From flows to documents: pure functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

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
    FlowLineDocument,
    FlowPolicyDocument,
    FlowsDocument,
    FlowsEndDocument,
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
    describer = _Describer(log)
    return FlowsDocument(
        flows=[describer.describe(flow) for flow in page.flows],
        next=page.next,
        lost=page.lost,
        epoch=log.epoch,
        more=page.more,
        node_name=log.node,
    )


def page_lines(page: FlowsDocument) -> list[FlowLineDocument | FlowsEndDocument]:
    """Say the same line by line."""
    end = FlowsEndDocument(next=page.next, lost=page.lost, epoch=page.epoch, more=page.more, node_name=page.node_name)
    lines = [FlowLineDocument(flow=flow, node_name=flow.node_name, time=flow.time) for flow in page.flows]
    return [*lines, end]


class _Describer:
    """Describes the flows of one page: what many have in common, once.

    Connections from one container to another differ in time, number and ports. A page of a busy host has a thousand of
    them, ten times a second for each reader.
    """

    def __init__(self, log: FlowLog) -> None:
        self._log = log
        self._common: dict[tuple[object, ...], Mapping[str, Any]] = {}

    def describe(self, flow: Flow) -> FlowDocument:
        kind = _kind(flow)
        common = self._common.get(kind)
        if common is None:
            common = self._common[kind] = _common_fields(flow)
        return FlowDocument(
            time=_time(flow.time_us),
            uuid=self._log.uuid_of(flow),
            sequence=flow.number,
            node_name=self._log.node,
            l4=_layer4(flow.event),
            **common,
        )


def _kind(flow: Flow) -> tuple[object, ...]:
    """All that :func:`_common_fields` looks at; names and addresses by the object, which lives as long as the page."""
    event = flow.event
    return (
        event.verdict,
        event.reason,
        event.direction,
        event.is_reply,
        event.protocol,
        event.vni,
        event.ifindex,
        event.source_identity,
        event.destination_identity,
        event.rule,
        event.other_rule,
        event.source_file,
        event.source_line,
        id(event.source),
        id(event.destination),
        id(flow.source_endpoint),
        id(flow.destination_endpoint),
        id(flow.source_labels),
        id(flow.destination_labels),
        id(flow.source_service),
        id(flow.destination_service),
        id(flow.rule),
        id(flow.other_rule),
        id(flow.selecting),
    )


def _common_fields(flow: Flow) -> Mapping[str, Any]:
    """The fields of a document that do not depend on time, number, ports and TCP flags."""
    event = flow.event
    source, destination = flow.source, flow.destination
    forwarded = event.verdict is FlowVerdict.FORWARDED
    return {
        "verdict": _verdict(event.verdict),
        "drop_reason": UNSET if forwarded else event.reason,
        "drop_reason_desc": UNSET if forwarded else reason_name(event.reason),
        "ip": _ip(event),
        "protocol": _protocol(event),
        "source": _end(source),
        "destination": _end(destination),
        "flow_type": "L3_L4",
        "event_type": _event_type(flow),
        "source_service": _service(source),
        "destination_service": _service(destination),
        "traffic_direction": "EGRESS" if event.direction is Direction.EGRESS else "INGRESS",
        "policy_match_type": 0 if not forwarded and is_policy_verdict(flow) and event.rule == NO_RULE else UNSET,
        "is_reply": event.is_reply,
        "vni": event.vni,
        "interface": InterfaceDocument(index=event.ifindex),
        "file": FileDocument(name=event.source_file, line=event.source_line) if event.source_line else UNSET,
        "egress_allowed_by": _policies(flow, Direction.EGRESS, deny=False),
        "ingress_allowed_by": _policies(flow, Direction.INGRESS, deny=False),
        "egress_denied_by": _policies(flow, Direction.EGRESS, deny=True),
        "ingress_denied_by": _policies(flow, Direction.INGRESS, deny=True),
        "selected_by": list(flow.selecting) or UNSET,
        "policy_explanation": explanation(flow) or UNSET,
        "drop_explanation": drop_explanation(flow) or UNSET,
    }


def _time(time_us: int) -> str:
    second, fraction = divmod(time_us, 1_000_000)
    return f"{_second(second)}.{fraction:06d}Z"


@functools.lru_cache(maxsize=64)
def _second(second: int) -> str:
    """As :func:`model.clock.rfc3339` begins."""
    return rfc3339(_EPOCH + timedelta(seconds=second)).partition(".")[0]


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
    describe = None if event.source is None else _LAYERS.get(event.protocol)
    return UNSET if describe is None else describe(event)


def _tcp(event: FlowEvent) -> TcpDocument:
    return TcpDocument(
        source_port=event.source_port, destination_port=event.destination_port, flags=_tcp_flags(event.tcp_flags)
    )


def _ports(event: FlowEvent) -> PortsDocument:
    return PortsDocument(source_port=event.source_port, destination_port=event.destination_port)


@functools.cache
def _tcp_flags(flags: int) -> TcpFlagsDocument:
    return TcpFlagsDocument(**{name: True for bit, name in enumerate(_TCP_FLAGS) if flags >> bit & 1})


def _icmp(event: FlowEvent) -> IcmpDocument:
    return IcmpDocument(type=event.destination_port)


_LAYERS: Final[Mapping[int, Callable[[FlowEvent], Layer4Document]]] = {
    Protocol.TCP: lambda event: Layer4Document(tcp=_tcp(event)),
    Protocol.UDP: lambda event: Layer4Document(udp=_ports(event)),
    Protocol.SCTP: lambda event: Layer4Document(sctp=_ports(event)),
    Protocol.ICMP: lambda event: Layer4Document(icmp_v4=_icmp(event)),
    ICMP_V6: lambda event: Layer4Document(icmp_v6=_icmp(event)),
}


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
