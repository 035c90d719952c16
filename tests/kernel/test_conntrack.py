"""What belongs to a connection passes, and what only looks like it does not: single packets, one host.

The web container (300) may talk to the database (301) where a test says so; what a test does not mention is open.
"""

from __future__ import annotations

from typing import Final

import pytest

from datapath import abi
from datapath.abi import DropReason
from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from datapath.policy_table import NO_RULE, IdentityFlags, PolicyTable
from model.ids import Vni
from tests.support import frames
from tests.support.frames import ACK, FIN, GRE, RST, SCTP, SYN, TCP, UDP, echo, icmp, icmp_error, ipv4, sctp, tcp, udp
from tests.support.policy_bench import CACHE, DB, FAR, NEW, WEB, End, Outcome, PolicyBench
from tests.support.policy_tables import OTHER_RULE, SOME_RULE, allow, closing, open_policy

pytestmark = pytest.mark.kernel

BOTH: Final = IdentityFlags.INGRESS | IdentityFlags.EGRESS
CLIENT: Final = 40000
SQL: Final = 5432
ICMP: Final = frames.ICMP

WEB_MAY_ASK: Final = closing(
    {300: IdentityFlags.INGRESS, 301: BOTH},
    allow(301, 300, Direction.INGRESS, TCP, SQL),
    allow(301, 300, Direction.INGRESS, UDP, SQL),
    allow(301, 300, Direction.INGRESS, SCTP, SQL),
    allow(301, 300, Direction.INGRESS, ICMP, 8),
    allow(301, 300, Direction.INGRESS, GRE),
)
"""The database answers nobody but the web container, and nobody may open anything to the web container."""
NOBODY_MAY: Final = closing({300: IdentityFlags.INGRESS, 301: BOTH})


@pytest.fixture(autouse=True)
def _placed(bench: PolicyBench) -> None:
    bench.place(WEB, DB, CACHE, FAR)


def ask(bench: PolicyBench, flags: int = SYN, *, source: End = WEB, target: End = DB, data: bytes = b"") -> Outcome:
    """A TCP segment from the client."""
    return bench.send(source, target, tcp(flags, source_port=CLIENT, port=SQL, data=data), TCP)


def answer(
    bench: PolicyBench, flags: int = SYN | ACK, *, source: End = DB, target: End = WEB, data: bytes = b""
) -> Outcome:
    """A TCP segment from the server."""
    return bench.send(source, target, tcp(flags, source_port=SQL, port=CLIENT, data=data), TCP)


def establish(bench: PolicyBench) -> None:
    assert ask(bench).passed
    assert answer(bench).passed
    assert ask(bench, ACK).passed


class Talk:
    """A question and its answer of one protocol."""

    def __init__(self, question: bytes, reply: bytes, protocol: int) -> None:
        self._question, self._reply, self._protocol = question, reply, protocol

    def ask(self, bench: PolicyBench) -> Outcome:
        return bench.send(WEB, DB, self._question, self._protocol)

    def answer(self, bench: PolicyBench) -> Outcome:
        return bench.send(DB, WEB, self._reply, self._protocol)


TALKS: Final = {
    "tcp": Talk(tcp(SYN, port=SQL), tcp(SYN | ACK, source_port=SQL, port=CLIENT), TCP),
    "udp": Talk(udp(b"?", port=SQL), udp(b"!", source_port=SQL, port=CLIENT), UDP),
    "sctp": Talk(sctp(frames.SCTP_INIT, port=SQL), sctp(frames.SCTP_INIT_ACK, source_port=SQL, port=CLIENT), SCTP),
    "icmp echo": Talk(echo(), echo(kind=0), ICMP),
    "gre": Talk(bytes(8), bytes(8), GRE),
}


@pytest.fixture(params=TALKS.values(), ids=TALKS.keys())
def talk(request: pytest.FixtureRequest) -> Talk:
    found: Talk = request.param
    return found


def test_answer_passes_although_its_direction_is_closed_at_both_ends(bench: PolicyBench, talk: Talk) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)

    assert talk.ask(bench).passed
    assert talk.answer(bench).passed
    assert talk.ask(bench).passed


def test_answer_that_nobody_asked_for_is_judged(bench: PolicyBench, talk: Talk) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)

    assert talk.answer(bench).reason is DropReason.POLICY_DENIED


def test_removed_permission_cuts_a_flow_at_its_next_packet_from_either_end(bench: PolicyBench, talk: Talk) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    assert talk.ask(bench).passed
    assert talk.answer(bench).passed

    bench.datapath.apply_policy(NOBODY_MAY)

    assert talk.answer(bench).reason is DropReason.POLICY_DENIED
    assert talk.ask(bench).reason is DropReason.POLICY_DENIED
    assert talk.answer(bench).reason is DropReason.POLICY_DENIED


def test_removed_permission_cuts_a_flow_whose_client_speaks_first(bench: PolicyBench, talk: Talk) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    assert talk.ask(bench).passed
    assert talk.answer(bench).passed

    bench.datapath.apply_policy(NOBODY_MAY)

    assert talk.ask(bench).reason is DropReason.POLICY_DENIED
    assert talk.answer(bench).reason is DropReason.POLICY_DENIED


def test_permission_that_is_given_back_lets_the_flow_go_on(bench: PolicyBench, talk: Talk) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    assert talk.ask(bench).passed
    assert talk.answer(bench).passed
    bench.datapath.apply_policy(NOBODY_MAY)
    assert not talk.answer(bench).passed

    bench.datapath.apply_policy(WEB_MAY_ASK)

    assert talk.answer(bench).passed
    assert talk.ask(bench).passed


def test_new_policy_that_says_the_same_of_a_flow_does_not_disturb_it(bench: PolicyBench, talk: Talk) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    assert talk.ask(bench).passed
    entries = dict(WEB_MAY_ASK.entries) | dict([allow(302, 303)])

    bench.datapath.apply_policy(PolicyTable(entries=entries, identities=WEB_MAY_ASK.identities))

    assert not talk.answer(bench).events
    assert not talk.ask(bench).events


@pytest.mark.parametrize("closed_end", ["source", "destination"])
@pytest.mark.parametrize("speaker", ["client", "server"])
def test_flow_is_cut_at_whichever_end_loses_the_permission(bench: PolicyBench, closed_end: str, speaker: str) -> None:
    bench.datapath.apply_policy(closing({}))
    establish(bench)
    closed = {300: IdentityFlags.EGRESS} if closed_end == "source" else {301: IdentityFlags.INGRESS}

    bench.datapath.apply_policy(closing(closed))

    outcome = ask(bench, ACK) if speaker == "client" else answer(bench, ACK)
    assert outcome.reason is DropReason.POLICY_DENIED
    (event,) = outcome.events
    assert event.direction is (Direction.EGRESS if closed_end == "source" else Direction.INGRESS)
    assert event.is_reply is (speaker == "server")


def test_flow_to_another_host_is_judged_by_the_policy_of_its_own_end_only(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({303: BOTH, 300: IdentityFlags.INGRESS}))
    assert ask(bench, target=FAR).passed

    bench.datapath.apply_policy(closing({303: BOTH, 300: BOTH}))

    outcome = ask(bench, ACK, target=FAR)
    assert outcome.reason is DropReason.POLICY_DENIED
    assert outcome.events[0].direction is Direction.EGRESS


def test_denial_by_a_rule_is_told_from_one_for_want_of_a_rule(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({}))
    establish(bench)
    denying = closing({301: IdentityFlags.INGRESS}, allow(301), allow(301, 300, rule=OTHER_RULE, deny=True))

    bench.datapath.apply_policy(denying)

    for outcome in (ask(bench, ACK), answer(bench, ACK)):
        assert outcome.reason is DropReason.POLICY_DENY
        assert outcome.events[0].rule == OTHER_RULE


def test_server_that_sends_again_and_again_does_not_revive_a_flow_that_was_cut(bench: PolicyBench) -> None:
    """From server to client all is open: its segments would be let through as those of a flow of their own."""
    table = closing({301: IdentityFlags.INGRESS}, allow(301, 300))
    bench.datapath.apply_policy(table)
    establish(bench)
    bench.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}))

    for _ in range(5):
        assert not answer(bench, ACK, data=b"again").passed
        assert not ask(bench, ACK).passed
    bench.age(abi.SYN_TIMEOUT_S + 1)
    assert not answer(bench, ACK, data=b"again").passed
    assert not ask(bench, ACK).passed


def test_syn_against_a_connection_is_one_of_its_own(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)

    assert answer(bench, SYN).reason is DropReason.POLICY_DENIED
    assert answer(bench, ACK).passed
    assert ask(bench, ACK).passed


def test_syn_against_a_connection_that_may_be_opened_replaces_it(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({}))
    establish(bench)

    (event,) = answer(bench, SYN).events

    assert (event.verdict, event.source, event.is_reply) == (FlowVerdict.FORWARDED, DB.spec.addresses[0], False)
    (connection,) = bench.datapath.connections()
    assert connection.source == DB.spec.addresses[0]


def test_syn_that_is_sent_again_is_no_new_connection(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)

    assert ask(bench).verdicts == [FlowVerdict.FORWARDED]
    assert not ask(bench).events


@pytest.mark.parametrize(
    "end", [(FIN | ACK, FIN | ACK), (RST, None), (None, RST | ACK)], ids=["fin", "client resets", "server resets"]
)
def test_syn_after_the_end_of_a_connection_is_a_new_one(bench: PolicyBench, end: tuple[int | None, int | None]) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)
    from_client, from_server = end
    if from_client is not None:
        assert ask(bench, from_client).passed
    if from_server is not None:
        assert answer(bench, from_server).passed
    assert [one.state for one in bench.datapath.connections()] == ["closing"]
    assert ask(bench, ACK).passed

    assert ask(bench).verdicts == [FlowVerdict.FORWARDED]
    assert [one.state for one in bench.datapath.connections()] == ["new"]


def test_syn_while_only_one_end_has_closed_is_no_new_connection(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)
    assert ask(bench, FIN | ACK).passed

    assert not ask(bench).events
    assert [one.state for one in bench.datapath.connections()] == ["established"]


def test_sctp_association_opened_against_another_with_the_same_ports_is_judged(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    assert bench.send(WEB, DB, sctp(frames.SCTP_INIT, source_port=SQL, port=SQL), SCTP).passed
    assert bench.send(DB, WEB, sctp(frames.SCTP_INIT_ACK, source_port=SQL, port=SQL), SCTP).passed

    outcome = bench.send(DB, WEB, sctp(frames.SCTP_INIT, source_port=SQL, port=SQL), SCTP)

    assert outcome.reason is DropReason.POLICY_DENIED
    assert bench.send(DB, WEB, sctp(frames.SCTP_DATA, source_port=SQL, port=SQL), SCTP).passed


@pytest.mark.parametrize(
    ("step", "lives_s"),
    [
        pytest.param("opened", abi.SYN_TIMEOUT_S, id="opened"),
        pytest.param("established", abi.TCP_TIMEOUT_S, id="established"),
        pytest.param("reset", abi.CLOSE_TIMEOUT_S, id="reset"),
    ],
)
def test_tcp_connection_is_forgotten_after_its_time(bench: PolicyBench, step: str, lives_s: int) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    assert ask(bench).passed
    if step != "opened":
        assert answer(bench).passed
    if step == "reset":
        assert answer(bench, RST).passed

    bench.age(lives_s - 2)
    assert answer(bench, ACK).passed
    replied = abi.TCP_TIMEOUT_S if step == "opened" else lives_s
    bench.age(replied + 1)

    assert not bench.datapath.connections()
    assert answer(bench, ACK).reason is DropReason.POLICY_DENIED
    assert ask(bench, ACK).verdicts == [FlowVerdict.FORWARDED]


def test_udp_stream_lives_longer_once_it_was_answered(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    stream = TALKS["udp"]
    assert stream.ask(bench).passed
    bench.age(abi.OTHER_TIMEOUT_S + 1)
    assert stream.answer(bench).reason is DropReason.POLICY_DENIED

    assert stream.ask(bench).verdicts == [FlowVerdict.FORWARDED]
    assert stream.answer(bench).passed
    bench.age(abi.OTHER_TIMEOUT_S + 1)
    assert stream.answer(bench).passed
    bench.age(abi.STREAM_TIMEOUT_S + 1)
    assert not stream.answer(bench).passed


def test_packet_seen_a_moment_later_by_another_cpu_does_not_end_a_connection(bench: PolicyBench) -> None:
    """Each CPU reads the clock by itself; the entry may be a second ahead of what this one has read."""
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)

    bench.age(-1)

    assert answer(bench, ACK).passed
    assert not ask(bench, ACK).events


def test_changed_identity_of_either_end_is_judged_again(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)

    bench.place(WEB.as_identity(302))
    assert answer(bench, ACK).reason is DropReason.POLICY_DENIED
    assert ask(bench, ACK, source=WEB.as_identity(302)).reason is DropReason.POLICY_DENIED

    bench.place(WEB)
    assert answer(bench, ACK).passed
    assert ask(bench, ACK).passed


def test_identity_that_becomes_known_is_judged_again(bench: PolicyBench) -> None:
    bench.place(NEW)
    bench.datapath.apply_policy(closing({300: IdentityFlags.EGRESS}, allow(300, 5, Direction.EGRESS)))
    assert ask(bench, target=NEW).passed

    bench.place(NEW.as_identity(304))

    assert ask(bench, ACK, target=NEW.as_identity(304)).reason is DropReason.POLICY_DENIED


@pytest.mark.parametrize("known", [IdentityFlags.KNOWN, IdentityFlags.READY, IdentityFlags(0)])
def test_end_whose_rules_are_not_written_yet_is_closed(bench: PolicyBench, known: IdentityFlags) -> None:
    both = IdentityFlags.KNOWN | IdentityFlags.READY
    bench.datapath.apply_policy(PolicyTable(identities={300: both, 301: known}))

    outcome = ask(bench)

    assert outcome.passed is (known == IdentityFlags.READY)
    if not outcome.passed:
        assert outcome.reason is DropReason.POLICY_DENIED
        assert outcome.events[0].rule == 1


def test_closed_end_does_not_hear_from_an_identity_it_has_no_rules_for(bench: PolicyBench) -> None:
    both = IdentityFlags.KNOWN | IdentityFlags.READY
    key, verdict = allow(301)
    bench.datapath.apply_policy(
        PolicyTable(entries={key: verdict}, identities={300: IdentityFlags.READY, 301: both | IdentityFlags.INGRESS})
    )

    (event,) = ask(bench).events

    assert (event.verdict, event.reason, event.rule) == (FlowVerdict.DROPPED, DropReason.POLICY_DENIED, 1)


def test_same_addresses_and_ports_in_another_network_are_another_connection(bench: PolicyBench) -> None:
    web, db = (End(address=one.address, identity=one.identity, vni=Vni(8)) for one in (WEB, DB))
    bench.place(web, db)
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)

    assert answer(bench, source=db, target=web).reason is DropReason.POLICY_DENIED


def test_full_connection_tracking_makes_room_for_new_ones(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(open_policy(300, 301))
    key = abi.ConntrackKey(low=1, high=2, vni_and_protocol=9 << 8 | TCP)

    def many(start: int) -> list[tuple[abi.ConntrackKey, abi.ConntrackValue]]:
        return [
            (
                abi.ConntrackKey(
                    low=key.low + number // 2**16,
                    high=2,
                    low_port=number % 2**16,
                    vni_and_protocol=key.vni_and_protocol,
                ),
                abi.ConntrackValue(),
            )
            for number in range(start, start + 4096)
        ]

    for start in range(0, abi.CONNTRACK_MAX + 4096, 4096):
        bench.conntrack.update_many(many(start))

    for _ in range(64):
        port = bench.fresh_port()
        assert bench.send(WEB, DB, tcp(SYN, source_port=port, port=SQL), TCP).passed
        assert bench.send(DB, WEB, tcp(SYN | ACK, source_port=SQL, port=port), TCP).passed
    assert sum(1 for _ in bench.conntrack.items()) <= abi.CONNTRACK_MAX


class TestIcmp:
    """Echo is a connection; errors belong to what they are about; the rest is judged message by message."""

    def test_request_against_an_echo_with_the_same_id_is_judged(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(WEB_MAY_ASK)
        assert bench.send(WEB, DB, echo()).passed
        assert bench.send(DB, WEB, echo(kind=0)).passed

        assert bench.send(DB, WEB, echo()).reason is DropReason.POLICY_DENIED
        assert bench.send(DB, WEB, echo(kind=0)).passed

    def test_echo_with_another_id_is_another_connection(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(WEB_MAY_ASK)
        assert bench.send(WEB, DB, echo(ident=7)).passed

        assert bench.send(DB, WEB, echo(kind=0, ident=8)).reason is DropReason.POLICY_DENIED

    def test_allowed_reply_opens_no_way_for_a_request(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}, allow(301, 300, Direction.INGRESS, ICMP, 0)))
        assert bench.send(WEB, DB, echo(kind=0)).passed

        assert bench.send(WEB, DB, echo()).reason is DropReason.POLICY_DENIED

    def test_type_of_a_message_is_what_policies_look_at(self, bench: PolicyBench) -> None:
        table = closing(
            {301: IdentityFlags.INGRESS},
            allow(301, 300, Direction.INGRESS, ICMP, 13),
            allow(301, 300, Direction.INGRESS, ICMP, 8, rule=OTHER_RULE, deny=True),
        )
        bench.datapath.apply_policy(table)

        assert bench.send(WEB, DB, icmp(13, bytes(16))).passed
        assert bench.send(WEB, DB, echo()).reason is DropReason.POLICY_DENY
        assert bench.send(WEB, DB, icmp(17, bytes(8))).reason is DropReason.POLICY_DENIED

    def test_message_without_a_connection_leaves_none(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(closing({301: BOTH}, allow(301, 300, Direction.INGRESS, ICMP, 13)))
        assert bench.send(WEB, DB, icmp(13, bytes(16))).verdicts == [FlowVerdict.FORWARDED]
        assert bench.send(WEB, DB, icmp(13, bytes(16))).verdicts == [FlowVerdict.FORWARDED]

        assert not bench.datapath.connections()
        assert not bench.send(DB, WEB, icmp(14, bytes(16))).passed

    @pytest.mark.parametrize("kind", [3, 11, 12])
    def test_error_about_an_allowed_flow_passes_both_ways(self, bench: PolicyBench, talk: Talk, kind: int) -> None:
        bench.datapath.apply_policy(WEB_MAY_ASK)
        assert talk.ask(bench).passed
        question = ipv4(talk._question, source=WEB.address, target=DB.address, protocol=talk._protocol)
        reply = ipv4(talk._reply, source=DB.address, target=WEB.address, protocol=talk._protocol)

        assert bench.send(DB, WEB, icmp_error(question, kind=kind)) == Outcome(passed=True, events=())
        assert bench.send(WEB, DB, icmp_error(reply, kind=kind)) == Outcome(passed=True, events=())

    def test_error_about_a_flow_that_was_cut_is_dropped(self, bench: PolicyBench, talk: Talk) -> None:
        bench.datapath.apply_policy(WEB_MAY_ASK)
        assert talk.ask(bench).passed
        question = ipv4(talk._question, source=WEB.address, target=DB.address, protocol=talk._protocol)

        bench.datapath.apply_policy(NOBODY_MAY)

        assert bench.send(DB, WEB, icmp_error(question)).reason is DropReason.POLICY_DENIED
        assert talk.ask(bench).reason is DropReason.POLICY_DENIED
        assert bench.send(DB, WEB, icmp_error(question)).reason is DropReason.POLICY_DENIED

    def test_error_about_a_denied_flow_is_dropped(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(NOBODY_MAY)
        assert not ask(bench).passed

        outcome = bench.send(DB, WEB, icmp_error(segment(SYN)))

        assert outcome.reason is DropReason.POLICY_DENIED

    def test_error_about_no_flow_is_judged_as_a_message(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(closing({300: IdentityFlags.INGRESS}, allow(300, 301, Direction.INGRESS, ICMP, 3)))

        assert bench.send(DB, WEB, icmp_error(segment(SYN))).verdicts == [FlowVerdict.FORWARDED]
        assert bench.send(DB, WEB, icmp_error(segment(SYN), kind=11)).reason is DropReason.POLICY_DENIED
        assert not bench.datapath.connections()

    def test_error_does_not_prolong_the_life_of_a_flow(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(WEB_MAY_ASK)
        assert ask(bench).passed
        bench.age(30)
        before = bytes(bench.entry()[1])

        assert bench.send(DB, WEB, icmp_error(segment(SYN))).passed

        assert before == bytes(bench.entry()[1])

    def test_error_about_what_its_receiver_did_not_send_is_refused(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(closing({}))
        establish(bench)

        assert bench.send(DB, WEB, icmp_error(segment(ACK, source=CACHE))).reason is DropReason.CT_INVALID_HEADER

    def test_container_cannot_send_errors_about_the_flows_of_others(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(WEB_MAY_ASK)
        establish(bench)

        outcome = bench.send(CACHE, WEB, icmp_error(segment(ACK)))

        assert outcome.reason is DropReason.POLICY_DENIED

    def test_container_cannot_have_the_flows_of_others_cut(self, bench: PolicyBench) -> None:
        """The end it pretends to speak for is on another host and not judged here; nothing is ready for it."""
        bench.datapath.apply_policy(closing({}))
        assert ask(bench, target=FAR).passed
        identities = dict(closing({}).identities) | {303: IdentityFlags.KNOWN}
        bench.datapath.apply_policy(PolicyTable(identities=identities))

        bench.send(CACHE, WEB, icmp_error(segment(ACK, target=FAR)))

        assert ask(bench, ACK, target=FAR).passed

    @pytest.mark.parametrize(
        "quoted",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(bytes(19), id="half a header"),
            pytest.param(bytes(20), id="not ipv4"),
            pytest.param(ipv4(b"", source=WEB.address, target=DB.address, protocol=TCP), id="no ports"),
            pytest.param(ipv4(bytes(4), source=WEB.address, target=DB.address), id="half an echo"),
        ],
    )
    def test_error_that_quotes_too_little_is_refused(self, bench: PolicyBench, quoted: bytes) -> None:
        bench.datapath.apply_policy(closing({}))

        outcome = bench.send(DB, WEB, icmp(3, bytes(4) + quoted))

        assert outcome.reason is DropReason.CT_INVALID_HEADER

    def test_error_about_a_later_fragment_or_an_error_is_judged_as_a_message(self, bench: PolicyBench) -> None:
        bench.datapath.apply_policy(closing({300: IdentityFlags.INGRESS}))
        later = ipv4(bytes(8), source=WEB.address, target=DB.address, protocol=UDP, fragment=10)
        error = ipv4(icmp_error(segment(ACK)), source=WEB.address, target=DB.address)

        for quoted in (later, error):
            assert bench.send(DB, WEB, icmp_error(quoted)).reason is DropReason.POLICY_DENIED


def segment(flags: int, *, source: End = WEB, target: End = DB) -> bytes:
    """What the client of :func:`ask` sent, as a whole packet."""
    return ipv4(tcp(flags, source_port=CLIENT, port=SQL), source=source.address, target=target.address, protocol=TCP)


@pytest.mark.parametrize(
    ("payload", "protocol"),
    [
        pytest.param(bytes(13), TCP, id="tcp"),
        pytest.param(bytes(7), UDP, id="udp"),
        pytest.param(bytes(12), SCTP, id="sctp"),
        pytest.param(bytes(7), ICMP, id="icmp"),
    ],
)
def test_header_that_is_cut_off_is_refused(bench: PolicyBench, payload: bytes, protocol: int) -> None:
    bench.datapath.apply_policy(closing({}))

    assert bench.send(WEB, DB, payload, protocol).reason is DropReason.CT_INVALID_HEADER


def test_connection_tells_the_rules_of_both_ends(bench: PolicyBench) -> None:
    table = closing(
        {300: IdentityFlags.EGRESS, 301: IdentityFlags.INGRESS},
        allow(300, 301, Direction.EGRESS, rule=SOME_RULE),
        allow(301, 300, rule=OTHER_RULE),
    )
    epoch = bench.datapath.apply_policy(table)
    establish(bench)

    (connection,) = bench.datapath.connections()

    assert (connection.source, connection.source_port) == (WEB.spec.addresses[0], CLIENT)
    assert (connection.destination, connection.destination_port) == (DB.spec.addresses[0], SQL)
    assert (connection.source_identity, connection.destination_identity) == (300, 301)
    assert (connection.egress_rule, connection.ingress_rule) == (SOME_RULE, OTHER_RULE)
    assert (connection.vni, connection.protocol, connection.state) == (WEB.vni, TCP, "established")
    assert connection.epoch == epoch
    assert connection.idle_s < 10


def test_flow_that_was_cut_is_listed_as_denied(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(WEB_MAY_ASK)
    establish(bench)
    bench.datapath.apply_policy(NOBODY_MAY)
    assert not ask(bench, ACK).passed

    (connection,) = bench.datapath.connections()

    assert (connection.state, connection.egress_rule, connection.ingress_rule) == ("denied", NO_RULE, NO_RULE)
