"""Ports that are kept with real sockets, on loopback."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from datapath import host_ports
from datapath.host_ports import HostPorts, PortInUse
from datapath.socket_diag import HostSocket, cgroup_path, owner_of_cgroup, sockets_at
from model.errors import InvalidInput
from model.policies import Protocol

LOOPBACK = IPv4Address("127.0.0.1")
KINDS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM}
IDENT = "3f" * 32


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def server(opened: ExitStack, protocol: Protocol, address: str = "127.0.0.1", port: int = 0) -> int:
    """What a process of the host does; its port."""
    one = opened.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, KINDS[protocol]))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    if protocol is Protocol.TCP:
        one.listen()
    return int(one.getsockname()[1])


@pytest.mark.parametrize("protocol", list(KINDS))
@pytest.mark.parametrize("address", [None, LOOPBACK], ids=["every-address", "one-address"])
def test_nobody_takes_a_port_that_is_held(opened: ExitStack, protocol: Protocol, address: IPv4Address | None) -> None:
    hold = HostPorts().hold(protocol, 0, address)
    opened.callback(hold.release)
    assert hold.firm

    with pytest.raises(OSError, match=r".") as caught:
        server(opened, protocol, port=hold.port)
    assert errno.EADDRINUSE == caught.value.errno

    hold.release()
    hold.release()
    assert hold.port == server(opened, protocol, port=hold.port)


@pytest.mark.parametrize("protocol", list(KINDS))
@pytest.mark.parametrize("theirs", ["127.0.0.1", "0.0.0.0", "::"])
@pytest.mark.parametrize("address", [None, LOOPBACK], ids=["every-address", "one-address"])
def test_a_port_that_a_process_has_is_refused_with_its_owner(
    opened: ExitStack, protocol: Protocol, theirs: str, address: IPv4Address | None
) -> None:
    port = server(opened, protocol, theirs)

    with pytest.raises(PortInUse, match=rf"^port {port}/{protocol.name.lower()}( of 127\.0\.0\.1)? is used by ") as err:
        HostPorts().hold(protocol, port, address)

    assert err.value.owner in {"hawse itself", "a process of this host"}


def test_one_address_of_the_host_does_not_concern_another(opened: ExitStack) -> None:
    port = server(opened, Protocol.TCP, "127.0.0.2")

    hold = HostPorts().hold(Protocol.TCP, port, LOOPBACK)

    assert hold.firm
    hold.release()


def test_a_port_that_only_the_kernel_remembers_is_granted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            # Who closes first waits.
            listening.accept()[0].close()
            assert client.recv(1) == b""
    assert [True] == [one.waiting for one in sockets_at(Protocol.TCP, port, LOOPBACK)]

    hold = HostPorts().hold(Protocol.TCP, port, None)

    assert not hold.firm
    hold.release()


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^192\.0\.2\.77 is not an address of this host"):
        HostPorts().hold(Protocol.TCP, 8080, IPv4Address("192.0.2.77"))


def test_ports_of_the_way_out_are_not_chosen() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    avoid = range(first, (first + last) // 2)

    holds = [HostPorts(avoid=avoid).hold(Protocol.UDP, 0, LOOPBACK) for _ in range(20)]

    assert not [hold.port for hold in holds if hold.port in avoid]
    for hold in holds:
        hold.release()


def test_a_thousand_ports_are_held() -> None:
    ports = HostPorts()
    ports.make_room()

    holds = [ports.hold(Protocol.TCP, 0, LOOPBACK) for _ in range(1000)]

    assert 1000 == len({hold.port for hold in holds})
    for hold in holds:
        hold.release()


def test_what_listens_is_listed_with_its_user_and_cgroup(opened: ExitStack) -> None:
    port = server(opened, Protocol.TCP)

    [listed] = sockets_at(Protocol.TCP, port, None)

    assert (LOOPBACK, False) == (listed.address, listed.waiting)
    assert [] == sockets_at(Protocol.TCP, port, IPv4Address("127.0.0.9"))
    assert [] == sockets_at(Protocol.UDP, port, None)


def test_a_cgroup_is_found_by_its_number(tmp_path: Path) -> None:
    service = tmp_path / "system.slice" / "ssh.service"
    service.mkdir(parents=True)

    assert cgroup_path(service.stat().st_ino, tmp_path) == "/system.slice/ssh.service"
    assert cgroup_path(1, tmp_path) is None, "the root is nobody's"
    assert cgroup_path(tmp_path.stat().st_ino, tmp_path) is None, "the root of a host that is a container"
    assert cgroup_path(2**40, tmp_path) is None


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/system.slice/ssh.service", "ssh.service"),
        ("/system.slice/nginx.service/worker", "nginx.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        (f"/system.slice/docker-{IDENT}.scope", f"container {IDENT[:12]}"),
        (f"/docker/{IDENT}", f"container {IDENT[:12]}"),
        (f"/system.slice/docker-{IDENT}.scope/init.scope", f"container {IDENT[:12]}"),
        ("/custom", "the processes of cgroup /custom"),
    ],
)
def test_a_cgroup_is_named_for_people(path: str, owner: str) -> None:
    assert owner == owner_of_cgroup(path)


@pytest.mark.parametrize(("uid", "said"), [(0, "a process of this host"), (1000, "a process of this host (user 1000)")])
def test_an_owner_without_a_cgroup_of_its_own_is_a_process(
    opened: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, said: str
) -> None:
    port = server(opened, Protocol.TCP)
    one = HostSocket(address=LOOPBACK, waiting=False, uid=uid, inode=1, cgroup=1)
    monkeypatch.setattr(host_ports, "sockets_at", lambda *_: [one])

    with pytest.raises(PortInUse) as caught:
        HostPorts(cgroup=tmp_path).hold(Protocol.TCP, port, None)

    assert f"port {port}/tcp is used by {said}" == str(caught.value)


def test_the_owner_is_the_service_whose_cgroup_has_the_socket(
    opened: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "system.slice" / "ssh.service"
    service.mkdir(parents=True)
    port = server(opened, Protocol.TCP)
    one = HostSocket(address=LOOPBACK, waiting=False, uid=0, inode=1, cgroup=service.stat().st_ino)
    monkeypatch.setattr(host_ports, "sockets_at", lambda *_: [one])

    with pytest.raises(PortInUse) as caught:
        HostPorts(cgroup=tmp_path).hold(Protocol.TCP, port, None)

    assert f"port {port}/tcp is used by ssh.service on this host" == str(caught.value)
