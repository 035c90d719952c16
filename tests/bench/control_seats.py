"""Endpoints that the driver's calls have made, each in a network namespace of its own as a container's would be.

A container's process is not there, and no engine: so there can be thousands of them, and the time that something takes
is not lost in what an engine does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.control_calls import CalledEndpoint, DriverCalls
from tests.support.machine import Machine
from tests.support.netns import inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """An endpoint in its namespace."""

    machine: Machine
    endpoint: CalledEndpoint

    @property
    def address(self) -> str:
        """Its address, alone."""
        return self.endpoint.address.partition("/")[0]

    def udp(self) -> socket.socket:
        """A socket in the namespace; the caller closes it."""
        with inside(Path(f"/proc/{self.machine.pid}/root/run/netns") / _namespace(self.endpoint)):
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def sit_down(
    machine: Machine, calls: DriverCalls, count: int = 1, options: Mapping[str, object] | None = None
) -> Sequence[Seat]:
    """Make endpoints, and move each into a namespace as an engine would."""
    made = [calls.connect(options) for _ in range(count)]
    machine.must("sh", "-eu", stdin="\n".join(map(_moving, made)), timeout_s=600)
    return [Seat(machine=machine, endpoint=one) for one in made]


def get_up(calls: DriverCalls, seats: Sequence[Seat]) -> None:
    """Remove endpoints and namespaces."""
    for seat in seats:
        calls.disconnect(seat.endpoint)
    if seats:
        gone = "\n".join(f"ip netns del {_namespace(seat.endpoint)}" for seat in seats)
        seats[0].machine.must("sh", stdin=gone, timeout_s=600)


@contextlib.contextmanager
def seated(
    machine: Machine, calls: DriverCalls, count: int = 1, options: Mapping[str, object] | None = None
) -> Iterator[Sequence[Seat]]:
    """Endpoints in namespaces, for the length of the block."""
    seats = sit_down(machine, calls, count, options)
    try:
        yield seats
    finally:
        get_up(calls, seats)


def _moving(endpoint: CalledEndpoint) -> str:
    name, ifname = _namespace(endpoint), endpoint.container_ifname
    mtu_route = f"ip -n {name} route add default via {endpoint.gateway}" if endpoint.gateway else ":"
    return "\n".join((
        f"ip netns add {name}",
        f"ip link set {ifname} netns {name} name eth0",
        f"ip -n {name} addr add {ipaddress.ip_interface(endpoint.address)} dev eth0",
        f"ip -n {name} link set eth0 up",
        mtu_route,
    ))  # fmt: skip


def _namespace(endpoint: CalledEndpoint) -> str:
    return f"seat-{endpoint.endpoint_id[:12]}"
