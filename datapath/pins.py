"""Where programs and maps are pinned, so that they outlive the agent.

::

    <root>                              /sys/fs/bpf/hawse
    └── v1                              HAWSE_ABI_VERSION: maps of another layout live in another folder
        ├── hawse_endpoints ...         the maps
        ├── links                       what holds the programs at the control group above all containers
        └── programs-<digest>           one build; the folder appears complete or not at all
            ├── from_container ...      for interfaces; two that the agent itself runs
            ├── hawse_stages            what they go on with
            └── service_connect4 ...    for the control group above all containers

Two ``programs-*`` folders mean that a switch from one build to the next was not finished.
"""

from __future__ import annotations

import enum
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from datapath import file_systems
from datapath.abi import ABI_VERSION
from model.errors import DatapathError


class ProgramKind(enum.Enum):
    """What a program is loaded for: its type and, where one type has several, its hook.

    Numbers: ``enum bpf_prog_type`` and ``enum bpf_attach_type`` of linux/bpf.h.
    """

    INTERFACE = (3, -1)
    CONNECT4 = (18, 10)
    SENDMSG4 = (18, 14)
    RECVMSG4 = (18, 19)
    GETPEERNAME4 = (18, 29)

    def __init__(self, program_type: int, hook: int) -> None:
        self.program_type = program_type
        self.hook = hook

    @property
    def optional(self) -> bool:
        """Whether a kernel that has nothing of the kind will do."""
        return self is not ProgramKind.INTERFACE


PROGRAMS: Final[Mapping[str, ProgramKind]] = MappingProxyType({
    "from_container": ProgramKind.INTERFACE,
    "from_host": ProgramKind.INTERFACE,
    "from_overlay": ProgramKind.INTERFACE,
    "from_underlay": ProgramKind.INTERFACE,
    "to_underlay": ProgramKind.INTERFACE,
    "from_loopback": ProgramKind.INTERFACE,
    "sweep_connections": ProgramKind.INTERFACE,
    "sweep_translations": ProgramKind.INTERFACE,
    "service_connect4": ProgramKind.CONNECT4,
    "service_sendmsg4": ProgramKind.SENDMSG4,
    "service_recvmsg4": ProgramKind.RECVMSG4,
    "service_getpeername4": ProgramKind.GETPEERNAME4,
})  # fmt: skip
STAGES: Final = (
    "refuse_packet",
    "to_service",
    "to_asker",
    "to_published",
    "to_outside",
    "judge_container",
    "judge_overlay",
    "judge_unpacked",
)
"""Programs that others go on with, in the order of ``enum stage``; nothing runs them otherwise."""
STAGE_ARRAY: Final = "hawse_stages"
"""The array of the stages, pinned with the programs of its build: it is emptied when nobody has it open."""
EVENTS: Final = "hawse_events"
"""The ring of reports."""
OF_ONE_BUILD: Final = frozenset({STAGE_ARRAY, "hawse_handover"})
"""Maps that each build has for itself; all others outlive it."""
DEFAULT_ROOT: Final = Path("/sys/fs/bpf/hawse")

_VERSION: Final = re.compile(r"v\d+")


@dataclass(frozen=True, slots=True)
class Pins:
    """Paths below one root; making one changes nothing."""

    root: Path = DEFAULT_ROOT

    @property
    def maps(self) -> Path:
        """Folder of the maps of this ABI version."""
        return self.root / f"v{ABI_VERSION}"

    def programs(self, digest: str) -> Path:
        """Folder of one build."""
        return self.maps / f"programs-{digest}"

    def other_programs(self, digest: str) -> Sequence[Path]:
        """Folders of every other build, finished or not."""
        return [path for path in self.maps.glob("programs-*") if path != self.programs(digest)]

    def other_versions(self) -> Sequence[Path]:
        """Folders of every other ABI version."""
        return [path for path in self.root.glob("v*") if _VERSION.fullmatch(path.name) and path != self.maps]


def require_bpf_file_system(root: Path) -> None:
    """Check that things can be pinned there.

    Raises:
        DatapathError: with the command that helps.
    """
    if not is_bpf_file_system(root):
        mount_point = root.parent
        raise DatapathError(
            f"{mount_point} is not a BPF file system; as root on the host: mount -t bpf bpf {mount_point} "
            "(and enable the plugin again)"
        )


def is_bpf_file_system(root: Path) -> bool:
    """Is the nearest existing folder at or above ``root`` in a BPF file system?"""
    existing = next(path for path in (root, *root.parents) if path.exists())
    return file_systems.magic(existing) == file_systems.BPF


def remove(folder: Path) -> None:
    """Unpin everything below a folder; what is attached or open lives on. A missing folder is no error."""
    shutil.rmtree(folder, ignore_errors=not folder.exists())
