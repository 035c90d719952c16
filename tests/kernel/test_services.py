"""Virtual addresses, translated in every packet: who answers, what it looks like, and when nobody does."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import Final

import pytest

from balancer.maglev import slots_for, table
from datapath.abi import DropReason
from datapath.api import Backend, Balancing, Direction, Frontend
from datapath.policy_table import IdentityFlags, PolicyTable
from tests.support import wait
from tests.support.netns import Namespace
from tests.support.overlay import IDENTITY, OPEN, VNI, Container, Node, Overlay

pytestmark = pytest.mark.kernel

VIP: Final = IPv4Address("10.5.0.200")
PORT: Final = 8080
CLOSED: Final = PolicyTable(
    identities={**OPEN.identities, IDENTITY: OPEN.identities[IDENTITY] | IdentityFlags.INGRESS},
)


def serve(node: Node, *backends: Container, affinity: bool = False, port: int = 0, target: int = 0) -> None:
    """Have these containers answer at the virtual address."""
    names = [each.address for each in backends]
    node.datapath.replace_services(
        {
            Frontend(address=VIP, vni=VNI, port=port, protocol=socket.IPPROTO_TCP if port else 0): Balancing(
                backends=tuple(Backend(IPv4Address(name), target) for name in names),
                table=table(names, slots_for(len(names))) if names else (),
                affinity=affinity,
            )
        }
    )


def listener(place: Namespace, port: int = PORT) -> socket.socket:
    with place.entered():
        made = socket.create_server(("0.0.0.0", port), backlog=512)
    made.settimeout(3)
    return made


def connection(place: Namespace, target: str, port: int = PORT, *, source_port: int = 0) -> socket.socket:
    """An open connection.

    Raises:
        OSError: there is none.
    """
    with place.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(3)
    made.bind(("", source_port))
    try:
        made.connect((target, port))
    except OSError:
        made.close()
        raise
    return made


def exchange(client: socket.socket, server: socket.socket) -> str:
    """Say something through an open connection, both ways; returns the client's address as the server sees it."""
    accepted, (address, _) = server.accept()
    with accepted:
        accepted.settimeout(3)
        client.sendall(b"question")
        assert accepted.recv(100) == b"question"
        accepted.sendall(b"answer" * 2000)
        received = b""
        while len(received) < 12000:
            received += client.recv(20000)
        assert received == b"answer" * 2000
    return str(address)


@pytest.mark.parametrize("which", [1, 2], ids=["here", "elsewhere"])
def test_a_backend_answers_and_sees_the_clients_address(
    three: tuple[Container, Container, Container], which: int
) -> None:
    client, backend = three[0], three[which]
    serve(client.node, backend)

    with listener(backend.namespace) as server, connection(client.namespace, str(VIP)) as made:
        assert exchange(made, server) == client.address
        assert made.getpeername()[0] == str(VIP)


def test_another_port_than_the_one_that_was_asked_for(three: tuple[Container, Container, Container]) -> None:
    client, backend, _ = three
    serve(client.node, backend, port=80, target=PORT)

    with listener(backend.namespace) as server, connection(client.namespace, str(VIP), 80) as made:
        assert exchange(made, server) == client.address
    with pytest.raises(ConnectionRefusedError):
        connection(client.namespace, str(VIP), 81)


def test_datagrams(three: tuple[Container, Container, Container]) -> None:
    client, _, backend = three
    serve(client.node, backend)
    with backend.namespace.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client.namespace.entered():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, asking:
        server.bind(("0.0.0.0", PORT))
        server.settimeout(3)
        asking.settimeout(3)
        for size in (0, 1, 1400, 20000):
            asking.sendto(b"x" * size, (str(VIP), PORT))
            data, (address, port) = server.recvfrom(65535)
            assert (len(data), address) == (size, client.address)
            server.sendto(data * 2, (address, port))
            answer, source = asking.recvfrom(65535)
            assert (len(answer), source) == (2 * size, (str(VIP), PORT))


def test_one_that_answers_itself(three: tuple[Container, Container, Container]) -> None:
    client = three[0]
    serve(client.node, client)

    with listener(client.namespace) as server, connection(client.namespace, str(VIP)) as made:
        assert exchange(made, server) == str(VIP)
        assert made.getpeername()[0] == str(VIP)


def test_the_host_asks(three: tuple[Container, Container, Container]) -> None:
    client, here, elsewhere = three
    for backend in (here, elsewhere):
        serve(client.node, backend)
        with listener(backend.namespace) as server, connection(client.node.namespace, str(VIP)) as made:
            assert exchange(made, server) == str(client.node.address)


def test_connections_are_spread_and_each_keeps_its_backend(three: tuple[Container, Container, Container]) -> None:
    client, *backends = three
    serve(client.node, *backends)
    with listener(backends[0].namespace) as one, listener(backends[1].namespace) as other:
        made = [connection(client.namespace, str(VIP)) for _ in range(100)]
        count: Counter[str] = Counter()
        for server in (one, other):
            server.settimeout(0.2)
            try:
                while True:
                    accepted, _ = server.accept()
                    accepted.close()
                    count[server.getsockname()[0] + str(server.fileno())] += 1
            except TimeoutError:
                pass
        for each in made:
            each.close()

    assert sum(count.values()) == 100
    assert all(25 <= number <= 75 for number in count.values()), count


def test_affinity(three: tuple[Container, Container, Container]) -> None:
    client, *backends = three
    serve(client.node, *backends, affinity=True)
    with listener(backends[0].namespace) as one, listener(backends[1].namespace) as other:
        made = [connection(client.namespace, str(VIP)) for _ in range(20)]
        for server in (one, other):
            server.settimeout(0.3)
        answered: Mapping[str, int] = {"one": _accepted(one), "other": _accepted(other)}
        for each in made:
            each.close()

    assert sorted(answered.values()) == [0, 20]


def _accepted(server: socket.socket) -> int:
    number = 0
    try:
        while True:
            server.accept()[0].close()
            number += 1
    except TimeoutError:
        return number


def test_no_backend_is_a_clean_refusal(three: tuple[Container, Container, Container]) -> None:
    client = three[0]
    serve(client.node)

    with pytest.raises(ConnectionRefusedError):
        connection(client.namespace, str(VIP))
    with client.namespace.entered():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        asking.settimeout(3)
        asking.connect((str(VIP), PORT))
        asking.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connection(client.node.namespace, str(VIP))

    assert client.node.count(DropReason.NO_SERVICE_BACKEND, Direction.EGRESS) == 2
    assert client.node.count(DropReason.NO_SERVICE_BACKEND, Direction.INGRESS) == 1
    events = [one for one in client.node.datapath.flow_events().events if one.reason == DropReason.NO_SERVICE_BACKEND]
    assert {str(one.destination) for one in events} == {str(VIP)}


def test_ping(three: tuple[Container, Container, Container]) -> None:
    client, backend, _ = three
    serve(client.node, backend)

    assert client.ping(str(VIP))
    assert not client.ping("10.5.0.201")


def test_a_backend_that_leaves_keeps_what_is_open(three: tuple[Container, Container, Container]) -> None:
    client, leaving, staying = three
    serve(client.node, leaving)
    with (
        listener(leaving.namespace) as old,
        listener(staying.namespace) as new,
        connection(client.namespace, str(VIP)) as before,
    ):
        accepted, _ = old.accept()
        serve(client.node, staying)
        with connection(client.namespace, str(VIP)) as after:
            exchange(after, new)
        before.sendall(b"still there")
        assert accepted.recv(100) == b"still there"
        accepted.close()


def test_a_connection_to_a_backend_that_is_gone_is_reset(three: tuple[Container, Container, Container]) -> None:
    client, backend, _ = three
    serve(client.node, backend)
    with listener(backend.namespace) as server, connection(client.namespace, str(VIP)) as made:
        accepted, _ = server.accept()
        serve(client.node)
        client.node.datapath.remove_endpoint(backend.spec.endpoint_id)

        made.sendall(b"hello?")
        with pytest.raises(ConnectionResetError):
            made.recv(100)
        accepted.close()
    assert client.node.count(DropReason.BACKEND_GONE, Direction.EGRESS) >= 1


def test_a_direct_connection_to_a_container_that_is_gone_is_reset(
    three: tuple[Container, Container, Container],
) -> None:
    client, backend, _ = three
    with listener(backend.namespace) as server, connection(client.namespace, backend.address) as made:
        accepted, _ = server.accept()
        client.node.datapath.remove_endpoint(backend.spec.endpoint_id)

        made.sendall(b"hello?")
        with pytest.raises(ConnectionResetError):
            made.recv(100)
        accepted.close()


def test_a_connection_to_nobody_is_refused_at_its_second_request(
    three: tuple[Container, Container, Container],
) -> None:
    client, backend, _ = three
    client.node.datapath.remove_endpoint(backend.spec.endpoint_id)

    with pytest.raises(ConnectionRefusedError):
        connection(client.namespace, backend.address)

    assert client.node.count(DropReason.UNKNOWN_L3_TARGET, Direction.EGRESS) == 1
    assert client.node.count(DropReason.BACKEND_GONE, Direction.EGRESS) == 1


def test_a_connection_may_be_asked_for_before_its_other_end_is_known(overlay: Overlay) -> None:
    here, there = overlay.add_node(), overlay.add_node()
    client = overlay.add_container(here, "10.5.0.2")
    backend = overlay.add_container(there, "10.5.0.3")
    overlay.connect()
    here.datapath.replace_remotes({})

    with ThreadPoolExecutor(1) as pool, listener(backend.namespace) as server:
        made = pool.submit(connection, client.namespace, backend.address)
        wait.until(
            "the first request",
            lambda: here.count(DropReason.UNKNOWN_L3_TARGET, Direction.EGRESS),
            timeout_s=3,
            interval_s=0.01,
        )
        overlay.connect()
        with made.result() as client_end:
            exchange(client_end, server)


def test_policy_judges_the_backend(three: tuple[Container, Container, Container]) -> None:
    client, backend, _ = three
    serve(client.node, backend)
    client.node.datapath.apply_policy(CLOSED)

    with listener(backend.namespace), pytest.raises(TimeoutError):
        connection(client.namespace, str(VIP))
    denied = [one for one in client.node.datapath.flow_events().events if one.reason == DropReason.POLICY_DENIED]
    assert {str(one.destination) for one in denied} == {backend.address}


def test_an_address_of_another_network_is_not_served(overlay: Overlay) -> None:
    node = overlay.add_node()
    client = overlay.add_container(node, "10.5.0.2")
    overlay.connect()
    node.datapath.replace_services(
        {Frontend(address=IPv4Address("10.6.0.200"), vni=type(VNI)(8)): Balancing()},
    )

    assert not client.ping("10.6.0.200")
