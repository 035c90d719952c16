"""What Docker's events say.

An event carries a container's labels, but mixed with what the engine adds (``name``, ``image``, ``exitCode``,
``signal``, …): a label of such a name is overwritten. So labels are never taken from an event, only from the container
list, which has them as soon as the event ``create`` is out and answers in milliseconds.

Source: https://github.com/moby/moby/blob/docker-v29.7.2/daemon/events.go
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from driver.engine_records import ContainerId, container_id
from driver.fields import Fields
from model.ids import DockerNetworkId, docker_network_id


class HasTime(Protocol):
    """Whatever an event says, it says when."""

    @property
    def time_ns(self) -> int:
        """By the engine's clock, since 1970."""
        ...


class ContainerAction(enum.StrEnum):
    """What happened to a container."""

    CREATE = "create"
    START = "start"
    DIE = "die"
    DESTROY = "destroy"
    RENAME = "rename"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    HEALTHY = "health_status: healthy"
    UNHEALTHY = "health_status: unhealthy"


class NetworkAction(enum.StrEnum):
    """What happened to a container's place in a network."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEvent:
    """Something happened to a container."""

    time_ns: int
    """By the engine's clock, since 1970."""
    action: ContainerAction
    container_id: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEvent:
    """A container was connected or disconnected. Which endpoint it has is not told."""

    time_ns: int
    action: NetworkAction
    docker_network: DockerNetworkId
    container_id: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmEvent:
    """Something happened that may concern the tasks of a Swarm: to a service, a node, or a container of this host."""

    time_ns: int
    """By the engine's clock, since 1970."""


Event: TypeAlias = ContainerEvent | NetworkEvent

FILTERS: Final = {
    "type": ["container", "network"],
    "event": [*map(str, ContainerAction), *map(str, NetworkAction)],
}
"""What the engine is asked to send."""

SWARM_FILTERS: Final = {
    "type": ["service", "node", "container"],
    "event": ["create", "update", "remove", "start", "die", "health_status"],
}
"""What it is asked to send of its Swarm. Of tasks there are no events (ADR 0015)."""


def read_event(message: Fields) -> Event | None:
    """Read one event; None when it is of a kind that does not matter.

    Raises:
        ProtocolError: it cannot be read.
    """
    kind, action = message.text("Type"), message.text("Action")
    actor = message.nested("Actor")
    time_ns = message.number("timeNano")
    if kind == "container" and action in set(ContainerAction):
        return ContainerEvent(
            time_ns=time_ns,
            action=ContainerAction(action),
            container_id=container_id(actor.needed_text("ID")),
        )
    if kind == "network" and action in set(NetworkAction):
        container = actor.nested("Attributes").text("container")
        if not container:  # a load balancer's endpoint of a Swarm
            return None
        return NetworkEvent(
            time_ns=time_ns,
            action=NetworkAction(action),
            docker_network=docker_network_id(actor.needed_text("ID")),
            container_id=container_id(container),
        )
    return None


def read_swarm_event(message: Fields) -> SwarmEvent:
    """Read one event of those that :data:`SWARM_FILTERS` asks for.

    Raises:
        ProtocolError: it cannot be read.
    """
    return SwarmEvent(time_ns=message.number("timeNano"))
