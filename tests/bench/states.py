"""The states that hawse is measured in: how many policy entries judge the traffic, and whether its flows are followed.

The entries are in the kernel's maps of both hosts, and the measured endpoints are selected in their direction: nothing
but an entry lets the traffic pass. An entry is one port of one protocol between two identities; only every second port
is used, so that no two of them are one prefix.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.measurements import TCP_PORTS, UDP_PORTS
from tests.bench.places import Place
from tests.bench.settling import Settling
from tests.support import wait
from tests.support.node import COMMAND, Node
from tests.support.policies import PolicyAgent

LABEL: Final = "bench"
CLIENT: Final = "client"
SERVER: Final = "server"
SERVICE_PORT: Final = 7004
"""Of servers that no policy selects; the policies open it for clients."""
_INGRESS: Final = "bench-ingress"
_EGRESS: Final = "bench-egress"
_FILL_FROM: Final = 20001
_CLOSED_PORT: Final = 9
_NOBODY: Final = "192.0.2.1"
_PORTS_AT_ONCE: Final = 256
_SOON_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Of both hosts."""

    entries: int
    """0: no policy at all; otherwise at least :data:`FEWEST`."""
    followed: bool = False


Ports = Sequence[dict[str, str]]
_USED: Final[Ports] = [
    *({"port": str(port), "protocol": "TCP"} for port in TCP_PORTS),
    *({"port": str(port), "protocol": "UDP"} for port in UDP_PORTS),
]
FEWEST: Final = 2 * len(_USED) + 1
DEFAULT: Final = State(entries=10)
"""What the bars are about: policy on with 10 entries. Flows are tracked and counted in every state."""


def policies(entries: int) -> str:
    """Write the documents that become this many entries on a host with a client and a server.

    Raises:
        ValueError: fewer than the traffic itself needs.
    """
    if entries < FEWEST:
        raise ValueError(f"{entries} entries; the traffic needs {FEWEST}")
    fill = entries - FEWEST
    ingress = [{"fromEndpoints": [_select(CLIENT)], **_to(ports)} for ports in _portions(fill - fill // 2)]
    egress = [{"toEndpoints": [_select(SERVER)], **_to(ports)} for ports in _portions(fill // 2)]
    service = _to([{"port": str(SERVICE_PORT), "protocol": "TCP"}])
    documents = [
        _policy(_INGRESS, SERVER, {"ingress": ingress}),
        _policy(_EGRESS, CLIENT, {"egress": [*egress, service]}),
    ]
    return "\n---\n".join(map(json.dumps, documents))


class States:
    """Brings hosts into a state; knows in which they are.

    Args:
        nodes: the hosts; they share their policies.
        clients: on each of them a client, by which one can see whether flows are followed.
    """

    def __init__(self, nodes: Sequence[Node], clients: Sequence[Place]) -> None:
        self._nodes = nodes
        self._clients = clients
        self._agent = PolicyAgent(nodes[0])
        self._settling = Settling([node.machine for node in nodes])
        self._entries: int | None = 0
        self._followers: list[subprocess.Popen[bytes]] = []

    def enter(self, state: State | None) -> None:
        """Bring them there, and return when their kernels are and they have settled.

        None: whatever there is will do, but nobody follows flows.
        """
        changed = False
        if state is not None and state.entries != self._entries:
            self._set_entries(state.entries)
            changed = True
        followed = state is not None and state.followed
        if self._followers and (not followed or any(one.poll() is not None for one in self._followers)):
            self._unfollow()
            changed = True
        if followed and not self._followers:
            self._follow()
            changed = True
        if changed:
            self._settling.wait()

    def close(self) -> None:
        """Follow no more."""
        self._unfollow()

    def _set_entries(self, entries: int) -> None:
        # Until it is done nobody knows how many there are.
        self._entries = None
        revision = self._agent.apply(policies(entries)) if entries else self._agent.delete(_INGRESS, _EGRESS)
        self._agent.wait_enforced(revision)

        def there() -> None:
            for node in self._nodes:
                policy = node.hawse_json("status")["policy"]
                assert policy["entries"] == entries, f"{node.name}: {policy}"

        wait.until_passes(there, timeout_s=_SOON_S, interval_s=0.2)
        self._entries = entries

    def _follow(self) -> None:
        for node in self._nodes:
            with (node.machine.data / "followed").open("w") as log:
                self._followers.append(node.machine.spawn((str(COMMAND), "observe", "--follow", "-o", "json"), log=log))
        for node, client in zip(self._nodes, self._clients, strict=True):
            self._wait_followed(node, client)

    def _wait_followed(self, node: Node, client: Place) -> None:
        """Wait until a flow of now has been written: before that nobody follows."""
        log = node.machine.data / "followed"

        def written() -> bool:
            # No policy opens this port, and a datagram needs no answer.
            client.run(f"speed send {_NOBODY} {_CLOSED_PORT} 64 1")
            return log.stat().st_size > 0

        wait.until(f"flows of {node.name} are followed", written, timeout_s=_SOON_S, interval_s=0.1)

    def _unfollow(self) -> None:
        for follower in self._followers:
            # The first process of its group is nsenter, which would leave the command behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(follower.pid, signal.SIGTERM)
            follower.wait(timeout=10)
        self._followers = []


def _portions(fill: int) -> Sequence[Ports]:
    filling = [{"port": str(_FILL_FROM + 2 * number), "protocol": "TCP"} for number in range(fill)]
    ports = [*_USED, *filling]
    return [ports[first : first + _PORTS_AT_ONCE] for first in range(0, len(ports), _PORTS_AT_ONCE)]


def _to(ports: Ports) -> dict[str, Any]:
    return {"toPorts": [{"ports": list(ports)}]}


def _select(name: str) -> dict[str, Any]:
    return {"matchLabels": {LABEL: name}}


def _policy(name: str, subject: str, rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "hawse/v1",
        "kind": "Policy",
        "metadata": {"name": name},
        "spec": {"endpointSelector": _select(subject), **rules},
    }
