"""POLICY_ENFORCEMENT and POLICY_AUDIT on a real engine: who is closed by default, and what is only reported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.support import leaks, wait
from tests.support.node import Node
from tests.support.testbed import Testbed

NET: Final = "modes"
DENY_ALL: Final = json.dumps(
    {
        "apiVersion": "hawse/v1",
        "kind": "Policy",
        "metadata": {"name": "nobody-to-web"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]},
    }
)
ANYBODY: Final = json.dumps(
    {
        "apiVersion": "hawse/v1",
        "kind": "Policy",
        "metadata": {"name": "anybody"},
        "spec": {
            "endpointSelector": {},
            "ingress": [{"fromEntities": ["all"]}],
            "egress": [{"toEntities": ["all"]}],
        },
    }
)


@pytest.fixture(scope="module")
def node(testbed: Testbed) -> Iterator[Node]:
    """One node with two containers, web and client."""
    made = testbed.node("m20")
    made.create_network(NET, "--subnet", "10.1.0.0/24")
    made.start("web", NET, "--label", "app=web")
    made.start("client", NET, "--label", "app=client")
    yield made
    made.remove("web", "client")
    made.engine("network", "rm", NET)
    leaks.check([made])
    made.machine.power_off()


@pytest.fixture(autouse=True)
def _no_policy_stays(node: Node) -> Iterator[None]:
    yield
    names = [policy["name"] for policy in node.hawse_json("policy", "ls")["policies"]]
    if names:
        must(node, "policy", "delete", *names)


def must(node: Node, *argv: str, stdin: str | None = None) -> str:
    result = node.hawse(*argv, stdin=stdin)
    assert result.rc == 0, str(result)
    return result.out


def with_settings(node: Node, settings: Mapping[str, str]) -> None:
    node.plugin.disable(force=True)
    node.plugin.set(settings)
    node.plugin.enable()
    node.wait_healthy()

    def enforced() -> bool:
        return bool(node.hawse_json("status")["policy"]["mode"] == (settings["POLICY_ENFORCEMENT"] or "default"))

    wait.until("the mode is enforced", enforced, timeout_s=20)


def passes(node: Node) -> bool:
    return node.execute("client", "ping", "-c", "1", "-W", "1", node.address_in("web", NET)).rc == 0


def flows(node: Node, verdict: str) -> list[dict[str, Any]]:
    text = must(node, "observe", "--last", "1", "--verdict", verdict, "--to-label", "app=web", "-o", "json")
    return [json.loads(line)["flow"] for line in text.splitlines()]


def test_always_closes_endpoints_that_no_policy_selects(node: Node) -> None:
    with_settings(node, {"POLICY_ENFORCEMENT": "always", "POLICY_AUDIT": ""})

    assert not passes(node)

    must(node, "policy", "apply", "-f", "-", "--wait", stdin=ANYBODY)
    assert passes(node)


def test_never_keeps_policies_and_enforces_none(node: Node) -> None:
    with_settings(node, {"POLICY_ENFORCEMENT": "never", "POLICY_AUDIT": ""})

    must(node, "policy", "apply", "-f", "-", "--wait", stdin=DENY_ALL)

    assert passes(node)


def test_audit_lets_pass_what_it_reports_as_denied(node: Node) -> None:
    with_settings(node, {"POLICY_ENFORCEMENT": "default", "POLICY_AUDIT": "true"})
    must(node, "policy", "apply", "-f", "-", "--wait", stdin=DENY_ALL)

    assert passes(node)

    (flow,) = wait.until("the report is there", lambda: flows(node, "AUDIT"), timeout_s=5)
    assert flow["traffic_direction"] == "INGRESS"
    assert "nobody-to-web" in flow["policy_explanation"]


def test_default_closes_what_a_policy_selects(node: Node) -> None:
    with_settings(node, {"POLICY_ENFORCEMENT": "", "POLICY_AUDIT": ""})
    assert passes(node)

    must(node, "policy", "apply", "-f", "-", "--wait", stdin=DENY_ALL)

    assert not passes(node)
