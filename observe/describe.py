"""From the agent's state to documents: pure functions, sorted so that two calls compare."""

from __future__ import annotations

import collections
import ipaddress
from collections.abc import Sequence
from typing import Final

from datapath.api import Feature, PacketCounter
from kvstore.store import StoreStatus
from model.addresses import IPNetwork
from model.errors import StoreError
from model.ids import NodeName
from model.nodes import Node
from observe.document import (
    AddressDocument,
    AddressesDocument,
    AgentDocument,
    CheckDocument,
    CounterDocument,
    CountersDocument,
    CountsDocument,
    DatapathDocument,
    DockerNetworkDocument,
    FeatureDocument,
    FindingDocument,
    NetworkDocument,
    NetworksDocument,
    NodeDocument,
    NodesDocument,
    PoolDocument,
    StatusDocument,
    StoreDocument,
)
from observe.order import address_order, network_order
from observe.policy_describe import policy_status
from observe.service_describe import service_status
from observe.state import AgentState, AgentStatus, DatapathStatus

_LARGEST_JSON_INTEGER: Final = 2**53
"""Larger numbers lose digits in the JSON readers of other languages; an IPv6 pool can be larger."""


def status(state: AgentState) -> StatusDocument:
    """Describe the agent and what it depends on; answers also when the store has never been reached."""
    now = state.status()
    problems = _problems(now, [*state.policies.problems(), *state.balancing.problems()])
    try:
        counts = _counts(state)
        nodes = _nodes(state)
        policy = policy_status(state)
    except StoreError:
        counts = None
        nodes = None
        policy = None
    return StatusDocument(
        healthy=not problems,
        problems=problems,
        warnings=[*state.policies.warnings(), *state.balancing.warnings()],
        warning=state.staleness(),
        agent=AgentDocument(
            version=now.version,
            uptime_s=now.uptime_s,
            node=now.node,
            address=None if now.address is None else str(now.address),
            scope=now.scope.value,
            scope_warning=now.scope_warning,
        ),
        store=_store(now.store),
        datapath=_datapath(now.datapath),
        policy=policy,
        services=service_status(state, now.datapath),
        counts=counts,
        nodes=nodes,
    )


def nodes(state: AgentState) -> NodesDocument:
    """Describe the hosts of the cluster, by name."""
    return NodesDocument(nodes=_nodes(state), warning=state.staleness())


def networks(state: AgentState) -> NetworksDocument:
    """Describe the networks, by pool."""
    endpoints = collections.Counter(endpoint.network for endpoint in state.endpoints())
    found = [
        NetworkDocument(
            pool=str(network.pool),
            vni=network.vni,
            gateway=None if network.gateway is None else str(network.gateway),
            internal=network.internal,
            mtu_bytes=network.mtu_bytes,
            endpoints=endpoints[network.pool],
            docker_networks=[DockerNetworkDocument(holder=holder, id=ident) for holder, ident in network.docker_ids],
        )
        for network in sorted(state.networks(), key=lambda network: network_order(network.pool))
    ]
    return NetworksDocument(networks=found, warning=state.staleness())


def addresses(state: AgentState) -> AddressesDocument:
    """Describe pools and addresses in use, by pool and address."""
    held = state.addresses()
    in_use = collections.Counter(item.pool for item in held)
    owners = {(endpoint.network, address): endpoint for endpoint in state.endpoints() for address in endpoint.addresses}
    pools = [
        PoolDocument(
            pool=str(record.pool),
            gateway=None if record.gateway is None else str(record.gateway),
            holders=list(record.holders),
            in_use=in_use[record.pool],
            capacity=_capacity(record.pool),
            created_at=record.created_at,
        )
        for record in sorted(state.pools(), key=lambda record: network_order(record.pool))
    ]
    found = []
    for item in sorted(held, key=lambda item: (network_order(item.pool), address_order(item.address))):
        owner = owners.get((item.pool, item.address))
        found.append(
            AddressDocument(
                pool=str(item.pool),
                address=str(item.address),
                kind=item.record.kind.value,
                holders=list(item.record.holders),
                endpoint=None if owner is None else owner.endpoint_id,
                node=None if owner is None else owner.node,
                granted_at=item.record.granted_at,
            )
        )
    return AddressesDocument(pools=pools, addresses=found, warning=state.staleness())


def check(state: AgentState) -> CheckDocument:
    """Describe the contradictions between addresses, endpoints and Docker's networks."""
    findings = sorted(state.findings(), key=lambda finding: (finding.kind, finding.subject))
    return CheckDocument(
        findings=[
            FindingDocument(kind=finding.kind, subject=finding.subject, detail=finding.detail) for finding in findings
        ]
    )


def counters(state: AgentState) -> CountersDocument:
    """Describe the counters: forwarded packets first, then drops, the most frequent first."""

    def order(counter: PacketCounter) -> tuple[bool, int, int, str]:
        return (counter.reason != 0, -counter.packets, counter.reason, counter.direction)

    return CountersDocument(
        counters=[
            CounterDocument(
                reason=counter.reason,
                text=counter.text,
                direction=counter.direction.value,
                packets=counter.packets,
                bytes=counter.bytes,
            )
            for counter in sorted(state.counters(), key=order)
        ]
    )


def _problems(now: AgentStatus, more: Sequence[str]) -> list[str]:
    problems = list(dict.fromkeys([*now.problems, *more]))
    if not now.store.healthy:
        problems.append(f"the store (etcd) is not healthy: {now.store.detail}")
    problems += [
        f"this kernel lacks {feature.name}, which hawse needs: {feature.detail}"
        for feature in now.datapath.features
        if feature.required and not feature.available
    ]
    return problems


def _counts(state: AgentState) -> CountsDocument:
    here = state.node()
    all_endpoints = state.endpoints()
    return CountsDocument(
        networks=len(state.networks()),
        endpoints=len(all_endpoints),
        endpoints_here=sum(endpoint.node == here for endpoint in all_endpoints),
        addresses=len(state.addresses()),
    )


def _nodes(state: AgentState) -> list[NodeDocument]:
    here = state.node()
    alive = state.alive()
    return [_node(node, here=here, alive=alive) for node in sorted(state.nodes(), key=lambda node: node.name)]


def _node(node: Node, *, here: NodeName, alive: frozenset[NodeName]) -> NodeDocument:
    return NodeDocument(
        name=node.name,
        address=str(node.address),
        tunnel_port=node.tunnel_port,
        mtu_bytes=node.mtu_bytes,
        version=node.version,
        alive=node.name in alive,
        this_node=node.name == here,
        registered_at=node.registered_at,
    )


def _store(store: StoreStatus) -> StoreDocument:
    return StoreDocument(
        healthy=store.healthy,
        detail=store.detail,
        endpoints=list(store.endpoints),
        revision=store.revision,
        db_size_bytes=store.db_size_bytes,
    )


def _datapath(datapath: DatapathStatus) -> DatapathDocument:
    return DatapathDocument(
        device=datapath.device,
        tunnel_port=datapath.tunnel_port,
        mtu_bytes=datapath.mtu_bytes,
        programs=datapath.programs.value,
        features=[_feature(feature) for feature in datapath.features],
    )


def _feature(feature: Feature) -> FeatureDocument:
    return FeatureDocument(
        name=feature.name, available=feature.available, required=feature.required, detail=feature.detail
    )


def _capacity(pool: IPNetwork) -> int | None:
    # The first address names the network (IPv6: any router in it); IPv4's last one is its broadcast.
    unusable = 2 if isinstance(pool, ipaddress.IPv4Network) else 1
    capacity = max(pool.num_addresses - unusable, 0)
    return capacity if capacity <= _LARGEST_JSON_INTEGER else None
