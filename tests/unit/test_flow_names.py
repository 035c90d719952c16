"""Names of what the kernel reports as numbers, also of what is gone by the time somebody reads."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvstore.watcher import Change
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_INIT, IDENTITY_WORLD, EndpointId, ServiceId
from model.labels import Labels
from model.policy_answers import RuleReference
from observe import flow_names
from observe.flow import Flow
from observe.flow_names import REMEMBER_S
from tests.support.flow_world import (
    DB,
    DB_ADDRESS,
    DB_ENDPOINT,
    DB_GUARD,
    VIP,
    VNI,
    WEB,
    WEB_ADDRESS,
    WEB_ENDPOINT,
    WEB_LABELS,
    FlowWorld,
    a_service,
    an_endpoint,
    an_event,
    flow_world,
)


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    with flow_world() as made:
        yield made


def _only(world: FlowWorld) -> Flow:
    (flow,) = world.log.read().flows
    return flow


def _container(world: FlowWorld, identity: int = WEB) -> str | None:
    known = world.names.endpoint_at(VNI, WEB_ADDRESS, identity)
    return None if known is None else known.endpoint.container


def test_both_ends_have_their_endpoint_and_labels(world: FlowWorld) -> None:
    world.happen(an_event())

    flow = _only(world)

    assert flow.source.endpoint == WEB_ENDPOINT
    assert flow.source.labels == WEB_LABELS
    assert flow.destination.endpoint == DB_ENDPOINT
    assert (flow.judged, flow.peer) == (flow.destination, flow.source)


def test_addresses_of_another_network_are_not_mixed_up(world: FlowWorld) -> None:
    world.happen(an_event(vni=VNI + 1))

    assert _only(world).source.endpoint is None


def test_a_packet_reported_after_its_container_ended_has_its_name(world: FlowWorld) -> None:
    world.remove(WEB_ENDPOINT)

    world.happen(an_event())

    assert _only(world).source.endpoint == WEB_ENDPOINT


def test_a_flow_keeps_its_names_when_container_rule_and_identity_are_gone(world: FlowWorld) -> None:
    world.happen(an_event(rule=DB_GUARD, reason=181))
    world.remove(WEB_ENDPOINT, DB_ENDPOINT)
    world.clock.time_s += 2 * REMEMBER_S
    world.rules.rules.clear()
    world.rules.labels.clear()

    flow = _only(world)

    assert (flow.source.endpoint, flow.destination.endpoint) == (WEB_ENDPOINT, DB_ENDPOINT)
    assert flow.source.labels == WEB_LABELS
    assert flow.rule is not None
    assert flow.rule.policy == "shop/db-guard"


def test_an_endpoint_that_is_gone_is_forgotten_after_a_while(world: FlowWorld) -> None:
    world.remove(WEB_ENDPOINT)
    world.clock.time_s += REMEMBER_S

    assert _container(world) == "web"

    world.clock.time_s += 1

    assert _container(world) is None


def test_not_more_than_so_many_that_are_gone_are_remembered(world: FlowWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_names, "REMEMBER_MAX", 1)

    world.remove(WEB_ENDPOINT)
    world.remove(DB_ENDPOINT)

    assert _container(world) is None
    assert world.names.endpoint_at(VNI, DB_ADDRESS, DB) is not None


def test_of_two_that_had_the_address_the_one_with_the_packets_identity_is_meant(world: FlowWorld) -> None:
    world.remove(WEB_ENDPOINT)
    world.put(an_endpoint("cc", WEB_ADDRESS, 1099, container="cache"))

    assert _container(world, WEB) == "web"
    assert _container(world, 1099) == "cache"
    assert _container(world, IDENTITY_INIT) == "cache"


def test_an_endpoint_that_moved_to_another_address_left_the_first(world: FlowWorld) -> None:
    world.put(replace(WEB_ENDPOINT, addresses=(ipaddress.ip_address("10.1.0.6"),)))

    assert _container(world) is None
    assert world.names.endpoint_at(VNI, ipaddress.ip_address("10.1.0.6"), WEB) is not None


def test_of_two_at_one_address_the_newer_counts_until_it_goes(world: FlowWorld) -> None:
    newer = an_endpoint("cc", WEB_ADDRESS, WEB, container="cache")
    elsewhere = an_endpoint("dd", WEB_ADDRESS, WEB, container="elsewhere", vni=VNI + 1)
    world.put(newer)
    world.put(elsewhere)
    assert _container(world) == "cache"

    world.remove(newer)

    assert _container(world) == "web"


def test_a_name_that_becomes_known_later_is_shown(world: FlowWorld) -> None:
    world.put(replace(WEB_ENDPOINT, container="", labels=None, identity=IDENTITY_INIT))
    world.happen(an_event(source_identity=IDENTITY_INIT))

    world.put(WEB_ENDPOINT)

    source = _only(world).source
    assert source.endpoint is not None
    assert source.endpoint.container == "web"
    assert source.identity == IDENTITY_INIT
    assert source.labels == Labels.of({**WEB_LABELS, "reserved:init": ""})


def test_an_endpoint_that_becomes_known_later_is_shown(world: FlowWorld) -> None:
    late = an_endpoint("dd", "10.1.0.9", 1099, container="late")
    world.happen(an_event(source=late.addresses[0], source_identity=1099))
    assert _only(world).source.endpoint is None

    world.put(late)

    assert _only(world).source.endpoint == late


def test_an_address_given_out_after_the_packet_does_not_name_it(world: FlowWorld) -> None:
    world.happen(an_event(destination=ipaddress.ip_address("10.1.0.9"), destination_identity=1099))

    world.put(an_endpoint("dd", "10.1.0.9", 1099, container="late", created_at="2026-03-01T12:00:10Z"))

    assert _only(world).destination.endpoint is None


def test_labels_and_rules_that_become_known_later_are_shown(world: FlowWorld) -> None:
    labels = Labels.of({"app": "cron"})
    world.happen(an_event(source_identity=1099, source=ipaddress.ip_address("10.1.0.9"), rule=999, reason=181))
    assert _only(world).source.labels == Labels()

    world.rules.labels[1099] = labels
    world.rules.rules[999] = RuleReference(policy="late", path="spec.ingressDeny[1]", deny=True)

    flow = _only(world)
    assert flow.source.labels == labels
    assert flow.rule is not None
    assert flow.rule.policy == "late"


def test_labels_of_an_identity_that_only_its_endpoint_knows(world: FlowWorld) -> None:
    del world.rules.labels[WEB]

    world.happen(an_event())

    assert _only(world).source.labels == WEB_LABELS


@pytest.mark.parametrize("identity", [IDENTITY_WORLD, CIDR_IDENTITY_BASE + 3])
def test_addresses_outside_are_the_world(world: FlowWorld, identity: int) -> None:
    world.happen(an_event(source=ipaddress.ip_address("198.51.100.7"), source_identity=identity))

    source = _only(world).source

    assert source.labels == Labels.of({"reserved:world": ""})
    assert source.endpoint is None


def test_a_change_that_is_told_twice_is_no_other_change(world: FlowWorld) -> None:
    changes = [Change("k", WEB_ENDPOINT, None)]
    again = EndpointId("ee" * 32)
    world.put(replace(WEB_ENDPOINT, endpoint_id=again, addresses=(ipaddress.ip_address("10.1.0.8"),)))

    world.names.on_endpoints(changes)
    world.names.on_endpoints(changes)

    assert _container(world) == "web"


def test_a_virtual_address_has_the_name_of_its_service(world: FlowWorld) -> None:
    world.put_services(a_service())

    world.happen(an_event(destination=VIP, destination_identity=0, reason=158))

    flow = _only(world)
    assert (flow.destination.services, flow.destination.virtual) == (("shop_db",), True)
    assert (flow.source.services, flow.source.virtual) == ((), False)


def test_a_task_has_the_name_of_its_service(world: FlowWorld) -> None:
    world.put_services(a_service())

    world.happen(an_event())

    destination = _only(world).destination
    assert (destination.services, destination.virtual) == (("shop_db",), False)
    assert destination.endpoint == DB_ENDPOINT


def test_a_container_has_the_names_that_its_label_says(world: FlowWorld) -> None:
    world.put(replace(DB_ENDPOINT, labels=Labels.of({"hawse.service": "db:5432, sql:80=5432,db:1, x,:5"})))

    world.happen(an_event())

    assert _only(world).destination.services == ("db", "sql")


def test_a_flow_keeps_the_name_of_a_service_that_is_gone(world: FlowWorld) -> None:
    world.put_services(a_service())
    world.happen(an_event(destination=VIP))

    world.remove_service(a_service())
    world.happen(an_event(destination=VIP))

    before, after = world.log.read().flows
    assert before.destination.services == ("shop_db",)
    assert after.destination.services == ()


def test_an_address_that_another_service_has_by_now_keeps_its_name(world: FlowWorld) -> None:
    other = a_service(service_id=ServiceId("other"), name="cache", addresses=())
    world.put_services(a_service())
    world.put_services(other)

    world.put_services(a_service(tasks=()))
    world.happen(an_event())

    assert _only(world).destination.services == ("cache",)
