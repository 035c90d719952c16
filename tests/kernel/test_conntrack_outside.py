"""Connections between a container and what is outside of all networks: the host, other hosts, the world."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

import pytest

from datapath.abi import DropReason
from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from datapath.policy_table import IdentityFlags, PolicyTable
from model.addresses import IPNetwork
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_HOST, IDENTITY_WORLD
from tests.support.frames import ACK, SYN, TCP, UDP, echo, icmp_error, ipv4, tcp, udp
from tests.support.policy_bench import CACHE, DB, NODE, WEB, End, Outcome, PolicyBench
from tests.support.policy_tables import Entry, allow, closing

pytestmark = pytest.mark.kernel

SERVER: Final = End(address="192.0.2.1", identity=0)
"""In the world."""
ROUTER: Final = "198.51.100.1"
HTTPS: Final = 443
PREFIX: Final = ip_network("192.0.2.0/24")
NUMBER: Final = CIDR_IDENTITY_BASE + 7


@pytest.fixture(autouse=True)
def _placed(bench: PolicyBench) -> None:
    bench.open_to_host("10.5.0.0/16")
    bench.place(WEB, DB, CACHE)


def ask(bench: PolicyBench, flags: int = ACK) -> Outcome:
    return bench.send(WEB, SERVER, tcp(flags, port=HTTPS), TCP)


def answer(bench: PolicyBench, flags: int = ACK, *, source: str = SERVER.address) -> Outcome:
    return bench.send_from_host(source, WEB, tcp(flags, source_port=HTTPS, port=40000), TCP)


def naming(prefixes: dict[IPNetwork, int], *entries: Entry) -> PolicyTable:
    """The web container is closed both ways but for the entries."""
    table = closing({300: IdentityFlags.INGRESS | IdentityFlags.EGRESS}, *entries)
    return PolicyTable(entries=table.entries, identities=table.identities, prefixes=prefixes)


TO_WORLD: Final = naming({}, allow(300, IDENTITY_WORLD, Direction.EGRESS))


def test_answer_from_the_world_passes_and_a_question_does_not(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench, SYN).passed

    assert answer(bench, SYN | ACK) == Outcome(passed=True, events=())
    assert answer(bench, SYN).reason is DropReason.POLICY_DENIED
    assert answer(bench, source="192.0.2.2").reason is DropReason.POLICY_DENIED


def test_published_port_is_judged_as_the_one_who_asks(bench: PolicyBench) -> None:
    world = naming({}, allow(300, IDENTITY_WORLD, Direction.INGRESS, TCP, 80))
    bench.datapath.apply_policy(world)
    request = tcp(SYN, port=80)

    assert bench.send_from_host(SERVER.address, WEB, request, TCP).passed
    assert bench.send(WEB, SERVER, tcp(SYN | ACK, source_port=80, port=40000), TCP).passed
    (event,) = bench.send_from_host(str(NODE), WEB, request, TCP).events
    assert (event.reason, event.source_identity, event.direction) == (
        DropReason.POLICY_DENIED,
        IDENTITY_HOST,
        Direction.INGRESS,
    )


def test_address_of_a_network_cannot_come_from_outside(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({}))

    assert bench.send_from_host(DB.address, WEB, echo()).reason is DropReason.INVALID_SOURCE_IP


def test_prefix_that_a_policy_begins_to_name_does_not_disturb_what_stays_allowed(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench, SYN).passed
    named = naming({PREFIX: NUMBER}, allow(300, IDENTITY_WORLD, Direction.EGRESS), allow(300, NUMBER, Direction.EGRESS))

    bench.datapath.apply_policy(named)
    assert answer(bench) == Outcome(passed=True, events=())
    assert ask(bench) == Outcome(passed=True, events=())

    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench) == Outcome(passed=True, events=())
    assert answer(bench) == Outcome(passed=True, events=())


def test_prefix_that_a_policy_excludes_is_cut_at_the_next_packet(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench, SYN).passed

    bench.datapath.apply_policy(naming({PREFIX: NUMBER}, allow(300, IDENTITY_WORLD, Direction.EGRESS)))

    (event,) = answer(bench).events
    assert (event.reason, event.direction, event.is_reply) == (DropReason.POLICY_DENIED, Direction.EGRESS, True)
    assert event.source_identity == NUMBER
    assert not ask(bench).passed


def test_smallest_prefix_decides(bench: PolicyBench) -> None:
    prefixes: dict[IPNetwork, int] = {PREFIX: NUMBER, ip_network("192.0.2.1/32"): NUMBER + 1}
    bench.datapath.apply_policy(naming(prefixes, allow(300, NUMBER, Direction.EGRESS)))

    assert ask(bench, SYN).reason is DropReason.POLICY_DENIED
    other = bench.send(WEB, End(address="192.0.2.2", identity=0), tcp(SYN, port=HTTPS), TCP)
    assert other.verdicts == [FlowVerdict.FORWARDED]


def test_prefix_of_ipv6_is_none_of_ipv4(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(naming({ip_network("::/0"): NUMBER}, allow(300, NUMBER, Direction.EGRESS)))

    assert ask(bench, SYN).reason is DropReason.POLICY_DENIED


@pytest.mark.parametrize("kind", [3, 11])
def test_router_of_the_world_may_report_on_a_flow_to_the_world(bench: PolicyBench, kind: int) -> None:
    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench, SYN).passed
    quoted = ipv4(tcp(SYN, port=HTTPS), source=WEB.address, target=SERVER.address, protocol=TCP)

    assert bench.send_from_host(ROUTER, WEB, icmp_error(quoted, kind=kind)) == Outcome(passed=True, events=())


def test_router_may_report_after_the_policy_has_changed(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench, SYN).passed
    quoted = ipv4(tcp(SYN, port=HTTPS), source=WEB.address, target=SERVER.address, protocol=TCP)
    bench.datapath.apply_policy(closing({}))
    assert bench.send_from_host(ROUTER, WEB, icmp_error(quoted)).passed

    bench.datapath.apply_policy(naming({}))

    assert bench.send_from_host(ROUTER, WEB, icmp_error(quoted)).reason is DropReason.POLICY_DENIED


def test_router_of_the_world_cannot_report_on_a_flow_between_containers(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(naming({}, allow(300, 301, Direction.EGRESS)))
    assert bench.send(WEB, DB, udp(b"?", port=53), UDP).passed
    quoted = ipv4(udp(b"?", port=53), source=WEB.address, target=DB.address, protocol=UDP)

    assert bench.send_from_host(ROUTER, WEB, icmp_error(quoted)).reason is DropReason.POLICY_DENIED


def test_container_cannot_report_on_a_flow_to_the_world(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(TO_WORLD)
    assert ask(bench, SYN).passed
    quoted = ipv4(tcp(SYN, port=HTTPS), source=WEB.address, target=SERVER.address, protocol=TCP)

    assert bench.send(CACHE, WEB, icmp_error(quoted)).reason is DropReason.POLICY_DENIED
