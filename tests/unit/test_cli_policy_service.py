"""``hawse policy`` against what decides in the agent: documents, compiler and store are the real ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cli import main
from kvstore.memory import MemoryStore
from observe.api import create_agent_app
from observe.policy_state import PolicyState
from tests.support.agent_state import FixedAgentState
from tests.support.policy_node import WAIT_S, PolicyNode, an_endpoint, put_endpoint, put_identity, register
from tests.support.unix_server import serve_application
from tests.support.wait import until

WEB, DB = 300, 301
DOCUMENT = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: db-from-web}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: web}
    toPorts:
    - ports: [{port: "5432", protocol: TCP}]
"""
NETWORK_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
"""

Run = Callable[..., int]


class _State(FixedAgentState):
    """The real policies, and fixed values for the rest."""

    def __init__(self, policies: PolicyState) -> None:
        super().__init__()
        self._policies = policies

    @property
    def policies(self) -> PolicyState:  # type: ignore[override]  # the real ones
        return self._policies


@pytest.fixture
def node() -> Iterator[PolicyNode]:
    store = MemoryStore()
    put_identity(store, WEB, {"app": "web"})
    put_identity(store, DB, {"app": "db"})
    put_endpoint(store, an_endpoint("d1", DB, host=5))
    register(store, "node-a")
    node = PolicyNode(store).start()
    until("the first table is applied", lambda: node.controller.applied, timeout_s=WAIT_S)
    assert node.cluster.wait_synced(WAIT_S)
    assert node.views.wait_synced(WAIT_S)
    yield node
    node.stop()
    store.close()


@pytest.fixture
def run(node: PolicyNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with serve_application(create_agent_app(_State(node.service)), tmp_path / "agent.sock") as path:
        monkeypatch.setenv("HAWSE_SOCKET", str(path))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "db.yaml").write_text(DOCUMENT)
        (tmp_path / "closed.yaml").write_text(NETWORK_POLICY)

        def command(*arguments: str) -> int:
            monkeypatch.setattr(sys, "argv", ["hawse", *arguments])
            with pytest.raises(SystemExit) as ended:
                main.main()
            assert isinstance(ended.value.code, int)
            return ended.value.code

        yield command


def test_policy_is_applied_enforced_shown_and_deleted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "apply", "-f", "db.yaml", "-f", "closed.yaml", "--wait=20") == 0
    written = capsys.readouterr()
    assert written.err == ""
    assert [line.split(" (")[0] for line in written.out.splitlines()[:2]] == [
        "policy db-from-web created",
        "policy shop/closed created",
    ]
    first, second, rollout = (re.findall(r"revision (\d+)", line) for line in written.out.splitlines())
    assert int(first[0]) < int(second[0])
    assert rollout == second
    assert written.out.endswith(" is enforced on node-a\n")

    assert run("policy", "ls", "-o", "json") == 0
    listed = json.loads(capsys.readouterr().out)["policies"]
    assert [(policy["name"], policy["kind"], policy["selects_here"]) for policy in listed] == [
        ("db-from-web", "Policy", 1),
        ("shop/closed", "NetworkPolicy", 0),
    ]

    assert run("policy", "delete", "-f", "closed.yaml", "db-from-web") == 0
    assert "policy db-from-web deleted" in capsys.readouterr().out
    assert run("policy", "delete", "db-from-web") == 1
    assert "db-from-web" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["yaml", "json"])
@pytest.mark.parametrize("stored", [("db.yaml", "db-from-web"), ("closed.yaml", "shop/closed")], ids=lambda one: one[1])
def test_what_is_shown_can_be_applied_again(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, stored: tuple[str, str]
) -> None:
    file, name = stored
    run("policy", "apply", "-f", file)
    capsys.readouterr()

    assert run("policy", "get", name, "-o", output) == 0
    shown = capsys.readouterr().out
    (tmp_path / "again").write_text(shown)

    assert yaml.safe_load(shown)["metadata"]["name"] == name.rpartition("/")[2]
    assert run("policy", "apply", "-f", "again") == 0
    assert capsys.readouterr().out.startswith(f"policy {name} unchanged ")


def test_faults_of_a_real_document_have_their_paths(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(DOCUMENT.replace('"5432"', "70000"))

    assert run("policy", "apply", "-f", "bad.yaml", "-f", "db.yaml") == 1

    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("bad.yaml: spec.ingress[0].toPorts[0].ports[0].port: 70000 ")
    assert run("policy", "ls") == 0
    assert capsys.readouterr().out.startswith("There is no policy")


@pytest.mark.parametrize(
    ("source", "dport", "verdict"),
    [("app=web", "5432/tcp", "ALLOWED"), ("app=web", "80/tcp", "DENIED"), ("world", "5432/tcp", "DENIED")],
)
def test_trace_answers_from_the_compiler(
    run: Run, capsys: pytest.CaptureFixture[str], source: str, dport: str, verdict: str
) -> None:
    run("policy", "apply", "-f", "db.yaml", "--wait=20")
    capsys.readouterr()

    assert run("policy", "trace", "--from", source, "--to", "app=db", "--dport", dport) == (verdict == "DENIED")

    shown = capsys.readouterr().out
    assert "  closed by db-from-web\n" in shown
    assert shown.endswith(f"\nFinal verdict: {verdict}\n")


def test_identity_names_its_policies(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("policy", "apply", "-f", "db.yaml", "--wait=20")
    capsys.readouterr()

    assert run("identity", "get", str(DB)) == 0

    assert "ingress    closed; selected by db-from-web\n" in capsys.readouterr().out
