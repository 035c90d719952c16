"""From the agent's state to the documents of ``/v1/endpoints``."""

from __future__ import annotations

from typing import Final

from datapath.api import EndpointSpec, LocalEndpoint
from datapath.policy_table import IdentityFlags
from model.endpoints import Endpoint
from model.errors import DatapathError, StoreError
from model.identities import is_cluster_identity
from model.ids import IDENTITY_INIT, IdentityId, NodeName
from observe.endpoint_document import EndpointDocument, EndpointsDocument
from observe.order import address_order, network_order
from observe.state import AgentState

READY: Final = "ready"
NO_INTERFACE: Final = "no interface on this host"
INIT: Final = "init (labels not known yet)"
CLOSED: Final = "closed (its policy is not in the kernel yet)"
FORMER: Final = "former policy (the newest could not be written, see «hawse status»)"
"""The kernel took none of it: there is never half a policy."""


def endpoints(state: AgentState) -> EndpointsDocument:
    """Describe the container interfaces, by network and address.

    While the store has not been reached, those of this host, as the kernel has them.
    """
    try:
        recorded = sorted(state.endpoints(), key=_order)
    except StoreError as err:
        here = state.node()
        return EndpointsDocument(
            endpoints=[_from_kernel(state, local, local.spec, here) for local in state.interfaces() if local.spec],
            warning=f"only the interfaces of this host are shown, as the kernel has them: {err}",
        )
    warning = state.staleness()
    interfaces: dict[str, str] | None
    try:
        interfaces = {local.endpoint_id: local.host_ifname for local in state.interfaces()}
    except DatapathError as err:
        interfaces = None
        warning = f"the interfaces of this host are not shown: {err}"
    return EndpointsDocument(
        endpoints=[_from_record(state, endpoint, interfaces) for endpoint in recorded], warning=warning
    )


def closed(flags: IdentityFlags, direction: IdentityFlags) -> bool:
    """Whether the kernel lets only pass what a rule allows; before an identity's rules are written it is closed."""
    return direction in flags or IdentityFlags.READY not in flags


def _from_record(state: AgentState, endpoint: Endpoint, interfaces: dict[str, str] | None) -> EndpointDocument:
    this_node = endpoint.node == state.node()
    interface = (interfaces or {}).get(endpoint.endpoint_id) if this_node else None
    flags = state.policies.flags(endpoint.identity) if this_node else None
    if this_node and interface is None and interfaces is not None:
        status = NO_INTERFACE
    else:
        status = _status(state, endpoint.identity, flags)
    return EndpointDocument(
        id=endpoint.endpoint_id,
        node=endpoint.node,
        container=endpoint.container or None,
        network=str(endpoint.network),
        docker_network=endpoint.docker_network,
        vni=endpoint.vni,
        addresses=[str(address) for address in endpoint.addresses],
        mac=str(endpoint.mac),
        identity=endpoint.identity,
        labels=None if endpoint.labels is None else dict(endpoint.labels.pairs),
        namespace=None if endpoint.labels is None else endpoint.labels.namespace,
        ingress_enforced=None if flags is None else closed(flags, IdentityFlags.INGRESS),
        egress_enforced=None if flags is None else closed(flags, IdentityFlags.EGRESS),
        status=status,
        interface=interface,
        sandbox=endpoint.sandbox_key,
        this_node=this_node,
        created_at=endpoint.created_at,
    )


def _from_kernel(state: AgentState, local: LocalEndpoint, spec: EndpointSpec, here: NodeName) -> EndpointDocument:
    # The kernel has numbers only; what they stand for may still be known from before.
    labels = (state.policies.labels_of(spec.identity) if is_cluster_identity(spec.identity) else None) or None
    flags = state.policies.flags(spec.identity)
    return EndpointDocument(
        id=local.endpoint_id,
        node=here,
        container=None,
        network=None,
        docker_network=None,
        vni=spec.vni,
        addresses=[str(address) for address in spec.addresses],
        mac=str(spec.mac),
        identity=spec.identity,
        labels=None if labels is None else dict(labels.pairs),
        namespace=None if labels is None else labels.namespace,
        ingress_enforced=closed(flags, IdentityFlags.INGRESS),
        egress_enforced=closed(flags, IdentityFlags.EGRESS),
        status=_status(state, spec.identity, flags),
        interface=local.host_ifname,
        sandbox=None,
        this_node=True,
        created_at="",
    )


def _status(state: AgentState, identity: IdentityId, flags: IdentityFlags | None) -> str:
    if identity == IDENTITY_INIT:
        return INIT
    if flags is None:
        return READY
    if IdentityFlags.READY not in flags:
        return CLOSED
    return FORMER if state.policies.health().failures else READY


def _order(endpoint: Endpoint) -> tuple[tuple[int, int, int], list[tuple[int, int]], str]:
    return (
        network_order(endpoint.network),
        [address_order(address) for address in endpoint.addresses],
        endpoint.endpoint_id,
    )
