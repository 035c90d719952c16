"""What the kernel can do without a network driver: a veth pair, the cable between two machines, a VXLAN device on it.

All of them are namespaces and devices of the machines, and go with them. The ends of the VXLAN device are in namespaces
of their own, as a container would be: no rule and no connection tracking of the machine sees the inner packets.

With ``rules`` the namespaces have what Docker puts into that of every container for its name server: four rules that
translate addresses, and so a kernel that tracks connections there and walks through chains for each packet. Their pair
has the MTU of hawse's and Docker's overlay networks: what a container of such a network can have at best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.bench.measurements import Pair
from tests.bench.places import Place, in_machine
from tests.support.node import Node
from tests.support.underlay import INTERFACE

_ENDS: Final = ("left", "right")
_VETH_POOL: Final = "10.63"
_OVERLAY_MTU_BYTES: Final = 1450
"""What a VXLAN leaves of the 1500 that a pair has otherwise."""
_VXLAN: Final = "bare-vxlan"
_VXLAN_POOL: Final = "10.64"
_VXLAN_VNI: Final = 4242
_VXLAN_PORT: Final = 4790
"""Neither Docker's nor hawse's."""


def rules_of(node: Node, container: str) -> str:
    """What Docker has put into the namespace of a container, as ``iptables-restore`` takes it."""
    pid = node.engine.inspect("container", container)["State"]["Pid"]
    return node.machine.must("nsenter", "--target", str(pid), "--net", "iptables-save", "--table", "nat")


def veth_pair(node: Node, image: Path, *, rules: str = "") -> Pair:
    """Two namespaces and one pair between them."""
    machine = node.machine
    left, right = names = [_named(end, rules) for end in _ENDS]
    for name in names:
        machine.must("ip", "netns", "add", name)
    machine.must("ip", "link", "add", left, "netns", left, "type", "veth", "peer", "name", right, "netns", right)
    if rules:
        for name in names:
            machine.must("ip", "-n", name, "link", "set", name, "mtu", str(_OVERLAY_MTU_BYTES))
    client, server = (
        _raised(node, name, f"{_VETH_POOL}.{int(bool(rules))}.{number}", image, rules)
        for number, name in enumerate(names, 1)
    )
    return Pair(client=client, server=server, address=server.address)


def underlay(one: Node, other: Node, image: Path) -> Pair:
    """The cable, from one machine itself to the other."""
    client, server = (in_machine(node.machine, str(node.address), image) for node in (one, other))
    return Pair(client=client, server=server, address=server.address)


def vxlan(one: Node, other: Node, image: Path, *, rules: str = "") -> Pair:
    """A VXLAN device at each end of the cable, made for one peer."""
    client, server = (
        _vxlan_end(node, peer, number, image, rules)
        for number, (node, peer) in enumerate(((one, other), (other, one)), 1)
    )
    return Pair(client=client, server=server, address=server.address)


def _vxlan_end(node: Node, peer: Node, number: int, image: Path, rules: str) -> Place:
    machine, name, more = node.machine, _named(_VXLAN, rules), int(bool(rules))
    machine.must(
        "ip", "link", "add", name, "type", "vxlan", "id", str(_VXLAN_VNI + more), "dstport", str(_VXLAN_PORT + more),
        "local", str(node.address), "remote", str(peer.address), "dev", INTERFACE,
    )  # fmt: skip
    machine.must("ip", "netns", "add", name)
    machine.must("ip", "link", "set", name, "netns", name)
    return _raised(node, name, f"{_VXLAN_POOL}.{more}.{number}", image, rules)


def _named(name: str, rules: str) -> str:
    return f"{name}-r" if rules else name


def _raised(node: Node, name: str, address: str, image: Path, rules: str) -> Place:
    """The device is called like its namespace."""
    node.machine.must("ip", "-n", name, "addr", "add", f"{address}/24", "dev", name)
    for link in ("lo", name):
        node.machine.must("ip", "-n", name, "link", "set", link, "up")
    if rules:
        node.machine.must("ip", "netns", "exec", name, "iptables-restore", stdin=rules)
    return in_machine(node.machine, address, image, namespace=name)
