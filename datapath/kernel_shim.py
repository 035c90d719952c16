"""A stand-in for the kernel's headers, so that bcc compiles without those of the running kernel.

Our programs use only what user space sees too (``linux-libc-dev``). bcc, made for tracing, insists on some names of the
kernel's own tree: they are empty files, or links to the headers of the C library, in a folder that lives as long as the
compiler runs.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from model.errors import ProgramLoadError

_INCLUDE: Final = Path("/usr/include")

_KCONFIG: Final = """\
#pragma once
#define CONFIG_BPF_SYSCALL 1
#include <asm/types.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
enum { false, true };
typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;
#define offsetof(type, member) __builtin_offsetof(type, member)
"""


@contextlib.contextmanager
def kernel_shim() -> Iterator[Path]:
    """Make the folder; its path is for ``BCC_KERNEL_SOURCE``.

    Raises:
        ProgramLoadError: the headers of the C library are not installed.
    """
    machine = _INCLUDE / f"{platform.machine()}-linux-gnu" / "asm"
    for needed in (_INCLUDE / "linux" / "types.h", machine / "types.h"):
        if not needed.exists():
            raise ProgramLoadError(f"{needed} is missing: install linux-libc-dev")
    with tempfile.TemporaryDirectory(prefix="hawse-headers-") as name:
        include = Path(name) / "include"
        own = {
            include / "linux" / "kconfig.h": _KCONFIG,
            include / "linux" / "log2.h": "",
            include / "asm" / "page.h": "",
            # bcc has brought its own bpf.h by then; a second one would contradict it.
            include / "linux" / "bpf.h": "",
            include / "uapi" / "linux" / "bpf.h": "",
        }
        for path, text in own.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        _link_all(_INCLUDE / "linux", include / "linux")
        _link_all(_INCLUDE / "linux", include / "uapi" / "linux")
        _link_all(machine, include / "asm")
        (include / "asm-generic").symlink_to(_INCLUDE / "asm-generic")
        yield Path(name)


def _link_all(source: Path, target: Path) -> None:
    for path in source.iterdir():
        link = target / path.name
        if not link.exists():
            link.symlink_to(path)
