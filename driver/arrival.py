"""Finds the container of an endpoint that is on its way into it, before the engine says whose it is.

The event ``network connect`` comes when the interface has been moved, on 28.5 only some milliseconds before the process
runs. From ``Join`` until then ``GET /networks/<id>`` shows the endpoint under its own id, with the name that its
container had when the endpoint was made (``ep-<endpoint id>: {Name: web}``). That the name leads to the right container
is no guess:

1. as long as an endpoint is shown like this the engine holds its container's lock, and to rename or remove a container
   takes that lock;
2. names are reserved: no other container can have this one meanwhile;
3. so the name is looked up between two looks at the network, and counts only if both show the endpoint under it.

Source: daemon/network.go (buildContainerAttachments), daemon/rename.go, daemon/delete.go (the lock before releaseName)
of moby at v20.10.24, v28.5.2 and docker-v29.7.2.
"""

from __future__ import annotations

from typing import Protocol

from driver.engine_records import Container, ContainerId, Residents
from model.ids import DockerNetworkId, EndpointId


class ShowsArrivals(Protocol):
    """:class:`driver.engine.Engine`; every method raises EngineUnavailable."""

    def residents(self, network: DockerNetworkId) -> Residents:
        """Whose endpoints a network has."""
        ...

    def container_named(self, name: str) -> Container | None:
        """The container that has this name now; None when there is none."""
        ...

    def container(self, container_id: ContainerId) -> Container | None:
        """One container; None when there is none."""
        ...


def find_arriving(engine: ShowsArrivals, network: DockerNetworkId, endpoint_id: EndpointId) -> Container | None:
    """Find the container of an endpoint whose Join was answered; None when it cannot be said for certain.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    name = engine.residents(network).arriving.get(endpoint_id)
    container = engine.container_named(name) if name else None
    after = engine.residents(network)
    if endpoint_id in after.containers:
        return engine.container(after.containers[endpoint_id])
    return container if name and after.arriving.get(endpoint_id) == name else None
