from __future__ import annotations

import dataclasses
import ipaddress
import random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings

from datapath.api import Direction
from model.errors import InvalidInput, NotFound
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_HOST, IDENTITY_INIT, IDENTITY_REMOTE_NODE, IDENTITY_WORLD, IdentityId
from model.labels import Labels
from model.policies import Entity, Policy, PolicyMode, PortMatch, Protocol
from model.policy_answers import RuleReference, Trace, TraceQuestion
from policy.compiler import PolicyInputs
from policy.tracer import trace
from tests.support.policy_reference import End, verdict
from tests.support.policy_samples import (
    API,
    DB,
    EVERYONE,
    SHOP,
    WEB,
    allow,
    cidr,
    deny,
    egress,
    ingress,
    selects,
    shop,
    tcp,
)
from tests.support.policy_worlds import World, worlds

IS_WEB, IS_API, IS_DB = (selects(app=name) for name in ("web", "api", "db"))
DB_FROM_API: Final = ingress("db-from-api", IS_DB, allow(IS_API, ports=[tcp(5432)], path="spec.ingress[0]"))
DENY_ALL: Final = ingress("deny-all", EVERYONE)
WORLDS: Final = 500


def ask(
    inputs: PolicyInputs, source: End, destination: End, port: int | None = None, *, protocol: Protocol | None = None
) -> Trace:
    return trace(inputs, TraceQuestion(source=source, destination=destination, protocol=protocol, port=port))


def reasons(answer: Trace) -> list[str]:
    return [f"{step.direction} of {step.endpoint}: {step.reason}" for step in answer.steps]


def test_allowed_connection_names_the_rule() -> None:
    answer = ask(shop(DENY_ALL, DB_FROM_API), SHOP[API], SHOP[DB], 5432, protocol=Protocol.TCP)

    assert answer.allowed
    assert reasons(answer) == [
        "egress of app=api: not selected by any policy in this direction",
        "ingress of app=db,hawse.port.sql=5432/tcp: allowed by db-from-api spec.ingress[0]",
    ]
    step = answer.steps[1]
    assert step.enforced
    assert step.selecting == ("db-from-api", "deny-all")
    assert step.matched == (RuleReference(policy="db-from-api", path="spec.ingress[0]", deny=False),)


def test_denied_connection_names_the_policies_that_do_not_allow_it() -> None:
    answer = ask(shop(DENY_ALL, DB_FROM_API), WEB, DB, 5432, protocol=Protocol.TCP)

    assert not answer.allowed
    assert answer.steps[1].reason == "no rule of db-from-api, deny-all allows it"
    assert answer.steps[1].matched == ()


def test_denies_come_first_among_the_rules_that_match() -> None:
    no_web = ingress("no-web", IS_DB, deny(IS_WEB, path="spec.ingressDeny[0]"), allow(path="spec.ingress[0]"))

    step = ask(shop(no_web, DB_FROM_API), WEB, DB, 5432).steps[1]

    assert step.reason == "no protocol is open: denied by no-web spec.ingressDeny[0]"
    assert [(one.policy, one.deny) for one in step.matched] == [("no-web", True), ("no-web", False)]


def test_rules_that_decide_nothing_are_named_too() -> None:
    wide = ingress("wide", IS_DB, allow(EVERYONE, path="spec.ingress[0]"))

    step = ask(shop(wide, DB_FROM_API), API, DB, 5432, protocol=Protocol.TCP).steps[1]

    assert [one.policy for one in step.matched] == ["db-from-api", "wide"]


def test_either_end_can_deny() -> None:
    closed_source = egress("api-out", IS_API)

    answer = ask(shop(closed_source, DB_FROM_API), API, DB, 5432, protocol=Protocol.TCP)

    assert not answer.allowed
    assert [step.allowed for step in answer.steps] == [False, True]


def test_labels_that_no_endpoint_has_are_judged_as_if_one_had_them() -> None:
    cache = Labels.of({"app": "cache"})

    assert ask(shop(DB_FROM_API), cache, SHOP[DB], 5432).allowed is False
    assert ask(shop(DB_FROM_API), SHOP[DB], cache, 5432).allowed
    assert ask(shop(DENY_ALL), cache, cache, 80).steps[1].reason.endswith("no rule of deny-all allows it")


def test_labels_that_no_endpoint_has_bring_their_short_form() -> None:
    cache = Labels.of({"app": "cache", "hawse.ingress": "app=api 6379/tcp; 192.0.2.0/24"})

    from_api = ask(shop(), SHOP[API], cache, 6379, protocol=Protocol.TCP)
    from_web = ask(shop(), SHOP[WEB], cache, 6379, protocol=Protocol.TCP)

    assert from_api.allowed
    assert from_web.steps[1].reason == "no rule of labels:new1 allows it"
    assert ask(shop(), ipaddress.ip_address("192.0.2.7"), cache, 6379).allowed
    assert not ask(shop(), ipaddress.ip_address("198.51.100.7"), cache, 6379).allowed


def test_no_labels_are_labels_too() -> None:
    answer = ask(shop(DENY_ALL), Labels(), Labels(), 80)

    assert [step.endpoint for step in answer.steps] == ["no labels", "no labels"]
    assert not answer.allowed


@pytest.mark.parametrize("entity", [IDENTITY_HOST, IDENTITY_WORLD, IDENTITY_REMOTE_NODE])
def test_what_is_no_container_judges_nothing(entity: IdentityId) -> None:
    inputs = shop(DENY_ALL, mode=PolicyMode.ALWAYS)

    assert [step.direction for step in ask(inputs, entity, DB, 80).steps] == ["ingress"]
    assert [step.direction for step in ask(inputs, DB, entity, 80).steps] == ["egress"]
    assert ask(inputs, entity, IDENTITY_HOST, 80) == Trace(allowed=True, steps=())


def test_address_is_judged_by_its_longest_prefix() -> None:
    policy = egress("out", IS_API, allow(cidr("10.0.0.0/8", "10.1.0.0/16")))
    inputs = shop(policy)

    assert ask(inputs, API, ipaddress.ip_address("10.9.0.1"), 443).allowed
    assert not ask(inputs, API, ipaddress.ip_address("10.1.0.1"), 443).allowed
    assert not ask(inputs, API, ipaddress.ip_address("192.0.2.1"), 443).allowed
    assert ask(inputs, API, IdentityId(CIDR_IDENTITY_BASE), 443).allowed


def test_endpoint_whose_labels_are_unknown() -> None:
    inputs = shop(DB_FROM_API)

    into, out = ask(inputs, API, IDENTITY_INIT, 5432).steps[1], ask(inputs, IDENTITY_INIT, API, 80).steps[0]

    assert (into.endpoint, into.allowed) == ("init", False)
    assert out.reason == "its labels are not known yet, and no policy closes this direction for anybody"


def test_number_that_is_no_identity_is_not_found() -> None:
    with pytest.raises(NotFound, match="no identity 4711"):
        ask(shop(), IdentityId(4711), DB)


def test_without_a_port_it_is_enough_that_one_is_open() -> None:
    inputs = shop(DB_FROM_API)

    answer = ask(inputs, API, DB)

    assert answer.allowed
    assert answer.steps[1].reason == "some port is open: allowed by db-from-api spec.ingress[0]"
    assert ask(inputs, API, DB, protocol=Protocol.UDP).steps[1].reason == "no rule of db-from-api allows it"
    assert ask(inputs, WEB, DB).steps[1].reason == "no port is open: no rule of db-from-api allows it"


def test_without_a_port_both_ends_have_to_open_the_same_one() -> None:
    out = egress("api-out", IS_API, allow(ports=[tcp(443)]))

    answer = ask(shop(DB_FROM_API, out), API, DB)

    assert not answer.allowed
    assert [step.allowed for step in answer.steps] == [True, False]


def test_port_without_a_protocol_is_open_when_one_protocol_is() -> None:
    step = ask(shop(DB_FROM_API), API, DB, 5432).steps[1]

    assert step.allowed
    assert step.reason == "some protocol is open: allowed by db-from-api spec.ingress[0]"


def test_named_port_is_that_of_the_destination() -> None:
    named = TraceQuestion(source=API, destination=DB, port_name="sql")

    assert trace(shop(DB_FROM_API), named).allowed
    assert trace(shop(DB_FROM_API), dataclasses.replace(named, protocol=Protocol.TCP)).allowed


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (TraceQuestion(source=API, destination=WEB, port_name="sql"), "app=web has no label that names a port 'sql'"),
        (
            TraceQuestion(source=API, destination=DB, port_name="sql", protocol=Protocol.UDP),
            "names a UDP port 'sql'",
        ),
        (TraceQuestion(source=API, destination=DB, port=65536), "65536 is not a port"),
        (TraceQuestion(source=API, destination=DB, port=-1), "-1 is not a port"),
        (TraceQuestion(source=API, destination=DB, port=256, protocol=Protocol.ICMP), "256 is no ICMP type"),
    ],
)
def test_port_that_is_none_is_refused(question: TraceQuestion, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        trace(shop(), question)


def test_icmp_is_asked_by_type() -> None:
    ping = ingress("ping", IS_DB, allow(ports=[PortMatch(Protocol.ICMP, 8, 8)]))

    assert ask(shop(ping), API, DB, 8, protocol=Protocol.ICMP).allowed
    assert not ask(shop(ping), API, DB, 13, protocol=Protocol.ICMP).allowed
    assert ask(shop(ping), API, DB, protocol=Protocol.ICMP).allowed
    assert not ask(shop(ping), API, DB, 8).allowed


def test_modes_are_the_reason() -> None:
    never = ask(shop(DENY_ALL, mode=PolicyMode.NEVER), API, DB, 80).steps[1]
    always = ask(shop(mode=PolicyMode.ALWAYS), API, DB, 80, protocol=Protocol.TCP).steps[1]

    assert (never.allowed, never.enforced, never.reason) == (True, False, "the mode is never: no policy is enforced")
    assert never.selecting == ("deny-all",)
    assert (always.allowed, always.reason) == (False, "the mode is always, and no policy allows it")


def test_mode_never_still_names_the_rules_that_match() -> None:
    step = ask(shop(DB_FROM_API, mode=PolicyMode.NEVER), API, DB, 5432).steps[1]

    assert [one.policy for one in step.matched] == ["db-from-api"]


def test_audit_mode_says_that_it_only_reports() -> None:
    inputs = dataclasses.replace(shop(DENY_ALL), audit=True)

    answer = ask(inputs, API, DB, 80, protocol=Protocol.TCP)

    assert not answer.allowed
    assert answer.steps[1].reason == "no rule of deny-all allows it (audit mode: it is reported and passes)"


def test_policy_that_only_denies_leaves_the_rest_open_and_says_so() -> None:
    only_denies = ingress("no-web", IS_DB, deny(IS_WEB, path="spec.ingressDeny[0]"), closes=False)

    step = ask(shop(only_denies), API, DB, 80, protocol=Protocol.TCP).steps[1]

    assert (step.allowed, step.enforced, step.selecting) == (True, True, ())
    assert step.reason == "no rule denies it, and no policy closes this direction"
    assert step.matched == ()


def test_many_policies_are_not_all_named() -> None:
    policies: list[Policy] = [ingress(f"p{at}", IS_DB, allow(Entity.HOST)) for at in range(7)]

    step = ask(shop(*policies), API, DB, 80, protocol=Protocol.TCP).steps[1]

    assert step.reason == "no rule of p0, p1, p2, p3, p4 and 2 more allows it"
    assert len(step.selecting) == 7


def test_500_random_clusters_are_traced_as_the_reference_says() -> None:
    traced: set[bool] = set()

    @settings(max_examples=WORLDS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(world=worlds())
    def agree(world: World) -> None:
        choice = random.Random(repr(world.packets))
        source, destination = choice.choice(world.remotes), choice.choice(world.remotes)
        for protocol, port in (packet for packet in world.packets if packet[0] in set(Protocol)):
            expected = both_ends(world, source, destination, protocol, port)
            assert expected == ask(world.inputs, source, destination, port, protocol=Protocol(protocol)).allowed
            traced.add(expected)
        for protocol in Protocol:
            some = any(both_ends(world, source, destination, protocol, port) for port in edges(world, protocol))
            assert some == ask(world.inputs, source, destination, protocol=protocol).allowed

    agree()

    assert traced == {True, False}


def both_ends(world: World, source: End, destination: End, protocol: int, port: int) -> bool:
    ends = [(source, Direction.EGRESS), (destination, Direction.INGRESS)]
    return all(
        verdict(world.policies, source, destination, protocol, port, direction, world.mode)
        for end, direction in ends
        if end in world.endpoints
    )


def edges(world: World, protocol: Protocol) -> set[int]:
    """A port of each kind that policies tell apart."""
    matches = [
        match for policy in world.policies for rule in (*policy.ingress, *policy.egress) for match in rule.ports or ()
    ]
    found = {0} | {match.first for match in matches} | {match.last + 1 for match in matches}
    for labels in world.identities.values():
        for key, value in labels.items():
            if key.startswith("hawse.port."):
                number = int(value.partition("/")[0])
                found |= {number, number + 1}
    return {port for port in found if port <= (255 if protocol is Protocol.ICMP else 65535)}
