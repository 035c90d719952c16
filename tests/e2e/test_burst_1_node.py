"""Sixty containers at once on one node."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import leaks
from tests.support.node import Node
from tests.support.testbed import Testbed

_COUNT: Final = 60
_AT_ONCE: Final = 20


@pytest.fixture(scope="module")
def node(testbed: Testbed) -> Iterator[Node]:
    made = testbed.node("burst")
    made.create_network("net", "--subnet", "10.6.0.0/24")
    yield made
    made.engine("network", "rm", "net")
    leaks.check([made])
    made.machine.power_off()


@pytest.mark.timeout(400)
def test_sixty_containers_started_at_once_reach_each_other(node: Node, figures: list[str]) -> None:
    names = [f"c{number}" for number in range(_COUNT)]
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: node.start(name, "net"), names))
    figures.append(f"{_COUNT} containers, {_AT_ONCE} at a time: {time.monotonic() - started:.1f} s")

    addresses = [node.address_in(name, "net") for name in names]
    assert len(set(addresses)) == _COUNT

    # Everyone pings everyone: from each container all addresses, in parallel inside of it.
    script = "for a in $@; do /bin/ping -c 1 -W 5 -q $a >/dev/null || echo $a & done; wait"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda name: node.execute(name, "sh", "-c", script, "sh", *addresses), names))
    assert all(result.rc == 0 for result in results)
    assert [result.out.split() for result in results] == [[]] * _COUNT

    leaks.check_addresses(node)
    node.remove(*names)
    leaks.check_addresses(node)
    assert node.hawse_json("endpoint", "ls")["endpoints"] == []
