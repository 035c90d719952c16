"""The way to and from the outside: which ports of the host lead to a container.

The engine names one endpoint of a container as its way out (the others are only reached inside of their networks) and
hands it all ports of the container. When another one takes its place, the engine revokes first. Networks made with
``--internal`` are never named.
"""

from __future__ import annotations

from driver.locks import KeyedLocks
from driver.ports import EndpointRegistry, PublishedPorts
from driver.protocol import Done, EndpointRequest, ExternalConnectivityRequest
from driver.undo import undone_on_error
from model.errors import Conflict


class ExternalConnectivity:
    """What ``ProgramExternalConnectivity`` and ``RevokeExternalConnectivity`` mean on this node.

    Args:
        endpoints: the endpoints of the cluster.
        ports: the ports of this host.
        locks: by endpoint id, for everybody who changes endpoints.
    """

    def __init__(self, *, endpoints: EndpointRegistry, ports: PublishedPorts, locks: KeyedLocks) -> None:
        self._endpoints = endpoints
        self._ports = ports
        self._locks = locks

    def program(self, request: ExternalConnectivityRequest) -> Done:
        """Publish the ports of an endpoint's container. Again the same ports = the same choice of them.

        When it fails, nothing is published: the engine does not start the container then, and shows the error.

        Raises:
            EndpointNotFound: CreateEndpoint did not come or did not succeed.
            Conflict: a container or a process of this host has a port; the endpoint is in another network.
            InvalidInput: the host does not have the address.
            Exhausted: no port is free.
            DatapathError: the kernel refused.
        """
        with self._locks.hold(request.endpoint_id), undone_on_error() as undo:
            endpoint = self._endpoints.get(request.endpoint_id)
            if endpoint.docker_network != request.network_id:
                raise Conflict(
                    f"endpoint {request.endpoint_id} is in network {endpoint.docker_network}, not {request.network_id}"
                )
            undo.push("published ports", lambda: self._ports.withdraw(request.endpoint_id))
            self._ports.publish(endpoint, request.ports)
        return Done()

    def revoke(self, request: EndpointRequest) -> Done:
        """Publish nothing for an endpoint any more; may come twice, or for an unknown endpoint."""
        with self._locks.hold(request.endpoint_id):
            self._ports.withdraw(request.endpoint_id)
        return Done()
