"""Policy between real sockets in real network namespaces, on one host and on two, while it changes and agents die."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from datapath.abi import DropReason
from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from datapath.policy_table import IdentityFlags, PolicyTable
from model.ids import IdentityId
from tests.support.frames import ICMP, TCP, UDP
from tests.support.overlay import Container, Overlay, standing_overlay
from tests.support.policy_tables import OTHER_RULE, allow, closing
from tests.support.wait import until_passes

pytestmark = pytest.mark.kernel

SQL: Final = 5432
CLOSED_PORT: Final = 5433
DENIED_PORT: Final = 5434
BOTH: Final = IdentityFlags.INGRESS | IdentityFlags.EGRESS
SHORT_S: Final = 0.3
LONG_S: Final = 10.0
DATAGRAMS: Final = 2000

WEB_MAY_ASK: Final = closing(
    {300: BOTH, 301: BOTH},
    *(allow(300, 301, Direction.EGRESS, protocol, port) for protocol in (TCP, UDP) for port in (SQL, CLOSED_PORT)),
    *(allow(301, 300, Direction.INGRESS, protocol, port) for protocol in (TCP, UDP) for port in (SQL, CLOSED_PORT)),
)
"""Of all connections only those of the web container to two ports of the database; no direction is open."""
PING_ONLY: Final = closing(
    {300: BOTH, 301: BOTH}, allow(300, 301, Direction.EGRESS, ICMP, 8), allow(301, 300, Direction.INGRESS, ICMP, 8)
)
NOTHING: Final = closing({300: BOTH, 301: BOTH})


@dataclasses.dataclass(slots=True)
class Pair:
    """A client (300) and a server (301)."""

    overlay: Overlay
    web: Container
    db: Container

    def apply(self, table: PolicyTable) -> None:
        """On every host."""
        for node in self.overlay.nodes:
            node.datapath.apply_policy(table)

    @contextlib.contextmanager
    def listening(self, port: int = SQL) -> Iterator[socket.socket]:
        with self.db.namespace.entered():
            server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((self.db.address, port))
            server.listen()
            server.settimeout(LONG_S)
            yield server

    def client(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        with self.web.namespace.entered():
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(LONG_S)
        return made

    @contextlib.contextmanager
    def connected(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Both ends of a TCP connection."""
        with self.listening() as server, self.client() as client:
            client.connect((self.db.address, SQL))
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(LONG_S)
                yield client, accepted


@pytest.fixture(scope="module", params=[1, 2], ids=["one host", "two hosts"])
def standing(request: pytest.FixtureRequest, bpf_root: Path) -> Iterator[Pair]:
    with standing_overlay(bpf_root) as overlay:
        nodes = [overlay.add_node() for _ in range(request.param)]
        web = overlay.add_container(nodes[0], "10.5.0.2")
        db = overlay.add_container(nodes[-1], "10.5.0.3", identity=IdentityId(301))
        overlay.connect()
        yield Pair(overlay, web, db)


@pytest.fixture
def pair(standing: Pair) -> Pair:
    """They may not talk, and nothing is left of what others did."""
    standing.apply(NOTHING)
    for node in standing.overlay.nodes:
        node.datapath.flow_events()
    return standing


def test_allowed_connection_carries_data_both_ways(pair: Pair) -> None:
    pair.apply(WEB_MAY_ASK)

    with pair.connected() as (client, server):
        client.sendall(b"question")
        assert server.recv(100) == b"question"
        server.sendall(b"x" * 100_000)
        with client.makefile("rb") as answer:
            # Unlike recv with MSG_WAITALL, which on a socket with a time limit takes what is there.
            assert len(answer.read(100_000)) == 100_000


def test_denied_connection_is_not_made_and_explained_where_it_was_denied(pair: Pair) -> None:
    egress_open = closing({301: IdentityFlags.INGRESS}, allow(301, 300, rule=OTHER_RULE, deny=True))
    pair.apply(egress_open)

    with pair.listening(), pair.client() as client:
        client.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            client.connect((pair.db.address, SQL))

    events = pair.db.node.datapath.flow_events().events
    denied = [event for event in events if event.verdict is FlowVerdict.DROPPED]
    assert denied
    assert {(event.reason, event.rule, event.direction) for event in denied} == {
        (DropReason.POLICY_DENY, OTHER_RULE, Direction.INGRESS)
    }


@pytest.mark.parametrize("speaker", ["client", "server"])
def test_removed_permission_cuts_a_connection_and_one_given_back_lets_it_go_on(pair: Pair, speaker: str) -> None:
    pair.apply(WEB_MAY_ASK)
    with pair.connected() as (client, server):
        sender, receiver = (client, server) if speaker == "client" else (server, client)

        pair.apply(NOTHING)
        sender.sendall(b"late")
        receiver.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            receiver.recv(100)

        pair.apply(WEB_MAY_ASK)
        receiver.settimeout(LONG_S)
        assert receiver.recv(100) == b"late"


def test_server_that_retransmits_does_not_revive_what_was_cut(pair: Pair) -> None:
    """The server may open connections to the client: its segments alone look as if they did."""
    pair.apply(closing({}))
    with pair.connected() as (client, server):
        client.sendall(b"question")
        assert server.recv(100) == b"question"

        pair.apply(closing({301: IdentityFlags.INGRESS}))
        server.sendall(b"answer")
        client.settimeout(3 * SHORT_S)  # several retransmissions
        with pytest.raises(TimeoutError):
            client.recv(100)


def test_udp_is_cut_and_goes_on(pair: Pair) -> None:
    pair.apply(WEB_MAY_ASK)
    with pair.db.namespace.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, pair.client(socket.SOCK_DGRAM) as client:
        server.bind((pair.db.address, SQL))
        server.settimeout(LONG_S)
        client.sendto(b"1", (pair.db.address, SQL))
        _, address = server.recvfrom(100)
        server.sendto(b"2", address)
        assert client.recv(100) == b"2"

        pair.apply(NOTHING)
        client.sendto(b"3", (pair.db.address, SQL))
        server.sendto(b"4", address)
        for one in (client, server):
            one.settimeout(SHORT_S)
            with pytest.raises(TimeoutError):
                one.recv(100)

        pair.apply(WEB_MAY_ASK)
        server.settimeout(LONG_S)
        client.settimeout(LONG_S)
        server.sendto(b"5", address)
        assert client.recv(100) == b"5"


def test_refusals_of_allowed_ports_reach_the_client(pair: Pair) -> None:
    """A reset, and an ICMP error: both go where nothing may be opened."""
    pair.apply(WEB_MAY_ASK)

    with pair.client() as client, pytest.raises(ConnectionRefusedError):
        client.connect((pair.db.address, CLOSED_PORT))
    with pair.client(socket.SOCK_DGRAM) as client:
        client.connect((pair.db.address, CLOSED_PORT))
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


@pytest.mark.parametrize("size", ["56", "4000", "60000"])
def test_pings_of_every_size_are_judged(pair: Pair, size: str) -> None:
    pair.apply(PING_ONLY)
    assert pair.web.ping(pair.db.address, "-s", size)
    assert not pair.db.ping(pair.web.address, "-s", size)

    pair.apply(NOTHING)
    assert not pair.web.ping(pair.db.address, "-s", size)


def test_policy_outlives_the_agent(pair: Pair) -> None:
    pair.apply(WEB_MAY_ASK)
    with pair.listening() as server:
        for node in pair.overlay.nodes:
            node.datapath.close()
        with pair.client() as client:
            client.connect((pair.db.address, SQL))
            server.accept()[0].close()
        assert not pair.web.ping(pair.db.address)

        for node in pair.overlay.nodes:
            node.datapath = node.another_agent()
            node.datapath.start(node.config)

        assert pair.overlay.nodes[0].datapath.policy_entries() == WEB_MAY_ASK.entries
        assert not pair.web.ping(pair.db.address)
        with pair.client() as client:
            client.connect((pair.db.address, SQL))


def test_connection_is_cut_by_the_agent_after_one_that_died_before_the_epoch(pair: Pair) -> None:
    pair.apply(WEB_MAY_ASK)
    with pair.connected() as (client, server):
        for node in pair.overlay.nodes:
            node.datapath._open_maps.policy.apply(NOTHING)
            node.datapath.close()
            node.datapath = node.another_agent()
            node.datapath.start(node.config)

        pair.apply(NOTHING)

        client.sendall(b"late")
        server.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            server.recv(100)


def test_changed_labels_of_a_container_are_judged_at_once(pair: Pair) -> None:
    pair.apply(WEB_MAY_ASK)
    with pair.connected() as (client, server):
        try:
            set_identity(pair, IdentityId(302))
            client.sendall(b"late")
            server.settimeout(SHORT_S)
            with pytest.raises(TimeoutError):
                server.recv(100)
        finally:
            set_identity(pair, IdentityId(300))
        server.settimeout(LONG_S)
        assert server.recv(100) == b"late"


def set_identity(pair: Pair, identity: IdentityId) -> None:
    pair.web.spec = dataclasses.replace(pair.web.spec, identity=identity)
    pair.web.node.datapath.ensure_endpoint(pair.web.spec)
    pair.overlay.connect()


class Sender(threading.Thread):
    """Numbered datagrams to a port, a thousand a second, until told to stop."""

    def __init__(self, pair: Pair, port: int) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._target = (pair.db.address, port)
        self._socket = pair.client(socket.SOCK_DGRAM)
        self._end = threading.Event()

    def run(self) -> None:
        with self._socket:
            while not self._end.wait(0.001):
                self._socket.sendto(self.sent.to_bytes(4, "big"), self._target)
                self.sent += 1

    def stop(self) -> None:
        self._end.set()
        self.join()


def test_change_of_policy_loses_no_packet_that_it_does_not_concern_and_lets_none_pass_that_is_denied(
    pair: Pair,
) -> None:
    """Rules come and go, broad allowances with the denials that are above them; what is asked about stays as it is."""
    steady = dict(WEB_MAY_ASK.entries)
    tables = [
        PolicyTable(entries=steady | dict(entries), identities=WEB_MAY_ASK.identities)
        for entries in (
            [],
            [allow(301, deny=False), allow(301, 300, Direction.INGRESS, UDP, DENIED_PORT, deny=True)],
            [allow(300, direction=Direction.EGRESS), allow(301, 300, Direction.INGRESS, UDP, DENIED_PORT, deny=True)],
            [allow(301, at, Direction.INGRESS, UDP, DENIED_PORT) for at in range(400, 1400)],
        )
    ]
    pair.apply(tables[0])
    received: dict[int, set[int]] = {SQL: set(), DENIED_PORT: set()}
    with contextlib.ExitStack() as stack:
        servers = {}
        for port in received:
            with pair.db.namespace.entered():
                servers[port] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            servers[port].bind((pair.db.address, port))
            servers[port].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            servers[port].settimeout(0)
        senders = {port: Sender(pair, port) for port in received}
        for sender in senders.values():
            sender.start()

        def take() -> None:
            for port, server in servers.items():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        received[port].add(int.from_bytes(server.recv(100), "big"))

        for table in itertools.cycle(tables):
            pair.apply(table)
            take()
            if min(sender.sent for sender in senders.values()) >= DATAGRAMS:
                break
        for sender in senders.values():
            sender.stop()

        def all_have_come() -> None:
            take()
            assert received[SQL] == set(range(senders[SQL].sent))

        until_passes(all_have_come, timeout_s=5)

    assert not received[DENIED_PORT]
