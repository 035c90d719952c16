"""The programs for sockets at a control group, each held by a pinned link.

A link keeps its program attached while no agent runs, and unpinning detaches it, wherever it is: whoever removes our
folder of pins removes the programs from the control group too. A newer build takes the place of an older one in one
step.

::

    <maps>/links/service_connect4 ...
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from datapath import bpf_syscalls, pins
from datapath.programs import Programs
from model.errors import DatapathError

FOLDER: Final = "links"


def attach(programs: Programs, folder: Path, cgroup: Path) -> None:
    """Have every program for sockets run for what is in the control group or below it. Idempotent.

    Args:
        programs: the current build.
        folder: where its maps are pinned.
        cgroup: folder of the control group.

    Raises:
        DatapathError: the kernel refused, or the control group does not exist. Some may be attached.
    """
    links = folder / FOLDER
    try:
        with contextlib.ExitStack() as opened:
            links.mkdir(exist_ok=True)
            cgroup_fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, cgroup_fd)
            for name, kind in pins.PROGRAMS.items():
                if not kind.optional:
                    continue
                program_fd = programs.for_sockets.get(name)
                if program_fd is None:
                    raise DatapathError(f"the kernel takes no program {name}")
                _attach_one(links / name, program_fd, cgroup_fd, kind.hook)
    except OSError as error:
        raise DatapathError(f"control group {cgroup}: {error.strerror}") from error


def detach(folder: Path) -> None:
    """Have none of them run any more. Idempotent."""
    pins.remove(folder / FOLDER)


def _attach_one(pin: Path, program_fd: int, cgroup_fd: int, hook: int) -> None:
    with contextlib.ExitStack() as opened:
        if pin.exists():
            link_fd = bpf_syscalls.open_pinned(pin)
            opened.callback(os.close, link_fd)
            info = bpf_syscalls.link_info(link_fd)
            if info.cgroup_id == os.fstat(cgroup_fd).st_ino:
                if info.program_id != bpf_syscalls.program_id(program_fd):
                    bpf_syscalls.update_link(link_fd, program_fd)
                return
        # One at another control group, or at one that is gone, stays until the new one is there.
        new_fd = bpf_syscalls.link_to_cgroup(program_fd, cgroup_fd, hook)
        opened.callback(os.close, new_fd)
        pin.unlink(missing_ok=True)
        bpf_syscalls.pin(new_fd, pin)
