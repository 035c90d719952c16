"""Takes the reports of the BPF programs out of their ring buffer.

The ring is mapped into memory: one page for our position, one for the kernel's, then the records. Reading costs no
system call. The positions are 64-bit numbers that only grow; each is written by one side.

Source: https://docs.kernel.org/bpf/ringbuf.html
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from datapath import abi, bpf_syscalls, pins
from datapath.addresses import unpacked
from datapath.api import Direction
from datapath.flow_event import FlowEvent, FlowVerdict
from model.errors import AbiMismatch, DatapathError

_PAGE: Final = mmap.PAGESIZE
_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEADER_BYTES: Final = 8
_ALIGNMENT: Final = 8
# The same few come again and again.
_address: Final = functools.lru_cache(maxsize=8192)(unpacked)

_VERDICTS: Final[Mapping[int, FlowVerdict]] = {
    abi.EventVerdict.FORWARDED: FlowVerdict.FORWARDED,
    abi.EventVerdict.DROPPED: FlowVerdict.DROPPED,
    abi.EventVerdict.AUDIT: FlowVerdict.AUDIT,
}
_DIRECTIONS: Final[Mapping[int, Direction]] = {
    abi.Direction.INGRESS: Direction.INGRESS,
    abi.Direction.EGRESS: Direction.EGRESS,
}


class EventRing:
    """The ring buffer, for one reader.

    Args:
        folder: where it is pinned.
        files: names of the BPF source files, by their numbers.

    Raises:
        DatapathError: it cannot be opened or mapped.
        AbiMismatch: it has another size.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self._files = files
        path = folder / pins.EVENTS
        try:
            fd = bpf_syscalls.open_pinned(path)
            try:
                size = bpf_syscalls.map_info(fd).max_entries
                if size != abi.EVENTS_BYTES:
                    raise AbiMismatch(f"ring buffer {path} has {size} bytes, not {abi.EVENTS_BYTES}")
                self._ours = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                self._theirs = mmap.mmap(fd, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
            finally:
                os.close(fd)
        except OSError as error:
            raise DatapathError(f"ring buffer {path}: {error.strerror}") from error
        self._size = size

    def close(self) -> None:
        """Unmap it; what is in it stays."""
        self._ours.close()
        self._theirs.close()

    def take(self) -> list[FlowEvent]:
        """Take all reports that are complete, oldest first."""
        consumed = _position(self._ours)
        produced = _position(self._theirs)
        taken: list[FlowEvent] = []
        while consumed < produced:
            # The records are mapped twice in a row, so that none is torn at the end.
            at = _PAGE + consumed % self._size
            (header,) = struct.unpack_from("=I", self._theirs, at)
            if header & _BUSY:
                break
            length = header & ~(_BUSY | _DISCARDED)
            if not header & _DISCARDED:
                taken.append(_event(abi.FlowEvent.from_buffer_copy(self._theirs, at + _HEADER_BYTES), self._files))
            consumed += -(-(length + _HEADER_BYTES) // _ALIGNMENT) * _ALIGNMENT
        struct.pack_into("=Q", self._ours, 0, consumed)
        return taken


def _position(page: mmap.mmap) -> int:
    (position,) = struct.unpack_from("=Q", page, 0)
    return int(position)


def _event(raw: abi.FlowEvent, files: Sequence[str]) -> FlowEvent:
    return FlowEvent(
        monotonic_ns=raw.monotonic_ns,
        verdict=_VERDICTS[raw.verdict],
        direction=_DIRECTIONS[raw.direction],
        reason=raw.reason,
        rule=raw.rule,
        other_rule=raw.other_rule,
        source_identity=raw.source_identity,
        destination_identity=raw.destination_identity,
        source=_address(bytes(raw.source)),
        destination=_address(bytes(raw.destination)),
        source_port=raw.source_port,
        destination_port=raw.destination_port,
        protocol=raw.protocol,
        tcp_flags=raw.tcp_flags,
        is_reply=bool(raw.is_reply),
        vni=raw.vni,
        ifindex=raw.ifindex,
        source_file=files[raw.file] if raw.line and raw.file < len(files) else "",
        source_line=raw.line,
        length_bytes=raw.length,
    )
