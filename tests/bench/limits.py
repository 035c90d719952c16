"""What the kernel can do without a network driver: a veth pair, the cable between two machines, a VXLAN device on it.

All of them are namespaces and devices of the machines, and go with them. The ends of the VXLAN device are in namespaces
of their own, as a container would be: no rule and no connection tracking of the machine sees the inner packets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.bench.measurements import Pair
from tests.bench.places import Place, in_machine
from tests.support.node import Node
from tests.support.underlay import INTERFACE

_LEFT: Final = ("left", "10.63.0.1")
_RIGHT: Final = ("right", "10.63.0.2")
_VXLAN: Final = "bare-vxlan"
_VXLAN_POOL: Final = "10.64.0"
_VXLAN_VNI: Final = 4242
_VXLAN_PORT: Final = 4790
"""Neither Docker's nor hawse's."""


def veth_pair(node: Node, image: Path) -> Pair:
    """Two namespaces and one pair between them."""
    machine = node.machine
    for name, _ in (_LEFT, _RIGHT):
        machine.must("ip", "netns", "add", name)
    ends = (_LEFT[0], "netns", _LEFT[0], "type", "veth", "peer", "name", _RIGHT[0], "netns", _RIGHT[0])
    machine.must("ip", "link", "add", *ends)
    for name, address in (_LEFT, _RIGHT):
        _raise(node, name, name, address)
    client, server = (in_machine(machine, address, image, namespace=name) for name, address in (_LEFT, _RIGHT))
    return Pair(client=client, server=server, address=server.address)


def underlay(one: Node, other: Node, image: Path) -> Pair:
    """The cable, from one machine itself to the other."""
    client, server = (in_machine(node.machine, str(node.address), image) for node in (one, other))
    return Pair(client=client, server=server, address=server.address)


def vxlan(one: Node, other: Node, image: Path) -> Pair:
    """A VXLAN device at each end of the cable, made for one peer."""
    client, server = (
        _vxlan_end(node, peer, number, image) for number, (node, peer) in enumerate(((one, other), (other, one)), 1)
    )
    return Pair(client=client, server=server, address=server.address)


def _vxlan_end(node: Node, peer: Node, number: int, image: Path) -> Place:
    machine = node.machine
    machine.must(
        "ip", "link", "add", _VXLAN, "type", "vxlan", "id", str(_VXLAN_VNI), "dstport", str(_VXLAN_PORT),
        "local", str(node.address), "remote", str(peer.address), "dev", INTERFACE,
    )  # fmt: skip
    machine.must("ip", "netns", "add", _VXLAN)
    machine.must("ip", "link", "set", _VXLAN, "netns", _VXLAN)
    address = f"{_VXLAN_POOL}.{number}"
    _raise(node, _VXLAN, _VXLAN, address)
    return in_machine(machine, address, image, namespace=_VXLAN)


def _raise(node: Node, namespace: str, device: str, address: str) -> None:
    node.machine.must("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", device)
    for link in ("lo", device):
        node.machine.must("ip", "-n", namespace, "link", "set", link, "up")
