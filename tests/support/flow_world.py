"""A flow log on a fake kernel and a store in memory, with two containers and the policies that the test sets."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from datapath.api import DatapathConfig, Direction
from datapath.fake import FakeDatapath
from datapath.flow_event import FlowEvent, FlowVerdict
from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.memory import MemoryStore
from kvstore.store import Delete, Put
from kvstore.watcher import View
from model.addresses import MacAddress
from model.endpoints import Endpoint
from model.identities import reserved_labels
from model.ids import DockerNetworkId, EndpointId, IdentityId, NodeName, ServiceId, Vni
from model.labels import Labels
from model.policies import Protocol
from model.policy_answers import RuleReference
from model.services import Service, ServiceSource, ServiceTask, VirtualAddress
from observe.flow_names import EndpointNames, ServiceAddresses
from observe.flow_ring import CAPACITY, FlowLog
from tests.support.cluster_world import ManualClock

HERE = NodeName("alpha")
THERE = NodeName("beta")
VNI = Vni(4097)
WEB = IdentityId(1021)
DB = IdentityId(1040)
WEB_ADDRESS = ipaddress.ip_address("10.1.0.5")
DB_ADDRESS = ipaddress.ip_address("10.1.1.7")
VIP = ipaddress.ip_address("10.1.0.2")
WEB_LABELS = Labels.of({"app": "web", "tier": "front", "com.docker.stack.namespace": "shop"})
DB_LABELS = Labels.of({"app": "db", "com.docker.stack.namespace": "shop"})
DB_FROM_API = 101
DB_GUARD = 102
STARTED_S = 1_772_366_400.0
"""2026-03-01T12:00:00Z."""


def an_event(**changes: Any) -> FlowEvent:
    """The first packet from web to the database, dropped at the database because no rule allows it."""
    event = FlowEvent(
        monotonic_ns=int(STARTED_S * 1e9) + 1_204_000_000,
        verdict=FlowVerdict.DROPPED,
        direction=Direction.INGRESS,
        reason=133,
        rule=0,
        other_rule=0,
        source_identity=WEB,
        destination_identity=DB,
        source=WEB_ADDRESS,
        destination=DB_ADDRESS,
        source_port=41022,
        destination_port=5432,
        protocol=Protocol.TCP,
        tcp_flags=0x02,
        is_reply=False,
        vni=VNI,
        ifindex=12,
        source_file="lib/policy.h",
        source_line=77,
        length_bytes=74,
    )
    return msgspec.structs.replace(event, **changes)


def forwarded(**changes: Any) -> FlowEvent:
    """The same packet, let through; no policy was asked."""
    plain = {"verdict": FlowVerdict.FORWARDED, "reason": 0, "source_file": "", "source_line": 0}
    return an_event(**{**plain, **changes})


def an_endpoint(ident: str, address: object, identity: int, **changes: Any) -> Endpoint:
    endpoint = Endpoint(
        endpoint_id=EndpointId(ident * 32),
        node=HERE,
        network=ipaddress.ip_network("10.1.0.0/16"),
        docker_network=DockerNetworkId("c0ffee"),
        vni=VNI,
        addresses=(ipaddress.ip_address(str(address)),),
        mac=MacAddress("0a:00:00:00:00:01"),
        identity=IdentityId(identity),
        created_at="2026-03-01T10:00:00Z",
    )
    return replace(endpoint, **changes)


WEB_ENDPOINT = an_endpoint("aa", WEB_ADDRESS, WEB, labels=WEB_LABELS, container="web")
DB_ENDPOINT = an_endpoint("bb", DB_ADDRESS, DB, labels=DB_LABELS, container="db", node=THERE)


def a_service(**changes: Any) -> Service:
    """The service ``shop_db`` of the Swarm; the database answers for it."""
    service = Service(
        service_id=ServiceId("k3xq9m2b7c1d"),
        name="shop_db",
        source=ServiceSource.SWARM,
        addresses=(VirtualAddress(network=ipaddress.ip_network("10.1.0.0/16"), address=VIP),),
        tasks=(ServiceTask(name="shop_db.1", task_id="t1", node=THERE, addresses=(DB_ADDRESS,), active=True),),
    )
    return replace(service, **changes)


@dataclass
class FixedRules:
    """What the policy's numbers stand for: what stands in the attributes."""

    rules: dict[int, RuleReference] = field(
        default_factory=lambda: {
            DB_FROM_API: RuleReference(policy="db-from-api", path="spec.ingress[0]", deny=False, revision=17),
            DB_GUARD: RuleReference(policy="shop/db-guard", path="spec.ingressDeny[0]", deny=True, revision=18),
        }
    )
    policies: dict[tuple[int, Direction], tuple[str, ...]] = field(
        default_factory=lambda: {(DB, Direction.INGRESS): ("deny-all", "db-from-api")}
    )
    labels: dict[int, Labels] = field(default_factory=lambda: {WEB: WEB_LABELS, DB: DB_LABELS})

    def rule(self, number: int) -> RuleReference | None:
        return self.rules.get(number)

    def selecting(self, identity: int, direction: Direction) -> tuple[str, ...]:
        return self.policies.get((identity, direction), ())

    def labels_of(self, identity: int) -> Labels:
        return self.labels.get(identity) or reserved_labels(IdentityId(identity))


class FlowWorld:
    """What a node has to observe flows with."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self.clock = ManualClock(STARTED_S + 1.5)
        self.kernel = FakeDatapath()
        self.kernel.start(
            DatapathConfig(node_address=ipaddress.ip_address("192.0.2.1"), tunnel_port=8472, mtu_bytes=1450)
        )
        self.rules = FixedRules()
        self.store = MemoryStore()
        self.view: View[Endpoint] = View(
            self.store, keys.ENDPOINTS, lambda item: decode(Endpoint, item.value, key=item.key)
        )
        self.names = EndpointNames(self.view, self.clock)
        self.services: View[Service] = View(
            self.store, keys.SERVICES, lambda item: decode(Service, item.value, key=item.key)
        )
        self.log = FlowLog(
            self.kernel,
            self.names,
            self.rules,
            self.clock,
            HERE,
            services=ServiceAddresses(self.services),
            capacity=capacity,
        )

    def put(self, *endpoints: Endpoint) -> None:
        """Record endpoints, and wait until their names are known."""
        self._txn(self.view, [Put(keys.endpoint(one.node, one.endpoint_id), encode(one)) for one in endpoints])

    def remove(self, *endpoints: Endpoint) -> None:
        """Remove endpoints, and wait until the names' table has seen it."""
        self._txn(self.view, [Delete(keys.endpoint(one.node, one.endpoint_id)) for one in endpoints])

    def put_services(self, *services: Service) -> None:
        """Record services, and wait until their addresses are known."""
        self._txn(self.services, [Put(keys.service(one.service_id), encode(one)) for one in services])

    def remove_service(self, service: Service) -> None:
        """Remove a service, and wait until its addresses are known no more."""
        self._txn(self.services, [Delete(keys.service(service.service_id))])

    def happen(self, *events: FlowEvent, lost: int = 0) -> None:
        """Let the kernel report, and the log take it."""
        self.kernel.reported += events
        self.kernel.unreported += lost
        self.log.take()

    def _txn(self, view: View[Any], operations: list[Any]) -> None:
        result = self.store.txn([], operations)
        assert view.wait_delivered(result.revision, 10)


@contextmanager
def flow_world(*, capacity: int = CAPACITY) -> Iterator[FlowWorld]:
    """Run a world; its containers are there."""
    world = FlowWorld(capacity=capacity)
    world.view.start()
    world.services.start()
    try:
        world.put(WEB_ENDPOINT, DB_ENDPOINT)
        yield world
    finally:
        world.log.stop()
        world.services.stop()
        world.view.stop()
