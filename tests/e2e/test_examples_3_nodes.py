"""The example of examples/shop, as it stands, deployed to a real Swarm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import leaks, shell, swarm, wait
from tests.support.engine import CLIENT, SOCKET
from tests.support.images import IMAGE
from tests.support.node import Node

_SHOP: Final = Path(__file__).parents[2] / "examples/shop"
_STACK: Final = "shop"
_REPLICAS: Final = {"proxy": 1, "app": 2, "db": 1}


@pytest.fixture(scope="module")
def shop(swarm_of_three: list[Node]) -> Iterator[list[Node]]:
    """The stack, running, without its policy."""
    manager = swarm_of_three[0]
    docker = (CLIENT, f"--host=unix://{SOCKET}")
    manager.machine.must(
        "env", f"IMAGE={IMAGE}", *docker, "stack", "deploy", "--resolve-image", "never",
        "--compose-file", str(_SHOP / "stack.yml"), _STACK,
    )  # fmt: skip
    for service, replicas in _REPLICAS.items():
        swarm.wait_running(manager.engine, f"{_STACK}_{service}", replicas)
    yield swarm_of_three
    manager.hawse("policy", "delete", "-f", str(_SHOP / "policy.yml"))
    manager.engine("stack", "rm", _STACK)
    leaks.check(swarm_of_three, timeout_s=90)


def ask(nodes: list[Node], service: str, url: str) -> shell.Result:
    """Fetch a page from the first container of a service."""
    for node in nodes:
        found = node.engine("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={_STACK}_{service}")
        if found:
            return node.execute(found.split()[0], "curl", "-sS", "-m", "2", url)
    raise AssertionError(f"no node runs a container of {service}")


def test_the_shop_works_and_its_policy_keeps_the_proxy_from_the_database(shop: list[Node]) -> None:
    manager = shop[0]
    for service, url in (("proxy", "http://app:8080/"), ("app", "http://db:5432/"), ("proxy", "http://db:5432/")):

        def answered(service: str = service, url: str = url) -> bool:
            return ask(shop, service, url).rc == 0

        wait.until(f"{url} answers {service}", answered, timeout_s=60, interval_s=0.5)

    applied = manager.hawse("policy", "apply", "-f", str(_SHOP / "policy.yml"), "--wait")
    assert applied.rc == 0, str(applied)

    assert ask(shop, "proxy", "http://app:8080/").out.strip() == "the app answers"
    assert ask(shop, "app", "http://db:5432/").out.strip() == "the database answers"
    assert ask(shop, "proxy", "http://db:5432/").rc != 0
    explained = [
        json.loads(line)["flow"]
        for node in shop
        for line in node.hawse(
            "observe", "--last", "1", "--verdict", "DROPPED", "--to-label", "app=db", "-o", "json"
        ).out.splitlines()
    ]
    assert [flow["source"]["namespace"] for flow in explained] == [_STACK]
    assert "shop-db" in explained[0]["policy_explanation"]
