"""Which sockets of this host have a port, and whose they are.

1. The kernel lists sockets by netlink (sock_diag), with the user and, from Linux 5.9 on, the cgroup of their owner.
   That needs no privilege, and neither the host's process ids nor its /proc.
2. The number of a cgroup v2 is the inode of its directory, so its path is found below the mount of the hierarchy. On
   hosts with systemd that is the service: ``/system.slice/ssh.service``.

The process itself is not looked for (ADR 0017). Costs one listing for each family and protocol, and one walk of the
cgroups, when a port turns out to be taken; nothing otherwise.

Source: https://man7.org/linux/man-pages/man7/sock_diag.7.html and include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
REQUEST_AND_DUMP: Final = 0x301
TCP_TIME_WAIT: Final = 6
CGROUP_ID: Final = 21
"""INET_DIAG_CGROUP_ID."""
ROOT_CGROUP: Final = 1

_ALL_STATES: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI")
_REQUEST_REST: Final = bytes(48)
"""inet_diag_sockid: of any socket."""
_ANSWER: Final = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_BUFFER_BYTES: Final = 65536
_TIMEOUT_S: Final = 1.0

_CONTAINER: Final = re.compile(r"(?:docker-)?([0-9a-f]{12})[0-9a-f]{52}(?:\.scope)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSocket:
    """A socket that has the port."""

    address: IPv4Address | IPv6Address
    waiting: bool
    """Whether only the kernel still remembers it (TIME-WAIT): nobody uses the port any more."""
    uid: int
    inode: int
    cgroup: int
    """0: the kernel does not say."""


def sockets_at(protocol: int, port: int, address: IPv4Address | None) -> Sequence[HostSocket]:
    """List the sockets in this network namespace that keep a port from being taken.

    Bound TCP sockets that neither listen nor are connected are listed from Linux 6.8 on.

    Args:
        protocol: IP protocol number.
        port: their own port.
        address: that would be taken; None: every one.

    Returns:
        Empty too when the kernel cannot list sockets of this protocol.
    """
    found: list[HostSocket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found.extend(one for one in _dump(family, protocol, port) if _overlaps(one.address, address))
        except OSError:
            continue
    return found


def cgroup_path(number: int, mount: Path) -> str | None:
    """Find a cgroup v2 by its number, as a path from its hierarchy's mount; None when it is not below it.

    Whoever is in the mounted cgroup itself, has been put nowhere: on a host that is itself a container too.
    """
    if number <= ROOT_CGROUP or number == mount.stat().st_ino:
        return None
    for folder, _, _ in os.walk(mount):
        try:
            if os.stat(folder).st_ino == number:  # noqa: PTH116 - a Path for each of thousands of folders
                return "/" + os.path.relpath(folder, mount)
        except OSError:
            continue  # it ended meanwhile
    return None


def owner_of_cgroup(path: str) -> str:
    """Name who a cgroup stands for: a container, a service or a session of systemd, else the cgroup itself."""
    parts = [part for part in path.split("/") if part]
    for part in reversed(parts):
        if match := _CONTAINER.fullmatch(part):
            return f"container {match[1]}"
    for part in reversed(parts):
        if part.endswith((".service", ".scope")):
            return part
    return f"the processes of cgroup {path}"


def _overlaps(other: IPv4Address | IPv6Address, wanted: IPv4Address | None) -> bool:
    if isinstance(other, IPv6Address):
        if other.ipv4_mapped is None:
            # Sockets at one IPv6 address have nothing to do with IPv4; those at :: have it too, unless IPV6_V6ONLY.
            return other.is_unspecified
        other = other.ipv4_mapped
    return wanted is None or wanted.is_unspecified or other.is_unspecified or other == wanted


def _dump(family: int, protocol: int, port: int) -> Iterator[HostSocket]:
    request = _REQUEST.pack(family, protocol, 0, 0, _ALL_STATES) + _REQUEST_REST
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT_S)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, REQUEST_AND_DUMP, 1, 0) + request)
        wanted = port.to_bytes(2, "big")
        while True:
            data = memoryview(netlink.recv(_BUFFER_BYTES))
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(
                        -int.from_bytes(data[16:20], sys.byteorder, signed=True), "the kernel lists no sockets"
                    )
                message = data[_HEADER.size : length]
                if message[4:6] == wanted:
                    yield _socket(message, family)
                data = data[(length + 3) & ~3 :]


def _socket(message: memoryview, family: int) -> HostSocket:
    _, state, _, _, _, _, source, _, _, _, _, _, _, uid, inode = _ANSWER.unpack_from(message)
    return HostSocket(
        address=ip_address(source[:4] if family == socket.AF_INET else source),
        waiting=state == TCP_TIME_WAIT,
        uid=uid,
        inode=inode,
        cgroup=_cgroup(message[_ANSWER.size :]),
    )


def _cgroup(attributes: memoryview) -> int:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == CGROUP_ID:
            return int.from_bytes(attributes[4:12], sys.byteorder)
        attributes = attributes[(max(length, _ATTRIBUTE.size) + 3) & ~3 :]
    return 0
