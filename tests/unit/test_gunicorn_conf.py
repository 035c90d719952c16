"""The file gunicorn is started with: it takes names it does not know without a word, so they are checked here."""

from __future__ import annotations

import gc
import json
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS

from plugin.settings import PLUGIN_SOCKET

ROOT = Path(__file__).parents[2]
CONF = ROOT / "plugin/gunicorn.conf.py"

IMPORTED = """\
import json, runpy, sys
runpy.run_path(sys.argv[1])
json.dump(sorted(sys.modules), sys.stdout)
"""


def _conf() -> dict[str, Any]:
    return runpy.run_path(str(CONF))


def test_every_public_name_is_a_setting_of_gunicorn() -> None:
    imported = {"annotations", "TYPE_CHECKING", "Final", "InvalidInput", "PLUGIN_SOCKET", "Settings"}
    named = {
        name
        for name, value in _conf().items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name not in imported
    }

    assert named <= {setting.name for setting in KNOWN_SETTINGS}


def test_entrypoint_of_the_plugin_starts_gunicorn_with_this_file() -> None:
    config = json.loads((ROOT / "plugin/config.json").read_text())

    assert config["entrypoint"] == [
        "/usr/bin/python3",
        "-m",
        "gunicorn",
        "--config",
        "/opt/hawse/plugin/gunicorn.conf.py",
    ]


def test_both_sockets_are_bound_for_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SOCKET", "/host/run/other/agent.sock")

    conf = _conf()

    assert conf["bind"] == [f"unix:{PLUGIN_SOCKET}", "unix:/host/run/other/agent.sock"]
    assert conf["umask"] == 0o177


def test_wrong_settings_do_not_keep_the_sockets_from_being_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SOCKET", "relative.sock")
    monkeypatch.setenv("LOG_LEVEL", "loud")

    assert _conf()["bind"] == [f"unix:{PLUGIN_SOCKET}", "unix:/host/run/hawse/agent.sock"]


def test_all_calls_end_before_the_engine_kills() -> None:
    engine_kills_after_s = 10

    assert _conf()["graceful_timeout"] < engine_kills_after_s


def test_nothing_heavy_is_imported_before_the_sockets_are_bound() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", IMPORTED, CONF], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert not {"bcc", "flask", "grpc", "msgspec", "pyetcd", "pyroute2"} & set(json.loads(printed))


def test_no_garbage_is_looked_for_in_what_was_imported() -> None:
    conf = _conf()
    frozen = gc.get_freeze_count()
    try:
        conf["post_fork"](None, None)
        assert not gc.isenabled()
        conf["post_worker_init"](None)

        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.enable()
        gc.unfreeze()


def test_agent_is_stopped_at_the_end_of_the_worker() -> None:
    stops: list[str] = []
    agent = types.SimpleNamespace(stop=lambda: stops.append("stopped"))
    worker = types.SimpleNamespace(wsgi=types.SimpleNamespace(agent=agent))

    _conf()["worker_exit"](None, worker)

    assert stops == ["stopped"]


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param(types.SimpleNamespace(), id="the application was never loaded"),
        pytest.param(types.SimpleNamespace(wsgi=types.SimpleNamespace(agent=None)), id="wrong settings, no agent"),
    ],
)
def test_worker_without_an_agent_ends_quietly(worker: types.SimpleNamespace) -> None:
    _conf()["worker_exit"](None, worker)
