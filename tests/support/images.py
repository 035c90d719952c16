"""The one image of the tests: busybox, real ping, iperf3, sockperf, curl, own programs; imported without a registry."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Final

from tests.support.engine import Engine
from tests.support.shell import must

IMAGE: Final = "hawse-test:latest"
# By full path in a shell: busybox's takes its own applet for a bare name, even for one that it is not linked to.
_PROGRAMS: Final = ("/usr/bin/ping", "/usr/bin/iperf3", "/usr/bin/sockperf", "/usr/bin/curl")
_SOURCES: Final = tuple(
    Path(__file__).with_name(name) for name in ("peer.c", "probe.c", "service_load.c", "speed.c", "traffic.c")
)
NO_SLEEP: Final = "/lib/no_sleep.so"
"""Preloaded into sockperf, spares two seconds in which it does nothing."""
CUBIC: Final = "/lib/cubic.so"
"""Preloaded into programs whose TCP is measured, gives their sockets CUBIC, whatever the host is set to."""
_COMPILE: Final = ("clang", "-O2", "-Wall", "-Wextra", "-Werror")
# A process 1 without handler ignores SIGTERM, and «docker stop» would take its ten seconds.
_IDLE: Final = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; sleep 2147483 & wait"]


def build(folder: Path) -> Path:
    """Write the image's archive into ``folder`` and return its path."""
    archive = folder / "image.tar"
    if archive.exists():
        return archive
    root = folder / "image"
    for name in ("bin", "etc", "tmp", "www", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(_program("busybox"), root / "bin/busybox")
    for applet in must([str(root / "bin/busybox"), "--list"]).split():
        if applet not in ("busybox", "ping", "ping6"):
            (root / "bin" / applet).symlink_to("busybox")
    for program in _PROGRAMS:
        shutil.copy(program, root / "bin")
        for library in _libraries(program):
            target = root / library.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    for source in _SOURCES:
        program = str(root / "bin" / source.stem)
        must([*_COMPILE, "-static", "-o", program, str(source)])
    for name in (NO_SLEEP, CUBIC):
        preload(root, name)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".")
    return archive


def preload(root: Path, name: str) -> Path:
    """Compile what is preloaded under this name to where it is below a root folder; its path."""
    library = root / name.removeprefix("/")
    library.parent.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name(f"{library.stem}.c")
    must([*_COMPILE, "-shared", "-fPIC", "-o", str(library), str(source)])
    return library


def probe(folder: Path) -> Path:
    """Where :func:`build` leaves the program of the policy tests, which also runs outside of containers."""
    return folder / "image/bin/probe"


def load(engine: Engine, archive: Path) -> None:
    """Make the image known to an engine."""
    engine("import", "--change", f"CMD {json.dumps(_IDLE)}", str(archive), IMAGE)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; scripts/install_requirements.sh --test does that")
    return found


def _libraries(program: str) -> list[Path]:
    found = []
    for line in must(["ldd", program]).splitlines():
        words = line.split()
        path = next((w for w in words if w.startswith("/")), None)
        if path is not None:
            found.append(Path(path))
    return found
