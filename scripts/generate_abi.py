"""Write ``datapath/abi.py`` from ``datapath/bpf/abi.h``; with ``--check`` only say whether it is up to date.

Reads the subset of C that abi.h describes and refuses everything else, implicit padding too, so that what Python sees
is what the compiler sees.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
HEADER: Final = ROOT / "datapath" / "bpf" / "abi.h"
MODULE: Final = ROOT / "datapath" / "abi.py"

# C type -> size in bytes, Python type.
TYPES: Final = {
    "__u8": (1, "ctypes.c_uint8"),
    "__u16": (2, "ctypes.c_uint16"),
    "__u32": (4, "ctypes.c_uint32"),
    "__u64": (8, "ctypes.c_uint64"),
    "__be16": (2, "ctypes.c_uint16.__ctype_be__"),
    "__be32": (4, "ctypes.c_uint32.__ctype_be__"),
}

PREAMBLE: Final = '''"""Generated from datapath/bpf/abi.h by scripts/generate_abi.py: DO NOT EDIT, run «make abi»."""

from __future__ import annotations

import ctypes
import enum
from typing import Any, ClassVar, Final

_FieldsType = list[tuple[str, Any]]
'''

COMMENT: Final = re.compile(r"/\*(.*?)\*/", re.DOTALL)
DEFINE: Final = re.compile(r"#define\s+(\w+)\s+(0x[0-9a-fA-F]+|\d+)\s*(?:/\*\s*(.*?)\s*\*/)?\s*$")
OPENING: Final = re.compile(r"(enum|struct)\s+(\w+)\s*\{$")
ENUMERATOR: Final = re.compile(r"(\w+)\s*=\s*(\d+),\s*/\*\s*(.*?)\s*\*/$")
FIELD: Final = re.compile(r"(\w+)\s+(\w+)(?:\[(\d+)\])?;\s*/\*\s*(.*?)\s*\*/$")


class SubsetError(Exception):
    """The header uses C that this generator does not read."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the header that is not only a comment."""

    number: int
    text: str

    def error(self, why: str) -> SubsetError:
        """Name the line."""
        return SubsetError(f"{HEADER.name}:{self.number}: {why}: {self.text}")


def significant_lines(source: str) -> Iterator[Line]:
    """Leave out comments that stand alone, empty lines and «#pragma once»; keep comments after code."""

    def blank(comment: re.Match[str]) -> str:
        before = source[: comment.start()].rpartition("\n")[2]
        return comment.group() if before.strip() else "\n" * comment.group().count("\n")

    for number, text in enumerate(COMMENT.sub(blank, source).splitlines(), start=1):
        if text.strip() and text.strip() != "#pragma once":
            yield Line(number, text.strip())


def class_name(c_name: str) -> str:
    """``endpoint_key`` -> ``EndpointKey``."""
    return "".join(part.capitalize() for part in c_name.split("_"))


def member_name(enum_name: str, c_name: str) -> str:
    """``DROP_INVALID_PACKET`` of ``enum drop_reason`` -> ``INVALID_PACKET``."""
    first, _, rest = c_name.partition("_")
    return rest if rest and first.lower() in enum_name.split("_") else c_name


def enum_code(name: str, lines: Iterator[Line]) -> str:
    """Python for the enum whose opening line has just been read."""
    members: list[tuple[str, int, str]] = []
    for line in lines:
        if line.text == "};":
            break
        match = ENUMERATOR.fullmatch(line.text)
        if not match:
            raise line.error("not «NAME = number, /* text */»")
        members.append((match[1], int(match[2]), match[3]))
    rows = "\n".join(f'    {member_name(name, member)} = {number}, "{text}"' for member, number, text in members)
    return f'''
class {class_name(name)}(enum.IntEnum):
    """``enum {name}``."""

    text: str

    def __new__(cls, number: int, text: str) -> {class_name(name)}:
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

{rows}
'''


def struct_code(name: str, lines: Iterator[Line]) -> str:
    """Python for the struct whose opening line has just been read."""
    offset = alignment = 0
    fields: list[str] = []
    annotations: list[str] = []
    for line in lines:
        if line.text == "};":
            break
        match = FIELD.fullmatch(line.text)
        if not match:
            raise line.error("not «type name; /* meaning */»")
        if match[1] not in TYPES:
            raise line.error(f"type {match[1]} is not one of {', '.join(TYPES)}")
        size, python = TYPES[match[1]]
        if offset % size:
            raise line.error(f"the compiler would put {size - offset % size} bytes of padding before it; declare them")
        alignment = max(alignment, size)
        offset += size * int(match[3] or 1)
        fields.append(f'        ("{match[2]}", {python}{f" * {match[3]}" if match[3] else ""}),')
        annotations.append(f"    {match[2]}: {'ctypes.Array[Any]' if match[3] else 'int'}")
        annotations.append(f'    """{match[4]}"""')
    if not fields or offset % alignment:
        raise SubsetError(f"struct {name}: the compiler would put padding at its end; declare it")
    newline = "\n"
    return f'''
class {class_name(name)}(ctypes.Structure):
    """``struct {name}``, {offset} bytes."""

    _fields_: ClassVar[_FieldsType] = [
{newline.join(fields)}
    ]
{newline.join(annotations)}
'''


def python_module(source: str) -> str:
    """Translate the header.

    Raises:
        SubsetError: it uses something outside the subset.
    """
    lines = significant_lines(source)
    constants: list[str] = []
    classes: list[str] = []
    for line in lines:
        if define := DEFINE.fullmatch(line.text):
            constants.append(f"{define[1].removeprefix('HAWSE_')}: Final = {define[2]}")
            if define[3]:
                constants.append(f'"""{define[3]}"""')
        elif opening := OPENING.fullmatch(line.text):
            make = enum_code if opening[1] == "enum" else struct_code
            classes.append(make(opening[2], lines))
        else:
            raise line.error("neither an integer #define nor an enum nor a struct")
    return PREAMBLE + "\n" + "\n".join(constants) + "\n\n" + "\n".join(classes)


def main() -> int:
    """Generate or check; 1 when the check finds a difference or the header cannot be read."""
    try:
        wanted = python_module(HEADER.read_text(encoding="utf-8"))
    except SubsetError as error:
        print(error, file=sys.stderr)
        return 1
    if "--check" in sys.argv[1:]:
        if MODULE.is_file() and MODULE.read_text(encoding="utf-8") == wanted:
            return 0
        print(f"{MODULE.name} is not what {HEADER.name} says: run «make abi» and commit it", file=sys.stderr)
        return 1
    MODULE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
