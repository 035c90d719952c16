"""The calls that an engine makes for a container, made by ourselves on the plugin's socket, and how long each takes.

One connection stays open, as the engine's do. What the engine does between the calls (namespaces, the process) is not
there: the time is the plugin's alone.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from tests.support.node import Node

_ACCEPT: Final = {"Accept": "application/vnd.docker.plugins.v1.2+json"}
_TIMEOUT_S: Final = 30.0


class CallFailed(AssertionError):
    """The plugin refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledEndpoint:
    """An endpoint that the calls have made, and how long they took."""

    endpoint_id: str
    address: str
    """With the pool's prefix length."""
    container_ifname: str
    """Of the end that a container would get."""
    gateway: str
    request_address_s: float
    create_s: float
    join_s: float

    @property
    def create_and_join_s(self) -> float:
        """What the engine waits for the network driver."""
        return self.create_s + self.join_s


class DriverCalls:
    """Calls the plugin of a node, for one network.

    Args:
        node: whose plugin.
        network: a network of hawse that its engine has made.
    """

    def __init__(self, node: Node, network: str) -> None:
        found = node.engine.inspect("network", network)
        self._network_id: Final = str(found["Id"])
        (ipam,) = found["IPAM"]["Config"]
        self._pool_id: Final = f"hawse-local:{ipam['Subnet']}"
        self._machine: Final = node.machine
        # By descriptor, because the path is longer than a socket's may be.
        self._folder = os.open(
            f"/proc/{node.machine.pid}/root/run/docker/plugins/{node.plugin.ident()}", os.O_PATH | os.O_DIRECTORY
        )
        self._connection = _Connection(f"/proc/self/fd/{self._folder}/hawse.sock")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        os.close(self._folder)

    def connect(self, options: Mapping[str, object] | None = None) -> CalledEndpoint:
        """Make an endpoint as for a container that is started; its interface stays on the host."""
        endpoint_id = secrets.token_hex(32)
        granted, address_s = self._call(
            "IpamDriver.RequestAddress", {"PoolID": self._pool_id, "Address": "", "Options": None}
        )
        ids = {"NetworkID": self._network_id, "EndpointID": endpoint_id}
        ports = {"com.docker.network.endpoint.exposedports": None, "com.docker.network.portmap": None}
        interface = {"Address": granted["Address"], "AddressIPv6": "", "MacAddress": ""}
        _, create_s = self._call(
            "NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": {**ports, **(options or {})}}
        )
        joined, join_s = self._call(
            "NetworkDriver.Join",
            {**ids, "SandboxKey": f"/var/run/docker/netns/{endpoint_id[:12]}", "Options": ports},
        )
        return CalledEndpoint(
            endpoint_id=endpoint_id,
            address=str(granted["Address"]),
            container_ifname=str(joined["InterfaceName"]["SrcName"]),
            gateway=str(joined.get("Gateway", "")),
            request_address_s=address_s,
            create_s=create_s,
            join_s=join_s,
        )

    def disconnect(self, endpoint: CalledEndpoint) -> float:
        """Take it away as for a container that has ended; returns the seconds of all three calls."""
        ids = {"NetworkID": self._network_id, "EndpointID": endpoint.endpoint_id}
        address = {"PoolID": self._pool_id, "Address": endpoint.address.partition("/")[0]}
        return sum(
            self._call(method, body)[1]
            for method, body in (
                ("NetworkDriver.Leave", ids),
                ("NetworkDriver.DeleteEndpoint", ids),
                ("IpamDriver.ReleaseAddress", address),
            )
        )

    def _call(self, method: str, body: Mapping[str, object]) -> tuple[dict[str, Any], float]:
        data = json.dumps(body).encode()
        started_s = time.perf_counter()
        self._connection.request("POST", f"/{method}", data, _ACCEPT)
        answer = self._connection.getresponse()
        text = answer.read()
        took_s = time.perf_counter() - started_s
        if answer.status != http.HTTPStatus.OK:
            raise CallFailed(f"{method}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text), took_s


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket that stays open."""

    def __init__(self, path: str) -> None:
        super().__init__("plugin.moby.localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
