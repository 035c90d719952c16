"""Puts the BPF program text together: one text from all our files, and the options it is compiled with.

How it works:
1) bcc rewrites map operations only in the main file, so our own headers are inlined, each once, where they are first
   included; system headers stay ``#include``;
2) ``#line`` marks let every message of the compiler name the file and line it was written in, and ``HAWSE_FILE`` is
   the number of that file (its place in :attr:`Source.files`), so that a report of the kernel can name the line too;
3) a digest over text and options names the build: equal digest, nothing to compile.

All programs are one text, so that they are compiled and checked at once. Nothing of the machine is in it: the same
source has the same digest everywhere.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.errors import ProgramLoadError

FOLDER: Final = Path(__file__).parent / "bpf"
FILES: Final = (
    "endpoint.c",
    "overlay.c",
    "host.c",
    "underlay.c",
    "loopback.c",
    "service.c",
    "published.c",
    "outside.c",
    "undo.c",
    "refuse.c",
    "sock.c",
    "sweep.c",
)

CFLAGS: Final = (
    "-Wall",
    # bcc takes a call to a function that does not exist; the verifier then reports something else.
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
)

EXIT_ABI_MISMATCH: Final = 3
"""How the compiler's process ends when abi.py does not fit; here, for the agent does not import the compiler."""

_OWN_INCLUDE: Final = re.compile(r'#include "([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the compiler gets."""

    text: str
    cflags: tuple[str, ...]
    digest: str
    """16 hex digits."""
    files: tuple[str, ...]
    """The files in the order in which they are included; a report's file number is the place in here."""


def compiled_file(folder: Path, digest: str) -> Path:
    """Where a build of the C files in a folder is kept; see :mod:`datapath.bytecode`."""
    return folder / "compiled" / f"{digest}.json"


def build(folder: Path = FOLDER) -> Source:
    """Read and inline the program files.

    Raises:
        ProgramLoadError: an included file does not exist.
    """
    seen: dict[Path, int] = {}
    text = "".join(_inline(folder / name, folder, seen) for name in FILES)
    digest = hashlib.blake2b("\0".join((text, *CFLAGS)).encode(), digest_size=8).hexdigest()
    files = tuple(str(path.relative_to(folder)) for path in seen)
    return Source(text=text, cflags=CFLAGS, digest=digest, files=files)


def _inline(path: Path, folder: Path, seen: dict[Path, int]) -> str:
    """The file with our own headers in place of their ``#include`` lines; empty when it was seen before."""
    if path in seen:
        return ""
    seen[path] = len(seen)
    name = path.relative_to(folder)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProgramLoadError(f"BPF source {path} cannot be read: {error.strerror}") from error
    here = f"#undef HAWSE_FILE\n#define HAWSE_FILE {seen[path]}\n"
    out = [f'{here}#line 1 "{name}"']
    for number, line in enumerate(lines, start=1):
        include = _OWN_INCLUDE.fullmatch(line.strip()) if "#include" in line else None
        if include:
            beside = path.parent / include[1]
            inlined = _inline(beside if beside.exists() else folder / include[1], folder, seen)
            out.append(f'{inlined}{here}#line {number + 1} "{name}"')
        elif line == "{":
            # Before every function bcc writes a line of its own.
            out.append(f'{{\n#line {number + 1} "{name}"')
        elif line.strip() != "#pragma once":
            out.append(line)
        else:
            out.append("")
    return "\n".join(out) + "\n"
