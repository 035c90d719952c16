"""Flows as Hubble's JSON has them."""

from __future__ import annotations

import dataclasses
import ipaddress
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from datapath import abi
from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from model.ids import IDENTITY_HOST, IDENTITY_INIT
from model.policy_answers import RuleReference
from observe.drop_reasons import reason_name, reason_number
from observe.flow_describe import page_document
from tests.support.flow_world import (
    DB,
    DB_ADDRESS,
    DB_FROM_API,
    DB_GUARD,
    VIP,
    WEB,
    WEB_ADDRESS,
    FlowWorld,
    a_service,
    an_endpoint,
    an_event,
    flow_world,
    forwarded,
)


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    with flow_world() as made:
        yield made


def _page(world: FlowWorld) -> Any:
    return msgspec.json.decode(msgspec.json.encode(page_document(world.log, world.log.read())))


def _flow(world: FlowWorld, **changes: Any) -> Any:
    world.happen(an_event(**changes))
    return _page(world)["flows"][-1]


def _passed(world: FlowWorld, **changes: Any) -> Any:
    world.happen(forwarded(**changes))
    return _page(world)["flows"][-1]


def test_a_dropped_packet_has_the_fields_of_hubble(world: FlowWorld) -> None:
    flow = _flow(world)

    assert uuid.UUID(flow.pop("uuid")).version == 4
    assert flow == {
        "time": "2026-03-01T12:00:01.204000Z",
        "sequence": 0,
        "verdict": "DROPPED",
        "drop_reason": 133,
        "drop_reason_desc": "POLICY_DENIED",
        "IP": {"source": "10.1.0.5", "destination": "10.1.1.7", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 41022, "destination_port": 5432, "flags": {"SYN": True}}},
        "protocol": "tcp",
        "source": {
            "identity": 1021,
            "labels": ["app=web", "com.docker.stack.namespace=shop", "tier=front"],
            "namespace": "shop",
            "pod_name": "web",
            "node": "alpha",
        },
        "destination": {
            "identity": 1040,
            "labels": ["app=db", "com.docker.stack.namespace=shop"],
            "namespace": "shop",
            "pod_name": "db",
            "node": "beta",
        },
        "Type": "L3_L4",
        "node_name": "alpha",
        "event_type": {"type": 1, "sub_type": 133},
        "traffic_direction": "INGRESS",
        "policy_match_type": 0,
        "is_reply": False,
        "vni": 4097,
        "interface": {"index": 12},
        "file": {"name": "lib/policy.h", "line": 77},
        "selected_by": ["deny-all", "db-from-api"],
        "policy_explanation": "no rule allows it; selected by deny-all, db-from-api",
    }


def test_page_says_where_to_go_on_and_whose_it_is(world: FlowWorld) -> None:
    world.happen(an_event(), lost=3)

    page = _page(world)

    assert {key: page[key] for key in ("next", "lost", "more", "node_name", "epoch")} == {
        "next": 4,
        "lost": 0,
        "more": False,
        "node_name": "alpha",
        "epoch": world.log.epoch,
    }


def test_every_flow_has_a_name_of_its_own(world: FlowWorld) -> None:
    with flow_world() as other:
        names = {_flow(world)["uuid"], _flow(world)["uuid"], _flow(other)["uuid"]}

    assert len(names) == 3


def test_a_deny_rule_is_named_with_its_policy(world: FlowWorld) -> None:
    flow = _flow(world, reason=181, rule=DB_GUARD)

    assert flow["drop_reason_desc"] == "POLICY_DENY"
    assert flow["ingress_denied_by"] == [
        {
            "name": "db-guard",
            "namespace": "shop",
            "labels": [],
            "revision": 18,
            "kind": "NetworkPolicy",
            "rule": "spec.ingressDeny[0]",
        }
    ]
    assert flow["policy_explanation"] == "denied by shop/db-guard spec.ingressDeny[0]"
    assert "policy_match_type" not in flow
    assert "selected_by" not in flow
    assert "egress_denied_by" not in flow


def test_a_denial_at_the_source_is_an_egress_one(world: FlowWorld) -> None:
    flow = _flow(world, reason=181, rule=DB_GUARD, direction=Direction.EGRESS)

    assert flow["traffic_direction"] == "EGRESS"
    assert [one["name"] for one in flow["egress_denied_by"]] == ["db-guard"]
    assert "ingress_denied_by" not in flow


def test_an_answer_of_a_connection_that_was_cut_names_the_policies_of_the_end_that_judged(world: FlowWorld) -> None:
    """The web container opened it, the ingress policy of the database decided, the database sent this packet."""
    world.happen(
        an_event(
            source=DB_ADDRESS, destination=WEB_ADDRESS, source_identity=DB, destination_identity=WEB, is_reply=True
        )
    )

    flow = world.log.read().flows[-1]

    assert flow.judged.identity == DB
    assert flow.peer.identity == WEB
    assert flow.selecting == ("deny-all", "db-from-api")


def test_a_forwarded_connection_inside_the_host_names_the_rules_of_both_ends(world: FlowWorld) -> None:
    world.rules.rules[200] = RuleReference(policy="web-out", path="spec.egress[2]", deny=False, revision=5)

    flow = _passed(world, direction=Direction.EGRESS, rule=200, other_rule=DB_FROM_API)

    assert flow["verdict"] == "FORWARDED"
    assert flow["event_type"] == {"type": 5, "sub_type": 0}
    assert [one["name"] for one in flow["egress_allowed_by"]] == ["web-out"]
    assert flow["ingress_allowed_by"] == [
        {"name": "db-from-api", "labels": [], "revision": 17, "kind": "Policy", "rule": "spec.ingress[0]"}
    ]
    assert flow["policy_explanation"] == "allowed by web-out spec.egress[2] and db-from-api spec.ingress[0]"
    assert not {"drop_reason", "drop_reason_desc", "file", "ingress_denied_by"} & set(flow)


def test_only_the_other_end_may_have_a_rule(world: FlowWorld) -> None:
    flow = _passed(world, direction=Direction.EGRESS, other_rule=DB_FROM_API)

    assert "egress_allowed_by" not in flow
    assert [one["name"] for one in flow["ingress_allowed_by"]] == ["db-from-api"]
    assert flow["policy_explanation"] == "allowed by db-from-api spec.ingress[0]"


def test_a_connection_that_no_policy_was_asked_about_has_no_explanation(world: FlowWorld) -> None:
    flow = _passed(world)

    assert flow["event_type"] == {"type": 4, "sub_type": 0}
    assert "policy_explanation" not in flow


@pytest.mark.parametrize(
    ("reason", "rule", "why"),
    [
        (181, DB_GUARD, "would be denied by shop/db-guard spec.ingressDeny[0]"),
        (133, 0, "no rule allows it; selected by deny-all, db-from-api"),
    ],
)
def test_audit_says_what_would_be(world: FlowWorld, reason: int, rule: int, why: str) -> None:
    flow = _flow(world, verdict=FlowVerdict.AUDIT, reason=reason, rule=rule)

    assert flow["verdict"] == "AUDIT"
    assert flow["drop_reason"] == reason
    assert flow["event_type"] == {"type": 5, "sub_type": 0}
    assert flow["policy_explanation"] == why


def test_short_form_of_a_container_is_no_namespace(world: FlowWorld) -> None:
    world.rules.rules[300] = RuleReference(policy="labels:1040", path="hawse.ingress[0] app=web/5432", deny=False)

    flow = _passed(world, direction=Direction.INGRESS, rule=300)

    assert flow["ingress_allowed_by"] == [
        {
            "name": "labels:1040",
            "labels": [],
            "revision": 0,
            "kind": "Labels",
            "rule": "hawse.ingress[0] app=web/5432",
        }
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rule": 1}, "identity 1021 is not known on this node yet"),
        ({"rule": 1, "direction": Direction.EGRESS}, "identity 1040 is not known on this node yet"),
        ({"rule": 4711, "reason": 181}, "denied by rule 4711, which is not known here any more"),
        ({"rule": 9, "reason": 181}, "denied by rule 9"),
        ({"direction": Direction.EGRESS}, "no rule allows it; no policy that selects it is known"),
        (
            {"destination_identity": IDENTITY_INIT},
            "no rule allows it; the labels of the container are not known yet",
        ),
    ],
)
def test_every_denial_is_explained(world: FlowWorld, changes: dict[str, Any], why: str) -> None:
    assert _flow(world, **changes)["policy_explanation"] == why


@pytest.mark.parametrize(
    ("protocol", "name", "layer"),
    [
        (6, "tcp", {"TCP": {"source_port": 7, "destination_port": 8, "flags": {"SYN": True, "ACK": True}}}),
        (17, "udp", {"UDP": {"source_port": 7, "destination_port": 8}}),
        (132, "sctp", {"SCTP": {"source_port": 7, "destination_port": 8}}),
        (1, "icmp", {"ICMPv4": {"type": 8}}),
        (58, "icmpv6", {"ICMPv6": {"type": 8}}),
        (47, "47", None),
    ],
)
def test_every_protocol(world: FlowWorld, protocol: int, name: str, layer: object) -> None:
    flow = _flow(world, protocol=protocol, source_port=7, destination_port=8, tcp_flags=0x12)

    assert flow["protocol"] == name
    assert flow.get("l4") == layer


def test_every_tcp_flag(world: FlowWorld) -> None:
    flags = _flow(world, tcp_flags=0xFF)["l4"]["TCP"]["flags"]

    assert list(flags) == ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]


def test_ipv6_says_so(world: FlowWorld) -> None:
    flow = _flow(world, source=ipaddress.ip_address("fd00::5"), destination=ipaddress.ip_address("fd00::7"))

    assert flow["IP"] == {"source": "fd00::5", "destination": "fd00::7", "ipVersion": "IPv6"}


def test_a_packet_dropped_before_its_addresses_were_read_has_none(world: FlowWorld) -> None:
    flow = _flow(
        world,
        source=None,
        destination=None,
        destination_identity=0,
        reason=166,
        protocol=0,
        source_port=0,
        destination_port=0,
    )

    assert not {"IP", "l4", "policy_explanation"} & set(flow)
    assert flow["protocol"] == ""
    assert flow["drop_reason_desc"] == "UNSUPPORTED_L2_PROTOCOL"
    assert flow["source"]["labels"][0] == "app=web"
    assert flow["destination"] == {"identity": 0, "labels": []}


def test_the_host_is_no_container(world: FlowWorld) -> None:
    flow = _flow(world, source=ipaddress.ip_address("10.1.0.1"), source_identity=IDENTITY_HOST)

    assert flow["source"] == {"identity": 1, "labels": ["reserved:host"]}


@pytest.mark.parametrize("key", ["com.docker.swarm.service.name", "com.docker.compose.service"])
def test_a_service_is_a_workload(world: FlowWorld, key: str) -> None:
    world.rules.labels[WEB] = type(world.rules.labels[WEB]).of({key: "shop_web"})

    assert _flow(world)["source"]["workloads"] == [{"name": "shop_web", "kind": "Service"}]


def test_a_container_without_a_name_has_none(world: FlowWorld) -> None:
    world.put(an_endpoint("aa", WEB_ADDRESS, WEB))

    assert "pod_name" not in _flow(world)["source"]


def test_every_reason_of_the_kernel_has_a_name(world: FlowWorld) -> None:
    names = {reason.value: reason_name(reason.value) for reason in abi.DropReason if reason}

    assert "DROP_REASON_UNKNOWN" not in names.values()
    assert {name: reason_number(name.lower()) for name in names.values()} == {v: k for k, v in names.items()}
    assert names[150] == "UNKNOWN_L3_TARGET_ADDRESS"
    assert names[227] == "UNKNOWN_NODE"
    assert _flow(world, reason=255)["drop_reason_desc"] == "DROP_REASON_UNKNOWN"
    assert DB not in names


def test_a_connection_to_a_service_that_nobody_answers_for_names_it(world: FlowWorld) -> None:
    world.put_services(a_service())

    flow = _flow(world, destination=VIP, destination_identity=0, reason=158, direction=Direction.EGRESS)

    assert flow["destination_service"] == {"name": "shop_db"}
    assert flow["destination"] == {"identity": 0, "labels": [], "service": "shop_db"}
    assert flow["drop_reason_desc"] == "SERVICE_BACKEND_NOT_FOUND"
    assert flow["drop_explanation"] == (
        "nobody answers for the service shop_db; the client is refused: «hawse service get shop_db»"
    )
    assert not {"policy_explanation", "source_service"} & set(flow)


def test_a_container_that_answers_for_a_service_says_so(world: FlowWorld) -> None:
    world.put_services(a_service())

    flow = _passed(world)

    assert (flow["destination"]["pod_name"], flow["destination"]["service"]) == ("db", "shop_db")
    assert "service" not in flow["source"]
    assert not {"destination_service", "drop_explanation"} & set(flow)


@pytest.mark.parametrize(
    ("reason", "name", "meaning"),
    [
        (136, "FRAGMENTATION_NEEDED", "it is larger than its way allows and must not be cut; its sender is told"),
        (141, "ERROR_WRITING_TO_PACKET", "the kernel refused to change the packet"),
        (158, "SERVICE_BACKEND_NOT_FOUND", "nobody answers for the service; the client is refused"),
        (
            167,
            "NO_MAPPING_FOR_NAT_MASQUERADE",
            "MASQUERADE_PORTS has no free port, or the connection that it answers is forgotten",
        ),
        (
            168,
            "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE",
            "only TCP, UDP and ICMP echo are translated, and of SCTP only the addresses",
        ),
        (229, "BACKEND_GONE", "its container is gone or its host is lost; the connection is reset"),
    ],
)
def test_reasons_of_services_and_translation_are_explained(
    world: FlowWorld, reason: int, name: str, meaning: str
) -> None:
    flow = _flow(world, reason=reason)

    assert (flow["drop_reason_desc"], flow["drop_explanation"]) == (name, meaning)


def test_a_flow_is_described_the_same_whatever_is_beside_it(world: FlowWorld) -> None:
    """What flows have in common is described once for a page: every field of a report makes a difference, or none."""
    world.put_services(a_service())
    world.happen(
        an_event(),
        an_event(monotonic_ns=7),
        an_event(source_port=1),
        an_event(tcp_flags=0x12),
        an_event(length_bytes=1),
        an_event(verdict=FlowVerdict.AUDIT),
        an_event(reason=int(abi.DropReason.POLICY_DENY), rule=DB_GUARD),
        an_event(reason=int(abi.DropReason.UNKNOWN_L3_TARGET)),
        an_event(reason=int(abi.DropReason.NO_SERVICE_BACKEND)),
        an_event(rule=DB_FROM_API),
        an_event(direction=Direction.EGRESS),
        an_event(is_reply=True),
        an_event(protocol=17),
        an_event(protocol=1, destination_port=8),
        an_event(protocol=58, destination_port=128),
        an_event(protocol=47),
        an_event(vni=9),
        an_event(ifindex=9),
        an_event(source_identity=IDENTITY_HOST),
        an_event(destination_identity=IDENTITY_INIT),
        an_event(source=DB_ADDRESS, destination=WEB_ADDRESS),
        an_event(destination=VIP),
        an_event(source=None),
        an_event(source_file="lib/other.h"),
        an_event(source_line=78),
        forwarded(),
        forwarded(is_reply=True),
        forwarded(rule=998),
        forwarded(rule=999),
        forwarded(other_rule=998),
        forwarded(other_rule=999),
        forwarded(rule=DB_FROM_API),
        forwarded(rule=DB_FROM_API, direction=Direction.EGRESS),
        forwarded(rule=DB_FROM_API, direction=Direction.EGRESS, other_rule=DB_GUARD),
        forwarded(),
    )
    page = world.log.read()

    alone = [page_document(world.log, dataclasses.replace(page, flows=(flow,))) for flow in page.flows]

    assert page_document(world.log, page).flows == [flow for one in alone for flow in one.flows]
