"""Nodes for a suite, several of them started at once: much of a start is waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.etcd_members import EtcdMembers
from tests.support.node import Node
from tests.support.testbed import Testbed


def start(
    testbed: Testbed, settings: Mapping[str, Mapping[str, str]], *, etcd: EtcdMembers | None = None
) -> Sequence[Node]:
    """Start nodes, healthy in the end.

    Args:
        testbed: where.
        settings: of the plugin of each node, by the node's name.
        etcd: that they share; None: each plugin runs its own.
    """
    with ThreadPoolExecutor(len(settings)) as pool:
        return list(pool.map(lambda name: testbed.node(name, etcd=etcd, settings=settings[name]), settings))
