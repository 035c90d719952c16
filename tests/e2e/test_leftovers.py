"""A run that was killed leaves machines behind; the next run removes them, and nothing that is not theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.leftovers import DATA, STATE, Leftovers, remove_of_dead_runs, start_time
from tests.support.machine import Machine

_ROOT: Final = Path(__file__).parents[2]
_RUN: Final = """
import sys, time
from tests.support.leftovers import Leftovers
from tests.support.machine import Machine
leftovers = Leftovers()
machine = Machine("lost", leftovers)
machine.spawn(["sleep", "infinity"], log=open("/dev/null", "a"))
print(leftovers.ident, machine.pid, flush=True)
time.sleep(3600)
"""


def test_what_a_killed_run_left_is_removed_and_a_living_run_is_not() -> None:
    living = Leftovers()
    machine = Machine("alive", living)
    killed = subprocess.Popen([sys.executable, "-c", _RUN], cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    with killed, killed.stdout:
        ident, pid = killed.stdout.readline().split()
        killed.kill()
    assert start_time(int(pid)) is not None

    removed = remove_of_dead_runs()

    assert ident in removed
    assert living.ident not in removed
    assert start_time(int(pid)) is None
    assert not (STATE / ident).exists()
    assert not (DATA / ident).exists()
    assert list(Path("/sys/fs/cgroup").glob(f"**/hawse-test-{ident}-*")) == []
    assert machine.run("true").rc == 0

    living.remove()

    assert start_time(machine.pid) is None
    assert not (STATE / living.ident).exists()


def test_a_process_that_took_over_a_number_is_left_alone() -> None:
    leftovers = Leftovers()
    bystander = subprocess.Popen(["sleep", "infinity"])
    leftovers.add_process(bystander.pid)
    record = leftovers.folder / f"process-{bystander.pid}"
    record.write_text(record.read_text().replace(str(start_time(bystander.pid)), "1"))

    leftovers.remove()

    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
