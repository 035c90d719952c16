"""What the operator's API shows, gathered from the registries, IPAM, the store and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from balancer.views import ServiceViews
from cluster.endpoints import EndpointRegistry
from cluster.networks import NetworkRegistry
from cluster.nodes import NodeRegistry
from cluster.views import ClusterViews
from datapath.api import (
    Balancing,
    Datapath,
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
from datapath.newest import Newest
from datapath.policy_table import PolicyKey, PolicyVerdict
from ipam.check import DockerNetworks, check
from ipam.inventory import read_records
from ipam.service import Ipam
from kvstore.store import Store
from model.addresses import IPAddress, IPNetwork, PoolRecord
from model.clock import Clock
from model.endpoints import Endpoint
from model.errors import StoreUnavailable
from model.ids import DockerNetworkId, NodeName
from model.networks import Network
from model.nodes import Node
from observe.policy_state import PolicyState
from observe.service_state import ServiceState
from observe.state import AgentStatus, DatapathStatus, Finding, HeldAddress, ProgramOrigin, Scope
from plugin.settings import ServiceTranslation
from policy.views import PolicyViews

_AT_SOCKETS: Final = ("cgroup v2", "socket address hooks", "services at sockets")
"""Features that translation at sockets needs, or is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What does not change while the agent runs."""

    node: NodeName
    version: str
    scope: Scope
    tunnel_device: str
    tunnel_port: int
    address: IPAddress
    """Underlay address."""
    mtu_bytes: int
    """MTU of containers."""
    started_s: float
    """Monotonic clock at start."""
    translation: ServiceTranslation
    """Where virtual addresses of services should be translated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the answers come from."""

    store: Store
    nodes: NodeRegistry
    networks: NetworkRegistry
    endpoints: EndpointRegistry
    ipam: Ipam
    datapath: Datapath
    views: ClusterViews
    problems: Callable[[], Sequence[str]]
    scope_warning: Callable[[], str | None]
    docker_networks: Callable[[], frozenset[DockerNetworkId] | None]
    """Ids of the networks that the engine knows; None when it does not answer."""
    clock: Clock
    policies: PolicyState
    policy_views: PolicyViews
    services: ServiceState
    service_views: ServiceViews


class OperatorState:
    """Implements :class:`observe.state.AgentState`."""

    def __init__(self, identity: Identity, sources: Sources) -> None:
        self._identity = identity
        self._sources = sources

    @property
    def policies(self) -> PolicyState:
        """What is known of policies and identities."""
        return self._sources.policies

    @property
    def balancing(self) -> ServiceState:
        """What is known of services."""
        return self._sources.services

    def node(self) -> NodeName:
        """Name of this node."""
        return self._identity.node

    def staleness(self) -> str | None:
        """Say in one sentence why the listings may be out of date; None while they follow the store."""
        sources = self._sources
        views = (sources.views, sources.policy_views, sources.service_views)
        if all(view.wait_synced(0) for view in views) and sources.ipam.synced:
            return None
        return "etcd is not being followed at the moment: this is what was known last"

    def status(self) -> AgentStatus:
        """Ask how the agent is; never raises."""
        identity, sources = self._identity, self._sources
        features = tuple(sources.datapath.features())
        mode = sources.datapath.translation_mode()
        return AgentStatus(
            version=identity.version,
            uptime_s=sources.clock.monotonic_s() - identity.started_s,
            node=identity.node,
            address=identity.address,
            scope=identity.scope,
            scope_warning=sources.scope_warning(),
            store=sources.store.status(),
            datapath=DatapathStatus(
                device=identity.tunnel_device,
                tunnel_port=identity.tunnel_port,
                mtu_bytes=identity.mtu_bytes,
                programs=_origin(sources.datapath),
                features=features,
                translation=mode,
                translation_reason=packet_reason(identity.translation, features)
                if mode is TranslationMode.PACKET
                else "",
            ),
            problems=tuple(sources.problems()),
        )

    def nodes(self) -> Sequence[Node]:
        """Every node of the cluster."""
        self._require_known()
        return self._sources.nodes.all()

    def alive(self) -> frozenset[NodeName]:
        """Nodes whose agent runs."""
        self._require_known()
        return self._sources.nodes.alive()

    def networks(self) -> Sequence[Network]:
        """Every hawse network."""
        self._require_known()
        return self._sources.networks.all()

    def endpoints(self) -> Sequence[Endpoint]:
        """Every container interface of the cluster."""
        self._require_known()
        return self._sources.endpoints.all()

    def interfaces(self) -> Sequence[LocalEndpoint]:
        """The hawse interfaces of this host, as the kernel has them."""
        return self._sources.datapath.local_endpoints()

    def pools(self) -> Sequence[PoolRecord]:
        """Every address pool."""
        self._require_known()
        return self._sources.ipam.pools()

    def addresses(self) -> Sequence[HeldAddress]:
        """Every address in use."""
        self._require_known()
        return [
            HeldAddress(pool=held.pool, address=held.address, record=held.record)
            for held in self._sources.ipam.addresses()
        ]

    def findings(self) -> Sequence[Finding]:
        """Compare addresses with endpoints and Docker's networks; read from the store now, not from memory."""
        sources = self._sources
        ids = sources.docker_networks()
        docker = None if ids is None else DockerNetworks(node=self._identity.node, ids=ids)
        records = read_records(sources.store, docker=docker, now=sources.clock.now())
        return [Finding(kind=found.kind, subject=found.subject, detail=found.detail) for found in check(records)]

    def counters(self) -> Sequence[PacketCounter]:
        """Packets and bytes of this node by outcome and direction."""
        return self._sources.datapath.counters()

    def policy_entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """The policy entries, as the kernel has them."""
        return self._sources.datapath.policy_entries()

    def policy_prefixes(self) -> Mapping[IPNetwork, int]:
        """The identities of address prefixes, as the kernel has them."""
        return self._sources.datapath.policy_prefixes()

    def connections(self, limit: int) -> Newest[TrackedConnection]:
        """The connections that the kernel tracks; of more than so many those that were used last."""
        return self._sources.datapath.connections(limit)

    def ipcache(self) -> Mapping[IpcacheKey, Place]:
        """Where every address is, as the kernel has it."""
        return self._sources.datapath.ipcache()

    def frontends(self) -> Mapping[Frontend, Balancing]:
        """The services, as the kernel has them."""
        return self._sources.datapath.services()

    def translations(self, limit: int) -> Newest[Translation]:
        """The translated connections, as the kernel has them; of more than so many those that were used last."""
        return self._sources.datapath.translations(limit)

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        """The published ports of this host, as the kernel has them."""
        return self._sources.datapath.published()

    def _require_known(self) -> None:
        views = self._sources.views
        if not all(view.revision for view in (views.nodes, views.alive, views.networks, views.endpoints)):
            raise StoreUnavailable("etcd has not been reached since the agent started")


def packet_reason(wanted: ServiceTranslation, features: Sequence[Feature]) -> str:
    """Say why virtual addresses are not translated at sockets; empty when it is not known."""
    if wanted is ServiceTranslation.PACKET:
        return "SERVICE_TRANSLATION=packet says so"
    missing = {feature.name: feature.detail for feature in features if not feature.available}
    # What the host lacks comes before what failed because of it.
    for name in _AT_SOCKETS:
        if name in missing:
            return f"{name} is not available: {missing[name]}"
    return ""


def _origin(datapath: Datapath) -> ProgramOrigin:
    loaded = datapath.programs_loaded()
    if loaded is None:
        return ProgramOrigin.NONE
    return ProgramOrigin.LOADED if loaded else ProgramOrigin.ADOPTED
