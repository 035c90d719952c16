"""A machine made of namespaces: network, mount, UTS, PID and control groups of its own.

Its first process holds everything: end it, and all processes, mounts and links of the machine are gone, as with a host
that loses power. The control group namespace makes the machine's root group look like a host's root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from tests.support import shell
from tests.support.leftovers import Leftovers, end_process, start_time

_INIT: Final = Path(__file__).with_name("machine_init.py")
_CGROUPS: Final = Path("/sys/fs/cgroup")
# nsenter does not change the control group; a daemon has to be inside the machine's.
_ENTER_CGROUP: Final = """
for procs in /sys/fs/cgroup/init/cgroup.procs /sys/fs/cgroup/*/init/cgroup.procs; do
    if [ -e "$procs" ]; then echo 0 > "$procs"; fi
done
exec "$@"
"""


class Machine:
    """A running machine.

    ``base`` is the folder of the file system its programs see; ``/`` is this host's, anything else is not written to:
    what the machine changes goes to its own data folder.
    """

    def __init__(self, name: str, leftovers: Leftovers, *, base: Path = Path("/")) -> None:
        self.name: Final = name
        self.data: Final = leftovers.data / name
        self._leftovers = leftovers
        self._base = base
        self._group = f"hawse-test-{leftovers.ident}-{name}"
        for target in (_CGROUPS, *_CGROUPS.iterdir()):
            if (target / "cgroup.procs").exists():
                leftovers.add_cgroup(target / self._group)
        self._layers = self.data / "layers"
        self._layers.mkdir(parents=True)
        self.root = Path("/") if base == Path("/") else self._layers / "root"
        self._boot()

    def _boot(self) -> None:
        says_ready, ready = os.pipe()
        words = ("outside", self._group, str(self._base), str(self._layers), str(ready))
        with (self.data / "init.log").open("w") as log:
            self._init = subprocess.Popen(
                ["/usr/bin/python3", "-I", str(_INIT), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready],
                start_new_session=True,
            )
        self._leftovers.add_child(self._init)
        os.close(ready)
        with os.fdopen(says_ready) as pipe:
            answer = pipe.readline()
        if not answer:
            raise RuntimeError(f"machine {self.name} did not start: {(self.data / 'init.log').read_text()}")
        self.pid = int(answer.split()[0])
        self._inside = answer.split()[1]
        self._started = start_time(self.pid)
        self._leftovers.add_process(self.pid)

    def argv(self, *argv: str, own_root: bool = False) -> list[str]:
        """Make the command line that runs ``argv`` in this machine, as seen from this host."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--uts", "--pid", "--cgroup"]
        if own_root and self.root != Path("/"):
            enter += ["nsenter", "--target", self._inside, "--mount"]
        return [*enter, *argv]

    def run(self, *argv: str, stdin: str | None = None, timeout_s: float = 120.0) -> shell.Result:
        """Run a command in this machine to its end, whatever that is."""
        return shell.run(self.argv(*argv), stdin=stdin, timeout_s=timeout_s)

    def must(self, *argv: str, stdin: str | None = None, timeout_s: float = 120.0) -> str:
        """Run a command in this machine that has to work, and return what it printed."""
        return shell.must(self.argv(*argv), stdin=stdin, timeout_s=timeout_s)

    def spawn(self, argv: Sequence[str], *, log: IO[str], own_root: bool = False) -> subprocess.Popen[bytes]:
        """Start a daemon in this machine, inside of its control group; its output goes to ``log``."""
        daemon = subprocess.Popen(
            self.argv("/bin/sh", "-euc", _ENTER_CGROUP, "sh", *argv, own_root=own_root),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._leftovers.add_child(daemon)
        return daemon

    def power_off(self) -> None:
        """End everything in this machine at once, without a word to any of it."""
        end_process(self.pid, self._started)
        self._init.wait(timeout=20)

    def power_on(self) -> None:
        """Start it after :meth:`power_off`, with what is on its disk; it has no cable."""
        self._boot()
