"""Which file system something is in, told by the number that ``statfs`` gives it.

Source: linux/magic.h.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from model.errors import DatapathError

BPF: Final = 0xCAFE4A11
CGROUP2: Final = 0x63677270


def magic(path: Path) -> int:
    """The number of the file system that a file or folder is in.

    Raises:
        DatapathError: it cannot be read.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    answer = (ctypes.c_long * 64)()  # struct statfs begins with the number
    if libc.statfs(os.fsencode(path), answer) != 0:
        errno = ctypes.get_errno()
        raise DatapathError(f"statfs {path}: {os.strerror(errno)}")
    return answer[0] & 0xFFFFFFFF
