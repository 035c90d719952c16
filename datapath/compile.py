"""The compiler as a program of its own: ``python -m datapath.compile`` writes what :mod:`datapath.load` loads.

It runs when the plugin is built, and where the source has been changed; the plugin has no compiler. A process of its
own, because LLVM stays in the memory of whoever has used it. What it does:
1) compile through bcc, which also makes the maps, pinned nowhere;
2) compare the layout of every map, as the compiler sees it, with :mod:`datapath.abi`;
3) write ``<digest>.json`` (:mod:`datapath.bytecode`) into the folder ``compiled`` beside the C files.

Exit 0: the file is there. Otherwise the last line on standard error is the reason; above it stands what the compiler
said. Needs the right to make BPF maps.
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
from datapath.bytecode import Bytecode, MapShape, ProgramCode
from datapath.kernel_shim import kernel_shim
from datapath.maps import LAYOUTS, TEMPLATES, MapReference, field_layout
from model.errors import AbiMismatch, HawseError, ProgramLoadError


def compile_programs(folder: Path = source.FOLDER) -> Path:
    """Compile the C files of a folder; returns the file that was written, beside which no other build is left.

    Raises:
        ProgramLoadError: the compiler refused; its words are on standard error.
        AbiMismatch: a map's layout is not what the generated module says.
    """
    text = source.build(folder)
    with kernel_shim() as headers:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
        module = _compile(text)
        _check_layouts(module)
        build = _read(module, text.digest)
    path = source.compiled_file(folder, text.digest)
    path.parent.mkdir(exist_ok=True)
    build.write(path)
    for other in path.parent.glob("*.json"):
        if other != path:
            other.unlink(missing_ok=True)
    return path


def _compile(text: source.Source) -> Any:
    try:
        from bcc import BPF  # noqa: PLC0415 LLVM is loaded only where it is used
    except ImportError as error:
        raise ProgramLoadError("compile BPF programs: bcc is missing, install python3-bpfcc") from error
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


def _read(module: Any, digest: str) -> Bytecode:
    from bcc import lib  # noqa: PLC0415 see above

    names = (*LAYOUTS, pins.EVENTS, *sorted(pins.OF_ONE_BUILD))
    descriptors = {name: int(lib.bpf_table_fd(module.module, name.encode())) for name in names}
    shapes = [_shape(name, descriptor) for name, descriptor in descriptors.items()]
    by_descriptor = {descriptor: name for name, descriptor in descriptors.items()}
    programs = [
        ProgramCode.of(name, module.dump_func(name.encode()), by_descriptor) for name in (*pins.PROGRAMS, *pins.STAGES)
    ]
    return Bytecode(
        digest=digest,
        maps=sorted(shapes, key=lambda shape: bool(shape.inner)),
        programs={program.name: program for program in programs},
    )


def _shape(name: str, descriptor: int) -> MapShape:
    info = bpf_syscalls.map_info(descriptor)
    return MapShape(
        name=name,
        map_type=info.map_type,
        key_bytes=info.key_bytes,
        value_bytes=info.value_bytes,
        max_entries=info.max_entries,
        flags=info.flags,
        inner=TEMPLATES.get(name, ""),
    )


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m datapath.compile", description=__doc__)
    parser.add_argument("--source", type=Path, default=source.FOLDER, help="folder of the C files")
    arguments = parser.parse_args()
    try:
        print(compile_programs(arguments.source))  # noqa: T201
    except HawseError as error:
        print(error, file=sys.stderr)  # noqa: T201 the parent reads it
        return source.EXIT_ABI_MISMATCH if isinstance(error, AbiMismatch) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
