"""What Docker's lists say of containers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NewType, Self

from driver.fields import Fields
from model import ids
from model.errors import ProtocolError
from model.ids import DockerNetworkId, EndpointId

ContainerId = NewType("ContainerId", str)
"""Docker's id of a container: 64 hex digits."""

_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")


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
        )


def container_id(text: str) -> ContainerId:
    """Check a container's id.

    Raises:
        ProtocolError: not 64 hex digits.
    """
    if not _CONTAINER_ID.fullmatch(text):
        raise ProtocolError(f"{text[:80]!r} is not the id of a container: 64 hex digits")
    return ContainerId(text)


def endpoints_by_container(network: Fields) -> Mapping[EndpointId, ContainerId]:
    """Read whose endpoints a network has, from ``GET /networks/{id}``.

    Keys are container ids. Endpoints without a container are left out: those on their way into one (``ep-…``) and the
    engine's own (``lb-…``).

    Raises:
        ProtocolError: a field is missing or has the wrong form.
    """
    containers = network.nested("Containers")
    return {
        ids.endpoint_id(containers.nested(key).needed_text("EndpointID")): ContainerId(key)
        for key in containers.values
        if _CONTAINER_ID.fullmatch(key)
    }


def _own_name(names: tuple[str, ...]) -> str:
    """A container is listed under its name, ``/web``, and under that of every link to it, ``/other/alias``."""
    return next((name[1:] for name in names if name.startswith("/") and "/" not in name[1:]), "")
