"""Compiled programs as a file: instructions in which maps are named, so that any process can load them.

The compiler writes the file descriptors of its own maps into the instructions. Here each such place is noted with the
map's name, and :mod:`datapath.load` puts the loading process's descriptors there. What a build needs to know of its
maps, to make those that are not pinned yet, is in the file too.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from model.errors import ProgramLoadError

INSTRUCTION_BYTES: Final = 8
_LOAD_64: Final = 0x18
"""``BPF_LD | BPF_IMM | BPF_DW``, which is two instructions long."""
_SOURCE_MAP: Final = 1
"""``BPF_PSEUDO_MAP_FD``: the number is a map's file descriptor."""
_HEAD: Final = struct.Struct("=BBhi")
"""``struct bpf_insn``: code, registers (source in the upper half), offset, number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapShape:
    """What a map is made with; numbers are those of bpf(2)."""

    name: str
    map_type: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int
    inner: str
    """Map whose shape the maps in this one have; empty: its values are no maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCode:
    """One program."""

    name: str
    instructions: bytes
    """With 0 in place of every map."""
    maps: Mapping[int, str]
    """Which map belongs there, by the number of the instruction."""

    @classmethod
    def of(cls, name: str, instructions: bytes, names: Mapping[int, str]) -> ProgramCode:
        """Take the maps' file descriptors out of the compiler's instructions; ``names`` says which maps they are.

        Raises:
            ProgramLoadError: a descriptor is none of these.
        """
        code = bytearray(instructions)
        maps: dict[int, str] = {}
        offset = 0
        while offset < len(code):
            operation, registers, _, number = _HEAD.unpack_from(code, offset)
            if operation == _LOAD_64 and registers >> 4 == _SOURCE_MAP:
                if number not in names:
                    raise ProgramLoadError(f"BPF program {name} uses a map that nobody made (descriptor {number})")
                maps[offset // INSTRUCTION_BYTES] = names[number]
                struct.pack_into("=i", code, offset + 4, 0)
            offset += INSTRUCTION_BYTES * (2 if operation == _LOAD_64 else 1)
        return cls(name=name, instructions=bytes(code), maps=maps)

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """The instructions for a process that has opened the maps as these."""
        code = bytearray(self.instructions)
        for number, name in self.maps.items():
            struct.pack_into("=i", code, number * INSTRUCTION_BYTES + 4, descriptors[name])
        return bytes(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytecode:
    """One build."""

    digest: str
    """Of the source it was compiled from; see :class:`datapath.source.Source`."""
    maps: Sequence[MapShape]
    """In an order in which they can be made."""
    programs: Mapping[str, ProgramCode]

    def write(self, path: Path) -> None:
        """Write the file, or replace it as a whole."""
        document = {
            "digest": self.digest,
            "maps": [asdict(shape) for shape in self.maps],
            "programs": [
                {
                    "name": program.name,
                    "instructions": base64.b64encode(program.instructions).decode(),
                    "maps": {str(number): name for number, name in program.maps.items()},
                }
                for program in self.programs.values()
            ],
        }
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_text(json.dumps(document), encoding="utf-8")
        unfinished.rename(path)

    @classmethod
    def read(cls, path: Path) -> Bytecode:
        """Read what :meth:`write` wrote.

        Raises:
            ProgramLoadError: the file is not there, or is something else.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            programs = [
                ProgramCode(
                    name=str(one["name"]),
                    instructions=base64.b64decode(one["instructions"], validate=True),
                    maps={int(number): str(name) for number, name in one["maps"].items()},
                )
                for one in document["programs"]
            ]
            return cls(
                digest=str(document["digest"]),
                maps=[MapShape(**shape) for shape in document["maps"]],
                programs={program.name: program for program in programs},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProgramLoadError(f"compiled BPF programs {path} cannot be read: {error}") from error
