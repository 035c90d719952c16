"""Loads compiled programs and pins them.

1) Maps that are pinned already are used, the others are made and pinned;
2) every program is loaded (the verifier runs) and pinned in a temporary folder, which is then renamed: a build is there
   complete or not at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from datapath import bpf_syscalls, pins
from datapath.bytecode import Bytecode, MapShape
from datapath.pins import Pins, ProgramKind
from model.errors import AbiMismatch, ProgramLoadError


def load(where: Pins, build: Bytecode) -> None:
    """Load and pin a build below ``where``; does nothing to one that is there.

    Raises:
        ProgramLoadError: the kernel refused; the verifier's words are in its ``log``.
        AbiMismatch: a pinned map is another one than the programs were compiled for.
    """
    where.maps.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        descriptors: dict[str, int] = {}
        for shape in build.maps:
            descriptors[shape.name] = _map(where, shape, descriptors)
            opened.callback(os.close, descriptors[shape.name])
        _pin_programs(where, build, descriptors)


def _map(where: Pins, shape: MapShape, descriptors: Mapping[str, int]) -> int:
    """Open or make a map; the caller closes it."""
    if shape.name in pins.OF_ONE_BUILD:
        return _make(shape, descriptors)
    path = where.maps / shape.name
    with contextlib.suppress(FileNotFoundError):
        fd = bpf_syscalls.open_pinned(path)
        info = bpf_syscalls.map_info(fd)
        found = (info.map_type, info.key_bytes, info.value_bytes)
        if found != (shape.map_type, shape.key_bytes, shape.value_bytes):
            os.close(fd)
            raise AbiMismatch(
                f"pinned map {path} has type, key and value bytes {found}, this version of hawse wants "
                f"{(shape.map_type, shape.key_bytes, shape.value_bytes)}"
            )
        return fd
    fd = _make(shape, descriptors)
    try:
        bpf_syscalls.pin(fd, path)
    except OSError as error:
        os.close(fd)
        raise ProgramLoadError(f"pin map {path}: {error.strerror}") from error
    return fd


def _make(shape: MapShape, descriptors: Mapping[str, int]) -> int:
    try:
        return bpf_syscalls.create_map(
            shape.map_type,
            key_bytes=shape.key_bytes,
            value_bytes=shape.value_bytes,
            max_entries=shape.max_entries,
            name=shape.name[: bpf_syscalls.NAME_LENGTH],
            flags=shape.flags,
            inner_map=descriptors[shape.inner] if shape.inner else 0,
        )
    except OSError as error:
        raise ProgramLoadError(f"make map {shape.name}: {error.strerror}") from error


def _pin_programs(where: Pins, build: Bytecode, descriptors: Mapping[str, int]) -> None:
    target = where.programs(build.digest)
    unfinished = target.with_name(f"{target.name}-unfinished-{os.getpid()}")
    unfinished.mkdir()
    try:
        _fill_stages(build, descriptors, unfinished)
        for name, kind in pins.PROGRAMS.items():
            if kind.optional and not bpf_syscalls.program_loads(kind.program_type, hook=kind.hook):
                continue
            fd = _load_program(build, name, kind, descriptors)
            try:
                bpf_syscalls.pin(fd, unfinished / name)
            finally:
                os.close(fd)
        if not target.exists():
            unfinished.rename(target)
    finally:
        pins.remove(unfinished)


def _fill_stages(build: Bytecode, descriptors: Mapping[str, int], folder: Path) -> None:
    array = descriptors[pins.STAGE_ARRAY]
    bpf_syscalls.pin(array, folder / pins.STAGE_ARRAY)
    for number, name in enumerate(pins.STAGES):
        fd = _load_program(build, name, ProgramKind.INTERFACE, descriptors)
        try:
            bpf_syscalls.map_update(array, number.to_bytes(4, sys.byteorder), fd.to_bytes(4, sys.byteorder))
        finally:
            os.close(fd)


def _load_program(build: Bytecode, name: str, kind: ProgramKind, descriptors: Mapping[str, int]) -> int:
    instructions = build.programs[name].linked(descriptors)
    try:
        return bpf_syscalls.load_program(kind.program_type, name, instructions, hook=kind.hook)
    except OSError as error:
        log = bpf_syscalls.verifier_log(kind.program_type, name, instructions, hook=kind.hook)
        raise ProgramLoadError(f"load BPF program {name}: {error.strerror}", log=log) from error
