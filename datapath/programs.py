"""The build of the BPF programs that this agent wants: found where it is pinned, or loaded.

The plugin comes with it compiled. Where the source has been changed since, as in a checkout, a child process compiles
it first.
"""

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

from datapath import bpf_syscalls, pins, source
from datapath.bytecode import Bytecode
from datapath.load import load
from datapath.pins import Pins
from model.errors import AbiMismatch, DatapathError, ProgramLoadError

log = logging.getLogger(__name__)

_COMPILE_TIMEOUT_S: Final = 240
"""Some seconds of work, of which a busy host may make minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Open programs of one build."""

    digest: str
    files: tuple[str, ...]
    """Those of the source, by the numbers that reports of the kernel have of them."""
    loaded: bool
    """Whether they were loaded just now; False when they were pinned already."""
    from_container: int
    from_host: int
    from_overlay: int
    from_underlay: int
    to_underlay: int
    from_loopback: int
    sweep_connections: int
    sweep_translations: int
    for_sockets: Mapping[str, int]
    """By name; those that the kernel takes."""

    def close(self) -> None:
        """Release the file descriptors; once."""
        for fd in (
            self.from_container,
            self.from_host,
            self.from_overlay,
            self.from_underlay,
            self.to_underlay,
            self.from_loopback,
            self.sweep_connections,
            self.sweep_translations,
            *self.for_sockets.values(),
        ):
            with contextlib.suppress(OSError):
                os.close(fd)


def open_programs(where: Pins, folder: Path = source.FOLDER) -> Programs:
    """Open the build of the current source; load it first when it is not pinned.

    Raises:
        ProgramLoadError: it does not compile or load.
        AbiMismatch: a map that is pinned has another layout.
    """
    built = source.build(folder)
    digest = built.digest
    pinned = where.programs(digest)
    required = [name for name, kind in pins.PROGRAMS.items() if not kind.optional]
    missing = not all((pinned / name).exists() for name in required)
    if missing:
        started = time.monotonic()
        load(where, _compiled(folder, digest))
        log.info("BPF programs loaded", extra={"seconds": round(time.monotonic() - started, 3)})
    try:
        fds = {name: bpf_syscalls.open_pinned(pinned / name) for name in required}
        for_sockets = {
            name: bpf_syscalls.open_pinned(pinned / name)
            for name, kind in pins.PROGRAMS.items()
            if kind.optional and (pinned / name).exists()
        }
        return Programs(digest=digest, files=built.files, loaded=missing, for_sockets=for_sockets, **fds)
    except OSError as error:
        raise DatapathError(str(error.strerror)) from error


def _compiled(folder: Path, digest: str) -> Bytecode:
    """The compiled programs; a child process makes them where they are not."""
    file = source.compiled_file(folder, digest)
    if not file.exists():
        _compile(folder)
    return Bytecode.read(file)


def _compile(folder: Path) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "datapath.compile", "--source", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 our own module
            command,
            cwd=Path(__file__).parent.parent,  # where the package is, whatever the agent's folder
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramLoadError(f"BPF programs were not compiled in {_COMPILE_TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        first_error = next((f" ({line.strip()})" for line in lines if "error:" in line), "")
        reason = lines[-1] + first_error
        if done.returncode == source.EXIT_ABI_MISMATCH:
            raise AbiMismatch(reason)
        raise ProgramLoadError(reason, log=done.stderr)
    log.info("BPF programs compiled", extra={"seconds": round(time.monotonic() - started, 3)})
