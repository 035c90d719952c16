"""Ports of this host that are kept for containers.

1. A port is taken with a socket that is bound and never listens: the kernel refuses the same port to every process of
   the host then, and so does this when a process has it already. Packets to a published port never reach the socket,
   since they are translated before (:mod:`datapath.published_map`).
2. SO_REUSEADDR stays off, because a server that sets it, as most do, could listen on the port beside it otherwise.
3. Without it the kernel refuses a port also while it remembers closed connections to it (TIME-WAIT, a minute). Nobody
   uses the port then, so it is granted without a socket, and :meth:`Hold.firm` says so.

Cost: one descriptor and about 1 KB of kernel memory for each port.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from datapath.socket_diag import ROOT_CGROUP, HostSocket, cgroup_path, owner_of_cgroup, sockets_at
from model.errors import Conflict, DatapathError, Exhausted, InvalidInput
from model.policies import Protocol

_EVERY: Final = "0.0.0.0"  # noqa: S104 - what the user asked for
_KINDS: Final = {
    Protocol.TCP: (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    Protocol.UDP: (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    Protocol.SCTP: (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_ATTEMPTS: Final = 64
_DESCRIPTORS: Final = 131072
"""Room for every port of two protocols."""
_NO_KERNEL_SUPPORT: Final = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ENOPROTOOPT)
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)


class PortInUse(Conflict):
    """A process of the host has the port; :attr:`owner` says who, as a part of a sentence."""

    def __init__(self, message: str, *, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


class Hold:
    """One port that is kept."""

    def __init__(self, port: int, bound: socket.socket | None) -> None:
        self.port = port
        self._bound = bound

    @property
    def firm(self) -> bool:
        """Whether a socket keeps it; False: it is free, but the kernel does not let it be kept yet."""
        return self._bound is not None

    def release(self) -> None:
        """Give it back; idempotent."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None


class HostPorts:
    """Takes ports in the network namespace of this process, which is the host's. Safe from any thread.

    Args:
        cgroup: where the host's cgroup v2 is mounted, to name who has a port; None: it is not.
        avoid: ports that are never chosen, because translated connections to the outside use them.
    """

    def __init__(self, *, cgroup: Path | None = None, avoid: range = range(0)) -> None:
        self._cgroup = cgroup
        self._avoid = avoid

    def hold(self, protocol: Protocol, port: int, address: IPv4Address | None) -> Hold:
        """Take a port.

        Args:
            protocol: TCP, UDP or SCTP.
            port: which one; 0: any free one of the host's range for short-lived ports (``ip_local_port_range``).
            address: of the host; None: at every address.

        Raises:
            PortInUse: a process of the host has it.
            InvalidInput: the host does not have the address, or no SCTP.
            Exhausted: no port is free, or no descriptor.
            DatapathError: the kernel refused.
        """
        return self._hold_certain(protocol, port, address) if port else self._hold_any(protocol, address)

    def make_room(self) -> None:
        """Allow this process a descriptor for every port, as far as its hard limit goes."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    def _hold_certain(self, protocol: Protocol, port: int, address: IPv4Address | None) -> Hold:
        bound = _socket(protocol)
        try:
            _bind(bound, protocol, port, address)
        except OSError as err:
            bound.close()
            if err.errno != errno.EADDRINUSE:
                raise _refused(err, protocol, port, address) from err
            others = sockets_at(protocol, port, address)
            if others and all(one.waiting for one in others):
                return Hold(port, None)
            owner = self._owner(others)
            raise PortInUse(f"{_name(protocol, port, address)} is used by {owner}", owner=owner) from err
        return Hold(port, bound)

    def _hold_any(self, protocol: Protocol, address: IPv4Address | None) -> Hold:
        passed_over: list[socket.socket] = []
        try:
            for _ in range(_ATTEMPTS):
                bound = _socket(protocol)
                try:
                    _bind(bound, protocol, 0, address)
                except OSError as err:
                    bound.close()
                    if err.errno == errno.EADDRINUSE:
                        break
                    raise _refused(err, protocol, 0, address) from err
                port = int(bound.getsockname()[1])
                if port not in self._avoid:
                    return Hold(port, bound)
                # Kept meanwhile, or the kernel would offer it again.
                passed_over.append(bound)
        finally:
            for one in passed_over:
                one.close()
        raise Exhausted(
            f"no {protocol.name.lower()} port of this host is free (ip_local_port_range); publish a certain one"
        )

    def _owner(self, others: Sequence[HostSocket]) -> str:
        present = sorted((one for one in others if not one.waiting), key=lambda one: one.address.is_unspecified)
        for one in present:
            # The root cgroup is everybody's whom nobody has put elsewhere.
            if one.cgroup > ROOT_CGROUP and one.cgroup == _own_cgroup():
                return "hawse itself"
            path = cgroup_path(one.cgroup, self._cgroup) if self._cgroup else None
            if path is not None:
                return f"{owner_of_cgroup(path)} on this host"
        if present and present[0].uid:
            return f"a process of this host (user {present[0].uid})"
        return "a process of this host"


def _socket(protocol: Protocol) -> socket.socket:
    kind, number = _KINDS[protocol]
    try:
        return socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
    except OSError as err:
        if err.errno in _NO_KERNEL_SUPPORT:
            raise InvalidInput(
                f"the kernel of this host has no {protocol.name}: such a port cannot be published"
            ) from err
        raise _no_socket(err) from err


def _bind(bound: socket.socket, protocol: Protocol, port: int, address: IPv4Address | None) -> None:
    if protocol is Protocol.UDP:
        # Nothing that comes here is ever read.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    bound.bind((_EVERY if address is None else str(address), port))


def _refused(err: OSError, protocol: Protocol, port: int, address: IPv4Address | None) -> InvalidInput | DatapathError:
    if err.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(f"{address} is not an address of this host: ports cannot be published on it")
    return DatapathError(f"{_name(protocol, port, address)} cannot be taken: {os.strerror(err.errno or 0)}")


def _no_socket(err: OSError) -> Exhausted | DatapathError:
    if err.errno in _NO_DESCRIPTOR:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Exhausted(f"no file descriptor is free to keep another port with; the agent may have {soft}")
    return DatapathError(f"a port cannot be kept: {os.strerror(err.errno or 0)}")


def _name(protocol: Protocol, port: int, address: IPv4Address | None) -> str:
    where = "" if address is None else f" of {address}"
    return f"port {port}/{protocol.name.lower()}{where}"


def _own_cgroup() -> int:
    """Number of this process's own cgroup, as its sockets have it; 0: not known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        inode = os.fstat(own.fileno()).st_ino
        listed = sockets_at(Protocol.UDP, own.getsockname()[1], None)
    return next((one.cgroup for one in listed if one.inode == inode), 0)
