"""Agents of several nodes on one store in memory: registries, IPAM and collectors, with the fake datapath."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cluster.departed import DepartedNodes
from cluster.election import Election
from cluster.endpoints import EndpointRegistry
from cluster.local_garbage import LocalGarbage
from cluster.networks import NetworkRegistry
from cluster.nodes import NodeRegistry
from cluster.usage import RegistryUsage
from cluster.views import ClusterViews
from datapath.api import DatapathConfig, EndpointSpec
from datapath.fake import FakeDatapath
from ipam.config import IpamConfig
from ipam.pool_id import AddressSpace, PoolId
from ipam.service import Ipam
from kvstore import keys
from kvstore.memory import MemoryStore
from kvstore.store import Store
from model.addresses import IPAddress, IPNetwork, MacAddress
from model.clock import rfc3339
from model.endpoints import Endpoint
from model.ids import DockerNetworkId, EndpointId, NodeName
from model.networks import Network
from model.nodes import Node

POOL = ipaddress.ip_network("10.1.0.0/24")
DOCKER_ID = DockerNetworkId("d" * 64)


@dataclass
class ManualClock:
    """A clock that a test moves."""

    time_s: float = 1_000_000.0

    def monotonic_s(self) -> float:
        return self.time_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time_s, UTC)


class Agent:
    """The services of one node, wired as the plugin does."""

    def __init__(
        self,
        store: Store,
        name: str,
        number: int,
        clock: ManualClock,
        *,
        absence_s: float = 24 * 3600,
        kernel: FakeDatapath | None = None,
    ) -> None:
        self.name = NodeName(name)
        self.clock = clock
        self.kernel = kernel or FakeDatapath()
        self.docker: frozenset[DockerNetworkId] | None = None
        self.views = ClusterViews.of(store)
        self.networks = NetworkRegistry(store, self.views.networks)
        self.endpoints = EndpointRegistry(store, self.views.endpoints, self.name)
        self.node = Node(
            name=self.name,
            address=ipaddress.ip_address("192.0.2.0") + number,
            tunnel_port=8472,
            mtu_bytes=1450,
            version="0.1.0",
        )
        self.kernel.start(DatapathConfig(node_address=self.node.address, tunnel_port=8472, mtu_bytes=1450))
        self.nodes = NodeRegistry(store, self.views.nodes, self.views.alive, self.node)
        self.ipam = Ipam(
            store,
            RegistryUsage(self.networks, self.endpoints),
            IpamConfig(node=self.name, default_pools=(ipaddress.ip_network("10.9.0.0/22"),), default_pool_prefix=24),
            clock=clock,
        )
        self.garbage = LocalGarbage(
            self.name,
            endpoints=self.endpoints,
            networks=self.networks,
            holds=self.ipam,
            datapath=self.kernel,
            docker_networks=lambda: self.docker,
            clock=clock,
        )
        self.departed = DepartedNodes(
            nodes=self.nodes,
            endpoints=self.endpoints,
            networks=self.networks,
            holds=self.ipam,
            clock=clock,
            absence_s=absence_s,
        )
        self.election = Election(store, self.name, lambda: self.nodes.lease)

    def start(self) -> None:
        self.views.start()
        self.ipam.start()
        assert self.views.wait_synced(5)
        assert self.ipam.wait_synced(5)

    def stop(self) -> None:
        self.nodes.stop()
        self.ipam.stop()
        self.views.stop()

    def create_network(self, pool: IPNetwork = POOL, docker_id: DockerNetworkId = DOCKER_ID) -> Network:
        """What the engine does for ``docker network create --subnet``."""
        pool_id = self.ipam.request_pool(space=AddressSpace.LOCAL, pool=pool, sub_pool=None)
        gateway = self.ipam.request_address(pool_id, address=None, gateway=True).ip
        return self.networks.ensure(
            pool, holder=self.name, docker_id=docker_id, gateway=gateway, internal=False, mtu_bytes=None
        )

    def interfaces(self) -> set[str]:
        """Endpoint ids of the interfaces in the kernel."""
        return {local.endpoint_id for local in self.kernel.local_endpoints()}

    def lose_interfaces(self) -> None:
        """What the kernel does when the namespaces of all containers vanish."""
        for ident in self.interfaces():
            self.kernel.remove_endpoint(EndpointId(ident))

    def run_container(self, name: str, pool: IPNetwork = POOL) -> Endpoint:
        """What the engine does for ``docker run --network``."""
        granted = self.ipam.request_address(PoolId(space=AddressSpace.LOCAL, pool=pool), address=None, gateway=False)
        network = self.networks.by_pool(pool)
        assert network is not None
        endpoint = self.an_endpoint(name, network, granted.ip)
        self.endpoints.put(endpoint)
        self.kernel.ensure_endpoint(
            EndpointSpec(
                endpoint_id=endpoint.endpoint_id,
                vni=endpoint.vni,
                addresses=endpoint.addresses,
                mac=endpoint.mac,
                identity=endpoint.identity,
                mtu_bytes=1450,
            )
        )
        return endpoint

    def stop_container(self, endpoint: Endpoint) -> None:
        """What the engine does for ``docker stop``."""
        self.kernel.remove_endpoint(endpoint.endpoint_id)
        self.endpoints.remove(endpoint.endpoint_id)
        for address in endpoint.addresses:
            self.ipam.release_address(PoolId(space=AddressSpace.LOCAL, pool=endpoint.network), address)

    def an_endpoint(self, name: str, network: Network, address: IPAddress) -> Endpoint:
        return Endpoint(
            endpoint_id=EndpointId(name),
            node=self.name,
            network=network.pool,
            docker_network=DOCKER_ID,
            vni=network.vni,
            addresses=(address,),
            mac=MacAddress.for_address(network.vni, address),
            created_at=rfc3339(self.clock.now()),
        )


@dataclass
class ClusterWorld:
    """Several agents on one store."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)
    agents: list[Agent] = field(default_factory=list)

    def agent(self, name: str, *, absence_s: float = 24 * 3600) -> Agent:
        agent = Agent(self.store, name, len(self.agents) + 1, self.clock, absence_s=absence_s)
        agent.start()
        self.agents.append(agent)
        return agent

    def settle(self) -> None:
        """Wait until every agent knows all that is in the store."""
        revision = self.store.list(keys.ROOT).revision
        self.store.report_progress()
        for agent in self.agents:
            ipam_views = agent.ipam._views
            views = agent.views
            for view in (
                views.networks,
                views.endpoints,
                views.nodes,
                views.alive,
                ipam_views.pools,
                ipam_views.addresses,
                ipam_views.cursors,
            ):
                assert view.wait_delivered(revision, 5)

    def stored(self, prefix: str = keys.ROOT) -> list[str]:
        return [item.key for item in self.store.list(prefix).items]

    def stop(self) -> None:
        for agent in self.agents:
            agent.stop()
        self.store.close()
