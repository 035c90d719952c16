"""Keeps identities of containers alive, and takes those away that no container has.

An identity that somebody deleted from etcd while containers have it comes back here: by each node for its own
endpoints, under the same number unless another has it meanwhile. Then the endpoint's record is changed first and the
kernel after it, as when labels are learned. So a record that is ahead of the kernel, because an agent was killed in
between, is brought to the kernel here as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from cluster.endpoints import EndpointRegistry
from datapath.api import Datapath
from driver.locks import KeyedLocks
from model.endpoints import Endpoint
from model.errors import EndpointNotFound, HawseError, StoreError
from model.ids import EndpointId, IdentityId
from policy.identities import IdentityRegistry
from policy.identity_garbage import IdentityGarbage

log = logging.getLogger(__name__)


class IdentityUpkeep:
    """Two steps of the collector's thread (:class:`cluster.garbage.GarbageCollector`).

    Args:
        endpoints: endpoint records.
        identities: the identities of the cluster.
        garbage: the collector of identities.
        datapath: the kernel.
        locks: by endpoint id, the driver's own: no interface is changed here that is just being removed there.
        await_rules: waits a moment until rules of an identity are in the kernel, before an endpoint gets it.
    """

    def __init__(
        self,
        *,
        endpoints: EndpointRegistry,
        identities: IdentityRegistry,
        garbage: IdentityGarbage,
        datapath: Datapath,
        locks: KeyedLocks,
        await_rules: Callable[[IdentityId], object],
    ) -> None:
        self._endpoints = endpoints
        self._identities = identities
        self._garbage = garbage
        self._datapath = datapath
        self._locks = locks
        self._await_rules = await_rules

    def keep(self) -> None:
        """Make the identities of this node's endpoints exist, and their records, and the kernel, agree with them.

        Raises:
            StoreError: etcd is away; nothing is lost, it is for the next look.
        """
        if not self._identities.synced:
            return
        # From memory: a list of all interfaces, every few seconds, costs a host of many containers too much.
        judged = self._datapath.local_identities()
        for endpoint in self._endpoints.local():
            if self._is_well(endpoint, judged.get(endpoint.endpoint_id)):
                continue
            try:
                self._repair(endpoint.endpoint_id)
            except StoreError:
                raise
            except HawseError as err:
                log.warning(
                    "identity of an endpoint is not well, it is tried again",
                    extra={"endpoint_id": endpoint.endpoint_id, "identity": endpoint.identity, "error": str(err)},
                )

    def collect(self) -> None:
        """Collect identities that no endpoint of the cluster has; for the leader."""
        self._garbage.collect(self._endpoints.identities())

    def _is_well(self, endpoint: Endpoint, judged: IdentityId | None) -> bool:
        recorded = endpoint.labels is None or self._identities.labels_of(endpoint.identity) == endpoint.labels
        return recorded and judged in {None, endpoint.identity}

    def _repair(self, endpoint_id: EndpointId) -> None:
        with self._locks.hold(endpoint_id):
            try:
                endpoint = self._restored(self._endpoints.get(endpoint_id))
            except EndpointNotFound:
                return
            for local in self._datapath.local_endpoints():
                if local.endpoint_id != endpoint_id or local.spec is None:
                    continue
                if local.spec.identity != endpoint.identity:
                    self._await_rules(endpoint.identity)
                    self._datapath.ensure_endpoint(replace(local.spec, identity=endpoint.identity))

    def _restored(self, endpoint: Endpoint) -> Endpoint:
        """Bring the identity back; returns the endpoint's record, changed if the number is another one now."""
        if endpoint.labels is None:
            return endpoint
        number = self._identities.restore(endpoint.identity, endpoint.labels)
        if number != endpoint.identity:
            log.warning(
                "endpoint has another identity, its own was lost",
                extra={"endpoint_id": endpoint.endpoint_id, "identity": number, "before": endpoint.identity},
            )
        return self._endpoints.set_identity(
            endpoint.endpoint_id, identity=number, labels=endpoint.labels, container=endpoint.container
        )
