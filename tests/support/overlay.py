"""Hosts made of network namespaces, each with a real datapath, and containers on them."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from datapath import names
from datapath.abi import DropReason
from datapath.api import (
    DatapathConfig,
    Direction,
    EndpointSpec,
    IpcacheKey,
    LocalEndpoint,
    NetworkSpec,
    RemoteEndpoint,
)
from datapath.linux import LinuxDatapath
from model.addresses import MacAddress
from model.ids import IDENTITY_HOST, IDENTITY_INIT, EndpointId, IdentityId, Vni
from tests.support import bpf_roots
from tests.support.netns import Namespace, Namespaces
from tests.support.policy_tables import open_policy

OPEN: Final = open_policy(IDENTITY_HOST, IDENTITY_INIT, 300, 301)
TUNNEL_PORT: Final = 8472
MTU: Final = 1450
VNI: Final = Vni(7)
NETWORK: Final = IPv4Network("10.5.0.0/24")
IDENTITY: Final = IdentityId(300)
_OF_THE_HOST: Final = (names.HOST_IFNAME, names.HOST_PEER_IFNAME)
_ETH_P_ALL: Final = 3


def an_endpoint(
    address: str,
    *,
    vni: Vni = VNI,
    endpoint_id: str | None = None,
    gateway: str | None = "10.5.0.1",
    identity: IdentityId = IDENTITY,
    mtu_bytes: int = MTU,
) -> EndpointSpec:
    ip = IPv4Address(address)
    return EndpointSpec(
        endpoint_id=EndpointId(endpoint_id or uuid.uuid4().hex * 2),
        vni=vni,
        addresses=(ip,),
        mac=MacAddress.for_address(vni, ip),
        identity=identity,
        mtu_bytes=mtu_bytes,
        gateway=None if gateway is None else IPv4Address(gateway),
    )


@dataclass(slots=True)
class Container:
    """A namespace with one interface made by the datapath."""

    node: Node
    namespace: Namespace
    spec: EndpointSpec
    endpoint: LocalEndpoint

    @property
    def address(self) -> str:
        return str(self.spec.addresses[0])

    def ping(self, target: str, *options: str) -> bool:
        """Did exactly the one packet come back?"""
        output = self.namespace.run("ping", "-c", "1", "-W", "1", *options, target, check=False)
        return "1 packets transmitted, 1 received" in output

    def send_frame(self, frame: bytes) -> None:
        """Send a frame as it is, past the container's own stack."""
        with self.packet_socket() as raw:
            raw.send(frame)

    def packet_socket(self) -> socket.socket:
        """Sees every frame that comes in or goes out."""
        with self.namespace.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            raw.bind(("eth0", 0))
        raw.settimeout(5)
        return raw


@dataclass(slots=True)
class Node:
    """A host."""

    namespace: Namespace
    address: IPv4Address
    root: Path
    datapath: LinuxDatapath
    containers: list[Container] = field(default_factory=list)
    shares_root: bool = False
    """Whether its programs are used again."""

    @property
    def config(self) -> DatapathConfig:
        return DatapathConfig(node_address=self.address, tunnel_port=TUNNEL_PORT, mtu_bytes=MTU)

    def another_agent(self, program_folder: Path | None = None) -> LinuxDatapath:
        """A second process would see the node like this; not started."""
        with self.namespace.entered():
            if program_folder is None:
                return LinuxDatapath(root=self.root)
            return LinuxDatapath(root=self.root, program_folder=program_folder)

    def links(self) -> Sequence[str]:
        """Names of all interfaces but loopback, underlay and the pair to the host's own stack."""
        found = json.loads(self.namespace.ip("-j", "link", "show"))
        return sorted(link["ifname"] for link in found if link["ifname"] not in {"lo", "eth0", *_OF_THE_HOST})

    def count(self, reason: DropReason, direction: Direction) -> int:
        """Packets with this outcome."""
        return sum(
            counter.packets
            for counter in self.datapath.counters()
            if (counter.reason, counter.direction) == (reason, direction)
        )


@dataclass(slots=True)
class Overlay:
    """Some hosts on one underlay; ``connect`` tells all of them of all."""

    namespaces: Namespaces
    bpf_root: Path
    nodes: list[Node] = field(default_factory=list)
    _underlay: Namespace | None = None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def underlay(self) -> Namespace:
        if self._underlay is None:
            self._underlay = self.namespaces.make("under")
            self._underlay.ip("link", "add", "br0", "type", "bridge")
            self._underlay.ip("link", "set", "br0", "up")
            self._underlay.ip("addr", "add", "10.77.0.254/24", "dev", "br0")
        return self._underlay

    def add_node(self, *, started: bool = True) -> Node:
        number = next(self._numbers)
        namespace = self.namespaces.make(f"node{number}")
        port = f"port{number}"
        self.underlay.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace.name)
        self.underlay.ip("link", "set", port, "master", "br0", "up")
        address = IPv4Address(f"10.77.0.{number}")
        namespace.ip("addr", "add", f"{address}/24", "dev", "eth0")
        namespace.ip("link", "set", "eth0", "up")
        # What is not started yet may be about to be started with other programs.
        root = bpf_roots.take(self.bpf_root) if started else self.bpf_root / namespace.name
        with namespace.entered():
            datapath = LinuxDatapath(root=root)
        node = Node(namespace, address, root, datapath, shares_root=started)
        self.nodes.append(node)
        if started:
            datapath.start(node.config)
            datapath.apply_policy(OPEN)
        return node

    def add_container(
        self,
        node: Node,
        address: str,
        *,
        vni: Vni = VNI,
        identity: IdentityId = IDENTITY,
        gateway: str | None = "10.5.0.1",
    ) -> Container:
        """What libnetwork does after CreateEndpoint: move, rename, address, raise."""
        spec = an_endpoint(address, vni=vni, identity=identity, gateway=gateway)
        endpoint = node.datapath.ensure_endpoint(spec)
        namespace = self.namespaces.make("cont")
        node.namespace.ip("link", "set", endpoint.container_ifname, "netns", namespace.name, "name", "eth0")
        # No router solicitations of the container's own: the counters are to show what the test sends.
        namespace.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        namespace.ip("addr", "add", f"{address}/24", "dev", "eth0")
        namespace.ip("link", "set", "eth0", "up")
        if gateway is not None:
            namespace.ip("route", "add", "default", "via", gateway)
        container = Container(node, namespace, spec, endpoint)
        node.containers.append(container)
        return container

    def connect(self) -> None:
        """Every node knows every other one and its containers."""
        for node in self.nodes:
            others = [other for other in self.nodes if other is not node]
            node.datapath.replace_nodes(other.address for other in others)
            node.datapath.replace_networks({NETWORK: NetworkSpec(vni=VNI)})
            node.datapath.replace_remotes(
                {
                    IpcacheKey(container.spec.vni, address): RemoteEndpoint(
                        tunnel_endpoint=other.address, identity=container.spec.identity
                    )
                    for other in others
                    for container in other.containers
                    for address in container.spec.addresses
                }
            )

    def close(self) -> None:
        """Take the hosts down; the namespaces are the caller's."""
        for node in self.nodes:
            if not node.shares_root:
                node.datapath.destroy()
            node.datapath.close()


@contextlib.contextmanager
def standing_overlay(bpf_root: Path) -> Iterator[Overlay]:
    """An underlay without hosts yet; all of it is gone afterwards."""
    namespaces = Namespaces()
    overlay = Overlay(namespaces, bpf_root)
    try:
        yield overlay
    finally:
        overlay.close()
        namespaces.close()
        for node in overlay.nodes:
            if node.shares_root:
                bpf_roots.give_back(bpf_root, node.root)
