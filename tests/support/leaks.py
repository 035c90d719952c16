"""After the containers and networks of a test are gone, nothing of them may be left on a host or in etcd."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from kvstore import keys
from tests.support import wait
from tests.support.node import Node

_OWN_DEVICES: Final = frozenset({"hawse0", "hawse_host", "hawse_peer"})
"""Made with the agent, not with an endpoint."""
_OWN_PROGRAMS: Final = frozenset({"from_underlay", "to_underlay"})
"""On the devices to the outside, as long as there is an agent."""


def found(nodes: Sequence[Node]) -> list[str]:
    """What is left: veths, filters, networks, endpoints, addresses, pools; one line each."""
    left = []
    for node in nodes:
        for name in node.links():
            if name.startswith("hw") and name not in _OWN_DEVICES:
                left.append(f"{node.name}: interface {name}")
            elif name not in _OWN_DEVICES:
                left += [f"{node.name}: {name} has a filter {text}" for text in _filters(node, name)]
    etcd = nodes[0].etcd
    left += [
        f"etcd: {key} = {value}"
        for prefix in (keys.ENDPOINTS, keys.ADDRESSES, keys.POOLS, keys.NETWORKS, keys.VNIS)
        for key, value in etcd.entries(prefix).items()
    ]
    return left


def check(nodes: Sequence[Node], *, timeout_s: float = 20) -> None:
    """Nothing is left, at the latest after ``timeout_s`` seconds (a Swarm tells its nodes later).

    Raises:
        AssertionError: lists what is.
    """

    def nothing() -> None:
        left = found(nodes)
        assert left == [], "\n".join(["left behind:", *left])

    wait.until_passes(nothing, timeout_s=timeout_s, interval_s=0.3)


def check_addresses(node: Node) -> None:
    """``hawse ipam check`` finds nothing, at the latest after some seconds."""

    def clean() -> None:
        result = node.hawse("ipam", "check")
        assert result.rc == 0, str(result)

    wait.until_passes(clean, timeout_s=20, interval_s=0.3)


def _filters(node: Node, ifname: str) -> list[str]:
    listed = []
    for side in ("ingress", "egress"):
        # A device without a qdisc for filters answers with an error: it has none.
        result = node.machine.run("tc", "-j", "filter", "show", "dev", ifname, side)
        if result.rc == 0 and result.out.strip():
            options = [entry["options"] for entry in json.loads(result.out) if "options" in entry]
            listed += [str(entry) for entry in options if entry.get("bpf_name") not in _OWN_PROGRAMS]
    return listed
