"""Removes connections that are over from the tables, so that those that live are not pushed out to make room.

The programs that forward pass over an entry whose time has gone by; they never delete one. The tables are LRU maps:
full of dead entries they would lose idle connections long before their time. What is over is decided in the kernel
(``bpf/sweep.c``), by what the other programs decide with, and looked at again before it goes: a connection may begin
anew at any moment, and an entry that is removed then is missed by its next packets. Here entries are only read and
passed on, as bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from datapath import abi, bpf_syscalls
from datapath.maps import MapPart, TypedMap
from model.errors import DatapathError

_NO_HEADER: Final = bytes(14)
"""In place of the link-layer header that the kernel wants of a packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many entries were removed."""

    connections: int
    translations: int
    """Two of each translated connection."""


def sweep_map(program_fd: int, table: TypedMap[Any, Any]) -> int:
    """Remove what is over from a table of connections; returns how many entries.

    Args:
        program_fd: the program for it, of ``bpf/sweep.c``.
        table: the map that the program knows.

    Raises:
        DatapathError: the kernel refused.
    """
    try:
        return sum(
            bpf_syscalls.run_program(program_fd, frame).verdict for part in table.batches() for frame in _frames(part)
        )
    except OSError as error:
        raise DatapathError(f"remove connections that are over: {error.strerror}") from error


@contextlib.contextmanager
def own_descriptor(fd: int) -> Iterator[int]:
    """The same program with a file descriptor of its own, which stays open whoever closes the other."""
    made = os.dup(fd)
    try:
        yield made
    finally:
        os.close(made)


def _frames(part: MapPart) -> Iterator[bytes]:
    """What the programs take for a packet: a header of zeros, room for keys, values."""
    if not part.count:
        return
    key_bytes, value_bytes = len(part.keys) // part.count, len(part.values) // part.count
    for start in range(0, part.count, abi.SWEEP_AT_ONCE):
        end = min(start + abi.SWEEP_AT_ONCE, part.count)
        yield b"".join((
            _NO_HEADER,
            part.keys[start * key_bytes : end * key_bytes].ljust(abi.SWEEP_AT_ONCE * key_bytes, b"\0"),
            part.values[start * value_bytes : end * value_bytes],
        ))  # fmt: skip
