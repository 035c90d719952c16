"""One rtnetlink socket: sends messages, waits for the kernel's answer, raises what it says.

pyroute2 gives the messages. Its own sockets come with an event loop for every thread that uses them; the agent has many
threads and asks the kernel a few short questions, so this is one plain socket behind a lock.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from model.errors import LinkError

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400

_NETLINK_ROUTE: Final = 0
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_DUMP_INTR: Final = 0x10
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_RECEIVE_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 10
_DUMP_ATTEMPTS: Final = 10


class Encodable(Protocol):
    """A message of pyroute2."""

    data: bytearray

    def __setitem__(self, key: str, value: object) -> None: ...

    def encode(self) -> None:
        """Fill ``data``."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message and how to send it."""

    message: Encodable
    kind: int
    """``RTM_*``."""
    flags: int = 0
    harmless: frozenset[int] = frozenset()
    """errno values that mean that there was nothing to do."""


class Netlink:
    """Safe to use from any thread; one exchange at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Release the socket; idempotent."""
        self._socket.close()

    def execute(self, what: str, requests: Sequence[Request]) -> None:
        """Send all requests at once; the kernel carries them out in order, the later ones even if one fails.

        Raises:
            LinkError: the first error that is not harmless, with its errno.
        """
        with self._lock:
            first = self._sequence + 1
            self._send([(request, request.flags | NLM_F_ACK) for request in requests])
            outcome: dict[int, int] = {}
            while len(outcome) < len(requests):
                for kind, _, sequence, payload in self._receive(what):
                    if kind == _NLMSG_ERROR and first <= sequence <= self._sequence:
                        outcome[sequence] = -struct.unpack_from("=i", payload)[0]
        for number, request in enumerate(requests):
            code = outcome[first + number]
            if code and code not in request.harmless:
                raise LinkError(f"{what}: {os.strerror(code)}", errno=code)

    def dump(self, what: str, request: Request) -> list[bytes]:
        """Everything the kernel lists, as message payloads; asked again when the list changed meanwhile.

        Raises:
            LinkError: the kernel refused.
        """
        for _ in range(_DUMP_ATTEMPTS):
            with self._lock:
                answer, consistent = self._dump(what, request)
            if consistent:
                return answer
        raise LinkError(f"{what}: the list changed {_DUMP_ATTEMPTS} times while it was read", errno=errno.EAGAIN)

    def get(self, what: str, request: Request) -> bytes | None:
        """One object; None when it does not exist.

        Raises:
            LinkError: the kernel refused.
        """
        with self._lock:
            self._send([(request, request.flags)])
            while True:
                for kind, _, sequence, payload in self._receive(what):
                    if sequence != self._sequence:
                        continue
                    if kind != _NLMSG_ERROR:
                        return payload
                    code = -struct.unpack_from("=i", payload)[0]
                    if code == errno.ENODEV:
                        return None
                    raise LinkError(f"{what}: {os.strerror(code)}", errno=code)

    def _dump(self, what: str, request: Request) -> tuple[list[bytes], bool]:
        self._send([(request, request.flags | NLM_F_DUMP)])
        answer: list[bytes] = []
        consistent = True
        while True:
            for kind, flags, sequence, payload in self._receive(what):
                if sequence != self._sequence:
                    continue
                consistent = consistent and not flags & _NLM_F_DUMP_INTR
                code = -struct.unpack_from("=i", payload)[0] if kind in {_NLMSG_ERROR, _NLMSG_DONE} else 0
                if code:
                    raise LinkError(f"{what}: {os.strerror(code)}", errno=code)
                if kind == _NLMSG_DONE:
                    return answer, consistent
                answer.append(payload)

    def _send(self, requests: Sequence[tuple[Request, int]]) -> None:
        data = bytearray()
        for request, flags in requests:
            self._sequence += 1
            request.message["header"] = {
                "type": request.kind,
                "flags": flags | NLM_F_REQUEST,
                "sequence_number": self._sequence,
                "pid": 0,
            }
            request.message.encode()
            data += request.message.data
        self._socket.sendto(data, (0, 0))

    def _receive(self, what: str) -> Iterator[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError as error:
            raise LinkError(f"{what}: the kernel did not answer in {_TIMEOUT_S} s", errno=errno.ETIMEDOUT) from error
        except OSError as error:
            raise LinkError(f"{what}: {error.strerror}", errno=error.errno or 0) from error
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            yield kind, flags, sequence, data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read what follows the header of a netlink message: type and value of each attribute."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
