"""What Docker's lists say of containers."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NewType, Self

from driver.fields import Fields
from model.errors import ProtocolError
from model.ids import DockerNetworkId, EndpointId

ContainerId = NewType("ContainerId", str)
"""Docker's id of a container: 64 hex digits."""


class Readiness(enum.StrEnum):
    """Whether a container can answer."""

    WAITING = "waiting"
    """Its process does not run: it has not been started, or is paused."""
    FAILING = "failing"
    """Its health check fails, or has not passed yet."""
    READY = "ready"
    """It runs, and passes its health check if it has one."""


_ARRIVING_PREFIX: Final = "ep-"
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")
_CREATED: Final = "created"
_RUNNING: Final = "running"
_FAILING_HEALTH: Final = frozenset({"starting", "unhealthy"})
_FAILING_STATUS: Final = ("(health: starting)", "(unhealthy)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One entry of the container list."""

    container_id: ContainerId
    name: str
    """Empty while it is being removed."""
    labels: Mapping[str, str]
    networks: frozenset[str]
    """What it is attached to, in the words of who attached it: names, ids, or the beginnings of ids."""
    endpoints: Mapping[EndpointId, DockerNetworkId] = field(default_factory=dict)
    """Its endpoints; none before its process runs, however long it has been connected."""
    readiness: Readiness = Readiness.READY
    created_only: bool = False
    """Whether it has never been started."""

    @classmethod
    def read(cls, entry: Fields) -> Self:
        """Read an entry of ``GET /containers/json``.

        Raises:
            ProtocolError: a field is missing or has the wrong form.
        """
        networks = entry.nested("NetworkSettings").nested("Networks")
        attachments = [networks.nested(name) for name in networks.values]
        return cls(
            container_id=container_id(entry.needed_text("Id")),
            name=_own_name(entry.text_list("Names")),
            labels=entry.texts("Labels"),
            networks=frozenset(networks.values),
            endpoints={
                attachment.endpoint_id(): attachment.docker_network_id()
                for attachment in attachments
                if attachment.text("EndpointID")
            },
            readiness=_readiness(entry),
            created_only=entry.text("State") == _CREATED,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Residents:
    """Whose endpoints a network has on this host. The engine's own (``lb-…``) are left out."""

    containers: Mapping[EndpointId, ContainerId] = field(default_factory=dict)
    """Those that have been brought into their containers."""
    arriving: Mapping[EndpointId, str] = field(default_factory=dict)
    """Those on their way, with the name that their container had when they were made."""

    @classmethod
    def read(cls, network: Fields) -> Self:
        """Read ``GET /networks/{id}``.

        Raises:
            ProtocolError: a field is missing or has the wrong form.
        """
        entries = network.nested("Containers")
        containers, arriving = {}, {}
        for key in entries.values:
            entry = entries.nested(key)
            if _CONTAINER_ID.fullmatch(key):
                containers[entry.endpoint_id()] = ContainerId(key)
            elif key.startswith(_ARRIVING_PREFIX):
                arriving[entry.endpoint_id()] = entry.text("Name")
        return cls(containers=containers, arriving=arriving)


def container_id(text: str) -> ContainerId:
    """Check a container's id.

    Raises:
        ProtocolError: not 64 hex digits.
    """
    if not _CONTAINER_ID.fullmatch(text):
        raise ProtocolError(f"{text[:80]!r} is not the id of a container: 64 hex digits")
    return ContainerId(text)


def _readiness(entry: Fields) -> Readiness:
    """Read state and health. Before API 1.52 the list says health in the text for people only.

    Like ``Up 2 minutes (healthy)``; while a container is paused it does not say at all.

    Source: https://github.com/moby/moby/blob/v28.5.2/daemon/container/state.go (String).
    """
    if entry.text("State") != _RUNNING:
        return Readiness.WAITING
    health = entry.nested("Health").text("Status")
    failing = health in _FAILING_HEALTH if health else entry.text("Status").endswith(_FAILING_STATUS)
    return Readiness.FAILING if failing else Readiness.READY


def _own_name(names: tuple[str, ...]) -> str:
    """A container is listed under its name, ``/web``, and under that of every link to it, ``/other/alias``."""
    return next((name[1:] for name in names if name.startswith("/") and "/" not in name[1:]), "")
