"""What the bench writes to etcd is what agents write."""

from __future__ import annotations

import ipaddress

from cluster.views import ClusterViews
from ipam.views import IpamViews
from kvstore.memory import MemoryStore
from kvstore.store import Op
from model.ids import Vni
from policy.identity_view import identity_view
from tests.bench import scale_records

WAIT_S = 5.0
POOL = ipaddress.ip_network("10.64.0.0/12")


def test_agents_can_read_all_of_it() -> None:
    store = MemoryStore()
    records: list[Op] = [
        *scale_records.nodes(),
        *scale_records.identities(3),
        *scale_records.endpoints(POOL, Vni(7), range(10), identity_count=3),
    ]
    store.txn([], records)
    cluster, addresses, identities = ClusterViews.of(store), IpamViews.of(store), identity_view(store)
    cluster.start()
    addresses.start()
    identities.start()
    try:
        assert cluster.wait_synced(WAIT_S)
        assert addresses.addresses.wait_synced(WAIT_S)
        assert identities.wait_synced(WAIT_S)

        assert scale_records.NODES == len(cluster.nodes.items())
        found = [entry.value for entry in cluster.endpoints.items().values()]
        assert len(found) == 10
        assert all(endpoint.addresses[0] in POOL for endpoint in found)
        assert len(addresses.addresses.items()) == 10
        labels = {entry.value.labels for entry in identities.items().values()}
        assert labels == {endpoint.labels for endpoint in found}
    finally:
        cluster.stop()
        addresses.stop()
        identities.stop()
        store.close()
