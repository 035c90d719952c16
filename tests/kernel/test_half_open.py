"""Who waits for somebody that went without a word is told, and nobody else notices anything."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from balancer.maglev import slots_for, table
from datapath.abi import DropReason
from datapath.api import Backend, Balancing, Direction, Frontend, IpcacheKey, RemoteEndpoint
from tests.support.netns import Namespace
from tests.support.overlay import IDENTITY, VNI, Container, Overlay

pytestmark = pytest.mark.kernel

VIP = "10.5.0.200"
PORT = 8080


@pytest.fixture
def overlay_of_two(overlay: Overlay) -> tuple[Container, Container, Container]:
    """A client, somebody on its host, and somebody on another one."""
    here, there = overlay.add_node(), overlay.add_node()
    containers = (
        overlay.add_container(here, "10.5.0.2"),
        overlay.add_container(here, "10.5.0.3"),
        overlay.add_container(there, "10.5.0.4"),
    )
    overlay.connect()
    return containers


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
    with contextlib.ExitStack() as opened:
        with server.entered():
            listener = opened.enter_context(socket.create_server(("0.0.0.0", PORT)))
        with client.entered():
            made = opened.enter_context(socket.socket())
        made.settimeout(3)
        listener.settimeout(3)
        made.connect((target, PORT))
        accepted = opened.enter_context(listener.accept()[0])
        accepted.settimeout(3)
        made.sendall(b"question")
        assert accepted.recv(100) == b"question"
        accepted.sendall(b"wait")
        assert made.recv(100) == b"wait"
        yield made, accepted


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
    overlay_of_two: tuple[Container, Container, Container],
    which: int,
    leaves: Callable[[Container, Container], None],
    target: str,
) -> None:
    client, server = overlay_of_two[0], overlay_of_two[which]
    serve(client, server)
    asked = VIP if target == "virtual" else server.address
    with connected(client.namespace, server.namespace, asked) as (waiting, _):
        mute(server)
        leaves(client, server)

        assert client.node.datapath.probe_half_open() == 1
        with pytest.raises(ConnectionResetError):
            waiting.recv(100)
    assert client.node.count(DropReason.BACKEND_GONE, Direction.EGRESS) == 1
    assert client.node.datapath.probe_half_open() == 0


def test_who_does_not_answer_is_asked_twice(overlay_of_two: tuple[Container, Container, Container]) -> None:
    client, _, server = overlay_of_two
    with connected(client.namespace, server.namespace, server.address) as (waiting, _):
        mute(server)
        remove(client, server)
        mute(client)
        assert client.node.datapath.probe_half_open() == 1
        client.namespace.ip("link", "set", "eth0", "up")

        assert client.node.datapath.probe_half_open() == 1
        with pytest.raises(ConnectionResetError):
            waiting.recv(100)
        assert client.node.datapath.probe_half_open() == 0


def test_a_server_that_waits_is_reset(overlay_of_two: tuple[Container, Container, Container]) -> None:
    client, _, server = overlay_of_two
    with connected(client.namespace, server.namespace, server.address) as (_, waiting):
        mute(client)
        remove(server, client)

        assert server.node.datapath.probe_half_open() == 1
        with pytest.raises(ConnectionResetError):
            waiting.recv(100)


@pytest.mark.parametrize("which", [1, 2], ids=["here", "elsewhere"])
def test_the_host_that_waits_is_reset(overlay_of_two: tuple[Container, Container, Container], which: int) -> None:
    client, server = overlay_of_two[0], overlay_of_two[which]
    with connected(client.node.namespace, server.namespace, server.address) as (waiting, _):
        mute(server)
        remove(client, server)

        assert client.node.datapath.probe_half_open() == 1
        with pytest.raises(ConnectionResetError):
            waiting.recv(100)


def test_who_lives_after_all_is_not_disturbed(overlay_of_two: tuple[Container, Container, Container]) -> None:
    client, _, server = overlay_of_two
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


def test_others_are_not_asked(overlay_of_two: tuple[Container, Container, Container]) -> None:
    client, stays, leaves = overlay_of_two
    with (
        connected(client.namespace, stays.namespace, stays.address) as (made, accepted),
        connected(client.namespace, leaves.namespace, leaves.address),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as _,
    ):
        remove(client, leaves)

        assert client.node.datapath.probe_half_open() == 1
        accepted.sendall(b"answer")
        assert made.recv(100) == b"answer"


def test_who_was_told_the_end_is_not_asked(overlay_of_two: tuple[Container, Container, Container]) -> None:
    client, _, server = overlay_of_two
    with connected(client.namespace, server.namespace, server.address) as (made, accepted):
        accepted.close()
        assert made.recv(100) == b""
        remove(client, server)

        assert client.node.datapath.probe_half_open() == 0


def test_a_container_that_has_gone_as_well_is_nobodys_error(
    overlay_of_two: tuple[Container, Container, Container],
) -> None:
    client, _, server = overlay_of_two
    with connected(client.namespace, server.namespace, server.address):
        remove(client, server)
        remove(client, client)

        assert client.node.datapath.probe_half_open() == 0


def serve(client: Container, backend: Container) -> None:
    balancing = Balancing(
        backends=(Backend(IPv4Address(backend.address), 0),), table=table([backend.address], slots_for(1))
    )
    client.node.datapath.replace_services(
        {Frontend(address=IPv4Address(VIP), vni=VNI, port=0, protocol=0): balancing},
    )
