"""SCOPE=auto: asked once, kept, and its change noticed."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from driver.engine import EngineInfo
from driver.protocol import Scope
from driver.scope import AutoScope
from driver.swarm_memory import ASK_TIMEOUT_S, SwarmMemory, SwarmState
from model.errors import EngineUnavailable

ADDRESS = IPv4Address("10.0.0.1")


class FakeEngine:
    """Answers what it is told to; None: does not answer."""

    def __init__(self, *, in_swarm: bool | None) -> None:
        self.in_swarm = in_swarm
        self.timeouts: list[float] = []

    def info(self, timeout_s: float) -> EngineInfo:
        self.timeouts.append(timeout_s)
        if self.in_swarm is None:
            raise EngineUnavailable("it boots")
        return EngineInfo(
            version="28.5.2",
            in_swarm=self.in_swarm,
            swarm_address=ADDRESS if self.in_swarm else None,
            live_restore=False,
        )


def decide(engine: FakeEngine, state_dir: Path) -> AutoScope:
    memory = SwarmMemory(engine, state_dir)
    return AutoScope(memory.at_start(), memory)


@pytest.mark.parametrize(("in_swarm", "scope"), [(True, Scope.GLOBAL), (False, Scope.LOCAL)])
def test_scope_follows_the_engine(tmp_path: Path, *, in_swarm: bool, scope: Scope) -> None:
    engine = FakeEngine(in_swarm=in_swarm)

    assert scope is decide(engine, tmp_path).decided
    assert [ASK_TIMEOUT_S] == engine.timeouts


@pytest.mark.parametrize(
    ("in_swarm", "state"),
    [(True, SwarmState(member=True, address=ADDRESS)), (False, SwarmState(member=False))],
)
def test_the_last_answer_holds_while_the_engine_boots(tmp_path: Path, *, in_swarm: bool, state: SwarmState) -> None:
    SwarmMemory(FakeEngine(in_swarm=in_swarm), tmp_path).at_start()

    assert state == SwarmMemory(FakeEngine(in_swarm=None), tmp_path).at_start()


@pytest.mark.parametrize("kept", [None, b"", b"{", b'{"member": "yes"}', b"\xff\xfe"])
def test_without_any_answer_the_scope_is_local(tmp_path: Path, kept: bytes | None) -> None:
    if kept is not None:
        (tmp_path / "swarm.json").write_bytes(kept)

    assert Scope.LOCAL is decide(FakeEngine(in_swarm=None), tmp_path).decided


def test_an_answer_that_cannot_be_kept_still_counts(tmp_path: Path) -> None:
    assert Scope.GLOBAL is decide(FakeEngine(in_swarm=True), tmp_path / "missing").decided


def test_a_change_is_told_with_the_command_that_applies_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(in_swarm=False)
    scope = decide(engine, tmp_path)

    assert scope.pending_change() is None
    engine.in_swarm = True
    sentences = [scope.pending_change(), scope.pending_change()]

    assert sentences[0] == sentences[1]
    assert "has joined a Swarm" in str(sentences[0])
    assert "docker plugin enable" in str(sentences[0])
    assert 1 == caplog.messages.count("scope does not fit any more")
    assert Scope.GLOBAL is decide(FakeEngine(in_swarm=None), tmp_path).decided, "the next boot applies it"


def test_a_change_that_was_taken_back_is_none(tmp_path: Path) -> None:
    engine = FakeEngine(in_swarm=True)
    scope = decide(engine, tmp_path)
    engine.in_swarm = False
    assert "is not in a Swarm any more" in str(scope.pending_change())

    engine.in_swarm = True

    assert scope.pending_change() is None
