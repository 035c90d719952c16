"""The bpf(2) operations that the agent needs, through libbpf: programs, maps, pins, links to control groups, test runs.

bcc offers neither pinning nor opening of pinned objects, and it brings LLVM into the process; libbpf.so.1 is small.
Everything here takes and gives file descriptors and bytes; what the bytes mean is the business of :mod:`datapath.maps`.

Raises (all functions): OSError with the errno of the system call.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

MAP_UPDATE_ANY: Final = 0
NAME_LENGTH: Final = 15
"""Longest name of a map or program that the kernel keeps."""

_LICENSE: Final = b"GPL"
"""Of the programs; without it the kernel gives them few helpers. It is one of the two that they have."""
_LOG_BYTES: Final = 1 << 24

_INSTRUCTION_BYTES: Final = 8
_PASS: Final = bytes.fromhex("b7000000010000009500000000000000")
"""``r0 = 1; exit``."""


class _MapInfo(ctypes.Structure):
    """The first fields of ``struct bpf_map_info``; they never move."""

    _fields_: ClassVar = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    ]


class _MapOptions(ctypes.Structure):
    """``struct bpf_map_create_opts`` of libbpf 1.0."""

    _fields_: ClassVar = [
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    ]


class _ProgramInfo(ctypes.Structure):
    """The first fields of ``struct bpf_prog_info``; they never move."""

    _fields_: ClassVar = [("type", ctypes.c_uint32), ("id", ctypes.c_uint32)]


class _LinkInfo(ctypes.Structure):
    """The first fields of ``struct bpf_link_info`` of a link to a control group."""

    _fields_: ClassVar = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("cgroup_id", ctypes.c_uint64),
    ]


class _ProgramOptions(ctypes.Structure):
    """``struct bpf_prog_load_opts`` of libbpf 1.0."""

    _fields_: ClassVar = [
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_char_p),
    ]


class _RunOptions(ctypes.Structure):
    """``struct bpf_test_run_opts`` of libbpf 1.0."""

    _fields_: ClassVar = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapInfo:
    """What the kernel says of a map."""

    map_type: int
    """``enum bpf_map_type``."""
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int
    """``BPF_F_…``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkInfo:
    """What the kernel says of a program's link to a control group."""

    program_id: int
    cgroup_id: int
    """Inode of its folder; 0 when the control group is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """Outcome of a program run on one packet."""

    verdict: int
    packet: bytes
    duration_ns: int
    """Mean over all repetitions."""


@functools.cache
def _libbpf() -> ctypes.CDLL:
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def _check(result: int, what: str) -> int:
    """Libbpf 1.x returns -errno."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def open_pinned(path: Path) -> int:
    """Open a pinned map or program; the caller closes the file descriptor."""
    return _check(_libbpf().bpf_obj_get(os.fsencode(path)), f"open {path}")


def pin(fd: int, path: Path) -> None:
    """Give a map or program a name in a BPF file system."""
    _check(_libbpf().bpf_obj_pin(fd, os.fsencode(path)), f"pin {path}")


def map_info(fd: int) -> MapInfo:
    """Describe an open map."""
    info = _MapInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    _check(_libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "describe map")
    return MapInfo(
        map_type=info.type,
        key_bytes=info.key_size,
        value_bytes=info.value_size,
        max_entries=info.max_entries,
        flags=info.map_flags,
    )


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Read one value; for a map per CPU ``value_bytes`` counts all CPUs."""
    value = ctypes.create_string_buffer(value_bytes)
    try:
        _check(_libbpf().bpf_map_lookup_elem(fd, key, value), "look up in map")
    except FileNotFoundError:
        return None
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Add or replace one entry."""
    _check(_libbpf().bpf_map_update_elem(fd, key, value, ctypes.c_uint64(MAP_UPDATE_ANY)), "update map")


def map_delete(fd: int, key: bytes) -> bool:
    """Delete one entry; False when there was none."""
    try:
        _check(_libbpf().bpf_map_delete_elem(fd, key), "delete from map")
    except FileNotFoundError:
        return False
    return True


def map_next_key(fd: int, key: bytes | None, key_bytes: int) -> bytes | None:
    """The key after this one (None: the first); None when that was the last."""
    after = ctypes.create_string_buffer(key_bytes)
    try:
        _check(_libbpf().bpf_map_get_next_key(fd, key, after), "read keys of map")
    except FileNotFoundError:
        return None
    return after.raw


def map_lookup_batch(fd: int, token: bytes | None, count: int, info: MapInfo) -> tuple[bytes, bytes, int, bytes | None]:
    """Read up to ``count`` entries of a hash map from where ``token`` points (None: the beginning).

    Returns:
        Keys, values, number of entries, and the token to go on with (None: that was all).

    Raises:
        OSError: ENOSPC when one bucket holds more than ``count`` entries.
    """
    keys = ctypes.create_string_buffer(count * info.key_bytes)
    values = ctypes.create_string_buffer(count * info.value_bytes)
    after = ctypes.create_string_buffer(max(4, info.key_bytes))
    number = ctypes.c_uint32(count)
    result = _libbpf().bpf_map_lookup_batch(fd, token, after, keys, values, ctypes.byref(number), None)
    last = False
    try:
        _check(result, "read map")
    except FileNotFoundError:
        last = True
    read = number.value
    return keys.raw[: read * info.key_bytes], values.raw[: read * info.value_bytes], read, None if last else after.raw


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Add or replace entries; on an error those before the offending one have been written."""
    number = ctypes.c_uint32(count)
    _check(_libbpf().bpf_map_update_batch(fd, keys, values, ctypes.byref(number), None), "update map")


def map_delete_batch(fd: int, keys: bytes, count: int) -> int:
    """Delete entries up to the first that does not exist.

    Returns:
        How many were deleted; fewer than ``count``: the next one does not exist.
    """
    number = ctypes.c_uint32(count)
    try:
        _check(_libbpf().bpf_map_delete_batch(fd, keys, ctypes.byref(number), None), "delete from map")
    except FileNotFoundError:
        return number.value
    return count


def possible_cpus() -> int:
    """How many values a map per CPU has for each key."""
    return _check(_libbpf().libbpf_num_possible_cpus(), "count CPUs")


def run_program(program_fd: int, packet: bytes, *, context: bytes = b"", repeat: int = 1) -> ProgramRun:
    """Run a program on a packet without any interface; ``context`` is a (possibly shorter) ``struct __sk_buff``."""
    data_in = ctypes.create_string_buffer(packet, len(packet))
    data_out = ctypes.create_string_buffer(len(packet) + 256)
    context_in = ctypes.create_string_buffer(context, max(1, len(context)))
    options = _RunOptions(
        sz=ctypes.sizeof(_RunOptions),
        data_in=ctypes.addressof(data_in),
        data_size_in=len(packet),
        data_out=ctypes.addressof(data_out),
        data_size_out=len(data_out),
        ctx_in=ctypes.addressof(context_in) if context else None,
        ctx_size_in=len(context),
        repeat=repeat,
    )
    _check(_libbpf().bpf_prog_test_run_opts(program_fd, ctypes.byref(options)), "run program")
    return ProgramRun(
        verdict=ctypes.c_int32(options.retval).value,
        packet=data_out.raw[: options.data_size_out],
        duration_ns=options.duration,
    )


def helper_works(program_type: int, helper: int) -> bool:
    """Load a tiny program that calls the helper and say whether the kernel knows it for this program type."""
    return _check(_libbpf().libbpf_probe_bpf_helper(program_type, helper, None), f"probe helper {helper}") == 1


def map_type_works(map_type: int) -> bool:
    """Create a tiny map of this type and say whether the kernel can."""
    return _check(_libbpf().libbpf_probe_bpf_map_type(map_type, None), f"probe map type {map_type}") == 1


def create_map(
    map_type: int,
    *,
    key_bytes: int,
    value_bytes: int,
    max_entries: int,
    name: str = "hawse_probe",
    flags: int = 0,
    inner_map: int = 0,
) -> int:
    """Make a map that is pinned nowhere; the caller closes the file descriptor.

    ``inner_map`` is an open map like those that will be in a map of maps; 0: it is none.
    """
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=flags, inner_map_fd=inner_map)
    made = _libbpf().bpf_map_create(map_type, name.encode(), key_bytes, value_bytes, max_entries, ctypes.byref(options))
    return _check(made, "create map")


def open_map_by_id(number: int) -> int:
    """Open a map that another map names; the caller closes the file descriptor."""
    return _check(_libbpf().bpf_map_get_fd_by_id(number), f"open map {number}")


def program_id(fd: int) -> int:
    """The kernel's number of a program."""
    info = _ProgramInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    _check(_libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "describe program")
    return int(info.id)


def link_to_cgroup(program_fd: int, cgroup_fd: int, hook: int) -> int:
    """Attach a program beside those of others; it stays as long as the link is open or pinned. The caller closes it."""
    return _check(_libbpf().bpf_link_create(program_fd, cgroup_fd, hook, None), "attach to control group")


def update_link(link_fd: int, program_fd: int) -> None:
    """Put another program in the place of the one that is attached, at once."""
    _check(_libbpf().bpf_link_update(link_fd, program_fd, None), "replace program at control group")


def link_info(fd: int) -> LinkInfo:
    """Describe an open link to a control group."""
    info = _LinkInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    _check(_libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "describe link")
    return LinkInfo(program_id=info.prog_id, cgroup_id=info.cgroup_id)


def load_program(program_type: int, name: str, instructions: bytes, *, hook: int) -> int:
    """Load a program, which the kernel verifies; the caller closes the file descriptor.

    ``hook`` is -1 where the type has only one.
    """
    return _check(_load(program_type, name, instructions, hook=hook), f"load program {name}")


def verifier_log(program_type: int, name: str, instructions: bytes, *, hook: int) -> str:
    """Load a program that was refused once more; returns why, instruction by instruction."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    fd = _load(program_type, name, instructions, hook=hook, log=log)
    if fd >= 0:
        os.close(fd)
    return log.value.decode(errors="replace")


def program_loads(program_type: int, *, hook: int) -> bool:
    """Load a tiny program for this hook that lets everything pass, and say whether the kernel takes it."""
    fd = _load(program_type, "hawse_probe", _PASS, hook=hook)
    if fd < 0:
        return False
    os.close(fd)
    return True


def _load(
    program_type: int, name: str, instructions: bytes, *, hook: int, log: ctypes.Array[ctypes.c_char] | None = None
) -> int:
    options = _ProgramOptions(sz=ctypes.sizeof(_ProgramOptions), expected_attach_type=max(hook, 0))
    if log is not None:
        options.log_level, options.log_size = 1, len(log)
        options.log_buf = ctypes.cast(log, ctypes.c_char_p)
    count = len(instructions) // _INSTRUCTION_BYTES
    named = name[:NAME_LENGTH].encode()
    return int(_libbpf().bpf_prog_load(program_type, named, _LICENSE, instructions, count, ctypes.byref(options)))
