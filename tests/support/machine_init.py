"""First process of a machine: sets up its namespaces, says that it is ready, then only waits (and reaps).

Run twice: first outside, to enter the machine's own control groups and to make the namespaces with ``unshare``; then
inside, as process 1. Standard library only, and no import of hawse: it runs with the distribution's Python.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def hierarchies() -> list[tuple[str, str, str]]:
    """Mount point, file system type and options of every control group hierarchy of this host."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and Path(target).is_relative_to(CGROUPS):
            found.append((target, kind, options))
    return found


def enter_cgroup(name: str) -> None:
    """Make the control group ``name`` below this process's root in every hierarchy, and move this process into it."""
    for target, _, options in hierarchies():
        group = Path(target) / name
        group.mkdir(exist_ok=True)
        if "cpuset" in options.split(","):
            # A new cpuset is empty, and then takes no process.
            for field in ("cpuset.cpus", "cpuset.mems"):
                (group / field).write_text((group.parent / field).read_text())
        (group / "cgroup.procs").write_text("0")


def mount(*args: str) -> None:
    subprocess.run(["mount", *args], check=True)


def mount_everything(root: Path, layers: Path) -> None:
    """Give the machine its own /proc, /sys, control groups, bpffs and /run; with ``root``, a file system of its own."""
    groups = hierarchies()
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "sysfs", "sysfs", "/sys")
    if any(target != str(CGROUPS) for target, _, _ in groups):
        mount("-t", "tmpfs", "-o", "mode=755", "cgroup", str(CGROUPS))
    for target, kind, options in groups:
        Path(target).mkdir(exist_ok=True)
        keep = [o for o in options.split(",") if o not in ("rw", "relatime", "nosuid", "nodev", "noexec")]
        if kind == "cgroup":
            mount("-t", kind, "-o", ",".join(["none"] * any(o.startswith("name=") for o in keep) + keep), kind, target)
        else:
            mount("-t", kind, kind, target)
    mount("-t", "bpf", "bpf", "/sys/fs/bpf")
    mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    # Where an operator puts certificates; each machine has its own.
    mount("-t", "tmpfs", "-o", "mode=755", "opt", "/etc/opt")
    for folder in ("/run/docker/plugins", "/run/netns", "/run/lock", "/run/hawse"):
        Path(folder).mkdir(parents=True)
    # Nothing listens there, so a question that would leave the machine is refused at once.
    Path("/run/resolv.conf").write_text("nameserver 10.77.0.254\n")
    mount("--bind", "/run/resolv.conf", str(Path("/etc/resolv.conf").resolve()))
    if root == Path("/"):
        # dockerd keeps an identity there.
        mount("-t", "tmpfs", "docker", "/etc/docker")
    mount("--make-rshared", "/")
    if root != Path("/"):
        # pivot_root, with which a container gets its root, wants what is above the current root not shared.
        mount("--make-private", "/")
        mount_root(root, layers)


def mount_root(base: Path, layers: Path) -> None:
    """Put ``base`` below ``layers``/root with what is written kept apart, and the machine's mounts in it."""
    upper, work, merged = (layers / name for name in ("upper", "work", "root"))
    for folder in (upper, work, merged):
        folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={work}", "overlay", str(merged))
    mount("--make-shared", str(merged))
    (merged / "etc/resolv.conf").touch()
    for path in ("/proc", "/sys", "/dev", "/run", "/etc/opt", "/etc/resolv.conf"):
        mount("--rbind", path, str(merged / path[1:]))
    data = layers.parent.parent
    (merged / data.relative_to("/")).mkdir(parents=True, exist_ok=True)
    mount("--bind", str(data), str(merged / data.relative_to("/")))


def start_in_own_root(merged: Path) -> int:
    """Start a process in a mount namespace whose root is ``merged``; returns its number in the machine.

    A chroot is not enough for an engine: what enters the namespace of one of its containers starts at that
    namespace's root, and with pivot_root inside of a chroot that would still be the machine's.
    """
    says_ready, ready = os.pipe()
    os.set_inheritable(ready, True)  # noqa: FBT003
    holder = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--propagation",
            "unchanged",
            sys.executable,
            "-I",
            __file__,
            "pivot",
            str(merged),
            str(ready),
        ],
        pass_fds=[ready],
    )
    os.close(ready)
    with os.fdopen(says_ready) as pipe:
        if not pipe.readline():
            raise RuntimeError(f"no machine root in {merged}")
    return holder.pid


def pivot(merged: Path, ready: int) -> None:
    """Make ``merged`` the root of this mount namespace, forget the old one, and hold the namespace."""
    # pivot_root refuses to put the old root onto a shared mount.
    mount("--make-private", str(merged))
    os.chdir(merged)
    subprocess.run(["pivot_root", ".", "mnt"], check=True)
    os.chdir("/")
    # Private first: nothing may vanish from the machine's namespace, whose mounts are peers of these.
    mount("--make-rprivate", "/mnt")
    subprocess.run(["umount", "--lazy", "/mnt"], check=True)
    mount("--make-shared", "/")
    os.write(ready, b"ready\n")
    os.close(ready)
    os.execvp("sleep", ["sleep", "infinity"])


def main() -> None:
    if sys.argv[1] == "pivot":
        pivot(Path(sys.argv[2]), int(sys.argv[3]))
    stage, name, root, layers, ready_fd = sys.argv[1:]
    ready = int(ready_fd)
    if stage == "outside":
        enter_cgroup(name)
        os.set_inheritable(ready, True)  # noqa: FBT003
        namespaces = ["--net", "--mount", "--uts", "--pid", "--cgroup", "--fork", "--kill-child"]
        os.execvp(
            "unshare",
            ["unshare", *namespaces, sys.executable, "-I", __file__, "inside", *sys.argv[2:]],
        )
    host_pid = Path("/proc/self").readlink()
    subprocess.run(["hostname", name.rpartition("-")[2]], check=True)
    mount_everything(Path(root), Path(layers))
    enter_cgroup("init")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    inside = 1 if root == "/" else start_in_own_root(Path(layers) / "root")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(ready, f"{host_pid} {inside}\n".encode())
    os.close(ready)
    os.execvp("sleep", ["sleep", "infinity"])


if __name__ == "__main__":
    main()
