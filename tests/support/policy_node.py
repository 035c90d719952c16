"""One node's policy services on a store in memory, with the fake datapath: wired as the plugin does."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping

from cluster.views import ClusterViews
from datapath.api import DatapathConfig, EndpointSpec
from datapath.fake import FakeDatapath
from datapath.policy_table import IdentityFlags, PolicyTable
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.store import Delete, Put, Store
from model.addresses import MacAddress
from model.endpoints import Endpoint
from model.errors import HawseError
from model.identities import IdentityRecord
from model.ids import DockerNetworkId, EndpointId, IdentityId, NodeName, Vni
from model.labels import Labels
from model.nodes import Node
from model.policies import PolicyMode
from model.policy_answers import Enforcement
from policy.controller import PolicyController
from policy.enforcement import EnforcementPublisher
from policy.registry import PolicyRegistry
from policy.rollout import RolloutWatch
from policy.service import PolicyService
from policy.views import PolicyViews
from tests.support.cluster_world import ManualClock
from tests.support.wait import until

WAIT_S = 5.0
QUICK = Backoff(first_s=0.001, limit_s=0.01)
SLOW = Backoff(first_s=3600, limit_s=3600)
VNI = Vni(7)


class WatchedKernel(FakeDatapath):
    """Counts what it is asked, and can be broken for longer than one call."""

    def __init__(self) -> None:
        super().__init__()
        self.applications = 0
        self.error: HawseError | None = None
        self.failed = threading.Event()

    def apply_policy(self, table: PolicyTable) -> int:
        self.applications += 1
        if self.error is not None:
            self.failed.set()
            raise self.error
        return super().apply_policy(table)


class PolicyNode:
    """A node; :meth:`start` begins, :meth:`stop` ends it and leaves the kernel, as an agent does."""

    def __init__(
        self,
        store: Store,
        name: str = "node-a",
        *,
        kernel: WatchedKernel | None = None,
        mode: PolicyMode = PolicyMode.DEFAULT,
        audit: bool = False,
        backoff: Backoff = QUICK,
    ) -> None:
        self.store = store
        self.name = NodeName(name)
        self.clock = ManualClock()
        self.kernel = kernel or WatchedKernel()
        self.kernel.start(DatapathConfig(node_address=ipaddress.ip_address("192.0.2.1"), tunnel_port=1, mtu_bytes=1450))
        self.cluster = ClusterViews.of(store)
        self.views = PolicyViews.of(store)
        self.registry = PolicyRegistry(store, self.views.policies, self.name, self.clock)
        self.publisher = EnforcementPublisher(store, self.views.enforced, self.name, backoff=QUICK)
        self.controller = PolicyController(
            self.kernel,
            self.views,
            self.cluster.endpoints,
            self.name,
            self.publisher,
            mode=mode,
            audit=audit,
            backoff=backoff,
            clock=self.clock,
        )
        self.rollout = RolloutWatch(self.views.policies, self.views.enforced, self.cluster.nodes, self.cluster.alive)
        self.service = PolicyService(self.registry, self.controller, self.rollout, self.views, self.cluster.endpoints)

    def start(self) -> PolicyNode:
        self.cluster.start()
        self.views.start()
        self.publisher.start()
        self.controller.start()
        return self

    def stop(self) -> None:
        self.rollout.stop()
        self.controller.stop()
        self.publisher.stop()
        self.views.stop()
        self.cluster.stop()

    def flags(self, identity: int) -> IdentityFlags:
        return self.kernel.policy.identities.get(identity, IdentityFlags(0))

    def applied(self, revision: int) -> None:
        assert self.controller.wait_applied(revision, WAIT_S), self.controller.health

    def becomes(self, identity: int, flags: IdentityFlags) -> None:
        until(
            f"identity {identity} has {flags!r}",
            lambda: self.flags(identity) == flags,
            timeout_s=WAIT_S,
            interval_s=0.005,
        )

    @staticmethod
    def nothing(problem: str = "") -> Enforcement:
        """What a node that has said nothing can be taken for."""
        return Enforcement(revision=0, mode=PolicyMode.DEFAULT, problem=problem)

    def says(self) -> Enforcement | None:
        entry = self.views.enforced.get(keys.enforced(self.name))
        return None if entry is None else entry.value


def put(store: Store, key: str, value: object) -> int:
    return store.txn([], [Put(key, encode(value))]).revision


def remove(store: Store, key: str) -> int:
    return store.txn([], [Delete(key)]).revision


def put_identity(store: Store, number: int, labels: Mapping[str, str]) -> int:
    return put(store, keys.identity(IdentityId(number)), IdentityRecord(labels=Labels.of(labels)))


def an_endpoint(
    name: str, number: int, *, node: str = "node-a", labels: Mapping[str, str] | None = None, host: int = 5
) -> Endpoint:
    address = ipaddress.ip_address("10.1.0.0") + host
    return Endpoint(
        endpoint_id=EndpointId(name),
        node=NodeName(node),
        network=ipaddress.ip_network("10.1.0.0/24"),
        docker_network=DockerNetworkId("d" * 64),
        vni=VNI,
        addresses=(address,),
        mac=MacAddress.for_address(VNI, address),
        identity=IdentityId(number),
        labels=None if labels is None else Labels.of(labels),
    )


def put_endpoint(store: Store, endpoint: Endpoint) -> int:
    return put(store, keys.endpoint(endpoint.node, endpoint.endpoint_id), endpoint)


def connect(kernel: FakeDatapath, endpoint: Endpoint, identity: int | None = None) -> None:
    kernel.ensure_endpoint(
        EndpointSpec(
            endpoint_id=endpoint.endpoint_id,
            vni=endpoint.vni,
            addresses=endpoint.addresses,
            mac=endpoint.mac,
            identity=endpoint.identity if identity is None else IdentityId(identity),
            mtu_bytes=1450,
        )
    )


def register(store: Store, name: str, *, alive: bool = True) -> None:
    node = Node(
        name=NodeName(name),
        address=ipaddress.ip_address("192.0.2.1"),
        tunnel_port=8472,
        mtu_bytes=1450,
        version="0.1.0",
    )
    put(store, keys.node(node.name), node)
    if alive:
        store.txn([], [Put(keys.alive(node.name), b"192.0.2.1")])
