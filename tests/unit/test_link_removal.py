"""Interfaces go without anybody waiting, and nobody finds one that is going."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from datapath.link_removal import LinkRemoval
from model.errors import LinkError

WAIT_S = 5.0


class Kernel:
    """Removes when it is told to go on."""

    def __init__(self) -> None:
        self.removed: list[str] = []
        self.go_on = threading.Event()
        self.errors: list[Exception] = []

    def remove(self, ifname: str) -> None:
        assert self.go_on.wait(WAIT_S)
        if self.errors:
            raise self.errors.pop()
        self.removed.append(ifname)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def removal(kernel: Kernel) -> Iterator[LinkRemoval]:
    made = LinkRemoval(kernel.remove)
    yield made
    kernel.go_on.set()
    made.close()


def test_nobody_waits_until_it_is_settled(kernel: Kernel, removal: LinkRemoval) -> None:
    removal.begin("hw1")
    removal.begin("hw2")
    assert {"hw1", "hw2"} == removal.pending()
    removal.settle("hw3")

    kernel.go_on.set()
    removal.settle("hw2")

    assert ["hw1", "hw2"] == kernel.removed
    assert frozenset() == removal.pending()


@pytest.mark.parametrize("error", [LinkError("no"), ValueError("no")])
def test_one_that_fails_keeps_no_other(kernel: Kernel, removal: LinkRemoval, error: Exception) -> None:
    kernel.errors.append(error)
    kernel.go_on.set()
    removal.begin("hw1")
    removal.begin("hw2")

    removal.settle("hw1")
    removal.settle("hw2")

    assert ["hw2"] == kernel.removed


def test_closing_removes_the_rest_and_one_can_begin_again(kernel: Kernel, removal: LinkRemoval) -> None:
    kernel.go_on.set()
    removal.begin("hw1")
    removal.close()
    removal.close()
    assert ["hw1"] == kernel.removed

    removal.begin("hw2")
    removal.settle("hw2")

    assert ["hw1", "hw2"] == kernel.removed


def test_one_that_takes_too_long_is_an_error(removal: LinkRemoval, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datapath.link_removal._PATIENCE_S", 0.01)
    removal.begin("hw1")

    with pytest.raises(LinkError, match="hw1 is still being removed"):
        removal.settle("hw1")
