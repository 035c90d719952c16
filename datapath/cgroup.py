"""Where the control group is that programs for sockets are attached to: the root of cgroup v2, above all containers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from datapath.file_systems import CGROUP2, magic

CANDIDATES: Final = tuple(
    Path(folder)
    for folder in (
        "/host/sys/fs/cgroup",
        "/host/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
    )
)
"""As the plugin sees the host's, and as a host sees its own; ``unified`` where version 1 is in use too."""


def find_cgroup(folders: Iterable[Path] = CANDIDATES) -> Path | None:
    """The first folder that is in a cgroup v2 file system."""
    return next((folder for folder in folders if is_cgroup(folder)), None)


def is_cgroup(folder: Path) -> bool:
    """Whether the folder is a control group of version 2."""
    return folder.is_dir() and magic(folder) == CGROUP2
