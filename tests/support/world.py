"""The world: a network behind a router that carries smaller packets than the underlay.

    nodes, 10.77.0.0/24, MTU 1500 -- 10.77.0.253 router 198.51.100.1 -- world, 198.51.100.0/24, MTU 1500

All routers between here and there are the one: it forwards nothing larger than :data:`MTU`, and says so to whoever
sent it. Both ends announce segments for 1500 bytes, so that TCP has to find out about the path as well.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.leftovers import Leftovers
from tests.support.machine import Machine
from tests.support.node import Node
from tests.support.peer import Asker
from tests.support.shell import must
from tests.support.underlay import ADDRESS, INTERFACE, NETWORK, Underlay

OUTSIDE: Final = ipaddress.IPv4Network("198.51.100.0/24")
ROUTER: Final = NETWORK[253]
MTU: Final = 1300
SERVER: Final = str(OUTSIDE[10])
"""Of the two, policies allow this one ..."""
OTHER_SERVER: Final = str(OUTSIDE[200])
"""... and deny that one; both are clients as well."""
NAME_SERVER: Final = str(OUTSIDE[53])
ROUTED: Final = str(OUTSIDE[250])
"""A server that knows the way to containers ..."""
ROUTED_RANGE: Final = "198.51.100.248/29"
"""... and the range that nodes have to be told."""
PORT: Final = 7001
CLOSED_PORT: Final = 7999
NAME: Final = "server.example"
"""The name server knows it, as :data:`SERVER`."""
DOWNLOAD_BYTES: Final = 10_000_000
DOWNLOAD: Final = f"http://{SERVER}/file"
_GATEWAY: Final = OUTSIDE[1]
_NUMBER_OF_ROUTER: Final = int(ROUTER) - int(NETWORK.network_address)
_DNS: Final = Path(__file__).with_name("world_dns.py")
_STARTS_S: Final = 20


class World:
    """The router and the machine behind it; ``folder`` is of the image, whose programs run outside as well."""

    def __init__(self, leftovers: Leftovers, underlay: Underlay, folder: Path) -> None:
        self.router: Final = Machine("router", leftovers)
        self.machine: Final = Machine("world", leftovers)
        self.peer: Final = folder / "bin/peer"
        """The program of ``tests/support/peer.c``, for hosts."""
        underlay.connect(self.router, _NUMBER_OF_ROUTER)
        self._lay_cable()
        self._serve(folder / "bin/busybox", leftovers.data / "www")

    def asker(self) -> Asker:
        """Somebody in the world; questions say from which of its addresses."""
        return Asker("world", self.machine.run, str(self.peer))

    def on(self, machine: Machine) -> Asker:
        """A host as somebody who asks."""
        return Asker(machine.name, machine.run, str(self.peer))

    def download_checksum(self) -> str:
        """SHA-256 of what :data:`DOWNLOAD` is."""
        return hashlib.sha256(_content()).hexdigest()

    def names_asked_by(self) -> list[str]:
        """Addresses of all who have asked the name server, in order."""
        return self._log("dns").read_text().split()[1:]

    @contextmanager
    def reached_by(self, nodes: Sequence[Node]) -> Iterator[None]:
        """The nodes' way to everywhere leads through the router meanwhile."""
        with ExitStack() as undo:
            for node in nodes:
                node.machine.must("ip", "route", "replace", "default", "via", str(ROUTER))
                undo.callback(node.machine.run, "ip", "route", "replace", "default", "via", str(ADDRESS))
            yield

    @contextmanager
    def routes_to(self, pool: str, node: Node) -> Iterator[None]:
        """The router knows meanwhile that a network is at a node."""
        route = ("ip", "route", "replace", pool, "via", str(node.address), "mtu", str(MTU))
        self.router.must(*route)
        try:
            yield
        finally:
            self.router.must("ip", "route", "del", pool)

    def _lay_cable(self) -> None:
        ends = ("eth1", "netns", str(self.router.pid), "type", "veth", "peer", "name", INTERFACE)
        must(["ip", "link", "add", *ends, "netns", str(self.machine.pid)])
        for machine, interface, addresses in (
            (self.router, "eth1", [_GATEWAY]),
            (self.machine, INTERFACE, [SERVER, OTHER_SERVER, NAME_SERVER, ROUTED]),
        ):
            for address in addresses:
                machine.must("ip", "addr", "add", f"{address}/{OUTSIDE.prefixlen}", "dev", interface)
            machine.must("ip", "link", "set", interface, "up")
            # Some errors are kept back when there are many of them, and tests want all.
            machine.must("sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0")
        self.machine.must("ip", "route", "add", "default", "via", str(_GATEWAY))
        self.router.must("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        for network, interface in ((OUTSIDE, "eth1"), (NETWORK, INTERFACE)):
            self.router.must("ip", "route", "replace", str(network), "dev", interface, "mtu", str(MTU))

    def _serve(self, busybox: Path, www: Path) -> None:
        www.mkdir()
        (www / "file").write_bytes(_content())
        self._spawn("peer", str(self.peer), "serve", "world", str(PORT))
        self._spawn("dns", "/usr/bin/python3", "-I", str(_DNS), NAME_SERVER, f"{NAME}={SERVER}")
        self._spawn("http", str(busybox), "httpd", "-f", "-p", f"{SERVER}:80", "-h", str(www))
        for name in ("peer", "dns"):
            wait.until(f"{name} serves", lambda name=name: "ready" in self._log(name).read_text(), timeout_s=_STARTS_S)
        wait.until(
            "the file is served", lambda: self.machine.run("curl", "-sfI", DOWNLOAD).rc == 0, timeout_s=_STARTS_S
        )

    def _spawn(self, name: str, *argv: str) -> None:
        with self._log(name).open("w") as log:
            self.machine.spawn(argv, log=log)

    def _log(self, name: str) -> Path:
        return self.machine.data / f"{name}.log"


def _content() -> bytes:
    """Bytes of which no two thousand in a row are the same twice."""
    piece = hashlib.sha256(b"hawse").digest() * 32
    return b"".join(number.to_bytes(8, "big") + piece for number in range(DOWNLOAD_BYTES // 1000))[:DOWNLOAD_BYTES]
