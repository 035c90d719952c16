"""Network namespaces and BPF file systems, all with one prefix, removed even after a crash."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PREFIX: Final = "hwk"
_NETNS: Final = Path("/run/netns")
_MOUNTS: Final = Path("/run/hwk")
_CLONE_NEWNET: Final = 0x40000000


def run(*command: str, check: bool = True, timeout_s: float = 60) -> str:
    """Run a command; its output. A failure shows the output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def remove_leftovers() -> None:
    """Remove what test runs that were killed have left: namespaces, mounts. Those of a run that goes on stay."""
    for path in _NETNS.glob(f"{PREFIX}-*") if _NETNS.exists() else ():
        if _is_of_a_dead_run(path.name):
            run("ip", "netns", "del", path.name, check=False)
    for path in _MOUNTS.glob(f"{PREFIX}-*") if _MOUNTS.exists() else ():
        if _is_of_a_dead_run(path.name):
            run("umount", str(path), check=False)
            path.rmdir()


def _own_name(label: str) -> str:
    """``hwk-<process id>-<label>-<random>``: says whose it is."""
    return f"{PREFIX}-{os.getpid()}-{label}-{uuid.uuid4().hex[:6]}"


def _is_of_a_dead_run(name: str) -> bool:
    process = name.split("-")[1]
    return process.isdigit() and not Path("/proc", process).exists()


@contextlib.contextmanager
def bpf_file_system() -> Iterator[Path]:
    """A BPF file system of our own."""
    folder = _MOUNTS / _own_name("bpf")
    folder.mkdir(parents=True)
    run("mount", "-t", "bpf", "bpf", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))
        folder.rmdir()


def _setns(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """This thread is in the network namespace for the length of the block; sockets opened there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(namespace, os.O_RDONLY)
    try:
        _setns(there)
        yield
    finally:
        _setns(home)
        os.close(there)
        os.close(home)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace."""

    name: str

    def ip(self, *arguments: str, check: bool = True) -> str:
        """``ip`` inside."""
        return run("ip", "-n", self.name, *arguments, check=check)

    def run(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        """A command inside."""
        return run("ip", "netns", "exec", self.name, *command, check=check, timeout_s=timeout_s)

    def popen(self, *command: str) -> subprocess.Popen[str]:
        """A command inside, in the background; the caller ends it."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside for the length of the block; sockets opened there stay there."""
        with inside(_NETNS / self.name):
            yield


@dataclass(slots=True)
class Namespaces:
    """Makes namespaces and removes them all in the end."""

    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def make(self, label: str) -> Namespace:
        """A fresh namespace with loopback up."""
        namespace = Namespace(_own_name(label))
        run("ip", "netns", "add", namespace.name)
        self._stack.callback(run, "ip", "netns", "del", namespace.name, check=False)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def close(self) -> None:
        """Remove them."""
        self._stack.close()
