"""Gives endpoints of this node their identity, once it is known whose they are.

Until then an endpoint is ``init``, closed wherever a policy could apply to it; it stays so when anything here fails.
What is done may be done again at any time: the record is what counts, and the kernel follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from datapath.api import Datapath
from driver.endpoint_spec import endpoint_spec
from driver.engine_records import Readiness
from driver.label_identities import Identified, LabelIdentities
from driver.locks import KeyedLocks
from driver.ports import EndpointRegistry, NetworkRegistry
from model.deadline import deadline
from model.endpoints import Endpoint
from model.errors import EndpointNotFound, Exhausted, InvalidInput
from model.ids import DockerNetworkId, EndpointId
from model.labels import EGRESS_LABEL, INGRESS_LABEL, RESERVED_PREFIX, SERVICE_LABEL, Labels

log = logging.getLogger(__name__)

WORK_TIMEOUT_S: Final = 5.0
RULES_TIMEOUT_S: Final = 0.5


class Labelling:
    """The use case of labels that come after the endpoint. Called from one thread, but for :meth:`prepare`.

    Every method raises:
        StoreUnavailable: etcd is away.

    Args:
        identities: what makes identities of labels.
        endpoints: the endpoints of the cluster.
        networks: the networks of the cluster.
        datapath: the kernel.
        locks: by endpoint id, the same as the driver's calls hold.
        mtu_bytes: MTU of interfaces in networks that ask for no other.
    """

    def __init__(
        self,
        *,
        identities: LabelIdentities,
        endpoints: EndpointRegistry,
        networks: NetworkRegistry,
        datapath: Datapath,
        locks: KeyedLocks,
        mtu_bytes: int,
    ) -> None:
        self._identities = identities
        self._endpoints = endpoints
        self._networks = networks
        self._datapath = datapath
        self._locks = locks
        self._mtu_bytes = mtu_bytes

    def docker_networks(self) -> frozenset[DockerNetworkId]:
        """Docker's ids of hawse's networks."""
        return frozenset(ident for network in self._networks.all() for _, ident in network.docker_ids)

    def unlabelled(self) -> Mapping[EndpointId, Endpoint]:
        """Endpoints of this node whose container or labels are not known yet."""
        return {
            endpoint.endpoint_id: endpoint
            for endpoint in self._endpoints.local()
            if not endpoint.container or endpoint.labels is None
        }

    def endpoint_ids(self) -> frozenset[EndpointId]:
        """Endpoints of this node."""
        return frozenset(endpoint.endpoint_id for endpoint in self._endpoints.local())

    def prepare(self, container: str, labels: Mapping[str, str]) -> None:
        """Allocate the identity of a container that will have an endpoint: it is known everywhere when that comes.

        Returns when its rules are in the kernel, or late. From any thread.

        Raises:
            InvalidInput: the labels cannot make an identity.
            Exhausted: there is no number left.
        """
        with deadline(WORK_TIMEOUT_S):
            _report_reserved(container, labels)
            found = self._identify(labels)
            self._identities.await_rules(found.identity, RULES_TIMEOUT_S)

    def label(
        self,
        endpoint_id: EndpointId,
        container: str,
        labels: Mapping[str, str],
        readiness: Readiness = Readiness.READY,
    ) -> bool:
        """Record whose an endpoint is, and let the kernel judge it by its container's labels.

        Labels that the attachment itself has stay. The same again is no change. Whether the container can answer is
        recorded with it; that it is not started yet only of those that answer for a service by label, for the Swarm
        says it of its own.

        Returns:
            False when there is no such endpoint on this node (any more).

        Raises:
            InvalidInput: the labels cannot make an identity; the endpoint stays ``init``, with its container's name.
            Exhausted: there is no number left; the same.
            DatapathError: the kernel refused; the record stands, and the agent makes the kernel follow it later.
        """
        try:
            with deadline(WORK_TIMEOUT_S):
                return self._label(self._endpoints.get(endpoint_id), container, labels, readiness)
        except EndpointNotFound:
            return False

    def _identify(self, labels: Mapping[str, str]) -> Identified:
        usable = _without_reserved(labels)
        try:
            return self._identities.identify(self._identities.labels_of(usable))
        except InvalidInput:
            # The endpoint stays «init», and nobody sees the policy that it carries. As an identity of its own that
            # policy closes «init», for as long as this is tried again.
            carried = {key: usable[key] for key in (INGRESS_LABEL, EGRESS_LABEL) if key in usable}
            if carried:
                self._identities.identify(self._identities.labels_of(carried))
            raise

    def _label(self, endpoint: Endpoint, container: str, labels: Mapping[str, str], readiness: Readiness) -> bool:
        identity, counting = endpoint.identity, endpoint.labels
        if not endpoint.own_labels:
            try:
                identified = self._identify(labels)
            except (InvalidInput, Exhausted):
                self._name(endpoint, container)
                raise
            identity, counting = identified.identity, identified.labels
        unhealthy = _is_unhealthy(readiness, counting)
        known = (endpoint.identity, endpoint.labels, endpoint.container, endpoint.unhealthy)
        if (identity, counting, container, unhealthy) == known:
            return True
        with self._locks.hold(endpoint.endpoint_id):
            self._endpoints.set_identity(
                endpoint.endpoint_id, identity=identity, labels=counting, container=container, unhealthy=unhealthy
            )
            if identity != endpoint.identity:
                self._identities.await_rules(identity, RULES_TIMEOUT_S)
                self._follow_record(endpoint.endpoint_id)
        _report_reserved(container, labels)
        log.info(
            "endpoint labelled",
            extra={
                "endpoint_id": endpoint.endpoint_id,
                "container": container,
                "identity": identity,
                "labels": str(counting),
                "readiness": readiness.value,
            },
        )
        return True

    def _name(self, endpoint: Endpoint, container: str) -> None:
        """Record the name alone: what is dropped of an endpoint without labels is explained with it."""
        if container != endpoint.container:
            with self._locks.hold(endpoint.endpoint_id):
                self._endpoints.set_identity(
                    endpoint.endpoint_id, identity=endpoint.identity, labels=endpoint.labels, container=container
                )

    def _follow_record(self, endpoint_id: EndpointId) -> None:
        """Tell the kernel the endpoint's identity; hold its lock, so that nobody removes it meanwhile."""
        try:
            endpoint = self._endpoints.get(endpoint_id)
        except EndpointNotFound:
            return
        network = self._networks.by_docker_id(endpoint.docker_network)
        self._datapath.ensure_endpoint(endpoint_spec(endpoint, network, node_mtu_bytes=self._mtu_bytes))


def _is_unhealthy(readiness: Readiness, labels: Labels | None) -> bool:
    serves = labels is not None and SERVICE_LABEL in labels
    return readiness is Readiness.FAILING or (readiness is Readiness.WAITING and serves)


def _without_reserved(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in labels.items() if not key.startswith(RESERVED_PREFIX)}


def _report_reserved(container: str, labels: Mapping[str, str]) -> None:
    reserved = sorted(key for key in labels if key.startswith(RESERVED_PREFIX))
    if reserved:
        log.warning(
            "container has labels that are hawse's own, they do not count",
            extra={"container": container, "labels": ", ".join(reserved)[:200]},
        )
