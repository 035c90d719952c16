"""«hawse ipam check»: one row per contradiction, and a clean cluster says nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ipam.check import DockerNetworks, FindingKind, Records, check
from ipam.inventory import read_records
from kvstore import keys
from kvstore.codec import encode
from kvstore.memory import MemoryStore
from kvstore.store import Put
from model.addresses import SWARM_HOLDER, AddressKind, AddressRecord, MacAddress, PoolRecord, service_holder
from model.clock import rfc3339
from model.endpoints import Endpoint
from model.ids import DockerNetworkId, EndpointId, NodeName, ServiceId, Vni
from model.networks import Network
from model.nodes import Node
from model.services import Service, ServiceSource, VirtualAddress

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LONG_AGO = rfc3339(NOW - timedelta(hours=1))
JUST_NOW = rfc3339(NOW - timedelta(seconds=1))
POOL = ipaddress.ip_network("10.1.0.0/24")
OTHER = ipaddress.ip_network("10.2.0.0/24")
GATEWAY = ipaddress.ip_address("10.1.0.1")
ADDRESS = ipaddress.ip_address("10.1.0.5")
NODE = NodeName("node-a")
DOCKER_ID = DockerNetworkId("d" * 64)


def an_endpoint(name: str = "e1", *, node: str = NODE, created_at: str = LONG_AGO) -> Endpoint:
    return Endpoint(
        endpoint_id=EndpointId(name),
        node=NodeName(node),
        network=POOL,
        docker_network=DOCKER_ID,
        vni=Vni(7),
        addresses=(ADDRESS,),
        mac=MacAddress.for_address(7, ADDRESS),
        created_at=created_at,
    )


def held(*holders: str, kind: AddressKind = AddressKind.ENDPOINT, granted_at: str = LONG_AGO) -> AddressRecord:
    return AddressRecord(kind=kind, holders=holders, granted_at=granted_at)


VIP = ipaddress.ip_address("10.1.0.9")
WEB = Service(
    service_id=ServiceId("label-10.1.0.0-24-web"),
    name="web",
    source=ServiceSource.LABEL,
    addresses=(VirtualAddress(network=POOL, address=VIP),),
)

CLEAN = Records(
    now=NOW,
    pools=[PoolRecord(pool=POOL, holders=(SWARM_HOLDER, NODE), gateway=GATEWAY, created_at=LONG_AGO)],
    addresses={
        (POOL, GATEWAY): held("a-node-of-before", kind=AddressKind.GATEWAY),
        (POOL, ADDRESS): held(SWARM_HOLDER, NODE),
        (POOL, ipaddress.ip_address("10.1.0.6")): held(SWARM_HOLDER),
        (POOL, ipaddress.ip_address("10.1.0.7")): held(NODE, kind=AddressKind.RESERVED),
        (POOL, ipaddress.ip_address("10.1.0.8")): held(NODE, granted_at=JUST_NOW),
    },
    networks=[
        Network(pool=POOL, vni=Vni(7), gateway=GATEWAY, docker_ids=((SWARM_HOLDER, DOCKER_ID), (NODE, DOCKER_ID)))
    ],
    endpoints=[an_endpoint()],
    nodes=frozenset({NODE}),
    docker=DockerNetworks(node=NODE, ids=frozenset({DOCKER_ID})),
)


VIRTUAL = replace(
    CLEAN,
    addresses={**CLEAN.addresses, (POOL, VIP): held(service_holder(WEB.service_id), kind=AddressKind.VIP)},
    services=[WEB, replace(WEB, service_id=ServiceId("k3xq9m2b7c1d4f5g6h7j8k9l0"), source=ServiceSource.SWARM)],
)


@pytest.mark.parametrize("records", [CLEAN, VIRTUAL])
def test_clean_cluster_has_no_findings(records: Records) -> None:
    assert check(records) == []


@pytest.mark.parametrize(
    ("records", "kind", "words"),
    [
        pytest.param(replace(CLEAN, endpoints=[]), FindingKind.LEAKED, "has no endpoint on it", id="idle address"),
        pytest.param(
            replace(VIRTUAL, services=[]),
            FindingKind.LEAKED,
            "is held by service label-10.1.0.0-24-web, which does not have it",
            id="virtual address without service",
        ),
        pytest.param(
            replace(VIRTUAL, services=[WEB, replace(WEB, service_id=ServiceId("label-10.1.0.0-24-api"))]),
            FindingKind.DANGLING,
            "has address 10.1.0.9 in 10.1.0.0/24, which it does not hold",
            id="service on another's address",
        ),
        pytest.param(
            replace(
                CLEAN, addresses={**CLEAN.addresses, (OTHER, ipaddress.ip_address("10.2.0.1")): held(SWARM_HOLDER)}
            ),
            FindingKind.LEAKED,
            "its pool does not exist",
            id="address without pool",
        ),
        pytest.param(
            replace(CLEAN, addresses={}), FindingKind.DANGLING, "held by nobody in pool", id="endpoint without address"
        ),
        pytest.param(
            replace(CLEAN, addresses={(POOL, ADDRESS): held(SWARM_HOLDER)}),
            FindingKind.DANGLING,
            f"held by {SWARM_HOLDER}",
            id="endpoint on another's address",
        ),
        pytest.param(
            replace(CLEAN, endpoints=[an_endpoint("e1"), an_endpoint("e2")]),
            FindingKind.DOUBLED,
            "e1 on node-a and e2 on node-a",
            id="two endpoints on one address",
        ),
        pytest.param(
            replace(CLEAN, pools=[*CLEAN.pools, PoolRecord(pool=OTHER, holders=(NODE,), created_at=LONG_AGO)]),
            FindingKind.LEAKED,
            "pool without a network, held by node node-a",
            id="pool without network",
        ),
        pytest.param(
            replace(CLEAN, networks=[*CLEAN.networks, Network(pool=OTHER, vni=Vni(8))]),
            FindingKind.DANGLING,
            "without a pool",
            id="network without pool",
        ),
        pytest.param(
            replace(
                CLEAN,
                networks=[*CLEAN.networks, Network(pool=OTHER, vni=Vni(7))],
                pools=[*CLEAN.pools, PoolRecord(pool=OTHER, holders=(NODE,), created_at=LONG_AGO)],
            ),
            FindingKind.DOUBLED,
            "belongs to networks 10.1.0.0/24 and 10.2.0.0/24",
            id="VNI doubled",
        ),
        pytest.param(replace(CLEAN, nodes=frozenset()), FindingKind.DANGLING, "is not registered", id="unknown holder"),
        pytest.param(
            replace(CLEAN, docker=DockerNetworks(node=NODE, ids=frozenset())),
            FindingKind.LEAKED,
            "its engine does not know it",
            id="network that Docker does not know",
        ),
    ],
)
def test_one_contradiction_is_one_finding(records: Records, kind: FindingKind, words: str) -> None:
    findings = check(records)

    assert [finding.kind for finding in findings] == [kind]
    assert words in findings[0].detail
    assert findings[0].detail.startswith(findings[0].subject)


@pytest.mark.parametrize(
    "records",
    [
        replace(CLEAN, addresses={}, endpoints=[an_endpoint(created_at=JUST_NOW)]),
        replace(CLEAN, pools=[*CLEAN.pools, PoolRecord(pool=OTHER, holders=(NODE,), created_at=JUST_NOW)]),
        replace(CLEAN, docker=None),
    ],
    ids=["young endpoint", "young pool", "engine away"],
)
def test_what_may_be_about_to_change_is_no_finding(records: Records) -> None:
    assert check(records) == []


def test_records_are_read_from_the_store_as_they_are_written() -> None:
    store = MemoryStore()
    node = Node(name=NODE, address=ipaddress.ip_address("192.0.2.1"), tunnel_port=8472, mtu_bytes=1450, version="0.1.0")
    writes = {keys.node(NODE): encode(node), keys.network(POOL): encode(CLEAN.networks[0])}
    writes |= {keys.pool(record.pool): encode(record) for record in CLEAN.pools}
    writes |= {keys.address(*place): encode(record) for place, record in VIRTUAL.addresses.items()}
    writes |= {keys.service(one.service_id): encode(one) for one in VIRTUAL.services}
    writes |= {keys.endpoint(one.node, one.endpoint_id): encode(one) for one in CLEAN.endpoints}
    store.txn([], [Put(key, value) for key, value in writes.items()])

    read = read_records(store, now=NOW, docker=CLEAN.docker)
    assert replace(read, unreadable={}, services=read.services[::-1]) == VIRTUAL


def test_unreadable_value_is_a_finding() -> None:
    store = MemoryStore()
    store.txn([], [Put(keys.pool(POOL), b"{broken"), Put(keys.ADDRESSES + "nonsense/x", encode(held(NODE)))])

    findings = check(read_records(store, now=NOW, docker=None))

    assert [finding.subject for finding in findings] == [keys.ADDRESSES + "nonsense/x", keys.pool(POOL)]
    assert all("delete this etcd key" in finding.detail for finding in findings)
