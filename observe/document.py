"""The JSON documents of the agent's API: field names are stable, fields may be added.

Dataclasses of plain JSON types. ``scripts/openapi.py`` makes ``docs/openapi.json`` from them, descriptions included.
Here are those that ``observe/describe.py`` fills; those of endpoints, policies, identities and maps have files of their
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from observe.document_fields import Address, Cidr, Staleness, Time
from observe.policy_document import PolicyStatusDocument
from observe.service_document import ServiceStatusDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDocument:
    """Why a request was not answered."""

    error: Annotated[str, Meta(description="A sentence for the operator.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDocument:
    """The agent of this node."""

    version: str
    uptime_s: Annotated[float, Meta(description="Seconds since the agent started.")]
    node: Annotated[str, Meta(description="Name of this node.")]
    address: Annotated[str | None, Meta(description="Underlay address; null while it is not known.")]
    scope: Annotated[
        Literal["local", "global"], Meta(description="Who allocates networks: this host's engine or the Swarm.")
    ]
    scope_warning: Annotated[
        str | None, Meta(description="A sentence with the command to run when the engine joined or left a Swarm.")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDocument:
    """The store (etcd) as this node reaches it."""

    healthy: bool
    detail: Annotated[str, Meta(description="Endpoint and version, or why it is not healthy.")]
    endpoints: list[str]
    revision: int | None
    db_size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDocument:
    """One kernel capability, probed when the agent started."""

    name: str
    available: bool
    required: bool
    detail: Annotated[str, Meta(description="Why it is missing or what is used instead; empty when available.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathDocument:
    """The kernel side of this node."""

    device: Annotated[str, Meta(description="The VXLAN device.")]
    tunnel_port: int
    mtu_bytes: Annotated[int, Meta(description="MTU of container interfaces that ask for no other.")]
    programs: Annotated[
        Literal["loaded", "adopted", "none"],
        Meta(description="Whether this agent loaded the BPF programs or found them pinned and unchanged."),
    ]
    features: list[FeatureDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsDocument:
    """How much there is in the cluster, as this node knows it."""

    networks: int
    endpoints: int
    endpoints_here: Annotated[int, Meta(description="Endpoints on this node.")]
    addresses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDocument:
    """A host of the cluster."""

    name: str
    address: Address
    tunnel_port: int
    mtu_bytes: int
    version: Annotated[str, Meta(description="Version of the node's agent.")]
    alive: Annotated[bool, Meta(description="The node's agent runs; packets flow in any case.")]
    this_node: bool
    registered_at: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDocument:
    """The state of the agent and what it depends on."""

    healthy: Annotated[bool, Meta(description="There is no problem.")]
    problems: Annotated[list[str], Meta(description="What does not work, a sentence each.")]
    warnings: Annotated[
        list[str], Meta(description="What an operator should correct, a sentence each; hawse itself works.")
    ]
    warning: Staleness
    agent: AgentDocument
    store: StoreDocument
    datapath: DatapathDocument
    policy: Annotated[
        PolicyStatusDocument | None,
        Meta(description="Null when the store has not been reached since the agent started."),
    ]
    services: ServiceStatusDocument
    counts: Annotated[
        CountsDocument | None, Meta(description="Null when the store has not been reached since the agent started.")
    ]
    nodes: Annotated[
        list[NodeDocument] | None,
        Meta(description="Null when the store has not been reached since the agent started."),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesDocument:
    """The hosts of the cluster."""

    nodes: list[NodeDocument]
    warning: Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerNetworkDocument:
    """A Docker network that is this hawse network."""

    holder: Annotated[str, Meta(description="A node's name, or @swarm for a network of the Swarm.")]
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDocument:
    """A hawse network: one pool, one VNI."""

    pool: Cidr
    vni: int
    gateway: Annotated[str | None, Meta(description="Null for --internal networks.")]
    internal: bool
    mtu_bytes: Annotated[int | None, Meta(description="Null: each node's own.")]
    endpoints: Annotated[int, Meta(description="Endpoints in it, on all nodes.")]
    docker_networks: list[DockerNetworkDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworksDocument:
    """The hawse networks of the cluster."""

    networks: list[NetworkDocument]
    warning: Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDocument:
    """An address pool."""

    pool: Cidr
    gateway: str | None
    holders: Annotated[list[str], Meta(description="Node names or @swarm; the pool lives until the last one goes.")]
    in_use: Annotated[int, Meta(description="Addresses in use, the gateway included.")]
    capacity: Annotated[
        int | None, Meta(description="Addresses that can be given out; null above 2^53, where JSON numbers end.")
    ]
    created_at: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressDocument:
    """An address in use."""

    pool: Cidr
    address: Address
    kind: Literal["endpoint", "gateway", "reserved", "vip"]
    holders: Annotated[
        list[str], Meta(description="Node names, @swarm or a service; free when the last one releases it.")
    ]
    endpoint: Annotated[str | None, Meta(description="Id of the endpoint that has it; null when none does.")]
    node: Annotated[str | None, Meta(description="The endpoint's node.")]
    granted_at: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressesDocument:
    """The address pools of the cluster and what is in use in them."""

    pools: list[PoolDocument]
    addresses: list[AddressDocument]
    warning: Staleness


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingDocument:
    """One contradiction between addresses, endpoints and Docker's networks."""

    kind: Annotated[str, Meta(description="For programs; new kinds may come.")]
    subject: Annotated[str, Meta(description="What it is about: an address, an endpoint id, a pool.")]
    detail: Annotated[str, Meta(description="A sentence for the operator.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDocument:
    """What the comparison of addresses, endpoints and Docker's networks found; empty is good."""

    findings: list[FindingDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterDocument:
    """Packets with one outcome in one direction on this node, since its maps were made."""

    reason: Annotated[int, Meta(description="0 = forwarded, otherwise the number of the drop reason.")]
    text: Annotated[str, Meta(description="The reason in words.")]
    direction: Annotated[Literal["egress", "ingress"], Meta(description="Seen from the container.")]
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountersDocument:
    """The counters of this node that are not zero."""

    counters: list[CounterDocument]
