"""A manager's lists over its socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.engine import Engine
from driver.swarm_engine import SwarmEngine
from model.errors import EngineUnavailable
from tests.support import swarm_objects
from tests.support.fake_dockerd import FakeDockerd, FakeSwarm, serving


@pytest.fixture
def swarm() -> FakeSwarm:
    return FakeSwarm(
        services=[swarm_objects.service("web")],
        tasks=[swarm_objects.task("web", 1, "10.1.0.5/24"), swarm_objects.task("web", 2, desired="shutdown")],
        nodes=[swarm_objects.node("s1", "192.0.2.1")],
    )


@pytest.fixture
def dockerd(swarm: FakeSwarm) -> FakeDockerd:
    made = FakeDockerd()
    made.swarm = swarm
    return made


@pytest.fixture
def socket(dockerd: FakeDockerd, tmp_path: Path) -> Iterator[Path]:
    with serving(dockerd, tmp_path / "docker.sock") as path:
        yield path


def test_services_nodes_and_tasks_that_are_meant_to_run_are_listed(socket: Path) -> None:
    engine = SwarmEngine(socket)

    assert ["web"] == [one.name for one in engine.swarm_services().entries]
    assert [(1, "running")] == [(one.slot, one.state) for one in engine.swarm_tasks().entries]
    assert [("s1", "ready")] == [(one.hostname, one.state) for one in engine.swarm_nodes().entries]


def test_an_entry_that_has_not_changed_is_not_read_again(socket: Path, swarm: FakeSwarm) -> None:
    engine = SwarmEngine(socket)
    before = engine.swarm_tasks().entries

    assert before[0] is engine.swarm_tasks().entries[0]
    swarm.tasks[0]["Status"]["State"] = "failed"
    assert ["failed"] == [one.state for one in engine.swarm_tasks().entries]


def test_a_worker_is_asked_in_vain(socket: Path, swarm: FakeSwarm) -> None:
    assert Engine(socket).info(5).swarm_manager
    swarm.manager = False

    with pytest.raises(EngineUnavailable, match=r"503: .*not a swarm manager"):
        SwarmEngine(socket).swarm_tasks()
    assert not Engine(socket).info(5).swarm_manager


def test_an_entry_that_cannot_be_read_is_told_and_keeps_no_other_from_being_read(
    socket: Path, swarm: FakeSwarm
) -> None:
    broken = swarm_objects.task("db", 1)
    broken["Status"] = "running"
    swarm.tasks.insert(0, broken)
    swarm.nodes.append(swarm_objects.node("s2", "192.0.2.2"))
    del swarm.nodes[1]["ID"]
    engine = SwarmEngine(socket)

    tasks, nodes = engine.swarm_tasks(), engine.swarm_nodes()

    assert [1] == [one.slot for one in tasks.entries]
    (task,) = tasks.unread
    assert (broken["ID"], broken["ServiceID"]) == (task.entry_id, task.service_id)
    assert "Status: expected an object, got a string" == task.reason
    assert ["s1"] == [one.hostname for one in nodes.entries]
    (node,) = nodes.unread
    assert ("", "s2", "192.0.2.2") == (node.entry_id, node.hostname, str(node.address))
    assert tasks is engine.swarm_tasks()


@pytest.mark.parametrize("entry", ["x", None, 7, ["x"], {"ID": 7, "ServiceID": None, "Description": "x", "Status": []}])
def test_of_an_entry_of_another_kind_nothing_is_known(
    socket: Path, monkeypatch: pytest.MonkeyPatch, entry: object
) -> None:
    monkeypatch.setattr("driver.swarm_engine.EngineHttp.get_bytes", lambda *_, **__: json.dumps([entry]).encode())

    listing = SwarmEngine(socket).swarm_nodes()

    assert () == listing.entries
    assert [("", "", "", None)] == [(one.entry_id, one.service_id, one.hostname, one.address) for one in listing.unread]


def test_what_happens_to_services_nodes_and_containers_is_told(socket: Path, dockerd: FakeDockerd) -> None:
    since_ns = time.time_ns()
    with SwarmEngine(socket).events(since_ns) as stream:
        events = iter(stream)
        dockerd.emit("service", "update", "web", {"name": "web"})

        assert next(events).time_ns >= since_ns


@pytest.mark.parametrize("answer", [{"ID": "x"}, "x", None], ids=str)
def test_an_answer_that_is_no_list_is_refused(
    socket: Path, swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setattr("driver.swarm_engine.EngineHttp.get_bytes", lambda *_, **__: json.dumps(answer).encode())

    with pytest.raises(EngineUnavailable, match="/nodes cannot be read"):
        SwarmEngine(socket).swarm_nodes()


def test_of_ten_thousand_tasks_only_those_that_changed_are_read(socket: Path, swarm: FakeSwarm) -> None:
    swarm.tasks = [
        swarm_objects.task("web", number, f"10.1.{number // 250}.{number % 250}/16") for number in range(10_000)
    ]
    engine = SwarmEngine(socket, timeout_s=30)
    before = engine.swarm_tasks().entries
    swarm.tasks[77]["Status"]["State"] = "failed"

    after = engine.swarm_tasks().entries

    assert 10_000 == len(after)
    assert [77] == [number for number in range(10_000) if before[number] is not after[number]]
