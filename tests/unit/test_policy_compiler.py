"""Every rule of the semantics on its own, in the table that the kernel gets."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable

import pytest

from datapath.api import Direction
from datapath.policy_table import (
    ANY_PROTOCOL,
    ANY_REMOTE,
    FIRST_RULE,
    NO_RULE,
    RULE_UNKNOWN_IDENTITY,
    IdentityFlags,
    PolicyKey,
)
from model.identities import CIDR_IDENTITY_BASE, RESERVED_NAMES
from model.ids import (
    IDENTITY_HEALTH,
    IDENTITY_HOST,
    IDENTITY_INIT,
    IDENTITY_REMOTE_NODE,
    IDENTITY_UNMANAGED,
    IDENTITY_WORLD,
    IdentityId,
)
from model.labels import STACK_LABEL, Labels
from model.policies import Entity, Operator, Peer, Policy, PolicyMode, PortMatch, Protocol, Requirement, Rule, Selector
from policy.compiler import Compiled, PolicyInputs, compile_table
from policy.endpoint_rules import OPEN_PATH
from tests.support.policy_kernel_model import KernelModel, judge
from tests.support.policy_samples import (
    API,
    DB,
    EVERYONE,
    SHOP,
    WEB,
    allow,
    cidr,
    compiled,
    deny,
    egress,
    in_namespace,
    ingress,
    numbered,
    requires,
    reserved,
    selects,
    shop,
    tcp,
)

TCP = int(Protocol.TCP)
UDP = int(Protocol.UDP)
GRE = 47
IN, OUT = Direction.INGRESS, Direction.EGRESS
ENDS = (WEB, API, DB, *RESERVED_NAMES)
READY = IdentityFlags.KNOWN | IdentityFlags.READY
IS_WEB, IS_API, IS_DB = (selects(app=name) for name in ("web", "api", "db"))


def passes(
    result: Compiled, local: int, remote: int, *, direction: Direction = IN, protocol: int = TCP, port: int = 80
) -> bool:
    allowed, _ = judge(result.table, local, remote, direction, protocol, port)
    return allowed


def who_passes(result: Compiled, local: int, direction: Direction = IN, *, port: int = 80) -> set[int]:
    return {remote for remote in ENDS if passes(result, local, remote, direction=direction, port=port)}


def open_ports(result: Compiled, local: int, remote: int, protocol: int = TCP) -> set[int]:
    kernel = KernelModel(result.table)
    return {port for port in range(65536) if kernel.judge(local, remote, IN, protocol, port)[0]}


def test_without_policies_everything_is_known_ready_and_open() -> None:
    result = compiled()

    assert {} == result.table.entries
    assert result.table.identities == {
        **dict.fromkeys(RESERVED_NAMES, IdentityFlags.KNOWN),
        **dict.fromkeys((*SHOP, IDENTITY_INIT), READY),
    }
    assert who_passes(result, DB) == set(ENDS)


def test_identities_of_other_hosts_are_known_but_not_ready() -> None:
    result = compile_table(PolicyInputs(identities=SHOP, local=frozenset({DB})))

    assert IdentityFlags.KNOWN == result.table.identities[WEB]
    assert READY == result.table.identities[DB]


def test_identity_that_nobody_knows_is_denied_where_something_is_enforced() -> None:
    unknown = 40000
    result = compiled(ingress("all", EVERYONE, allow()))

    assert (False, RULE_UNKNOWN_IDENTITY) == judge(result.table, DB, unknown, IN, TCP, 80)
    assert passes(result, DB, unknown, direction=OUT)


def test_local_identity_whose_labels_nobody_knows_is_closed() -> None:
    unknown = IdentityId(40000)
    result = compile_table(PolicyInputs(identities=SHOP, local=frozenset({unknown, DB})))

    assert unknown not in result.table.identities
    assert (False, RULE_UNKNOWN_IDENTITY) == judge(result.table, unknown, DB, OUT, TCP, 80)


def test_who_is_selected_is_closed_in_that_direction_only() -> None:
    result = compiled(ingress("db-from-api", IS_DB, allow(IS_API)))

    assert who_passes(result, DB) == {API}
    assert who_passes(result, DB, OUT) == set(ENDS)
    assert who_passes(result, API) == set(ENDS)
    assert READY | IdentityFlags.INGRESS == result.table.identities[DB]
    assert result.selecting[DB, IN] == ("db-from-api",)
    assert result.selecting[DB, OUT] == ()


def test_selecting_names_every_policy_that_closes_sorted() -> None:
    result = compiled(ingress("z", IS_DB), ingress("a", EVERYONE), ingress("open", IS_DB, allow(), closes=False))

    assert ("a", "z") == result.selecting[DB, IN]
    assert ("a",) == result.selecting[WEB, IN]


def test_allows_of_several_policies_add_up() -> None:
    result = compiled(ingress("one", IS_DB, allow(IS_API)), ingress("two", IS_DB, allow(IS_WEB)))

    assert who_passes(result, DB) == {WEB, API}


def test_a_policy_that_does_not_close_opens_what_another_closes() -> None:
    result = compiled(ingress("closes", IS_DB), ingress("opens", EVERYONE, allow(IS_API), closes=False))

    assert who_passes(result, DB) == {API}
    assert who_passes(result, WEB) == set(ENDS)


# Peers and ports that are absent, empty, or any.


@pytest.mark.parametrize(
    ("rule", "who"),
    [
        (Rule(), set(ENDS)),
        (Rule(peers=()), set()),
        (Rule(ports=()), set()),
        (Rule(peers=(), ports=()), set()),
        (Rule(peers=(EVERYONE,)), {*SHOP, IDENTITY_INIT}),
        (Rule(peers=(Entity.NONE,)), set()),
        (Rule(peers=(Entity.NONE, IS_WEB)), {WEB}),
    ],
    ids=["anyone", "nobody", "no port", "neither", "every endpoint", "none", "none and web"],
)
def test_absent_peers_are_anyone_and_empty_ones_nobody(rule: Rule, who: set[int]) -> None:
    result = compiled(ingress("p", IS_DB, rule))

    assert who_passes(result, DB) == who


def test_a_rule_for_anyone_is_one_entry() -> None:
    result = compiled(ingress("p", IS_DB, allow()))

    anyone = PolicyKey(DB, ANY_REMOTE, IN)
    assert [anyone] == [key for key in result.table.entries if key.local == DB]


@pytest.mark.parametrize(
    ("entity", "who"),
    [
        (Entity.HOST, {IDENTITY_HOST}),
        (Entity.REMOTE_NODE, {IDENTITY_REMOTE_NODE}),
        (Entity.WORLD, {IDENTITY_WORLD}),
        (Entity.INIT, {IDENTITY_INIT}),
        (Entity.UNMANAGED, {IDENTITY_UNMANAGED}),
        (Entity.HEALTH, {IDENTITY_HEALTH}),
        (Entity.CLUSTER, set(ENDS) - {IDENTITY_WORLD}),
        (Entity.ALL, set(ENDS)),
        (Entity.NONE, set()),
    ],
)
@pytest.mark.parametrize("direction", Direction)
def test_each_entity(entity: Entity, who: set[int], direction: Direction) -> None:
    make = ingress if direction is IN else egress

    assert who_passes(compiled(make("p", IS_DB, allow(entity))), DB, direction) == who
    assert who_passes(compiled(make("p", IS_DB, allow(), deny(entity))), DB, direction) == set(ENDS) - who


def test_peers_of_one_rule_are_a_union() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_WEB, Entity.HOST, IS_API)))

    assert who_passes(result, DB) == {WEB, API, IDENTITY_HOST}


def test_reserved_label_selects_the_reserved_identity() -> None:
    result = compiled(ingress("p", IS_DB, allow(reserved("host"), reserved("world"))))

    assert who_passes(result, DB) == {IDENTITY_HOST, IDENTITY_WORLD}


def test_match_expressions() -> None:
    def chosen(operator: Operator, *values: str) -> set[int]:
        rule = allow(Selector((Requirement("app", operator, frozenset(values)),)))
        return who_passes(compiled(ingress("p", IS_DB, rule)), DB)

    assert chosen(Operator.IN, "web", "api") == {WEB, API}
    assert chosen(Operator.NOT_IN, "web") == {API, DB}
    assert chosen(Operator.EXISTS) == {WEB, API, DB}
    assert chosen(Operator.DOES_NOT_EXIST) == set()


def test_namespace_is_selected_by_its_name() -> None:
    bank = IdentityId(2000)
    identities = {**SHOP, bank: Labels.of({STACK_LABEL: "bank", "app": "web"})}
    both = Selector((requires("app", "web"),), in_namespace("default").namespace)

    result = compile_table(
        shop(
            ingress("db", IS_DB, allow(in_namespace("bank"))),
            ingress("api", IS_API, allow(both)),
            identities=identities,
        )
    )

    assert {bank} == {remote for remote in identities if passes(result, DB, remote)}
    assert {WEB} == {remote for remote in identities if passes(result, API, remote)}


# Ports.


def test_a_port_is_open_in_its_protocol_only() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API, ports=[tcp(5432)])))

    assert open_ports(result, DB, API) == {5432}
    assert open_ports(result, DB, API, UDP) == set()


def test_a_protocol_without_ports_is_all_of_its_ports() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API, ports=[PortMatch(Protocol.UDP)])))

    assert [PolicyKey(DB, API, IN, UDP)] == [key for key in result.table.entries if key.local == DB]
    assert passes(result, DB, API, protocol=UDP, port=65535)
    assert not passes(result, DB, API)


def test_any_protocol_of_a_port_is_tcp_udp_and_sctp() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API, ports=[PortMatch(None, 53, 53)])))

    protocols = {key.protocol for key in result.table.entries if key.local == DB}
    assert protocols == {Protocol.TCP, Protocol.UDP, Protocol.SCTP}


def test_no_ports_are_every_protocol() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API)))

    assert passes(result, DB, API, protocol=GRE, port=0)
    assert ANY_PROTOCOL in {key.protocol for key in result.table.entries if key.local == DB}


def test_icmp_is_opened_by_type() -> None:
    result = compiled(
        ingress(
            "p",
            IS_DB,
            allow(IS_API, ports=[PortMatch(Protocol.ICMP, 8, 8)], path="echo"),
            allow(IS_WEB, ports=[PortMatch(Protocol.ICMP)], path="any"),
        )
    )

    assert passes(result, DB, API, protocol=Protocol.ICMP, port=8)
    assert not passes(result, DB, API, protocol=Protocol.ICMP, port=13)
    assert passes(result, DB, WEB, protocol=Protocol.ICMP, port=13)


def test_overlapping_ranges_are_their_union() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API, ports=[tcp(8000, 8080), tcp(8050, 8100), tcp(8079)])))

    assert open_ports(result, DB, API) == set(range(8000, 8101))


def test_denied_range_is_cut_out_of_the_allowed_one() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API, ports=[tcp(1, 9999)]), deny(ports=[tcp(100, 200)])))

    assert open_ports(result, DB, API) == {*range(1, 100), *range(201, 10000)}


# Deny above allow, at every width.

PEERS: list[tuple[Peer, ...]] = [(), (IS_API,), (EVERYONE,), (Entity.CLUSTER,)]
PORTS = [None, [PortMatch(None)], [PortMatch(Protocol.TCP)], [tcp(1, 1023)], [tcp(80)]]


@pytest.mark.parametrize("deny_ports", PORTS, ids=["any", "any of 3", "tcp", "range", "port"])
@pytest.mark.parametrize("allow_ports", PORTS, ids=["any", "any of 3", "tcp", "range", "port"])
@pytest.mark.parametrize("deny_peers", PEERS, ids=["anyone", "labels", "everyone", "cluster"])
@pytest.mark.parametrize("allow_peers", PEERS, ids=["anyone", "labels", "everyone", "cluster"])
def test_deny_wins_however_wide_or_narrow_it_is(
    allow_peers: tuple[Peer, ...],
    deny_peers: tuple[Peer, ...],
    allow_ports: list[PortMatch] | None,
    deny_ports: list[PortMatch] | None,
) -> None:
    result = compiled(
        ingress("allows", IS_DB, allow(*allow_peers, ports=allow_ports)),
        ingress("denies", IS_DB, deny(*deny_peers, ports=deny_ports)),
    )

    allowed, rule = judge(result.table, DB, API, IN, TCP, 80)
    assert not allowed
    assert result.rules[rule].policy == "denies"


def test_a_narrow_deny_leaves_the_rest_of_a_wide_allow() -> None:
    result = compiled(ingress("p", IS_DB, allow(), deny(IS_API, ports=[tcp(80)])))

    assert not passes(result, DB, API)
    assert passes(result, DB, API, port=81)
    assert passes(result, DB, WEB)


def test_nothing_is_written_that_changes_no_verdict() -> None:
    result = compiled(
        ingress(
            "p",
            IS_DB,
            deny(IS_API, ports=[tcp(1, 1023)], path="wide deny"),
            deny(IS_API, ports=[tcp(80)], path="narrow deny"),
            allow(IS_API, ports=[tcp(443)], path="below a deny"),
            allow(IS_WEB, path="wide allow"),
            allow(IS_WEB, ports=[tcp(80)], path="narrow allow"),
        )
    )

    written = {result.rules[verdict.rule].path for key, verdict in result.table.entries.items() if key.local == DB}
    assert written == {"wide deny", "wide allow"}


def test_deny_without_closing_leaves_the_rest_open() -> None:
    """``enableDefaultDeny: false``, as Cilium has it."""
    result = compiled(ingress("no-web", IS_DB, deny(IS_WEB), closes=False))

    assert who_passes(result, DB) == set(ENDS) - {WEB, IDENTITY_INIT}
    assert result.selecting[DB, IN] == ()
    _, rule = judge(result.table, DB, API, IN, TCP, 80)
    assert (result.rules[rule].policy, result.rules[rule].path) == ("no-web", OPEN_PATH)


def test_deny_without_closing_opens_nothing_that_another_policy_closes() -> None:
    result = compiled(ingress("no-web", IS_DB, deny(IS_WEB), closes=False), ingress("closes", IS_DB, allow(IS_API)))

    assert who_passes(result, DB) == {API}


def test_deny_without_closing_opens_nothing_in_mode_always() -> None:
    result = compiled(ingress("no-web", IS_DB, deny(IS_WEB), closes=False), mode=PolicyMode.ALWAYS)

    assert who_passes(result, DB) == set()


# Modes.


def test_mode_always_closes_everybody_in_both_directions() -> None:
    result = compiled(ingress("p", IS_DB, allow(IS_API)), mode=PolicyMode.ALWAYS)

    assert who_passes(result, DB) == {API}
    assert [who_passes(result, local, OUT) for local in (WEB, API, DB, IDENTITY_INIT)] == [set()] * 4
    assert (False, NO_RULE) == judge(result.table, WEB, API, IN, TCP, 80)
    closed = READY | IdentityFlags.INGRESS | IdentityFlags.EGRESS
    assert {closed} == {result.table.identities[number] for number in (*SHOP, IDENTITY_INIT)}


def test_mode_never_closes_nobody_and_writes_nothing() -> None:
    result = compiled(ingress("p", EVERYONE, deny()), mode=PolicyMode.NEVER)

    assert {} == result.table.entries
    assert who_passes(result, DB) == set(ENDS)
    assert result.selecting[DB, IN] == ("p",)


def test_audit_is_passed_on() -> None:
    assert compile_table(dataclasses.replace(shop(), audit=True)).table.audit


# Endpoints whose labels are not known yet.


def test_init_is_closed_where_any_policy_closes_anybody() -> None:
    result = compiled(ingress("p", selects(app="nobody-has-this"), allow(IS_API)))

    assert who_passes(result, IDENTITY_INIT) == set()
    assert who_passes(result, IDENTITY_INIT, OUT) == set(ENDS)
    assert result.selecting[IDENTITY_INIT, IN] == ("p",)


@pytest.mark.parametrize(
    ("subject", "who"), [(EVERYONE, {API}), (reserved("init"), {API}), (IS_DB, set()), (in_namespace("default"), set())]
)
def test_init_is_allowed_only_what_everybody_is_or_what_names_it(subject: Selector, who: set[int]) -> None:
    result = compiled(ingress("p", subject, allow(IS_API)))

    assert who_passes(result, IDENTITY_INIT) == who


def test_init_is_denied_by_every_policy() -> None:
    result = compiled(ingress("everybody", EVERYONE, allow()), ingress("db", IS_DB, deny(IS_API)))

    assert who_passes(result, IDENTITY_INIT) == set(ENDS) - {API, IDENTITY_INIT}


def test_init_as_a_peer_is_denied_by_any_selector_and_allowed_by_few() -> None:
    assert IDENTITY_INIT not in who_passes(compiled(ingress("p", IS_DB, allow(IS_WEB))), DB)
    assert IDENTITY_INIT in who_passes(compiled(ingress("p", IS_DB, allow(EVERYONE))), DB)
    assert IDENTITY_INIT not in who_passes(compiled(ingress("p", IS_DB, allow(), deny(IS_WEB))), DB)
    assert IDENTITY_INIT in who_passes(compiled(ingress("p", IS_DB, allow(), deny(Entity.HOST))), DB)


# Named ports.

SQL = PortMatch(Protocol.TCP, name="sql")


def test_named_port_at_ingress_is_what_the_endpoint_itself_says() -> None:
    result = compiled(ingress("p", EVERYONE, allow(IS_API, ports=[SQL])))

    assert open_ports(result, DB, API) == {5432}
    assert open_ports(result, WEB, API) == set()


@pytest.mark.parametrize("peers", [(), (Entity.ALL,), (EVERYONE,), (Entity.CLUSTER,)])
def test_named_port_at_egress_is_what_each_destination_says(peers: tuple[Peer, ...]) -> None:
    other = IdentityId(2000)
    identities = {**SHOP, other: Labels.of({"hawse.port.sql": "3306/tcp"})}
    result = compile_table(shop(egress("p", IS_API, allow(*peers, ports=[SQL])), identities=identities))

    assert passes(result, API, DB, direction=OUT, port=5432)
    assert not passes(result, API, DB, direction=OUT, port=3306)
    assert passes(result, API, other, direction=OUT, port=3306)
    assert not passes(result, API, WEB, direction=OUT, port=5432)
    assert not passes(result, API, IDENTITY_WORLD, direction=OUT, port=5432)


@pytest.mark.parametrize(
    ("protocol", "opens"), [(Protocol.TCP, True), (None, True), (Protocol.UDP, False), (Protocol.SCTP, False)]
)
def test_named_port_has_the_protocol_that_is_asked_for(protocol: Protocol | None, opens: bool) -> None:  # noqa: FBT001
    result = compiled(ingress("p", IS_DB, allow(ports=[PortMatch(protocol, name="sql")])))

    assert opens == passes(result, DB, API, port=5432)


@pytest.mark.parametrize("peers", [(), (IS_DB,)])
def test_named_port_of_a_destination_with_unknown_labels_is_denied_on_every_port(peers: tuple[Peer, ...]) -> None:
    result = compiled(egress("p", IS_API, allow(), deny(*peers, ports=[SQL])))

    assert not passes(result, API, IDENTITY_INIT, direction=OUT, port=1234)
    assert passes(result, API, IDENTITY_INIT, direction=OUT, protocol=UDP, port=1234)
    assert passes(result, API, DB, direction=OUT, port=1234)
    assert not passes(result, API, DB, direction=OUT, port=5432)


def test_named_port_of_a_destination_with_unknown_labels_is_never_allowed() -> None:
    result = compiled(egress("p", IS_API, allow(ports=[SQL])), ingress("q", EVERYONE, allow(ports=[SQL])))

    assert not passes(result, API, IDENTITY_INIT, direction=OUT, port=5432)
    assert not passes(result, IDENTITY_INIT, API, port=5432)


# Addresses outside of the cluster.


def reaches(policy: Policy, address: str, *others: Policy) -> bool:
    result = compiled(policy, *others)
    kernel = KernelModel(result.table)
    allowed, _ = kernel.judge(API, kernel.identity_of(ipaddress.ip_address(address)), OUT, TCP, 443)
    return allowed


def test_excepted_prefix_is_cut_out_and_one_inside_it_can_be_opened_again() -> None:
    policy = egress("p", IS_API, allow(cidr("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"), cidr("10.1.2.0/24")))

    answers = {text: reaches(policy, text) for text in ("10.9.0.1", "10.1.0.1", "10.2.0.1", "10.1.2.3", "11.0.0.1")}

    assert answers == {"10.9.0.1": True, "10.1.0.1": False, "10.2.0.1": False, "10.1.2.3": True, "11.0.0.1": False}


def test_prefix_that_another_policy_names_does_not_fall_out_of_a_wider_one() -> None:
    wide = egress("wide", IS_API, allow(cidr("10.0.0.0/8")))
    other = ingress("other", IS_DB, allow(cidr("10.1.0.0/16", "10.1.2.0/24")))

    assert reaches(wide, "10.1.2.3", other)
    assert reaches(wide, "10.1.0.1", other)


def test_denied_prefix_wins_over_a_narrower_allowed_one() -> None:
    policy = egress("p", IS_API, allow(cidr("10.1.2.0/24")), deny(cidr("10.0.0.0/8")))

    assert not reaches(policy, "10.1.2.3")


def test_every_address_is_no_address_of_the_cluster() -> None:
    result = compiled(egress("p", IS_API, allow(cidr("0.0.0.0/0"), cidr("::/0"))))

    assert who_passes(result, API, OUT) == set()


@pytest.mark.parametrize("peer", [Entity.WORLD, reserved("world")])
def test_world_is_every_address_also_of_prefixes_that_are_named(peer: Peer) -> None:
    policy = egress("p", IS_API, allow(peer))
    other = ingress("other", IS_DB, allow(cidr("10.0.0.0/8")))

    assert reaches(policy, "10.1.2.3", other)
    assert reaches(policy, "8.8.8.8", other)
    assert who_passes(compiled(policy), API, OUT) == {IDENTITY_WORLD}


def test_address_families_do_not_meet() -> None:
    policy = egress("p", IS_API, allow(cidr("::/0", "fd00::/8")))

    assert reaches(policy, "2001:db8::1")
    assert not reaches(policy, "fd00::1")
    assert not reaches(policy, "10.0.0.1")


def test_prefixes_go_into_the_table_as_they_are_given() -> None:
    policy = egress("p", IS_API, allow(cidr("10.0.0.0/8", "10.1.0.0/16")))

    result = compiled(policy)

    assert result.table.prefixes == {
        ipaddress.ip_network("10.0.0.0/8"): CIDR_IDENTITY_BASE,
        ipaddress.ip_network("10.1.0.0/16"): CIDR_IDENTITY_BASE + 1,
    }
    assert result.table.prefixes == numbered([policy])


def test_prefix_without_identity_is_refused_before_anything_is_left_open() -> None:
    inputs = dataclasses.replace(shop(egress("p", IS_API, allow(cidr("10.0.0.0/8")))), prefix_identities={})

    with pytest.raises(ValueError, match=r"no identity for the prefixes 10\.0\.0\.0/8"):
        compile_table(inputs)


# Which rule is named.


def test_every_rule_has_a_reference_with_the_revision_of_its_policy() -> None:
    inputs = dataclasses.replace(
        shop(ingress("p", IS_DB, allow(IS_API, path="spec.ingress[0]"), deny(IS_WEB, path="spec.ingressDeny[0]"))),
        revisions={"p": 77},
    )

    references = compile_table(inputs).rules

    assert {("p", "spec.ingress[0]", False, 77), ("p", "spec.ingressDeny[0]", True, 77)} == {
        (one.policy, one.path, one.deny, one.revision) for one in references.values()
    }
    assert min(references) >= FIRST_RULE


@pytest.mark.parametrize("make", [allow, deny])
def test_of_two_rules_that_say_the_same_the_first_by_name_and_path_is_named(make: Callable[..., Rule]) -> None:
    policies = (
        ingress("b", IS_DB, make(IS_API, ports=[tcp(80)], path="spec.x[0]")),
        ingress("a", IS_DB, make(IS_API, ports=[tcp(80)], path="spec.x[1]")),
        ingress("a2", IS_DB, make(IS_API, ports=[tcp(80)], path="spec.x[0]")),
    )

    for order in (policies, policies[::-1]):
        result = compiled(*order)
        _, rule = judge(result.table, DB, API, IN, TCP, 80)
        assert ("a", "spec.x[1]") == (result.rules[rule].policy, result.rules[rule].path)


def test_table_does_not_depend_on_any_order() -> None:
    policies = [
        ingress("a", IS_DB, allow(IS_API, IS_WEB), deny(Entity.HOST)),
        egress("b", EVERYONE, allow(cidr("10.0.0.0/8", "10.1.0.0/16"), ports=[SQL, tcp(80)])),
        ingress("c", IS_DB, allow(Entity.CLUSTER, ports=[tcp(1, 1000)])),
    ]

    there = compile_table(shop(*policies))
    back = compile_table(shop(*reversed(policies), identities=dict(reversed(SHOP.items()))))

    assert there == back
