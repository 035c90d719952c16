"""Compares addresses with what they are for: pure, so that it can be run on what was read at one moment.

============  ====================================================================================
kind          what contradicts what
============  ====================================================================================
leaked        something is held that nothing uses
doubled       one address or one VNI has two owners
dangling      something is used that is not held, or refers to what does not exist
============  ====================================================================================
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from model.addresses import (
    SWARM_HOLDER,
    AddressKind,
    AddressRecord,
    IPAddress,
    IPNetwork,
    PoolRecord,
    is_node,
    service_holder,
)
from model.clock import age_s
from model.endpoints import Endpoint
from model.ids import DockerNetworkId, NodeName, Vni
from model.networks import Network
from model.services import Service, ServiceSource

GRACE_S: Final = 30.0
"""A hold, pool or endpoint younger than this may be about to be used: the calls for one container take milliseconds."""


class FindingKind(enum.StrEnum):
    """What is wrong; see the table above."""

    LEAKED = "leaked"
    DOUBLED = "doubled"
    DANGLING = "dangling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One contradiction."""

    kind: FindingKind
    subject: str
    """What it is about: an address, an endpoint id, a pool."""
    detail: str
    """What contradicts what, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerNetworks:
    """What the engine of one node says of its networks."""

    node: NodeName
    ids: frozenset[DockerNetworkId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that is compared, read at one moment."""

    now: datetime
    pools: Sequence[PoolRecord]
    addresses: Mapping[tuple[IPNetwork, IPAddress], AddressRecord]
    networks: Sequence[Network]
    endpoints: Sequence[Endpoint]
    nodes: frozenset[NodeName]
    services: Sequence[Service] = ()
    docker: DockerNetworks | None = None
    """None when the engine could not be asked: then its networks are not compared."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Keys whose value cannot be read, and why."""
    grace_s: float = GRACE_S


def check(records: Records) -> list[Finding]:
    """Find every contradiction; an empty list means that all is well."""
    findings = [
        *_held_addresses(records),
        *_used_addresses(records),
        *_virtual_addresses(records),
        *_shared_addresses(records),
        *_pools_and_networks(records),
        *_vnis(records),
        *_holders(records),
        *_docker_networks(records),
        *(_dangling(key, f"cannot be read: {why}; delete this etcd key") for key, why in records.unreadable.items()),
    ]
    return sorted(findings, key=lambda finding: (finding.kind, finding.subject, finding.detail))


def _held_addresses(records: Records) -> Iterator[Finding]:
    pools = {record.pool for record in records.pools}
    used = {
        (endpoint.network, address, endpoint.node) for endpoint in records.endpoints for address in endpoint.addresses
    }
    for (pool, address), record in records.addresses.items():
        if _young(records, record.granted_at):
            continue
        subject = f"{address} in {pool}"
        if pool not in pools:
            yield _leaked(subject, "is recorded, but its pool does not exist; it is collected by the leader's agent")
        if record.kind is not AddressKind.ENDPOINT:
            continue
        for holder in record.holders:
            if holder != SWARM_HOLDER and (pool, address, NodeName(holder)) not in used:
                yield _leaked(
                    subject,
                    f"is held by node {holder}, which has no endpoint on it; the node's agent releases it after two "
                    "minutes, so see whether that agent runs («hawse node ls»)",
                )


def _used_addresses(records: Records) -> Iterator[Finding]:
    for endpoint in records.endpoints:
        if _young(records, endpoint.created_at):
            continue
        for address in endpoint.addresses:
            held = records.addresses.get((endpoint.network, address))
            if held is None or endpoint.node not in held.holders:
                by = "nobody" if held is None else ", ".join(held.holders)
                yield _dangling(
                    endpoint.endpoint_id,
                    f"on node {endpoint.node} uses address {address}, which is held by {by} in pool "
                    f"{endpoint.network}; restart the container",
                )


def _virtual_addresses(records: Records) -> Iterator[Finding]:
    """Addresses of services of labels; those of the Swarm's services its own allocator holds."""
    held = {
        (pool, address, holder)
        for (pool, address), record in records.addresses.items()
        if record.kind is AddressKind.VIP and not _young(records, record.granted_at)
        for holder in record.holders
    }
    used = {
        (virtual.network, virtual.address, service_holder(service.service_id))
        for service in records.services
        if service.source is ServiceSource.LABEL
        for virtual in service.addresses
    }
    for pool, address, holder in held - used:
        yield _leaked(
            f"{address} in {pool}",
            f"is held by service {holder.removeprefix('@')}, which does not have it (any more); the leader's agent "
            "releases it after ten minutes",
        )
    for pool, address, holder in used:
        known = records.addresses.get((pool, address))
        if known is None or holder not in known.holders:
            yield _dangling(
                f"service {holder.removeprefix('@')}",
                f"has address {address} in {pool}, which it does not hold; a node that runs a container of it gets it "
                "another",
            )


def _shared_addresses(records: Records) -> Iterator[Finding]:
    users: defaultdict[tuple[Vni, IPAddress], list[Endpoint]] = defaultdict(list)
    for endpoint in records.endpoints:
        for address in endpoint.addresses:
            users[endpoint.vni, address].append(endpoint)
    for (vni, address), endpoints in users.items():
        if len(endpoints) > 1:
            names = " and ".join(f"{one.endpoint_id} on {one.node}" for one in endpoints)
            yield _doubled(
                f"{address} in {endpoints[0].network}",
                f"is used in VNI {vni} by endpoints {names}; restart all but one of these containers",
            )


def _pools_and_networks(records: Records) -> Iterator[Finding]:
    with_network = {network.pool for network in records.networks}
    pools = {record.pool for record in records.pools}
    for record in records.pools:
        if record.pool not in with_network and not _young(records, record.created_at):
            yield _leaked(
                str(record.pool),
                f"is a pool without a network, held by {_names(record.holders)}; a node's agent drops its hold after "
                "two minutes, so see whether these agents run («hawse node ls»)",
            )
    for network in records.networks:
        if network.pool not in pools:
            yield _dangling(
                str(network.pool), f"is a network (VNI {network.vni}) without a pool; remove it and create it again"
            )


def _vnis(records: Records) -> Iterator[Finding]:
    networks: defaultdict[Vni, list[Network]] = defaultdict(list)
    for network in records.networks:
        networks[network.vni].append(network)
    for vni, sharing in networks.items():
        if len(sharing) > 1:
            pools = " and ".join(str(network.pool) for network in sharing)
            yield _doubled(f"VNI {vni}", f"belongs to networks {pools}; remove all but one and create them again")


def _holders(records: Records) -> Iterator[Finding]:
    held: defaultdict[str, list[str]] = defaultdict(list)
    for record in records.pools:
        _note(held, record.holders, f"pool {record.pool}")
    for (_, address), granted in records.addresses.items():
        # A gateway belongs to its pool; who asked for it first may be gone.
        if granted.kind is not AddressKind.GATEWAY:
            _note(held, granted.holders, str(address))
    for network in records.networks:
        _note(held, (holder for holder, _ in network.docker_ids), f"network {network.pool}")
    for endpoint in records.endpoints:
        _note(held, [endpoint.node], f"endpoint {endpoint.endpoint_id}")
    for holder, what in held.items():
        if holder not in records.nodes:
            more = f" and {len(what) - 3} more" if len(what) > 3 else ""  # noqa: PLR2004  (three examples are enough)
            yield _dangling(
                f"node {holder}",
                f"is not registered, but holds {', '.join(what[:3])}{more}; start its agent, or wait until the leader "
                "collects what it left",
            )


def _docker_networks(records: Records) -> Iterator[Finding]:
    if records.docker is None:
        return
    for network in records.networks:
        for holder, docker_id in network.docker_ids:
            if holder == records.docker.node and docker_id not in records.docker.ids:
                yield _leaked(
                    f"network {docker_id}",
                    f"on pool {network.pool} is recorded for node {holder}, but its engine does not know it; the "
                    "node's agent leaves it after two minutes",
                )


def _note(held: defaultdict[str, list[str]], holders: Iterable[str], what: str) -> None:
    for holder in holders:
        if is_node(holder):
            held[holder].append(what)


def _names(holders: Iterable[str]) -> str:
    return ", ".join("the Swarm's allocator" if holder == SWARM_HOLDER else f"node {holder}" for holder in holders)


def _young(records: Records, written: str) -> bool:
    return age_s(records.now, written) < records.grace_s


def _leaked(subject: str, detail: str) -> Finding:
    return Finding(kind=FindingKind.LEAKED, subject=subject, detail=f"{subject} {detail}")


def _doubled(subject: str, detail: str) -> Finding:
    return Finding(kind=FindingKind.DOUBLED, subject=subject, detail=f"{subject} {detail}")


def _dangling(subject: str, detail: str) -> Finding:
    return Finding(kind=FindingKind.DANGLING, subject=subject, detail=f"{subject} {detail}")
