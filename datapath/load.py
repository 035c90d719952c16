"""The child process that compiles, checks and pins the BPF programs: ``python -m datapath.load --root FOLDER``.

It exists so that the agent never has LLVM in its memory. What it does:
1) compile through bcc; maps that are pinned already are used, the others are made and pinned;
2) compare the layout of every map, as the compiler sees it, with :mod:`datapath.abi`;
3) load every program (the verifier runs), pin them in a temporary folder, and rename that: a build is there complete or
   not at all.

Exit 0: the build is pinned. Otherwise the last line on standard error is the reason; above it stands what the compiler
or the verifier said.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from datapath import bpf_syscalls, pins, source
from datapath.abi import ArrayKey
from datapath.kernel_shim import kernel_shim
from datapath.maps import LAYOUTS, MapReference, field_layout
from datapath.pins import Pins
from model.errors import AbiMismatch, HawseError, ProgramLoadError

EXIT_ABI_MISMATCH = 3


def load(where: Pins, folder: Path = source.FOLDER) -> None:
    """Compile and pin the programs below ``where``.

    Raises:
        ProgramLoadError: compiler or verifier refused; their words are on standard error.
        AbiMismatch: a map's layout is not what the generated module says.
    """
    text = source.build(where, folder)
    where.maps.mkdir(parents=True, exist_ok=True)
    with kernel_shim() as headers:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
        module = _compile(text)
        _check_layouts(module)
        _pin_programs(module, where, text.digest)


def _compile(text: source.Source) -> Any:
    from bcc import BPF  # noqa: PLC0415 LLVM is loaded only where it is used

    try:
        return BPF(text=text.text, cflags=list(text.cflags))
    except Exception as error:  # bcc raises nothing more specific
        raise ProgramLoadError(f"compile BPF programs: {error}") from error


def _check_layouts(module: Any) -> None:
    for name, layout in LAYOUTS.items():
        table = module[name]
        # Of a map per CPU bcc gives an array with one value for each.
        leaf = table.Leaf._type_ if issubclass(table.Leaf, ctypes.Array) else table.Leaf
        for part, ours, theirs in (("key", layout.key, table.Key), ("value", layout.value, leaf)):
            if ours in {ArrayKey, MapReference}:
                continue  # a plain number for the compiler
            if field_layout(ours) != field_layout(theirs):
                raise AbiMismatch(
                    f"{part} of map {name} is {field_layout(theirs)} for the compiler "
                    f"and {field_layout(ours)} in abi.py: run «make abi»"
                )


def _pin_programs(module: Any, where: Pins, digest: str) -> None:
    target = where.programs(digest)
    unfinished = target.with_name(f"{target.name}-unfinished-{os.getpid()}")
    unfinished.mkdir()
    try:
        _fill_stages(module, unfinished)
        for name, kind in pins.PROGRAMS.items():
            if kind.optional and not bpf_syscalls.program_loads(kind.program_type, hook=kind.hook):
                continue
            bpf_syscalls.pin(_load_program(module, name, kind), unfinished / name)
        if not target.exists():
            unfinished.rename(target)
    finally:
        pins.remove(unfinished)


def _fill_stages(module: Any, folder: Path) -> None:
    array = module[pins.STAGE_ARRAY].map_fd
    bpf_syscalls.pin(array, folder / pins.STAGE_ARRAY)
    for number, name in enumerate(pins.STAGES):
        program = _load_program(module, name, pins.ProgramKind.INTERFACE)
        bpf_syscalls.map_update(array, number.to_bytes(4, sys.byteorder), program.to_bytes(4, sys.byteorder))


def _load_program(module: Any, name: str, kind: pins.ProgramKind) -> int:
    try:
        return int(module.load_func(name, kind.program_type, attach_type=kind.hook).fd)
    except Exception as error:  # bcc raises nothing more specific
        raise ProgramLoadError(f"load BPF program {name}: {error}") from error


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m datapath.load", description=__doc__)
    parser.add_argument("--root", type=Path, default=pins.DEFAULT_ROOT, help="folder in a BPF file system")
    parser.add_argument("--source", type=Path, default=source.FOLDER, help="folder of the C files")
    arguments = parser.parse_args()
    try:
        load(Pins(arguments.root), arguments.source)
    except HawseError as error:
        print(error, file=sys.stderr)  # noqa: T201 the parent reads it
        return EXIT_ABI_MISMATCH if isinstance(error, AbiMismatch) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
