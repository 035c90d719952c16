"""The node's own etcd with the real server: started, restarted, taken over, and told from a foreign one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from plugin.embedded_etcd import EmbeddedEtcd
from tests.support.wait import until

pytestmark = pytest.mark.etcd

ROOT = Path(__file__).parents[2]
SERVES_WITHIN_S = 20

AGENT = """\
import sys, threading
from pathlib import Path
from plugin.embedded_etcd import EmbeddedEtcd
EmbeddedEtcd(directory=Path(sys.argv[1]), port=int(sys.argv[2])).start()
threading.Event().wait()
"""


@pytest.fixture(name="port")
def _port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(name="etcd")
def _etcd(tmp_path: Path, port: int) -> Iterator[EmbeddedEtcd]:
    etcd = EmbeddedEtcd(directory=tmp_path, port=port)
    yield etcd
    etcd.stop()


def _serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(b'"health":"true"' in answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _until_serving(port: int) -> None:
    until(f"etcd serves on port {port}", lambda: _serves(port), timeout_s=SERVES_WITHIN_S)


def _pids(directory: Path) -> list[int]:
    """Every etcd, of whatever parent, that has its data below ``directory``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"--data-dir={directory}/data".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_stop_without_start_is_harmless(etcd: EmbeddedEtcd) -> None:
    etcd.stop()

    assert etcd.problem == "the embedded etcd has not been started yet"


def test_starts_and_stops(etcd: EmbeddedEtcd, tmp_path: Path, port: int) -> None:
    etcd.start()
    _until_serving(port)
    assert etcd.problem is None
    assert len(_pids(tmp_path)) == 1

    etcd.stop()
    etcd.stop()

    assert _pids(tmp_path) == []
    assert etcd.problem == "the embedded etcd was stopped"


def test_data_outlives_a_stop(tmp_path: Path, port: int) -> None:
    answers = []
    for command in (["put", "/hawse/x", "kept"], ["get", "--print-value-only", "/hawse/x"]):
        etcd = EmbeddedEtcd(directory=tmp_path, port=port)
        etcd.start()
        try:
            _until_serving(port)
            done = subprocess.run(
                ["etcdctl", "--endpoints", etcd.endpoint, *command],
                env={**os.environ, "ETCDCTL_API": "3"},
                capture_output=True,
                text=True,
                check=True,
            )
            answers.append(done.stdout)
        finally:
            etcd.stop()

    assert answers == ["OK\n", "kept\n"]


def test_etcd_that_ends_is_started_again(etcd: EmbeddedEtcd, tmp_path: Path, port: int) -> None:
    etcd.start()
    _until_serving(port)
    (first,) = _pids(tmp_path)

    os.kill(first, signal.SIGKILL)

    until("another etcd runs", lambda: set(_pids(tmp_path)) - {first}, timeout_s=SERVES_WITHIN_S)
    _until_serving(port)
    assert etcd.problem is None


def _left_by_a_killed_agent(directory: Path, port: int) -> int:
    with subprocess.Popen([sys.executable, "-c", AGENT, directory, str(port)], cwd=ROOT) as agent:
        _until_serving(port)
        agent.kill()
    (left,) = _pids(directory)
    return left


def test_etcd_of_a_killed_agent_is_taken_over_and_stopped(etcd: EmbeddedEtcd, tmp_path: Path, port: int) -> None:
    left = _left_by_a_killed_agent(tmp_path, port)

    etcd.start()
    until("it is taken over", lambda: etcd.problem is None, timeout_s=SERVES_WITHIN_S)

    assert [left] == _pids(tmp_path)
    assert _serves(port)
    etcd.stop()
    until("it has ended", lambda: not _pids(tmp_path), timeout_s=SERVES_WITHIN_S)


def test_etcd_that_was_taken_over_is_replaced_when_it_ends(etcd: EmbeddedEtcd, tmp_path: Path, port: int) -> None:
    left = _left_by_a_killed_agent(tmp_path, port)
    etcd.start()
    until("it is taken over", lambda: etcd.problem is None, timeout_s=SERVES_WITHIN_S)

    os.kill(left, signal.SIGTERM)

    until("another etcd runs", lambda: set(_pids(tmp_path)) - {left}, timeout_s=SERVES_WITHIN_S)
    _until_serving(port)


def test_port_of_another_process_is_named_and_used_once_it_is_free(etcd: EmbeddedEtcd, port: int) -> None:
    with closing(socket.socket()) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", port))
        foreign.listen()
        etcd.start()

        problem = until("the port is in use", lambda: "in use" in str(etcd.problem) and etcd.problem, timeout_s=5)

    assert f"port {port} on 127.0.0.1" in str(problem)
    assert "EMBEDDED_ETCD_PORT" in str(problem)
    _until_serving(port)
    assert etcd.problem is None


def test_settings_of_hawse_are_not_taken_for_those_of_etcd(
    etcd: EmbeddedEtcd, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_DATA_DIR", "/nonexistent")
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")

    etcd.start()

    _until_serving(port)


def test_state_directory_that_cannot_be_made_is_said(tmp_path: Path, port: int) -> None:
    (tmp_path / "file").touch()
    etcd = EmbeddedEtcd(directory=tmp_path / "file/etcd", port=port)

    etcd.start()
    try:
        until("the directory is named", lambda: str(tmp_path) in str(etcd.problem), timeout_s=5)
    finally:
        etcd.stop()
