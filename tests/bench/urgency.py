"""Measured programs that run before everything else on this machine: for one on which others work meanwhile.

A nice value does not do it: it counts within a control group, and each container has one. So their shells are moved to
a group of their own with the largest share of the processors. Only the hierarchy of the processors is touched, which is
why it takes control groups of version 1: in version 2 a program that leaves its container's group also leaves the
socket programs that are attached there, and these are part of what is measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.support.leftovers import Leftovers

_GROUPS: Final = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"))
_SHARES: Final = 262_144
_MARK: Final = "HAWSE_BENCH_PLACE"


class NotPossible(RuntimeError):
    """This machine has no control groups of version 1 for its processors."""


class Urgency:
    """A control group for what is measured.

    Raises:
        NotPossible: it cannot be made here.
    """

    def __init__(self, leftovers: Leftovers) -> None:
        above = next((group for group in _GROUPS if (group / "cpu.shares").exists()), None)
        if above is None:
            raise NotPossible("no control groups of version 1 for the processors")
        self._group = above / f"hawse-test-{leftovers.ident}-urgent"
        leftovers.add_cgroup(self._group)
        self._group.mkdir()
        (self._group / "cpu.shares").write_text(str(_SHARES))

    def take(self, name: str) -> None:
        """Move the shell that was started with :func:`mark` of this name, and so all that it starts from now on."""
        wanted = os.fsencode("=".join(mark(name)))
        for process in Path("/proc").glob("[0-9]*"):
            try:
                marked = wanted in (process / "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
            if marked:
                (self._group / "cgroup.procs").write_text(process.name)


def mark(name: str) -> tuple[str, str]:
    """Name and value of the variable by which a shell is found, whatever namespaces it is in."""
    return _MARK, f"{os.getpid()}-{name}"
