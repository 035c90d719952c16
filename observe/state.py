"""What the agent's API asks of the agent: one Protocol, in the terms of the model.

The registries, the allocator and the datapath hold this state; ``plugin/wiring.py`` joins them into one object of this
shape. What the API asks of policies, and what it may change, is in ``observe/policy_state.py``; what it asks of
services in ``observe/service_state.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from datapath.api import (
    Balancing,
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
from kvstore.store import StoreStatus
from model.addresses import AddressRecord, IPAddress, IPNetwork, PoolRecord
from model.endpoints import Endpoint
from model.ids import NodeName
from model.networks import Network
from model.nodes import Node
from observe.policy_state import PolicyState
from observe.service_state import ServiceState


class Scope(enum.StrEnum):
    """Who allocates networks and addresses: this host's engine, or the Swarm."""

    LOCAL = "local"
    GLOBAL = "global"


class ProgramOrigin(enum.StrEnum):
    """Where the BPF programs that run now came from when this agent started."""

    LOADED = "loaded"
    ADOPTED = "adopted"
    """They were pinned already and built from the same source: nothing was loaded."""
    NONE = "none"
    """There are none (yet): a problem of the status says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathStatus:
    """The kernel side of this node."""

    device: str
    """The VXLAN device."""
    tunnel_port: int
    mtu_bytes: int
    """MTU of container interfaces that ask for no other."""
    programs: ProgramOrigin
    features: tuple[Feature, ...]
    translation: TranslationMode | None = None
    """Where virtual addresses of services are translated; None: nowhere yet."""
    translation_reason: str = ""
    """Why there and not at sockets; empty when it is at sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """How the agent of this node is."""

    version: str
    uptime_s: float
    node: NodeName
    address: IPAddress | None
    """Underlay address; None while it is not known."""
    scope: Scope
    scope_warning: str | None
    """A sentence with the command to run, when the engine has joined or left a Swarm since the plugin was enabled."""
    store: StoreStatus
    datapath: DatapathStatus
    problems: tuple[str, ...]
    """What does not work, a sentence each; without what ``store`` and ``datapath`` say already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAddress:
    """One address in use and its pool."""

    pool: IPNetwork
    address: IPAddress
    record: AddressRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One contradiction between addresses, endpoints and Docker's networks."""

    kind: str
    """One lower-case word or two with a ``-``, for programs: ``leaked-address``."""
    subject: str
    """What it is about: an address, an endpoint id, a pool."""
    detail: str
    """A sentence: what contradicts what, and what to do."""


class AgentState(Protocol):
    """Everything the API shows. All methods may be called from any thread and answer from memory where they can.

    The listings show the cluster as this node last saw it: when the store goes away they keep answering, and
    :meth:`staleness` says so. All but :meth:`status`, :meth:`node` and :meth:`staleness` raise:
        StoreUnavailable: nothing is known yet, because the store has not been reached since the agent started.
        DatapathError: the kernel did not answer (``interfaces``, ``counters`` and what is read from the maps).
    """

    @property
    def policies(self) -> PolicyState:
        """What is known of policies and identities."""
        ...

    @property
    def balancing(self) -> ServiceState:
        """What is known of services."""
        ...

    def node(self) -> NodeName:
        """Name of this node."""
        ...

    def staleness(self) -> str | None:
        """Say in one sentence why the listings may be out of date; None while they follow the store."""
        ...

    def status(self) -> AgentStatus:
        """Ask how the agent is; never raises."""
        ...

    def nodes(self) -> Sequence[Node]:
        """Every node of the cluster."""
        ...

    def alive(self) -> frozenset[NodeName]:
        """Nodes whose agent runs."""
        ...

    def networks(self) -> Sequence[Network]:
        """Every hawse network."""
        ...

    def endpoints(self) -> Sequence[Endpoint]:
        """Every container interface of the cluster."""
        ...

    def interfaces(self) -> Sequence[LocalEndpoint]:
        """The hawse interfaces of this host, as the kernel has them."""
        ...

    def pools(self) -> Sequence[PoolRecord]:
        """Every address pool."""
        ...

    def addresses(self) -> Sequence[HeldAddress]:
        """Every address in use."""
        ...

    def findings(self) -> Sequence[Finding]:
        """Compare addresses with endpoints and Docker's networks; read from the store now, not from memory."""
        ...

    def counters(self) -> Sequence[PacketCounter]:
        """Packets and bytes of this node by outcome and direction."""
        ...

    def policy_entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """The policy entries, as the kernel has them."""
        ...

    def policy_prefixes(self) -> Mapping[IPNetwork, int]:
        """The identities of address prefixes, as the kernel has them."""
        ...

    def connections(self, limit: int) -> Newest[TrackedConnection]:
        """The connections that the kernel tracks; of more than so many those that were used last."""
        ...

    def ipcache(self) -> Mapping[IpcacheKey, Place]:
        """Where every address is, as the kernel has it."""
        ...

    def frontends(self) -> Mapping[Frontend, Balancing]:
        """The services, as the kernel has them."""
        ...

    def translations(self, limit: int) -> Newest[Translation]:
        """The translated connections, as the kernel has them; of more than so many those that were used last."""
        ...

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        """The published ports of this host, as the kernel has them."""
        ...
