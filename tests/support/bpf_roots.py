"""Folders for pinned programs and maps, used again: to load them for every host of every test would take long.

Programs and maps belong to no namespace. A folder that is given back keeps its programs; its maps are emptied when it
is taken the next time, so a test gets what a host has after its first start.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from pathlib import Path
from typing import Any, Final

from datapath import abi, bpf_syscalls, pins
from datapath.event_ring import EventRing
from datapath.maps import LAYOUTS, TypedMap
from datapath.pins import Pins

_PER_CPU: Final = frozenset({"hawse_metrics", "hawse_event_limits"})
_ARRAYS: Final = frozenset({"hawse_config", "hawse_identities", "hawse_table", "hawse_published_ports"})
_numbers: Final = itertools.count(1)
_free: Final[dict[Path, list[Path]]] = {}


def take(parent: Path) -> Path:
    """Take a folder below a BPF file system; its maps are empty, its programs loaded if that was done before."""
    free = _free.setdefault(parent, [])
    while free:
        root = free.pop()
        if root.exists():
            _empty(Pins(root))
            return root
    return parent / f"host{next(_numbers)}"


def give_back(parent: Path, root: Path) -> None:
    """Let another test have it; nothing of it may be open or attached any more."""
    _free.setdefault(parent, []).append(root)


def remove(parent: Path) -> None:
    """Unpin everything that was given back."""
    for root in _free.pop(parent, []):
        pins.remove(root)


def _empty(where: Pins) -> None:
    for name, layout in LAYOUTS.items():
        if not (where.maps / name).exists():
            continue
        opened: TypedMap[Any, Any] = TypedMap(where.maps, name, layout)
        try:
            if name in _ARRAYS:
                empty = layout.value()
                opened.update_many((abi.ArrayKey(index=index), empty) for index in range(opened.max_entries))
            elif name in _PER_CPU:
                _empty_per_cpu(where.maps / name, opened)
            else:
                opened.delete_many([key for key, _ in opened.items()])
        finally:
            opened.close()
    events = EventRing(where.maps, ())
    try:
        for _ in events.take():
            pass
    finally:
        events.close()


def _empty_per_cpu(path: Path, opened: TypedMap[Any, Any]) -> None:
    fd = bpf_syscalls.open_pinned(path)
    bytes_per_cpu = -(-bpf_syscalls.map_info(fd).value_bytes // 8) * 8
    empty = bytes(bytes_per_cpu * bpf_syscalls.possible_cpus())
    try:
        for index in range(opened.max_entries):
            bpf_syscalls.map_update(fd, bytes(ctypes.c_uint32(index)), empty)
    finally:
        os.close(fd)
