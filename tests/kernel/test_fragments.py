"""Later fragments have no ports: they go where the first one of their datagram went, and nowhere without it."""

from __future__ import annotations

from typing import Final

import pytest

from datapath import abi
from datapath.abi import DropReason
from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from model.ids import Vni
from tests.support import frames
from tests.support.frames import ACK, MORE_FRAGMENTS, SCTP, SYN, TCP, UDP, echo, icmp, sctp, tcp, udp
from tests.support.policy_bench import CACHE, DB, WEB, End, Outcome, PolicyBench
from tests.support.policy_tables import allow, closing

pytestmark = pytest.mark.kernel

SQL: Final = 5432
REST: Final = b"\xff" * 64
OFFSET: Final = 9
"""In units of 8 bytes; behind the first fragment of all that is sent here."""

WEB_MAY_ASK: Final = closing({301: IdentityFlags.INGRESS}, allow(301, 300, Direction.INGRESS, UDP, SQL))
DATAGRAM: Final = udp(bytes(64), port=SQL)
DENIED: Final = udp(bytes(64), port=SQL + 1)


@pytest.fixture(autouse=True)
def _placed(bench: PolicyBench) -> None:
    bench.place(WEB, DB, CACHE)
    bench.datapath.apply_policy(WEB_MAY_ASK)


def first(
    bench: PolicyBench,
    payload: bytes = DATAGRAM,
    protocol: int = UDP,
    *,
    datagram: int = 1,
    source: End = WEB,
    target: End = DB,
) -> Outcome:
    return bench.send(source, target, payload, protocol, fragment=MORE_FRAGMENTS, identification=datagram)


def later(
    bench: PolicyBench,
    protocol: int = UDP,
    *,
    datagram: int = 1,
    last: bool = True,
    source: End = WEB,
    target: End = DB,
) -> Outcome:
    fragment = OFFSET if last else OFFSET | MORE_FRAGMENTS
    return bench.send(source, target, REST, protocol, fragment=fragment, identification=datagram)


def test_later_fragments_pass_after_their_first(bench: PolicyBench) -> None:
    assert first(bench).passed
    assert later(bench, last=False) == Outcome(passed=True, events=())
    assert later(bench) == Outcome(passed=True, events=())


def test_later_fragment_without_its_first_is_dropped(bench: PolicyBench) -> None:
    assert later(bench).reason is DropReason.FRAGMENT_NOT_FOUND


def test_later_fragments_of_a_denied_datagram_are_dropped(bench: PolicyBench) -> None:
    assert first(bench, DENIED).reason is DropReason.POLICY_DENIED
    assert later(bench).reason is DropReason.FRAGMENT_NOT_FOUND


def test_first_fragment_that_is_denied_ends_what_an_allowed_one_began(bench: PolicyBench) -> None:
    assert first(bench).passed
    assert not first(bench, DENIED).passed

    assert later(bench).reason is DropReason.FRAGMENT_NOT_FOUND


def test_datagrams_do_not_mix(bench: PolicyBench) -> None:
    assert first(bench, datagram=1).passed
    assert not first(bench, DENIED, datagram=2).passed

    assert later(bench, datagram=2).reason is DropReason.FRAGMENT_NOT_FOUND
    assert later(bench, datagram=1).passed


def test_datagram_of_another_protocol_does_not_mix(bench: PolicyBench) -> None:
    assert first(bench).passed

    assert later(bench, TCP).reason is DropReason.FRAGMENT_NOT_FOUND


def test_datagram_between_other_ends_does_not_mix(bench: PolicyBench) -> None:
    assert first(bench).passed

    assert later(bench, source=CACHE).reason is DropReason.FRAGMENT_NOT_FOUND
    assert later(bench, target=CACHE).reason is DropReason.FRAGMENT_NOT_FOUND
    assert later(bench, source=DB, target=WEB).reason is DropReason.FRAGMENT_NOT_FOUND


def test_datagram_of_another_network_does_not_mix(bench: PolicyBench) -> None:
    web, db = (End(address=one.address, identity=one.identity, vni=Vni(8)) for one in (WEB, DB))
    bench.place(web, db)
    assert first(bench).passed

    assert later(bench, source=web, target=db).reason is DropReason.FRAGMENT_NOT_FOUND


def test_fragments_of_an_answer_pass(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({300: IdentityFlags.INGRESS}))
    assert bench.send(WEB, DB, udp(b"?", port=SQL), UDP).passed

    answer = udp(bytes(64), source_port=SQL, port=40000)
    assert first(bench, answer, source=DB, target=WEB).passed
    assert later(bench, source=DB, target=WEB).passed


@pytest.mark.parametrize(
    ("payload", "protocol"),
    [
        pytest.param(tcp(SYN, port=SQL, data=bytes(52)), TCP, id="tcp"),
        pytest.param(sctp(frames.SCTP_INIT, port=SQL) + bytes(36), SCTP, id="sctp"),
        pytest.param(echo(data=bytes(64)), frames.ICMP, id="icmp echo"),
        pytest.param(bytes(72), frames.GRE, id="gre"),
    ],
)
def test_fragments_of_every_protocol_pass(bench: PolicyBench, payload: bytes, protocol: int) -> None:
    bench.datapath.apply_policy(closing({}))

    assert first(bench, payload, protocol).passed
    assert later(bench, protocol).passed


def test_fragments_of_an_open_policy_need_their_first_too(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({}))

    assert later(bench).reason is DropReason.FRAGMENT_NOT_FOUND


def test_fragments_of_a_message_without_a_connection_are_dropped_but_for_the_first(bench: PolicyBench) -> None:
    bench.datapath.apply_policy(closing({}))

    assert first(bench, icmp(13, bytes(68)), frames.ICMP).passed
    assert later(bench, frames.ICMP).reason is DropReason.FRAGMENT_NOT_FOUND


def test_removed_permission_stops_a_datagram_in_the_middle(bench: PolicyBench) -> None:
    assert first(bench).passed
    bench.datapath.apply_policy(closing({301: IdentityFlags.INGRESS}))

    assert later(bench).reason is DropReason.POLICY_DENIED


@pytest.mark.parametrize(
    ("segment", "protocol"),
    [
        pytest.param(tcp(ACK, port=SQL, data=bytes(12)), TCP, id="tcp"),
        pytest.param(sctp(frames.SCTP_DATA, port=SQL), SCTP, id="sctp"),
    ],
)
def test_what_opens_a_connection_must_be_in_the_first_fragment(
    bench: PolicyBench, segment: bytes, protocol: int
) -> None:
    """Padding of the frame could show other flags than those that the next fragment brings."""
    bench.datapath.apply_policy(closing({}))

    outcome = bench.send(WEB, DB, segment, protocol, fragment=MORE_FRAGMENTS, total=28)

    assert outcome.reason is DropReason.CT_INVALID_HEADER
    assert bench.send(WEB, DB, segment, protocol, fragment=MORE_FRAGMENTS, total=52).passed


def test_unfinished_datagrams_make_room_for_others(bench: PolicyBench) -> None:
    for start in range(0, 2 * abi.FRAGMENTS_MAX, 4096):
        bench.fragments.update_many(
            (abi.FragmentKey(source=number, destination=1), abi.FragmentValue())
            for number in range(start, start + 4096)
        )

    assert first(bench).passed
    assert later(bench).passed
