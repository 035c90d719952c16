"""Who waits for somebody that went without a word is told, and nobody else notices anything."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from datapath.abi import DropReason
from datapath.api import Direction, IpcacheKey, RemoteEndpoint
from tests.kernel.test_services import VIP, connection, listener, serve
from tests.support.netns import Namespace
from tests.support.overlay import IDENTITY, VNI, Container, Node

pytestmark = pytest.mark.kernel


def place_of(container: Container) -> IpcacheKey:
    return IpcacheKey(VNI, IPv4Address(container.address))


def remove(client: Container, other: Container) -> None:
    """The cluster says that the other is no more, or its engine does."""
    if other.node is client.node:
        client.node.datapath.remove_endpoint(other.spec.endpoint_id)
    else:
        client.node.datapath.update_remotes({}, [place_of(other)])


def lose(client: Container, other: Container) -> None:
    """The Swarm has given the other's host up."""
    gone = RemoteEndpoint(tunnel_endpoint=other.node.address, identity=IDENTITY, gone=True)
    client.node.datapath.update_remotes({place_of(other): gone}, [])


def miss(client: Container, _other: Container) -> None:
    """An agent that starts again does not find it in the cluster."""
    client.node.datapath.replace_remotes({})


def mute(container: Container) -> None:
    """As if it had lost its power."""
    container.namespace.ip("link", "set", "eth0", "down")


@contextlib.contextmanager
def connected(client: Namespace, server: Namespace, target: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """An open connection on which both have spoken: the client's end and the server's."""
    with listener(server) as waits, connection(client, target) as made:
        accepted, _ = waits.accept()
        with accepted:
            accepted.settimeout(3)
            made.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"wait")
            assert made.recv(100) == b"wait"
            yield made, accepted


def finds_out(waiting: socket.socket, node: Node) -> None:
    assert node.datapath.probe_half_open() == 1
    with pytest.raises(ConnectionResetError):
        waiting.recv(100)


@pytest.mark.parametrize(
    ("which", "leaves"),
    [
        pytest.param(1, remove, id="here-removed"),
        pytest.param(2, remove, id="elsewhere-removed"),
        pytest.param(2, lose, id="elsewhere-lost"),
        pytest.param(2, miss, id="elsewhere-missing-after-a-restart"),
    ],
)
@pytest.mark.parametrize("target", ["direct", "virtual"])
def test_a_client_that_waits_is_reset(
    three: tuple[Container, Container, Container],
    which: int,
    leaves: Callable[[Container, Container], None],
    target: str,
) -> None:
    client, server = three[0], three[which]
    serve(client.node, server)
    asked = str(VIP) if target == "virtual" else server.address
    with connected(client.namespace, server.namespace, asked) as (waiting, _):
        mute(server)
        leaves(client, server)

        finds_out(waiting, client.node)
    assert client.node.count(DropReason.BACKEND_GONE, Direction.EGRESS) == 1
    assert client.node.datapath.probe_half_open() == 0


def test_who_does_not_answer_is_asked_twice(three: tuple[Container, Container, Container]) -> None:
    client, _, server = three
    with connected(client.namespace, server.namespace, server.address) as (waiting, _):
        mute(server)
        remove(client, server)
        mute(client)
        assert client.node.datapath.probe_half_open() == 1
        client.namespace.ip("link", "set", "eth0", "up")

        finds_out(waiting, client.node)
        assert client.node.datapath.probe_half_open() == 0


def test_a_server_that_waits_is_reset(three: tuple[Container, Container, Container]) -> None:
    client, _, server = three
    with connected(client.namespace, server.namespace, server.address) as (_, waiting):
        mute(client)
        remove(server, client)

        finds_out(waiting, server.node)


@pytest.mark.parametrize("which", [1, 2], ids=["here", "elsewhere"])
def test_the_host_that_waits_is_reset(three: tuple[Container, Container, Container], which: int) -> None:
    client, server = three[0], three[which]
    with connected(client.node.namespace, server.namespace, server.address) as (waiting, _):
        mute(server)
        remove(client, server)

        finds_out(waiting, client.node)


def test_who_lives_after_all_is_not_disturbed(three: tuple[Container, Container, Container]) -> None:
    client, _, server = three
    with connected(client.namespace, server.namespace, server.address) as (made, accepted):
        place = client.node.datapath.ipcache()[place_of(server)]
        assert place.tunnel_endpoint is not None
        remove(client, server)
        back = RemoteEndpoint(tunnel_endpoint=place.tunnel_endpoint, identity=place.identity)
        client.node.datapath.update_remotes({place_of(server): back}, [])

        assert client.node.datapath.probe_half_open() == 1
        accepted.sendall(b"answer")
        assert made.recv(100) == b"answer"
        made.sendall(b"thanks")
        assert accepted.recv(100) == b"thanks"


def test_others_are_not_asked(three: tuple[Container, Container, Container]) -> None:
    client, stays, leaves = three
    with (
        connected(client.namespace, stays.namespace, stays.address) as (made, accepted),
        connected(client.namespace, leaves.namespace, leaves.address),
    ):
        remove(client, leaves)

        assert client.node.datapath.probe_half_open() == 1
        accepted.sendall(b"answer")
        assert made.recv(100) == b"answer"


def test_who_was_told_the_end_is_not_asked(three: tuple[Container, Container, Container]) -> None:
    client, _, server = three
    with connected(client.namespace, server.namespace, server.address) as (made, accepted):
        accepted.close()
        assert made.recv(100) == b""
        remove(client, server)

        assert client.node.datapath.probe_half_open() == 0


def test_a_container_that_has_gone_as_well_is_nobodys_error(
    three: tuple[Container, Container, Container],
) -> None:
    client, _, server = three
    with connected(client.namespace, server.namespace, server.address):
        remove(client, server)
        remove(client, client)

        assert client.node.datapath.probe_half_open() == 0
