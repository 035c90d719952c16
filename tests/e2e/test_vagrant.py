"""The virtual machines for those who want some: their description is valid, their provisioning is what tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.shell import must

_ROOT: Final = Path(__file__).parents[2]


def test_vagrantfile_is_valid_and_describes_three_machines(tmp_path: Path) -> None:
    settings = (f"VAGRANT_CWD={_ROOT / 'vagrant'}", f"VAGRANT_HOME={tmp_path}", "VAGRANT_CHECKPOINT_DISABLE=1")

    # Without a hypervisor only what is special to one cannot be checked.
    said = must(["env", *settings, "vagrant", "validate", "--ignore-provider"])

    assert "Vagrantfile validated successfully" in said
    assert [f"n{number}:" in said for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_provisioning_a_machine_that_has_everything_is_done_at_once() -> None:
    said = must(["env", f"HAWSE_CHECKOUT={_ROOT}", str(_ROOT / "vagrant/provision.sh")])

    assert "install" not in said.lower(), said
