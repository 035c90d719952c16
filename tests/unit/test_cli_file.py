"""The one file that is shipped: it starts without any installed package, and scripts can rely on its exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest

from kvstore.store import StoreStatus
from model.errors import StoreUnavailable
from observe.api import create_agent_app
from observe.state import Finding
from tests.support.agent_state import FixedAgentState
from tests.support.json_schema import violations
from tests.support.unix_server import sends, serve_application, serve_connection

ROOT = Path(__file__).parents[2]
DESCRIPTION = json.loads((ROOT / "docs" / "openapi.json").read_text())

LISTINGS = [
    (("status",), "/v1/status"),
    (("node", "ls"), "/v1/nodes"),
    (("network", "ls"), "/v1/networks"),
    (("endpoint", "ls"), "/v1/endpoints"),
    (("ipam", "ls"), "/v1/addresses"),
    (("ipam", "check"), "/v1/check"),
    (("counters",), "/v1/counters"),
    (("service", "ls"), "/v1/services"),
    (("endpoint", "get", "shop_db.1"), "/v1/endpoints/{endpoint}"),
    (("service", "get", "shop_web"), "/v1/services/{service}"),
    (("policy", "ls"), "/v1/policies"),
    (("policy", "wait"), "/v1/rollout"),
    (("identity", "ls"), "/v1/identities"),
    (("identity", "get", "1002"), "/v1/identities/{number}"),
    (("bpf", "policy", "ls"), "/v1/bpf/policy"),
    (("bpf", "ct", "ls"), "/v1/bpf/ct"),
    (("bpf", "ipcache", "ls"), "/v1/bpf/ipcache"),
    (("bpf", "lb", "ls"), "/v1/bpf/lb"),
    (("bpf", "nat", "ls"), "/v1/bpf/nat"),
    (("bpf", "published", "ls"), "/v1/bpf/published"),
]
COMMANDS = [arguments for arguments, _ in LISTINGS]


def _pack(output: Path, scratch: Path) -> None:
    # The environment's own click stands for the wheel that scripts/build_cli.sh fetches; both come from one lock.
    vendored = scratch / "vendored"
    package = Path(click.__file__).parent
    info = f"click-{metadata.version('click')}.dist-info"
    shutil.copytree(package, vendored / "click", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(package.parent / info, vendored / info)
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "pack_cli.py"), "--vendored", str(vendored), "--output", str(output)],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def hawse_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # Not below pytest's own folder: another user has to be able to run it.
    with tempfile.TemporaryDirectory(prefix="hawse-cli-") as folder:
        Path(folder).chmod(0o755)
        output = Path(folder) / "hawse"
        _pack(output, tmp_path_factory.mktemp("pack"))
        yield output


@pytest.fixture
def state() -> FixedAgentState:
    return FixedAgentState()


@pytest.fixture
def agent(state: FixedAgentState, tmp_path: Path) -> Iterator[Path]:
    with serve_application(create_agent_app(state), tmp_path / "agent.sock") as path:
        yield path


def _environment(**more: str) -> dict[str, str]:
    # The system's Python, and nothing of the environment that the tests run in.
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **more}


def _run(file: Path, *arguments: str, socket_path: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = _environment(**more)
    if socket_path is not None:
        environment["HAWSE_SOCKET"] = str(socket_path)
    return subprocess.run(
        [str(file), *arguments], env=environment, cwd="/", capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_answers_a_table(hawse_file: Path, agent: Path, arguments: tuple[str, ...]) -> None:
    result = _run(hawse_file, *arguments, socket_path=agent)

    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout.endswith("\n")
    assert max(len(line) for line in result.stdout.splitlines()) < 130


@pytest.mark.parametrize(("arguments", "path"), LISTINGS, ids=lambda value: " ".join(value) if value else "")
def test_command_answers_json_as_described(
    hawse_file: Path, agent: Path, arguments: tuple[str, ...], path: str
) -> None:
    result = _run(hawse_file, *arguments, "-o", "json", socket_path=agent)

    schema: Any = DESCRIPTION["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert violations(json.loads(result.stdout), schema, DESCRIPTION) == []
    assert result.returncode == 0


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("output", ["table", "json"])
def test_missing_agent_is_one_sentence_and_exit_3(
    hawse_file: Path, tmp_path: Path, arguments: tuple[str, ...], output: str
) -> None:
    missing = tmp_path / "agent.sock"

    result = _run(hawse_file, *arguments, "-o", output, socket_path=missing)

    assert result.returncode == 3
    assert result.stdout == ""
    assert result.stderr == (f"The hawse agent does not answer at {missing}: is the plugin enabled? docker plugin ls\n")


def test_forbidden_socket_is_one_sentence_and_exit_3(hawse_file: Path, agent: Path) -> None:
    agent.chmod(0)

    result = subprocess.run(
        [str(hawse_file), "--socket", str(agent), "status", "--wait", "20"],
        env=_environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        user=65534 if os.geteuid() == 0 else None,
    )

    assert result.stderr == f"No permission to use {agent}: run hawse as root\n"
    assert result.returncode == 3


def test_agents_error_is_one_sentence_and_exit_1(hawse_file: Path, agent: Path, state: FixedAgentState) -> None:
    state.store_error = StoreUnavailable("etcd cannot be reached")

    result = _run(hawse_file, "network", "ls", socket_path=agent)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "The hawse agent could not answer: etcd cannot be reached\n"


def test_stranger_at_the_socket_is_one_sentence_and_exit_1(hawse_file: Path, tmp_path: Path) -> None:
    with serve_connection(sends(b"SSH-2.0-OpenSSH\r\n"), tmp_path / "agent.sock") as path:
        result = _run(hawse_file, "status", socket_path=path)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"What listens at {path} does not speak HTTP: is it the hawse agent?\n"


def test_status_that_is_not_well_is_shown_and_exit_1(hawse_file: Path, agent: Path, state: FixedAgentState) -> None:
    state.change_status(store=StoreStatus(healthy=False, detail="no leader", endpoints=()))

    result = _run(hawse_file, "status", socket_path=agent)

    assert result.returncode == 1
    assert result.stdout.startswith("NOT OK: the store (etcd) is not healthy: no leader\n")
    assert result.stderr == ""


@pytest.mark.parametrize("output", ["table", "json"])
def test_check_with_findings_lists_them_and_exit_1(
    hawse_file: Path, agent: Path, state: FixedAgentState, output: str
) -> None:
    state.found = (Finding(kind="leaked-address", subject="10.1.0.9", detail="no endpoint has it"),)

    result = _run(hawse_file, "ipam", "check", "-o", output, socket_path=agent)

    assert result.returncode == 1
    assert "10.1.0.9" in result.stdout
    assert result.stderr == ""


def test_policy_goes_from_a_pipe_to_the_agent(hawse_file: Path, agent: Path, state: FixedAgentState) -> None:
    result = subprocess.run(
        [str(hawse_file), "--socket", str(agent), "policy", "apply", "-f", "-", "--wait"],
        env=_environment(),
        cwd="/",
        input="kind: Policy # é\n".encode(),
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"policy db-from-api created (revision 123)\nrevision 123 is enforced on alpha, beta\n"
    assert state.policies.asked[0] == ("apply", "kind: Policy # é\n")


def test_stale_listing_warns_beside_the_table(hawse_file: Path, agent: Path, state: FixedAgentState) -> None:
    state.stale = "etcd has not answered for 12 seconds"

    result = _run(hawse_file, "node", "ls", socket_path=agent)

    assert result.returncode == 0
    assert result.stderr == "warning: etcd has not answered for 12 seconds\n"
    assert result.stdout.startswith("NODE")


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("node",), ("status", "--colour"), ("status", "-o", "yaml"), ("node", "ls", "x"), ("--socket",)],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(hawse_file: Path, arguments: tuple[str, ...]) -> None:
    result = _run(hawse_file, *arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert re.match("Usage: |Error: ", result.stderr)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [(), ("node",), *COMMANDS], ids=lambda value: " ".join(value) or "hawse")
def test_help_needs_no_agent(hawse_file: Path, arguments: tuple[str, ...]) -> None:
    result = _run(hawse_file, *arguments, "--help")

    assert result.returncode == 0
    assert result.stdout.startswith("Usage: hawse")


def test_socket_may_be_named_first_or_last(hawse_file: Path, agent: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sock"

    first = _run(hawse_file, "--socket", str(agent), "node", "ls", socket_path=elsewhere)
    last = _run(hawse_file, "node", "ls", "--socket", str(agent), socket_path=elsewhere)

    assert (first.returncode, last.returncode) == (0, 0)
    assert first.stdout == last.stdout


def test_version_is_that_of_the_project(hawse_file: Path) -> None:
    declared = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert declared is not None

    assert _run(hawse_file, "--version").stdout == f"hawse {declared[1]}\n"


@pytest.mark.parametrize(
    ("arguments", "code"), [(("endpoint", "ls"), 0), (("ipam", "check"), 1), (("--help",), 1)], ids=str
)
def test_reader_that_has_seen_enough_is_no_message(
    hawse_file: Path, agent: Path, state: FixedAgentState, arguments: tuple[str, ...], code: int
) -> None:
    state.found = (Finding(kind="leaked-address", subject="10.1.0.9", detail="no endpoint has it"),)
    reading, writing = os.pipe()
    os.close(reading)

    result = subprocess.run(
        [str(hawse_file), "--socket", str(agent), *arguments],
        env=_environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writing)

    assert (result.returncode, result.stderr) == (code, b"")


def test_full_disk_is_one_sentence(hawse_file: Path, agent: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [str(hawse_file), "--socket", str(agent), "status"],
            env=_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )

    assert (result.returncode, result.stderr) == (1, b"The output cannot be written: No space left on device\n")


@pytest.mark.parametrize("stream", [">&-", "2>&-"])
def test_closed_stream_is_no_traceback(hawse_file: Path, agent: Path, stream: str) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f'"$0" --socket "$1" status {stream}', str(hawse_file), str(agent)],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_character_that_the_terminal_lacks_is_a_question_mark(
    hawse_file: Path, agent: Path, state: FixedAgentState
) -> None:
    state.change_status(problems=("alpha → beta: no route",))

    # The file itself starts a Python that looks at no such variable.
    python = Path(sys.executable)
    result = _run(python, str(hawse_file), "status", socket_path=agent, PYTHONIOENCODING="latin-1")

    assert result.returncode == 1
    assert result.stdout.startswith("NOT OK: alpha ? beta: no route\n")


def test_environment_does_not_change_what_is_run(hawse_file: Path, agent: Path, tmp_path: Path) -> None:
    """Root's command: a folder that somebody else may write to must not come before its own modules."""
    for name in ("click", "json", "cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not mine')", encoding="utf-8")
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho not mine; exit 1\n", encoding="utf-8")
    fake.chmod(0o755)

    result = _run(
        hawse_file, "status", socket_path=agent, PYTHONPATH=str(tmp_path), PATH=f"{tmp_path}:/usr/bin:/bin"
    )  # fmt: skip

    assert (result.returncode, result.stderr) == (0, "")
    assert "not mine" not in result.stdout


def test_interrupt_is_quiet(hawse_file: Path, tmp_path: Path) -> None:
    asked = threading.Event()

    def keep_silent(_channel: socket.socket, over: threading.Event) -> None:
        asked.set()
        over.wait()

    with serve_connection(keep_silent, tmp_path / "agent.sock") as path:
        process = subprocess.Popen(
            [str(hawse_file), "--socket", str(path), "status"],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert asked.wait(10)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)

    assert (stdout, stderr) == (b"", b"")
    assert process.returncode == -signal.SIGINT


def test_status_waits_until_the_agent_answers(hawse_file: Path, state: FixedAgentState, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(
        [str(hawse_file), "--socket", str(path), "status", "--wait", "30"], env=_environment(), stdout=subprocess.PIPE
    )

    with serve_application(create_agent_app(state), path):
        stdout, _ = process.communicate(timeout=30)

    assert stdout.startswith(b"OK\n")
    assert process.returncode == 0


def test_status_shows_what_is_wrong_when_waiting_was_in_vain(
    hawse_file: Path, agent: Path, state: FixedAgentState
) -> None:
    state.change_status(problems=("the tunnel device is gone",))

    result = _run(hawse_file, "status", "--wait", "0.3", socket_path=agent)

    assert result.returncode == 1
    assert result.stdout.startswith("NOT OK: the tunnel device is gone\n")


def test_warning_does_not_fail_the_status(hawse_file: Path, agent: Path, state: FixedAgentState) -> None:
    state.policies.known_warnings = ("identity 300: label hawse.ingress: says nothing",)

    result = _run(hawse_file, "status", socket_path=agent)

    assert result.returncode == 0
    assert result.stdout.startswith("OK, with a warning\nwarning: identity 300: ")


def test_file_is_reproducible_small_and_carries_the_licence_of_what_it_vendors(
    hawse_file: Path, tmp_path: Path
) -> None:
    again = tmp_path / "hawse"
    _pack(again, tmp_path)

    assert again.read_bytes() == hawse_file.read_bytes()
    assert again.stat().st_size < 1_000_000
    with zipfile.ZipFile(again) as archive:
        names = archive.namelist()
    assert any("click" in name and "LICENSE" in name for name in names)
    assert not any(name.startswith(("model/", "observe/", "kvstore/")) for name in names)


def test_file_runs_from_its_sources_on_another_python(hawse_file: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "hawse.zip"
    with zipfile.ZipFile(hawse_file) as archive, zipfile.ZipFile(foreign, "w") as target:
        for name in archive.namelist():
            content = archive.read(name)
            target.writestr(name, b"\0\0\0\0" + content[4:] if name.endswith(".pyc") else content)

    result = subprocess.run(
        ["/usr/bin/python3", str(foreign), "--version"], env=_environment(), capture_output=True, check=False
    )

    assert (result.returncode, result.stderr) == (0, b"")
