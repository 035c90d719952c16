"""Sixty containers at once on one node."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import leaks
from tests.support.node import Node
from tests.support.testbed import Testbed

_COUNT: Final = 60
_AT_ONCE: Final = 60


@pytest.fixture(scope="module")
def _room_for_neighbours() -> Iterator[None]:
    """Raise the kernel's limit as docs/troubleshooting.md says: 60 x 59 is more than the 1024 it takes by default."""
    limit = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    before = limit.read_text()
    limit.write_text(str(max(8192, int(before))))
    yield
    limit.write_text(before)


@pytest.fixture(scope="module")
def node(_room_for_neighbours: None, testbed: Testbed) -> Iterator[Node]:
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

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        silent = list(pool.map(lambda name: not_answering(node, name, addresses), names))
    figures.append(f"{_COUNT} x {_COUNT} pings: {time.monotonic() - started:.1f} s")
    assert silent == [[]] * _COUNT

    leaks.check_addresses(node)
    node.remove(*names)
    leaks.check_addresses(node)
    assert node.hawse_json("endpoint", "ls")["endpoints"] == []


def not_answering(node: Node, container: str, addresses: list[str]) -> list[str]:
    """Ping all addresses at once from a container; returns those that do not answer."""
    script = "for a in $@; do /bin/ping -n -c 1 -W 5 -q $a >/dev/null || echo $a & done; wait"
    result = node.execute(container, "sh", "-c", script, "sh", *addresses)
    assert result.rc == 0, str(result)
    return result.out.split()
