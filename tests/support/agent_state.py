"""An agent's state for tests of the API and of the command: values that the test sets."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping, Sequence
from typing import TypeVar

from datapath.api import (
    Backend,
    Balancing,
    Direction,
    EndpointSpec,
    Feature,
    Frontend,
    IpcacheKey,
    LocalEndpoint,
    PacketCounter,
    Place,
    PublishedPort,
    PublishedTarget,
    Translation,
    TranslationMode,
)
from datapath.flow_event import TrackedConnection
from datapath.newest import Newest, newest
from datapath.policy_table import PolicyKey, PolicyVerdict
from kvstore.store import StoreStatus
from model.addresses import AddressKind, AddressRecord, IPNetwork, MacAddress, PoolRecord
from model.endpoints import Endpoint, Publication
from model.errors import HawseError
from model.ids import IDENTITY_INIT, IDENTITY_WORLD, DockerNetworkId, EndpointId, IdentityId, NodeName, Vni
from model.labels import Labels
from model.networks import Network
from model.nodes import Node
from observe.state import (
    AgentState,
    AgentStatus,
    DatapathStatus,
    Finding,
    HeldAddress,
    ProgramOrigin,
    Scope,
)
from tests.support.policy_state import DB, HERE, RULE, THERE, WEB, FixedPolicyState
from tests.support.service_state import VIP, FixedServiceState

T = TypeVar("T")

POOL = ipaddress.ip_network("10.1.0.0/24")
OTHER_POOL = ipaddress.ip_network("10.9.0.0/16")
CREATED = "2026-03-01T10:00:00Z"
ENDPOINT_HERE = EndpointId("1f" * 32)
ENDPOINT_THERE = EndpointId("2e" * 32)
PREFIX_IDENTITY = 0x01000000


def a_status() -> AgentStatus:
    return AgentStatus(
        version="0.1.0",
        uptime_s=3723.5,
        node=HERE,
        address=ipaddress.ip_address("192.0.2.1"),
        scope=Scope.GLOBAL,
        scope_warning=None,
        store=StoreStatus(
            healthy=True,
            detail="http://127.0.0.1:2379, etcd 3.4.23",
            endpoints=("http://127.0.0.1:2379",),
            revision=4711,
            db_size_bytes=20480,
        ),
        datapath=DatapathStatus(
            device="hawse0",
            tunnel_port=8472,
            mtu_bytes=1450,
            programs=ProgramOrigin.ADOPTED,
            features=(
                Feature(name="vxlan-gbp", available=True, required=True, detail=""),
                Feature(name="redirect-peer", available=True, required=True, detail=""),
                Feature(name="netkit", available=False, required=False, detail="kernel too old; veth is used instead"),
            ),
            translation=TranslationMode.SOCKET,
        ),
        problems=(),
    )


def a_node(name: NodeName, address: str) -> Node:
    return Node(
        name=name,
        address=ipaddress.ip_address(address),
        tunnel_port=8472,
        mtu_bytes=1450,
        version="0.1.0",
        registered_at=CREATED,
    )


def a_mac(address: str) -> MacAddress:
    return MacAddress(f"0a:00:00:00:00:{int(address.rpartition('.')[2]):02x}")


def an_endpoint(
    ident: EndpointId,
    node: NodeName,
    address: str,
    *,
    identity: IdentityId = IDENTITY_INIT,
    labels: Labels | None = None,
    container: str = "",
    published: tuple[Publication, ...] = (),
) -> Endpoint:
    ip = ipaddress.ip_address(address)
    return Endpoint(
        endpoint_id=ident,
        node=node,
        network=POOL,
        docker_network=DockerNetworkId("c0ffee" * 4),
        vni=Vni(4097),
        addresses=(ip,),
        mac=a_mac(address),
        identity=identity,
        labels=labels,
        container=container,
        published=published,
        sandbox_key="/var/run/docker/netns/abc",
        created_at=CREATED,
    )


def held(address: str, kind: AddressKind, *holders: str) -> HeldAddress:
    return HeldAddress(
        pool=POOL,
        address=ipaddress.ip_address(address),
        record=AddressRecord(kind=kind, holders=holders, granted_at=CREATED),
    )


def a_counter(reason: int, text: str, direction: Direction, packets: int) -> PacketCounter:
    return PacketCounter(reason=reason, text=text, direction=direction, packets=packets, bytes=packets * 100)


def a_connection(source_port: int, idle_s: float) -> TrackedConnection:
    return TrackedConnection(
        vni=4097,
        protocol=6,
        source=ipaddress.ip_address("10.1.0.10"),
        source_port=source_port,
        destination=ipaddress.ip_address("10.1.0.9"),
        destination_port=5432,
        source_identity=WEB,
        destination_identity=DB,
        state="established",
        idle_s=idle_s,
        epoch=7,
        egress_rule=0,
        ingress_rule=RULE,
    )


def a_translation(kind: str, destination: str, port: int, *, idle_s: int) -> Translation:
    target = ipaddress.IPv4Address(destination)
    client = ipaddress.IPv4Address("10.1.0.10")
    outside = kind == "masquerade"
    return Translation(
        kind=kind,
        protocol=6,
        source=client,
        source_port=40001,
        destination=target,
        destination_port=port,
        new_source=ipaddress.IPv4Address("192.0.2.1") if outside else client,
        new_source_port=10240 if outside else 40001,
        new_destination=target if outside else ipaddress.IPv4Address("10.1.0.9"),
        new_destination_port=port,
        reply=False,
        idle_s=idle_s,
    )


class FixedAgentState(AgentState):
    """Answers what stands in its attributes; raises ``store_error`` and ``kernel_error`` where the real one would."""

    def __init__(self) -> None:
        self.now = a_status()
        self.fixed_policies = FixedPolicyState()
        self.fixed_services = FixedServiceState()
        self.stale: str | None = None
        self.store_error: Exception | None = None
        self.kernel_error: HawseError | None = None
        self.known_nodes: Sequence[Node] = (a_node(THERE, "192.0.2.2"), a_node(HERE, "192.0.2.1"))
        self.alive_nodes = frozenset({HERE})
        self.known_networks: Sequence[Network] = (
            Network(pool=OTHER_POOL, vni=Vni(4098), internal=True, mtu_bytes=1400),
            Network(
                pool=POOL,
                vni=Vni(4097),
                gateway=ipaddress.ip_address("10.1.0.1"),
                docker_ids=(("@swarm", DockerNetworkId("c0ffee" * 4)),),
            ),
        )
        self.known_endpoints: Sequence[Endpoint] = (
            an_endpoint(ENDPOINT_THERE, THERE, "10.1.0.10"),
            an_endpoint(
                ENDPOINT_HERE,
                HERE,
                "10.1.0.9",
                identity=DB,
                labels=Labels.of({"app": "db", "com.docker.stack.namespace": "shop"}),
                container="shop_db.1",
                published=(
                    Publication(port=80, protocol="tcp", host_port=8080),
                    Publication(port=5353, protocol="udp", host_port=53),
                ),
            ),
        )
        self.kernel_interfaces: Sequence[LocalEndpoint] = (
            LocalEndpoint(
                endpoint_id=ENDPOINT_HERE,
                host_ifname="hw1f1f1f1f1f1f",
                container_ifname="hwp1f1f1f1f1f1f",
                ifindex=7,
                spec=EndpointSpec(
                    endpoint_id=ENDPOINT_HERE,
                    vni=Vni(4097),
                    addresses=(ipaddress.ip_address("10.1.0.9"),),
                    mac=a_mac("10.1.0.9"),
                    identity=DB,
                    mtu_bytes=1450,
                ),
            ),
        )
        self.known_pools: Sequence[PoolRecord] = (
            PoolRecord(pool=POOL, holders=("@swarm",), gateway=ipaddress.ip_address("10.1.0.1"), created_at=CREATED),
        )
        self.held_addresses: Sequence[HeldAddress] = (
            held("10.1.0.10", AddressKind.ENDPOINT, "@swarm", "beta"),
            held("10.1.0.9", AddressKind.ENDPOINT, "@swarm", "alpha"),
            held("10.1.0.1", AddressKind.GATEWAY, "@swarm"),
        )
        self.found: Sequence[Finding] = ()
        self.packet_counters: Sequence[PacketCounter] = (
            a_counter(181, "destination unknown", Direction.EGRESS, 3),
            a_counter(0, "forwarded", Direction.INGRESS, 90),
            a_counter(132, "invalid source", Direction.EGRESS, 12),
            a_counter(0, "forwarded", Direction.EGRESS, 100),
        )

        self.entries: Mapping[PolicyKey, PolicyVerdict] = {
            PolicyKey(DB, PREFIX_IDENTITY, Direction.INGRESS): PolicyVerdict(deny=True, rule=99),
            PolicyKey(DB, WEB, Direction.INGRESS, 6, 5432, 16): PolicyVerdict(deny=False, rule=RULE),
            PolicyKey(DB, 0, Direction.EGRESS, 17, 32768, 1): PolicyVerdict(deny=False, rule=RULE),
        }
        self.prefixes: Mapping[IPNetwork, int] = {ipaddress.ip_network("192.0.2.0/24"): PREFIX_IDENTITY}
        self.tracked: Sequence[TrackedConnection] = (a_connection(40002, 61.0), a_connection(40001, 0.25))
        self.places: Mapping[IpcacheKey, Place] = {
            IpcacheKey(Vni(4097), ipaddress.ip_address("10.1.0.10")): Place(
                identity=WEB, tunnel_endpoint=ipaddress.ip_address("192.0.2.2"), ifindex=0
            ),
            IpcacheKey(Vni(4097), ipaddress.ip_address("10.1.0.9")): Place(
                identity=DB, tunnel_endpoint=None, ifindex=7
            ),
            IpcacheKey(Vni(17), ipaddress.ip_address("10.1.0.9")): Place(
                identity=IDENTITY_WORLD, tunnel_endpoint=None, ifindex=0
            ),
        }
        self.kernel_frontends: Mapping[Frontend, Balancing] = {
            Frontend(address=VIP, vni=Vni(4097), port=81, protocol=17): Balancing(),
            Frontend(address=VIP, vni=Vni(4097)): Balancing(
                backends=(
                    Backend(ipaddress.IPv4Address("10.1.0.10"), 8080),
                    Backend(ipaddress.IPv4Address("10.1.0.9")),
                ),
                table=(0, 1, 1, 0, 1, 1, 0, 1),
                affinity=True,
            ),
        }
        self.translated: Sequence[Translation] = (
            a_translation("masquerade", "198.51.100.7", 443, idle_s=61),
            a_translation("service", str(VIP), 80, idle_s=0),
        )
        self.kernel_published: Mapping[PublishedPort, PublishedTarget] = {
            PublishedPort(port=8080, protocol=6): PublishedTarget(
                address=ipaddress.IPv4Address("10.1.0.9"), vni=Vni(4097), port=80
            ),
            PublishedPort(port=53, protocol=17, address=ipaddress.IPv4Address("192.0.2.1")): PublishedTarget(
                address=ipaddress.IPv4Address("10.9.0.4"), vni=Vni(4098), port=5353
            ),
        }

    @property
    def policies(self) -> FixedPolicyState:
        return self.fixed_policies

    @property
    def balancing(self) -> FixedServiceState:
        return self.fixed_services

    def change_status(self, **changes: object) -> None:
        self.now = dataclasses.replace(self.now, **changes)  # type: ignore[arg-type]  # any field, by name

    def node(self) -> NodeName:
        return HERE

    def staleness(self) -> str | None:
        return self.stale

    def status(self) -> AgentStatus:
        return self.now

    def nodes(self) -> Sequence[Node]:
        self._ask_store()
        return self.known_nodes

    def alive(self) -> frozenset[NodeName]:
        self._ask_store()
        return self.alive_nodes

    def networks(self) -> Sequence[Network]:
        self._ask_store()
        return self.known_networks

    def endpoints(self) -> Sequence[Endpoint]:
        self._ask_store()
        return self.known_endpoints

    def interfaces(self) -> Sequence[LocalEndpoint]:
        self._ask_kernel()
        return self.kernel_interfaces

    def pools(self) -> Sequence[PoolRecord]:
        self._ask_store()
        return self.known_pools

    def addresses(self) -> Sequence[HeldAddress]:
        self._ask_store()
        return self.held_addresses

    def findings(self) -> Sequence[Finding]:
        self._ask_store()
        return self.found

    def counters(self) -> Sequence[PacketCounter]:
        self._ask_kernel()
        return self.packet_counters

    def policy_entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        self._ask_kernel()
        return self.entries

    def policy_prefixes(self) -> Mapping[IPNetwork, int]:
        self._ask_kernel()
        return self.prefixes

    def connections(self, limit: int) -> Newest[TrackedConnection]:
        self._ask_kernel()
        return _newest(self.tracked, limit)

    def ipcache(self) -> Mapping[IpcacheKey, Place]:
        self._ask_kernel()
        return self.places

    def frontends(self) -> Mapping[Frontend, Balancing]:
        self._ask_kernel()
        return self.kernel_frontends

    def translations(self, limit: int) -> Newest[Translation]:
        self._ask_kernel()
        return _newest(self.translated, limit)

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        self._ask_kernel()
        return self.kernel_published

    def _ask_store(self) -> None:
        if self.store_error is not None:
            raise self.store_error

    def _ask_kernel(self) -> None:
        if self.kernel_error is not None:
            raise self.kernel_error


def _newest(found: Sequence[T], limit: int) -> Newest[T]:
    return newest(((one.idle_s, one) for one in found), limit, lambda _, one: one)  # type: ignore[attr-defined]
