"""A host whose ports a test gives to its processes."""

from __future__ import annotations

from ipaddress import IPv4Address

from model.errors import Conflict
from model.policies import Protocol


class FakeHold:
    """A port that is kept."""

    def __init__(self, host: FakeHostPorts, place: tuple[Protocol, int, IPv4Address | None]) -> None:
        self.port = place[1]
        self.firm = True
        self._host = host
        self._place = place

    def release(self) -> None:
        if self._place in self._host.held:
            self._host.held.remove(self._place)


class FakeHostPorts:
    """Implements :class:`balancer.port_claims.HostPorts` without sockets.

    Attributes:
        held: what is kept now.
        processes: who has a port, by protocol and number.
        next_port: what is chosen next.
    """

    def __init__(self) -> None:
        self.held: list[tuple[Protocol, int, IPv4Address | None]] = []
        self.processes: dict[tuple[Protocol, int], str] = {}
        self.next_port = 40000

    def hold(self, protocol: Protocol, port: int, address: IPv4Address | None) -> FakeHold:
        if not port:
            port, self.next_port = self.next_port, self.next_port + 1
        name = f"port {port}/{protocol.name.lower()}"
        if owner := self.processes.get((protocol, port)):
            raise Conflict(f"{name} is used by {owner} on this host")
        for one in self.held:
            if one[:2] == (protocol, port) and (None in (one[2], address) or one[2] == address):
                raise Conflict(f"{name} is used by hawse itself on this host")
        self.held.append((protocol, port, address))
        return FakeHold(self, (protocol, port, address))

    def make_room(self) -> None:
        pass
