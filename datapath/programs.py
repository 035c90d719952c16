"""The build of the BPF programs that this agent wants: found where it is pinned, or made by the child process."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datapath import bpf_syscalls, load, pins, source
from datapath.pins import Pins
from model.errors import AbiMismatch, DatapathError, ProgramLoadError

log = logging.getLogger(__name__)

_LOAD_TIMEOUT_S: Final = 240
"""Some seconds of work, of which a host that is busy at its start may make minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Open programs of one build."""

    digest: str
    compiled: bool
    """Whether they were compiled just now; False when they were pinned already."""
    from_container: int
    from_host: int
    from_overlay: int
    from_underlay: int
    from_loopback: int
    for_sockets: Mapping[str, int]
    """By name; those that the kernel takes."""

    def close(self) -> None:
        """Release the file descriptors; once."""
        for fd in (
            self.from_container,
            self.from_host,
            self.from_overlay,
            self.from_underlay,
            self.from_loopback,
            *self.for_sockets.values(),
        ):
            with contextlib.suppress(OSError):
                os.close(fd)


def open_programs(where: Pins, folder: Path = source.FOLDER) -> Programs:
    """Open the build of the current source; compile it first when it is not pinned.

    Raises:
        ProgramLoadError: it does not compile or load.
        AbiMismatch: a map that is pinned has another layout.
    """
    digest = source.build(where, folder).digest
    pinned = where.programs(digest)
    required = [name for name, kind in pins.PROGRAMS.items() if not kind.optional]
    missing = not all((pinned / name).exists() for name in required)
    if missing:
        _load(where, folder)
    try:
        fds = {name: bpf_syscalls.open_pinned(pinned / name) for name in required}
        for_sockets = {
            name: bpf_syscalls.open_pinned(pinned / name)
            for name, kind in pins.PROGRAMS.items()
            if kind.optional and (pinned / name).exists()
        }
        return Programs(digest=digest, compiled=missing, for_sockets=for_sockets, **fds)
    except OSError as error:
        raise DatapathError(str(error.strerror)) from error


def _load(where: Pins, folder: Path) -> None:
    """Run the child process; it compiles and pins."""
    started = time.monotonic()
    command = [sys.executable, "-m", "datapath.load", "--root", str(where.root), "--source", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 our own module
            command,
            cwd=Path(__file__).parent.parent,  # where the package is, whatever the agent's folder
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramLoadError(f"BPF programs were not compiled and loaded in {_LOAD_TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        first_error = next((f" ({line.strip()})" for line in lines if "error:" in line), "")
        reason = lines[-1] + first_error
        if done.returncode == load.EXIT_ABI_MISMATCH:
            raise AbiMismatch(reason)
        raise ProgramLoadError(reason, log=done.stderr)
    log.info("BPF programs compiled", extra={"seconds": round(time.monotonic() - started, 3)})
