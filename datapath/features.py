"""What this kernel can do, found out by doing it: distributions take over features and leave others out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from datapath import bpf_syscalls, pins
from datapath.api import Feature
from datapath.cgroup import CANDIDATES, find_cgroup
from model.errors import DatapathError

_SCHED_CLS: Final = 3

_HASH: Final = 1
_RING_BUFFER: Final = 27

# Numbers of enum bpf_func_id.
_SKB_SET_TUNNEL_KEY: Final = 21
_SKB_SET_TUNNEL_OPT: Final = 30
_JIFFIES64: Final = 118
_REDIRECT_NEIGH: Final = 152
_REDIRECT_PEER: Final = 155


def probe_features(root: Path) -> Sequence[Feature]:
    """Try everything; takes some milliseconds.

    Args:
        root: folder that things are to be pinned in.
    """
    return [
        _feature("bpf file system", lambda: _bpf_file_system(root), required=True),
        _feature("redirect_peer", lambda: _helper(_SCHED_CLS, _REDIRECT_PEER), required=True),
        _feature("tunnel key", lambda: _helper(_SCHED_CLS, _SKB_SET_TUNNEL_KEY), required=True),
        _feature("tunnel options", lambda: _helper(_SCHED_CLS, _SKB_SET_TUNNEL_OPT), required=True),
        _feature("jiffies", lambda: _helper(_SCHED_CLS, _JIFFIES64), required=True),
        _feature("map batches", _map_batches, required=True),
        _feature("redirect_neigh", lambda: _helper(_SCHED_CLS, _REDIRECT_NEIGH), required=False),
        _feature("ring buffer", _ring_buffer, required=False),
        _feature("cgroup v2", _cgroup_v2, required=False),
        _feature("socket address hooks", _socket_address_hooks, required=False),
        _feature("BTF", _btf, required=False),
    ]


def _feature(name: str, probe: Callable[[], str], *, required: bool) -> Feature:
    """Run one probe; it returns what is missing, or nothing."""
    try:
        missing = probe()
    except (OSError, DatapathError) as error:
        missing = f"cannot be probed: {error}"
    return Feature(name=name, available=not missing, required=required, detail=missing)


def _helper(program_type: int, helper: int) -> str:
    return "" if bpf_syscalls.helper_works(program_type, helper) else "the kernel has no such helper function"


def _ring_buffer() -> str:
    return "" if bpf_syscalls.map_type_works(_RING_BUFFER) else "the kernel has no such map; needs Linux 5.8"


def _map_batches() -> str:
    fd = bpf_syscalls.create_map(_HASH, key_bytes=4, value_bytes=4, max_entries=2)
    try:
        bpf_syscalls.map_update_batch(fd, bytes(4), bytes(4), 1)
    except OSError as error:
        return f"needs Linux 5.6: {error.strerror}"
    finally:
        os.close(fd)
    return ""


def _bpf_file_system(root: Path) -> str:
    return (
        "" if pins.is_bpf_file_system(root) else f"nothing of the kind at {root.parent}: mount -t bpf bpf {root.parent}"
    )


def _socket_address_hooks() -> str:
    missing = [
        kind.name.lower()
        for kind in pins.ProgramKind
        if kind.optional and not bpf_syscalls.program_loads(kind.program_type, hook=kind.hook)
    ]
    return f"the kernel takes no programs for {', '.join(missing)}; needs CONFIG_CGROUP_BPF" if missing else ""


def _cgroup_v2() -> str:
    return "" if find_cgroup() else f"not mounted at any of {', '.join(map(str, CANDIDATES))}"


def _btf() -> str:
    return "" if Path("/sys/kernel/btf/vmlinux").exists() else "/sys/kernel/btf/vmlinux does not exist"
