"""Records of endpoints and identities of nodes that are not there, as an agent of theirs would write them to etcd.

Run as a program in the machine of a node, it writes them to the etcd that listens there, and says when it began to.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kvstore import keys
from kvstore.codec import encode
from kvstore.etcd import EtcdStore
from kvstore.etcd_config import EtcdConfig
from kvstore.store import Op, Put
from model.addresses import AddressKind, AddressRecord, IPNetwork, MacAddress
from model.endpoints import Endpoint
from model.identities import IDENTITY_MIN, IdentityRecord
from model.ids import DockerNetworkId, EndpointId, IdentityId, NodeName, Vni
from model.labels import Labels
from model.nodes import Node

NODES: Final = 100
FIRST_IDENTITY: Final = IDENTITY_MIN + 10_000
"""Above those that the node itself gets."""
_CREATED: Final = "2026-01-01T00:00:00Z"
_TRANSACTION: Final = 120
"""Operations; etcd takes 128."""


def identities(count: int) -> Iterator[Put]:
    """Records of identities, each with labels of its own."""
    for number in range(count):
        identity, labels = IdentityId(FIRST_IDENTITY + number), labels_of(number)
        yield Put(keys.identity(identity), encode(IdentityRecord(labels=labels, created_at=_CREATED)))
        yield Put(keys.identity_labels(labels), str(identity).encode())


def endpoints(pool: IPNetwork, vni: Vni, numbers: Sequence[int], *, identity_count: int) -> Iterator[Put]:
    """Records of endpoints and of their addresses, which are those at the end of the pool."""
    for number in numbers:
        address = pool[-2 - number]
        node = node_of(number)
        identity = number % identity_count
        endpoint = Endpoint(
            endpoint_id=EndpointId(f"{number:064x}"),
            node=node,
            network=pool,
            docker_network=DockerNetworkId("f" * 64),
            vni=vni,
            addresses=(address,),
            mac=MacAddress.for_address(vni, address),
            identity=IdentityId(FIRST_IDENTITY + identity),
            labels=labels_of(identity),
            container=f"far-{number}",
            sandbox_key=f"/var/run/docker/netns/{number:012x}",
            created_at=_CREATED,
        )
        held = AddressRecord(kind=AddressKind.ENDPOINT, holders=(node,), granted_at=_CREATED)
        yield Put(keys.endpoint(node, endpoint.endpoint_id), encode(endpoint))
        yield Put(keys.address(pool, address), encode(held))


def nodes() -> Iterator[Put]:
    """Records of the nodes."""
    for number in range(NODES):
        node = Node(
            name=node_of(number),
            address=ipaddress.ip_address("192.0.2.1") + number,
            tunnel_port=8472,
            mtu_bytes=1450,
            version="0",
            registered_at=_CREATED,
        )
        yield Put(keys.node(node.name), encode(node))


def node_of(number: int) -> NodeName:
    """Where an endpoint is."""
    return NodeName(f"far{number % NODES}")


def labels_of(identity: int) -> Labels:
    """The labels of an identity, by its place among the others."""
    return Labels.of({"app": f"app-{identity}", "tier": "bench", "com.docker.compose.project": "far"})


def write(store: EtcdStore, puts: Iterator[Put]) -> None:
    """Write them all, as many in one transaction as etcd takes."""
    batch: list[Op] = []
    for put in puts:
        batch.append(put)
        if len(batch) == _TRANSACTION:
            store.txn([], batch)
            batch = []
    if batch:
        store.txn([], batch)


def main(arguments: Mapping[str, str]) -> None:
    store = EtcdStore(EtcdConfig(endpoints=(arguments["etcd"],)))
    first, last, identity_count = (int(arguments[name]) for name in ("first", "last", "identities"))
    # Of the clock that all machines share: how long it takes until it runs is not the store's.
    begun_s = time.monotonic()
    if first == 0:
        write(store, nodes())
        write(store, identities(identity_count))
    pool, vni = ipaddress.ip_network(arguments["pool"]), Vni(int(arguments["vni"]))
    write(store, endpoints(pool, vni, range(first, last), identity_count=identity_count))
    store.close()
    sys.stdout.write(f"{begun_s}\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
