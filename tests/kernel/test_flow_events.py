"""What the kernel reports of packets: every field, in order, each new connection once, and how much it did not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from datapath import abi, bpf_syscalls, event_ring, source
from datapath.abi import DropReason
from datapath.api import Direction
from datapath.flow_event import FlowEvents, FlowVerdict
from datapath.policy_table import NO_RULE, RULE_UNKNOWN_IDENTITY, IdentityFlags, PolicyTable
from tests.support import frames
from tests.support.frames import ACK, ARP, IPV6, SYN, TCP, UDP, arp, echo, ethernet, icmp, ipv4, tcp, udp, vlan
from tests.support.policy_bench import DB, FAR, LOOPBACK, WEB, Outcome, PolicyBench
from tests.support.policy_tables import OTHER_RULE, SOME_RULE, allow, closing, open_policy
from tests.support.wait import until

pytestmark = pytest.mark.kernel

SQL: Final = 5432
RECORD_BYTES: Final = 96
RING_RECORDS: Final = abi.EVENTS_BYTES // RECORD_BYTES
FLOOD: Final = 25_000

EGRESS_AND_INGRESS: Final = closing(
    {300: IdentityFlags.EGRESS, 301: IdentityFlags.INGRESS},
    allow(300, 301, Direction.EGRESS, rule=SOME_RULE),
    allow(301, 300, Direction.INGRESS, TCP, SQL, rule=OTHER_RULE),
)


@pytest.fixture(autouse=True)
def _placed(bench: PolicyBench) -> None:
    bench.place(WEB, DB, FAR)


def syn(bench: PolicyBench, port: int = SQL) -> Outcome:
    return bench.send(WEB, DB, tcp(SYN, port=port), TCP)


def test_new_connection_on_one_host_is_reported_once_with_the_rules_of_both_ends(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(EGRESS_AND_INGRESS)
    before_ns = time.monotonic_ns()

    (event,) = syn(bench).events
    later = [
        syn(bench),
        bench.send(DB, WEB, tcp(SYN | ACK, source_port=SQL, port=40000), TCP),
        bench.send(WEB, DB, tcp(ACK, port=SQL), TCP),
    ]

    assert before_ns <= event.monotonic_ns <= time.monotonic_ns()
    assert event.verdict is FlowVerdict.FORWARDED
    assert event.direction is Direction.EGRESS
    assert (event.reason, event.source_file, event.source_line) == (0, "", 0)
    assert (event.rule, event.other_rule) == (SOME_RULE, OTHER_RULE)
    assert (event.source, event.destination) == (WEB.spec.addresses[0], DB.spec.addresses[0])
    assert (event.source_identity, event.destination_identity) == (300, 301)
    assert (event.source_port, event.destination_port, event.protocol) == (40000, SQL, TCP)
    assert (event.tcp_flags, event.is_reply) == (SYN, False)
    assert (event.vni, event.ifindex, event.length_bytes) == (WEB.vni, LOOPBACK, 14 + 20 + 20)
    assert [outcome for outcome in later if outcome.events or not outcome.passed] == []


def test_connection_to_another_host_has_only_the_rule_of_its_own_end(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({300: IdentityFlags.EGRESS}, allow(300, 303, Direction.EGRESS)))

    (event,) = bench.send(WEB, FAR, udp(b"?", port=53), UDP).events

    assert (event.rule, event.other_rule, event.destination_identity) == (SOME_RULE, NO_RULE, 303)


def test_denial_at_the_far_end_of_one_host_is_that_ends(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(EGRESS_AND_INGRESS)

    (event,) = syn(bench, port=80).events

    assert event.verdict is FlowVerdict.DROPPED
    assert event.direction is Direction.INGRESS
    assert (event.reason, event.rule, event.other_rule) == (DropReason.POLICY_DENIED, NO_RULE, NO_RULE)
    assert event.source_file == "lib/policy.h"


def test_every_packet_that_is_dropped_is_reported(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(EGRESS_AND_INGRESS)

    outcomes = [syn(bench, port=80) for _ in range(3)]

    assert [outcome.verdicts for outcome in outcomes] == [[FlowVerdict.DROPPED]] * 3


def test_packet_of_a_connection_that_was_cut_says_which_way_it_was_going(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(EGRESS_AND_INGRESS)
    assert syn(bench).passed
    denying = closing({301: IdentityFlags.INGRESS}, allow(301, 300, rule=OTHER_RULE, deny=True))
    bench.datapath.apply_policy(denying)

    for _ in range(2):
        (event,) = bench.send(DB, WEB, tcp(SYN | ACK, source_port=SQL, port=40000), TCP).events
        assert (event.is_reply, event.direction, event.rule) == (True, Direction.INGRESS, OTHER_RULE)
        assert (event.source_identity, event.source_port) == (301, SQL)
        assert event.tcp_flags == SYN | ACK


@pytest.mark.parametrize("kind", [0, 8, 13])
def test_icmp_is_reported_with_its_type_as_the_port(bench: PolicyBench, kind: int) -> None:
    bench.datapath.apply_policy(open_policy(300, 301))

    (event,) = bench.send(WEB, DB, icmp(kind, bytes(16)), frames.ICMP).events

    assert (event.protocol, event.source_port, event.destination_port) == (frames.ICMP, 0, kind)


def test_end_that_is_not_known_is_told_from_one_that_is_closed(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(PolicyTable())

    (event,) = syn(bench).events

    assert event.rule == RULE_UNKNOWN_IDENTITY


def bad_frames() -> Iterator[tuple[str, bytes]]:
    web, mac = WEB.address, str(WEB.spec.mac)
    yield "own mac", ethernet(ipv4(echo(), source=web, target=DB.address), source="0a:00:00:00:00:99")
    yield "own address", ethernet(ipv4(echo(), source="10.5.0.99", target=DB.address), source=mac)
    yield "router", ethernet(ipv4(echo(), source=web, target=DB.address), source=mac, target="0a:00:00:00:00:99")
    yield "broadcast", ethernet(ipv4(echo(), source=web, target=DB.address), source=mac, target=frames.BROADCAST)
    yield "vlan", vlan(ethernet(ipv4(echo(), source=web, target=DB.address), source=mac), 5)
    yield "ipv6", ethernet(bytes(40), source=mac, kind=IPV6)
    yield "802.3", ethernet(bytes(40), source=mac, kind=40)
    yield "target", ethernet(ipv4(echo(), source=web, target="224.0.0.1"), source=mac)
    yield "length", ethernet(ipv4(echo(), source=web, target=DB.address, total=400), source=mac)
    yield "fragment", ethernet(ipv4(bytes(64), source=web, target=DB.address, fragment=9), source=mac)
    yield "tcp", ethernet(ipv4(bytes(4), source=web, target=DB.address, protocol=TCP), source=mac)
    yield "icmp", ethernet(ipv4(bytes(4), source=web, target=DB.address), source=mac)
    yield "error", ethernet(ipv4(icmp(3), source=web, target=DB.address), source=mac)
    spoofed = arp(sender_mac=mac, sender="10.5.0.99", target=DB.address)
    yield "arp", ethernet(spoofed, source=mac, target=frames.BROADCAST, kind=ARP)


@pytest.mark.parametrize("frame", [frame for _, frame in bad_frames()], ids=[name for name, _ in bad_frames()])
def test_drop_names_the_line_that_says_so(bench: PolicyBench, frame: bytes) -> None:
    bench.datapath.apply_policy(open_policy(300, 301))
    assert syn(bench).passed  # whose endpoint the frame comes from

    outcome = bench.run(bench.programs.from_container, frame)

    assert_names_its_line(outcome)


@pytest.mark.parametrize("again", [False, True], ids=["new", "known"])
@pytest.mark.parametrize("deny", [False, True], ids=["no rule", "rule"])
def test_denial_names_the_line_that_says_so(bench: PolicyBench, *, again: bool, deny: bool) -> None:
    bench.datapath.apply_policy(open_policy(300, 301))
    if again:
        assert syn(bench).passed
    entries = [allow(301, 300, deny=True)] if deny else []
    bench.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}, *entries))

    assert_names_its_line(syn(bench))
    assert_names_its_line(syn(bench))


def assert_names_its_line(outcome: Outcome) -> None:
    (event,) = outcome.events
    lines = (source.FOLDER / event.source_file).read_text(encoding="utf-8").splitlines()
    assert f"DROP(DROP_{DropReason(event.reason).name})" in lines[event.source_line - 1]


def test_reports_are_in_order(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(EGRESS_AND_INGRESS)
    packets = [frame(SQL if number % 3 else 80, 1024 + number) for number in range(300)]
    as_web(bench)

    for packet in packets:
        bpf_syscalls.run_program(bench.programs.from_container, packet)

    events = bench.datapath.flow_events().events
    assert [event.source_port for event in events] == list(range(1024, 1324))
    assert sorted(event.monotonic_ns for event in events) == [event.monotonic_ns for event in events]


def frame(port: int, source_port: int) -> bytes:
    payload = tcp(SYN, source_port=source_port, port=port)
    packet = ipv4(payload, source=WEB.address, target=DB.address, protocol=TCP)
    return ethernet(packet, source=str(WEB.spec.mac))


def as_web(bench: PolicyBench) -> None:
    """Make what runs next come from the web container."""
    bench.send(WEB, DB, echo())
    bench.datapath.flow_events()


class TestAudit:
    """What would be dropped is reported and passes."""

    AUDIT: Final = closing(
        {301: IdentityFlags.INGRESS},
        allow(301, 300, Direction.INGRESS, TCP, 22, deny=True, rule=OTHER_RULE),
        audit=True,
    )
    NOT_AUDIT: Final = closing(
        {301: IdentityFlags.INGRESS}, allow(301, 300, Direction.INGRESS, TCP, 22, deny=True, rule=OTHER_RULE)
    )

    def test_denied_connection_passes_and_is_reported_as_such(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(self.AUDIT)

        outcome = syn(bench, 22)

        assert outcome.passed
        (event,) = outcome.events
        assert (event.verdict, event.reason, event.rule) == (FlowVerdict.AUDIT, DropReason.POLICY_DENY, OTHER_RULE)
        assert event.direction is Direction.INGRESS

    def test_it_is_reported_once(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(self.AUDIT)
        assert syn(bench).verdicts == [FlowVerdict.AUDIT]

        assert not syn(bench).events
        assert bench.send(DB, WEB, tcp(SYN | ACK, source_port=SQL, port=40000), TCP) == Outcome(passed=True, events=())

    def test_established_connection_that_would_be_cut_is_reported_once_a_policy(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(open_policy(300, 301))
        assert syn(bench).passed
        bench.datapath.apply_policy(self.AUDIT)

        assert syn(bench).verdicts == [FlowVerdict.AUDIT]
        assert not syn(bench).events

    def test_end_of_the_audit_cuts_what_it_let_pass(self, bench: PolicyBench) -> None:
        epoch = bench.datapath.apply_policy(self.AUDIT)
        assert syn(bench).passed

        assert bench.datapath.apply_policy(self.NOT_AUDIT) == epoch + 1

        assert syn(bench).reason is DropReason.POLICY_DENIED

    def test_what_is_no_matter_of_policy_is_dropped(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(self.AUDIT)

        outcome = bench.send(WEB, DB, bytes(64), UDP, fragment=9)

        assert outcome.reason is DropReason.FRAGMENT_NOT_FOUND


class TestLimits:
    """Each CPU reports so many drops and so many connections a second; the rest is counted."""

    @pytest.fixture(autouse=True)
    def _on_one_cpu(self, bench: PolicyBench) -> Iterator[None]:
        all_cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(all_cpus)})
        bench.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}, allow(301, 300, Direction.INGRESS, 1, 13)))
        as_web(bench)
        self.begin_second(bench)
        yield
        os.sched_setaffinity(0, all_cpus)

    def drops(self, bench: PolicyBench, number: int, *, source_port: int = 40000) -> None:
        packet = frame(SQL, source_port)
        bpf_syscalls.run_program(bench.programs.from_container, packet, repeat=number)

    def forwards(self, bench: PolicyBench, number: int) -> None:
        """A message without a connection is new each time."""
        packet = ipv4(icmp(13, bytes(16)), source=WEB.address, target=DB.address)
        bpf_syscalls.run_program(
            bench.programs.from_container, ethernet(packet, source=str(WEB.spec.mac)), repeat=number
        )

    def begin_second(self, bench: PolicyBench) -> None:
        """Use the limits up and wait until they are those of a new second."""
        self.drops(bench, 2 * abi.EVENTS_PER_S)
        self.forwards(bench, 2 * abi.EVENTS_PER_S)
        bench.datapath.flow_events()

        def both_are_reported() -> bool:
            self.drops(bench, 1)
            self.forwards(bench, 1)
            return len(bench.datapath.flow_events().events) == 2

        until("both kinds are reported", both_are_reported, timeout_s=5)

    @pytest.mark.parametrize("kind", ["drops", "forwards"])
    def test_flood_of_one_kind_is_limited_and_counted(self, bench: PolicyBench, kind: str) -> None:
        flood: Callable[[PolicyBench, int], None] = getattr(self, kind)

        flood(bench, FLOOD)

        found = bench.datapath.flow_events()
        # A second may end in the middle of it.
        assert abi.EVENTS_PER_S - 10 <= len(found.events) <= 2 * abi.EVENTS_PER_S
        assert len(found.events) + found.lost == FLOOD
        assert bench.datapath.flow_events() == FlowEvents()

    @pytest.mark.parametrize(("flood", "other"), [("drops", "forwards"), ("forwards", "drops")])
    def test_flood_of_one_kind_does_not_hide_the_other(self, bench: PolicyBench, flood: str, other: str) -> None:
        getattr(self, flood)(bench, FLOOD)
        getattr(self, other)(bench, 1)

        event = bench.datapath.flow_events().events[-1]

        assert event.verdict is (FlowVerdict.FORWARDED if other == "forwards" else FlowVerdict.DROPPED)

    def test_ring_that_nobody_reads_loses_the_newest_and_counts_them(self, bench: PolicyBench) -> None:
        ring = bench.datapath._open_maps.events
        sent = 0

        def is_full() -> bool:
            nonlocal sent
            self.drops(bench, abi.EVENTS_PER_S)
            self.forwards(bench, abi.EVENTS_PER_S)
            sent += 2 * abi.EVENTS_PER_S
            waiting = event_ring._position(ring._theirs) - event_ring._position(ring._ours)
            return waiting > abi.EVENTS_BYTES - 2 * RECORD_BYTES

        until("the ring is full", is_full, timeout_s=20)
        found = bench.datapath.flow_events()

        assert RING_RECORDS - 1 <= len(found.events) <= RING_RECORDS
        assert len(found.events) + found.lost == sent
        assert_in_order(found)

    def test_ring_is_read_rightly_round_after_round(self, bench: PolicyBench) -> None:
        """Records at the end of the ring go on at its beginning."""
        taken = turn = 0
        number = abi.EVENTS_PER_S - 100

        while taken < 2 * RING_RECORDS:
            turn += 1
            self.begin_second(bench)
            self.drops(bench, number, source_port=1024 + turn)
            self.forwards(bench, number)
            found = bench.datapath.flow_events()
            drops = [event for event in found.events if event.verdict is FlowVerdict.DROPPED]
            forwards = [event for event in found.events if event.verdict is FlowVerdict.FORWARDED]
            assert found.lost == 0
            assert (len(drops), len(forwards)) == (number, number)
            assert {(one.source_port, one.destination_port, one.protocol) for one in drops} == {(1024 + turn, SQL, TCP)}
            assert {(one.source_port, one.destination_port, one.protocol) for one in forwards} == {(0, 13, 1)}
            assert_in_order(found)
            taken += len(found.events)


def assert_in_order(found: FlowEvents) -> None:
    stamps = [event.monotonic_ns for event in found.events]
    assert stamps == sorted(stamps)
