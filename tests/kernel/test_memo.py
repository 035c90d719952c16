"""What was decided for a known flow is repeated for its next packets, and never for a packet that it is not about.

That a packet goes by a memo is proved by taking away what the whole way looks at, behind the datapath's back: it passes
all the same. Every other test holds the memos for ever, so that nothing ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from datapath import abi, bpf_syscalls
from datapath.abi import ConntrackFlags, DropReason
from datapath.api import Direction
from datapath.policy_table import IdentityFlags, PolicyTable
from tests.support.frames import (
    ACK,
    BROADCAST,
    FIN,
    MORE_FRAGMENTS,
    RST,
    SCTP,
    SCTP_INIT,
    SYN,
    TCP,
    UDP,
    ethernet,
    ipv4,
    sctp,
    tcp,
    udp,
    vlan,
)
from tests.support.memo import Memos
from tests.support.policy_bench import DB, FAR, WEB, End, Outcome, PolicyBench
from tests.support.policy_tables import allow, closing, open_policy
from tests.support.wait import until

pytestmark = pytest.mark.kernel

PORT: Final = 5432
SOURCE_PORT: Final = 40000
OPEN: Final = open_policy(300, 301, 302, 303)
CLOSED: Final = closing({300: IdentityFlags.EGRESS})
MANY: Final = 3 * abi.BUSY_PACKETS
SEGMENT: Final = tcp(ACK, source_port=SOURCE_PORT, port=PORT)
ANSWER: Final = tcp(ACK, source_port=PORT, port=SOURCE_PORT)
DATAGRAM: Final = udp(b"x" * 18, source_port=SOURCE_PORT, port=PORT)


@pytest.fixture
def memos(bench: PolicyBench) -> Memos:
    bench.place(WEB, DB, FAR)
    bench.datapath.apply_policy(OPEN)
    return Memos(bench.memo)


def frame(payload: bytes = SEGMENT, *, source: End = WEB, target: End = DB, protocol: int = TCP) -> bytes:
    packet = ipv4(payload, source=source.address, target=target.address, protocol=protocol)
    return ethernet(packet, source=str(source.spec.mac))


def handshake(bench: PolicyBench, target: End = DB) -> None:
    assert bench.send(WEB, target, tcp(SYN, source_port=SOURCE_PORT, port=PORT), TCP).passed
    if target.here:
        assert bench.send(target, WEB, tcp(SYN | ACK, source_port=PORT, port=SOURCE_PORT), TCP).passed
    else:
        key, value = bench.entry()
        value.flags |= ConntrackFlags.REPLIED
        bench.conntrack.update(key, value)
    assert bench.send(WEB, target, SEGMENT, TCP).passed


def many(bench: PolicyBench, packet: bytes) -> None:
    bpf_syscalls.run_program(bench.programs.from_container, packet, repeat=MANY)


def busy(bench: PolicyBench, memos: Memos, target: End = DB) -> None:
    """A connection of segments that is known, from the web container."""
    handshake(bench, target)
    memos.become(1, lambda: many(bench, frame(target=target)))


def hide_the_way(bench: PolicyBench) -> None:
    """Take away all that the whole way needs, without telling the programs."""
    bench.ipcache.sync([])
    bench.conntrack.sync([])
    for key, _ in list(bench.endpoints.items()):
        bench.endpoints.delete(key)


def forwarded(bench: PolicyBench) -> int:
    return sum(
        counter.packets
        for counter in bench.datapath.counters()
        if (counter.reason, counter.direction) == (0, Direction.EGRESS)
    )


@pytest.mark.parametrize("target", [DB, FAR], ids=["here", "on another host"])
def test_packet_of_a_known_flow_goes_by_the_memo_and_is_counted(bench: PolicyBench, memos: Memos, target: End) -> None:
    busy(bench, memos, target)
    hide_the_way(bench)
    before = forwarded(bench)

    assert bench.run(bench.programs.from_container, frame(target=target)).passed

    assert forwarded(bench) == before + 1


def test_datagrams_go_by_a_memo_in_both_directions(bench: PolicyBench, memos: Memos) -> None:
    assert bench.send(WEB, DB, DATAGRAM, UDP).passed
    memos.become(1, lambda: many(bench, frame(DATAGRAM, protocol=UDP)))
    back = udp(b"x", source_port=PORT, port=SOURCE_PORT)
    assert bench.send(DB, WEB, back, UDP).passed
    memos.become(2, lambda: many(bench, frame(back, source=DB, target=WEB, protocol=UDP)))
    hide_the_way(bench)

    assert bench.run(bench.programs.from_container, frame(DATAGRAM, protocol=UDP)).passed
    assert bench.run(bench.programs.from_container, frame(back, source=DB, target=WEB, protocol=UDP)).passed


def test_a_few_packets_are_not_worth_a_memo(bench: PolicyBench, memos: Memos) -> None:
    handshake(bench)
    for _ in range(abi.BUSY_PACKETS - 4):
        assert bench.send(WEB, DB, SEGMENT, TCP).passed

    assert memos.count() == 0


def test_connection_that_nobody_has_answered_has_no_memo(bench: PolicyBench, memos: Memos) -> None:
    assert bench.send(WEB, DB, tcp(SYN, source_port=SOURCE_PORT, port=PORT), TCP).passed
    many(bench, frame())

    assert memos.count() == 0


@pytest.mark.parametrize(
    ("payload", "protocol"),
    [
        pytest.param(sctp(SCTP_INIT, source_port=SOURCE_PORT, port=PORT), SCTP, id="sctp"),
        pytest.param(tcp(SYN, source_port=SOURCE_PORT, port=PORT), TCP, id="syn"),
        pytest.param(tcp(FIN | ACK, source_port=SOURCE_PORT, port=PORT), TCP, id="fin"),
        pytest.param(tcp(RST, source_port=SOURCE_PORT, port=PORT), TCP, id="rst"),
    ],
)
def test_what_a_memo_is_never_made_for(bench: PolicyBench, memos: Memos, payload: bytes, protocol: int) -> None:
    handshake(bench)
    packet = ipv4(payload, source=WEB.address, target=DB.address, protocol=protocol)
    bench.send_packet(WEB, packet)
    many(bench, ethernet(packet, source=str(WEB.spec.mac)))

    assert memos.count() == 0


WEB_MAC: Final = str(WEB.spec.mac)


def packet(**changes: object) -> bytes:
    given = {"source": WEB.address, "target": DB.address, "protocol": TCP, **changes}
    payload = given.pop("payload", SEGMENT)
    return ipv4(payload, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        pytest.param(ethernet(packet(), source="0a:00:00:00:00:99"), DropReason.INVALID_SOURCE_MAC, id="source mac"),
        pytest.param(
            ethernet(packet(), source=WEB_MAC, target="0a:00:00:00:00:99"), DropReason.INVALID_TARGET_MAC, id="mac"
        ),
        pytest.param(ethernet(packet(), source=WEB_MAC, target=BROADCAST), DropReason.MULTICAST, id="broadcast"),
        pytest.param(vlan(ethernet(packet(), source=WEB_MAC), 5), DropReason.VLAN_FILTERED, id="vlan"),
        pytest.param(
            ethernet(packet(source="10.5.0.9"), source=WEB_MAC), DropReason.INVALID_SOURCE_IP, id="source address"
        ),
        pytest.param(ethernet(packet(total=19), source=WEB_MAC), DropReason.INVALID_PACKET, id="too short"),
        pytest.param(ethernet(packet(total=1000), source=WEB_MAC), DropReason.INVALID_PACKET, id="too long"),
        pytest.param(ethernet(packet(first_byte=0x65), source=WEB_MAC), DropReason.INVALID_PACKET, id="version"),
        pytest.param(ethernet(packet(fragment=7), source=WEB_MAC), DropReason.FRAGMENT_NOT_FOUND, id="fragment"),
        pytest.param(ethernet(packet(target=FAR.address), source=WEB_MAC), DropReason.POLICY_DENIED, id="destination"),
        pytest.param(
            ethernet(packet(payload=tcp(ACK, source_port=SOURCE_PORT, port=PORT + 1)), source=WEB_MAC),
            DropReason.POLICY_DENIED,
            id="destination port",
        ),
        pytest.param(
            ethernet(packet(payload=tcp(ACK, source_port=SOURCE_PORT + 1, port=PORT)), source=WEB_MAC),
            DropReason.POLICY_DENIED,
            id="source port",
        ),
        pytest.param(
            ethernet(packet(payload=DATAGRAM, protocol=UDP), source=WEB_MAC),
            DropReason.POLICY_DENIED,
            id="protocol",
        ),
        pytest.param(
            ethernet(packet(payload=SEGMENT[:13]), source=WEB_MAC), DropReason.CT_INVALID_HEADER, id="truncated"
        ),
    ],
)
def test_packet_that_differs_does_not_go_by_it(
    bench: PolicyBench, memos: Memos, other: bytes, reason: DropReason
) -> None:
    busy(bench, memos)
    # The known flow alone may pass: whatever is judged is refused.
    bench.identities.update_many((abi.ArrayKey(index=index), abi.IdentityValue()) for index in range(300, 304))
    bench.conntrack.sync([])

    outcome: Outcome = bench.run(bench.programs.from_container, other)

    assert (outcome.passed, outcome.reason) == (False, reason)
    assert bench.run(bench.programs.from_container, frame()).passed


def test_options_and_first_fragments_go_the_whole_way(bench: PolicyBench, memos: Memos) -> None:
    busy(bench, memos)
    bench.conntrack.sync([])
    with_options = ethernet(
        ipv4(bytes(4) + SEGMENT, source=WEB.address, target=DB.address, protocol=TCP, first_byte=0x46),
        source=WEB_MAC,
    )
    for other in (with_options, ethernet(packet(fragment=MORE_FRAGMENTS), source=WEB_MAC)):
        assert bench.run(bench.programs.from_container, other).passed
        assert len(list(bench.conntrack.items())) == 1
        bench.conntrack.sync([])


@pytest.mark.parametrize(
    ("flags", "noted"),
    [
        pytest.param(FIN | ACK, ConntrackFlags.CLOSED_SOURCE, id="fin"),
        pytest.param(RST, ConntrackFlags.RESET, id="rst"),
    ],
)
def test_end_of_a_connection_is_noted(bench: PolicyBench, memos: Memos, flags: int, noted: ConntrackFlags) -> None:
    busy(bench, memos)

    assert bench.run(bench.programs.from_container, frame(tcp(flags, source_port=SOURCE_PORT, port=PORT))).passed

    assert bench.entry()[1].flags & noted


def test_connection_that_begins_again_is_judged(bench: PolicyBench, memos: Memos) -> None:
    busy(bench, memos)
    assert bench.run(bench.programs.from_container, frame(tcp(RST, source_port=SOURCE_PORT, port=PORT))).passed

    bench.run(bench.programs.from_container, frame(tcp(SYN, source_port=SOURCE_PORT, port=PORT)))

    assert not bench.entry()[1].flags & (ConntrackFlags.RESET | ConntrackFlags.REPLIED)


def test_memo_ends_and_the_connection_is_seen_again(bench: PolicyBench, memos: Memos) -> None:
    busy(bench, memos)
    bench.age(30)
    seen_s = bench.entry()[1].seen_s
    assert bench.run(bench.programs.from_container, frame()).passed
    assert bench.entry()[1].seen_s == seen_s

    memos.hold(0)
    assert bench.run(bench.programs.from_container, frame()).passed

    assert bench.entry()[1].seen_s >= seen_s + 30


def test_memo_holds_for_a_moment_only(bench: PolicyBench, memos: Memos) -> None:
    handshake(bench)

    def made() -> list[tuple[abi.MemoKey, abi.MemoValue]]:
        many(bench, frame())
        return memos.all()

    ((_, value),) = until("there is a memo", made, timeout_s=20, interval_s=0)
    hide_the_way(bench)

    until(
        "the memo ends",
        lambda: not bench.run(bench.programs.from_container, frame()).passed,
        timeout_s=10,
    )
    assert bytes(memos.all()[0][1]) == bytes(value)


def test_policy_cuts_at_the_next_packet(bench: PolicyBench, memos: Memos) -> None:
    busy(bench, memos)

    bench.datapath.apply_policy(CLOSED)

    assert bench.run(bench.programs.from_container, frame()).reason is DropReason.POLICY_DENIED
    bench.datapath.apply_policy(OPEN)
    assert bench.run(bench.programs.from_container, frame()).passed


def test_audit_mode_comes_and_goes(bench: PolicyBench, memos: Memos) -> None:
    def table(*, audit: bool) -> PolicyTable:
        return closing({300: IdentityFlags.EGRESS}, audit=audit)

    bench.datapath.apply_policy(table(audit=True))
    busy(bench, memos)

    bench.datapath.apply_policy(table(audit=False))
    assert bench.run(bench.programs.from_container, frame()).reason is DropReason.POLICY_DENIED

    bench.datapath.apply_policy(table(audit=True))
    assert bench.run(bench.programs.from_container, frame()).passed


def test_denied_connection_has_no_memo(bench: PolicyBench, memos: Memos) -> None:
    handshake(bench)
    bench.datapath.apply_policy(closing({300: IdentityFlags.EGRESS}, allow(300, 302, Direction.EGRESS)))
    many(bench, frame())

    assert memos.count() == 0


def test_what_the_upper_floors_change_ends_every_memo(bench: PolicyBench, memos: Memos) -> None:
    datapath = bench.datapath
    for change in (
        lambda: datapath.replace_nodes([]),
        lambda: datapath.replace_remotes({}),
        lambda: datapath.update_remotes({}, []),
    ):
        bench.conntrack.sync([])
        bench.place(WEB, DB, FAR)
        bench.memo.sync([])
        busy(bench, memos)
        change()
        hide_the_way(bench)

        assert not bench.run(bench.programs.from_container, frame()).passed
        bench._sending = None


@pytest.fixture
def full(bench: PolicyBench, memos: Memos) -> Iterator[Memos]:
    """No room is left."""
    memos.map.update_many(
        (abi.MemoKey(scope=99, source=number), abi.MemoValue()) for number in range(memos.map.max_entries)
    )
    yield memos
    memos.map.sync([])


def test_full_map_makes_room(bench: PolicyBench, full: Memos) -> None:
    handshake(bench)

    def made() -> bool:
        many(bench, frame())
        return any(key.scope != 99 for key, _ in full.all())

    until("the flow has a memo", made, timeout_s=20, interval_s=0)
