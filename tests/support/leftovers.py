"""What a test run creates outside of its own processes, written down before it is created.

Each run has a folder below ``/run/hawse-test``; each thing is one small file in it. A run removes its own things when
it ends. When it was killed, the next run finds a folder whose owner is gone and removes what is written there: by
process id and start time, by path, never by a name that somebody else may use. Another run that is still alive is left
alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any, Final

from tests.support import wait

STATE: Final = Path("/run/hawse-test")
DATA: Final = Path("/var/lib/hawse-test")


def start_time(pid: int) -> int | None:
    """When a process started (clock ticks since boot), or None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


class Leftovers:
    """The things of one run."""

    def __init__(self) -> None:
        self.ident: Final = uuid.uuid4().hex[:8]
        self.folder: Final = STATE / self.ident
        self.data: Final = DATA / self.ident
        self._children: list[subprocess.Popen[bytes]] = []
        self.folder.mkdir(parents=True)
        self._write("owner", {"pid": os.getpid(), "start": start_time(os.getpid())})
        self.add_folder(self.data)
        self.data.mkdir(parents=True)

    def add_process(self, pid: int) -> None:
        """A process to end with SIGKILL; one that is a PID namespace's first takes all others in it along."""
        self._write(f"process-{pid}", {"pid": pid, "start": start_time(pid)})

    def add_child(self, child: subprocess.Popen[bytes]) -> None:
        """A process that this one has started; also reaped in the end."""
        self.add_process(child.pid)
        self._children.append(child)

    def add_cgroup(self, path: Path) -> None:
        """A control group to remove, with those below it, once the processes are gone."""
        self._write(f"cgroup-{uuid.uuid4().hex}", {"path": str(path)})

    def add_folder(self, path: Path) -> None:
        """A folder to remove with all that is in it."""
        self._write(f"folder-{uuid.uuid4().hex}", {"path": str(path)})

    def remove(self) -> None:
        """Remove everything that was written down."""
        _remove(self.folder)
        for child in self._children:
            child.wait(timeout=20)

    def _write(self, name: str, value: dict[str, object]) -> None:
        (self.folder / name).write_text(json.dumps(value))


def remove_of_dead_runs() -> list[str]:
    """Remove what runs left that were killed; returns their ids."""
    removed = []
    for folder in sorted(STATE.glob("*")):
        owner = _read(folder / "owner") if (folder / "owner").exists() else None
        if owner is not None and start_time(owner["pid"]) == owner["start"]:
            continue
        _remove(folder)
        removed.append(folder.name)
    return removed


def _remove(folder: Path) -> None:
    for path in sorted(folder.glob("process-*")):
        process = _read(path)
        end_process(process["pid"], process["start"])
    for path in sorted(folder.glob("cgroup-*")):
        _remove_cgroup(Path(_read(path)["path"]))
    for path in sorted(folder.glob("folder-*")):
        # No mount can be below it any more: all were made in mount namespaces that went with their processes.
        shutil.rmtree(_read(path)["path"], ignore_errors=True)
    shutil.rmtree(folder)


def end_process(pid: int, started: int | None) -> None:
    """Kill a process if it is still the one that was started then, and wait until it is gone."""
    if started is None or start_time(pid) != started:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait.until(f"process {pid} ends", lambda: start_time(pid) != started, timeout_s=20)


def _remove_cgroup(path: Path) -> None:
    if not path.exists():
        return
    for child in sorted((p for p in path.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
        _remove_group(child)
    _remove_group(path)


def _remove_group(path: Path) -> None:
    def gone() -> bool:
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # its last process is still being reaped
        return True

    wait.until(f"control group {path} is empty", gone, timeout_s=10)


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value
