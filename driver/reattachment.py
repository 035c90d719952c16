"""Connects running containers anew when the kernel's maps know nothing of them.

That is so after an upgrade that changes the layout of maps: the new ones are empty, and the programs at the containers'
interfaces are those of before, which reach nothing any more. The store knows what the interfaces are for.
"""

from __future__ import annotations

import logging

from cluster.endpoints import EndpointRegistry
from cluster.networks import NetworkRegistry
from datapath.api import Datapath
from driver.endpoint_spec import endpoint_spec
from driver.locks import KeyedLocks
from model.errors import EndpointNotFound, HawseError, NetworkNotFound
from model.ids import EndpointId

log = logging.getLogger(__name__)


class Reattachment:
    """A step of the collector's thread (:class:`cluster.garbage.GarbageCollector`).

    Args:
        endpoints: endpoint records.
        networks: the networks they are in.
        datapath: the kernel.
        locks: by endpoint id, the driver's own.
        mtu_bytes: for networks that ask for no MTU of their own.
    """

    def __init__(
        self,
        *,
        endpoints: EndpointRegistry,
        networks: NetworkRegistry,
        datapath: Datapath,
        locks: KeyedLocks,
        mtu_bytes: int,
    ) -> None:
        self._endpoints = endpoints
        self._networks = networks
        self._datapath = datapath
        self._locks = locks
        self._mtu_bytes = mtu_bytes

    def reattach(self) -> None:
        """Give every interface that stands in a container, has a record and is in no map its programs and entries.

        One that fails is logged, costs the others nothing, and is tried again at the next look.
        """
        # From memory: a list of all interfaces, every few seconds, costs a host of many containers too much.
        known = self._datapath.local_identities()
        unknown = {endpoint.endpoint_id for endpoint in self._endpoints.local()} - known.keys()
        if not unknown:
            return
        for local in self._datapath.local_endpoints():
            if local.endpoint_id in unknown and local.in_container and local.spec is None:
                try:
                    self._reattach(local.endpoint_id)
                except HawseError as err:
                    log.warning(
                        "container could not be connected anew, it is tried again",
                        extra={"endpoint_id": local.endpoint_id, "error": str(err)},
                    )

    def _reattach(self, endpoint_id: EndpointId) -> None:
        with self._locks.hold(endpoint_id):
            try:
                endpoint = self._endpoints.get(endpoint_id)
                network = self._networks.by_docker_id(endpoint.docker_network)
            except (EndpointNotFound, NetworkNotFound):
                return  # removed just now
            self._datapath.ensure_endpoint(endpoint_spec(endpoint, network, node_mtu_bytes=self._mtu_bytes))
        log.warning(
            "container was connected anew: the maps that knew it have another layout",
            extra={"endpoint_id": endpoint_id},
        )
