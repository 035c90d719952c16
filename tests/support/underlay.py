"""The network between the nodes: a bridge in a machine of its own, 10.77.0.0/24, one cable per node."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from typing import Final

from tests.support.leftovers import Leftovers
from tests.support.machine import Machine
from tests.support.shell import must

NETWORK: Final = ipaddress.IPv4Network("10.77.0.0/24")
ADDRESS: Final = NETWORK[254]
"""The underlay's own address on the bridge: what runs there (etcd) is reached by every node."""
INTERFACE: Final = "eth0"
_MAC: Final = "02:00:0a:4d:00:fe"


class Underlay(Machine):
    """The bridge; what all nodes share may run here."""

    def __init__(self, leftovers: Leftovers) -> None:
        super().__init__("underlay", leftovers)
        # Without an address of its own it has that of one of its ports, and nobody finds it when that one goes.
        self.must("ip", "link", "add", "br0", "address", _MAC, "type", "bridge", "forward_delay", "0")
        self.must("ip", "addr", "add", f"{ADDRESS}/{NETWORK.prefixlen}", "dev", "br0")
        self.must("ip", "link", "set", "br0", "up")
        # A switch is no firewall: without this every frame on it goes through connection tracking, once more.
        for family in ("iptables", "ip6tables", "arptables"):
            self.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{family}=0")

    def connect(self, machine: Machine, number: int) -> ipaddress.IPv4Address:
        """Lay a cable to a machine and give its end the address with this number."""
        address = NETWORK[number]
        must(
            [
                "ip",
                "link",
                "add",
                _port(machine),
                "netns",
                str(self.pid),
                "type",
                "veth",
                "peer",
                "name",
                INTERFACE,
                "netns",
                str(machine.pid),
            ]
        )
        self.must("ip", "link", "set", _port(machine), "master", "br0", "up")
        machine.must("ip", "addr", "add", f"{address}/{NETWORK.prefixlen}", "dev", INTERFACE)
        machine.must("ip", "link", "set", INTERFACE, "up")
        machine.must("ip", "route", "add", "default", "via", str(ADDRESS))
        return address

    def disconnect(self, machine: Machine) -> None:
        """Take a machine's cable away, at both ends."""
        self.must("ip", "link", "del", _port(machine))

    def cut(self, machine: Machine) -> None:
        """Pull the plug of a machine's cable at the bridge's end."""
        self.must("ip", "link", "set", _port(machine), "down")

    def restore(self, machine: Machine) -> None:
        """Put the plug back in."""
        self.must("ip", "link", "set", _port(machine), "up")

    @contextlib.contextmanager
    def mute_towards(self, address: ipaddress.IPv4Address) -> Iterator[None]:
        """Nothing that runs in the underlay itself reaches this machine; the other machines still do."""
        route = ("blackhole", f"{address}/32")
        self.must("ip", "route", "add", *route)
        try:
            yield
        finally:
            self.must("ip", "route", "del", *route)


def _port(machine: Machine) -> str:
    return f"to-{machine.name}"
