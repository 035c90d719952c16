"""A name server of the world: it knows one zone, which it is given as ``name=address``.

Standard library only, and no import of hawse: it runs in a machine of its own with the distribution's Python.
"""

from __future__ import annotations

import socket
import struct
import sys

_HEADER = struct.Struct("!6H")
_IS_ANSWER = 0x8580  # and authoritative, recursion is available
_NO_SUCH_NAME = 3
_A, _IN = 1, 1
_TTL_S = 60
# The name of an answer is that of the question, which starts right after the header.
_SAME_NAME = 0xC000 | _HEADER.size


def answer(query: bytes, zone: dict[str, str]) -> bytes:
    """Answer a message with one question."""
    ident, *_ = _HEADER.unpack_from(query)
    labels, at = [], _HEADER.size
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    (kind,) = struct.unpack_from("!H", query, at + 1)
    question = query[_HEADER.size : at + 5]
    address = zone.get(".".join(labels).lower())
    records = b""
    if address is not None and kind == _A:
        records = struct.pack("!HHHIH4s", _SAME_NAME, _A, _IN, _TTL_S, 4, socket.inet_aton(address))
    code = _IS_ANSWER | (0 if address is not None else _NO_SUCH_NAME)
    return _HEADER.pack(ident, code, 1, 1 if records else 0, 0, 0) + question + records


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    own, *records = sys.argv[1:]
    zone = dict(record.split("=", 1) for record in records)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((own, 53))
        say("ready")
        while True:
            query, client = server.recvfrom(4096)
            say(client[0])
            server.sendto(answer(query, zone), client)


if __name__ == "__main__":
    main()
