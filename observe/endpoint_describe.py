"""From the agent's state to the documents of ``/v1/endpoints``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from datapath.api import EndpointSpec, LocalEndpoint
from datapath.policy_table import IdentityFlags
from model.endpoints import Endpoint, Publication
from model.errors import Conflict, DatapathError, EndpointNotFound, StoreError
from model.identities import is_cluster_identity
from model.ids import IDENTITY_INIT, IdentityId, NodeName
from observe.endpoint_document import EndpointDocument, EndpointsDocument, PublicationDocument
from observe.order import address_order, network_order
from observe.state import AgentState

READY: Final = "ready"
NO_INTERFACE: Final = "no interface on this host"
INIT: Final = "init (labels not known yet)"
CLOSED: Final = "closed (its policy is not in the kernel yet)"
FORMER: Final = "former policy (the newest could not be written, see «hawse status»)"
"""The kernel took none of it: there is never half a policy."""

_SHORT_ID: Final = 12


class EndpointQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``/v1/endpoints/{endpoint}``."""

    endpoint: Annotated[
        str, Meta(description="Name of the container, address, or id of the endpoint or its first characters.")
    ]


def endpoint(state: AgentState, question: EndpointQuestion) -> EndpointDocument:
    """Describe one container interface.

    Raises:
        EndpointNotFound: there is none.
        Conflict: there are several on different hosts, or in different networks; the message lists their ids.
    """
    found = _find(endpoints(state).endpoints, question.endpoint)
    if not found:
        raise EndpointNotFound(
            f"no endpoint has the container, address or id {question.endpoint[:80]!r}; see «hawse endpoint ls»"
        )
    # Names of containers are unique on a host only.
    (one, *others) = [one for one in found if one.this_node] or found
    if others:
        listed = ", ".join(f"{each.id[:_SHORT_ID]} in {each.network} on {each.node}" for each in (one, *others))
        raise Conflict(f"{question.endpoint[:80]!r} is several endpoints: {listed}; name one by its id")
    return one


def _find(known: Sequence[EndpointDocument], wanted: str) -> Sequence[EndpointDocument]:
    exact = [one for one in known if wanted in {one.id, one.container} or wanted in one.addresses]
    return exact or [one for one in known if wanted and one.id.startswith(wanted)]


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
        published=[_publication(one) for one in sorted(endpoint.published, key=_published_order)],
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
        published=[],
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


def _publication(publication: Publication) -> PublicationDocument:
    return PublicationDocument(
        port=publication.port,
        protocol=publication.protocol,
        host_port=publication.host_port,
        host_address=None if publication.host_address is None else str(publication.host_address),
    )


def _published_order(publication: Publication) -> tuple[str, int, int]:
    return publication.protocol, publication.host_port, int(publication.host_address or 0)
