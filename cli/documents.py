"""The agent's answers as this command reads them.

The command ships alone and imports nothing of the agent, so these types repeat ``observe/document.py``; a unit test
holds the two against each other. :mod:`cli.conform` holds an answer against them.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from cli.policy_documents import PolicyStatus
from cli.service_documents import ServiceStatus


class Agent(TypedDict):
    """The agent of this node."""

    version: str
    uptime_s: float
    node: str
    address: str | None
    scope: Literal["local", "global"]
    scope_warning: str | None


class Store(TypedDict):
    """etcd as this node reaches it."""

    healthy: bool
    detail: str
    endpoints: list[str]
    revision: int | None
    db_size_bytes: int | None


class Feature(TypedDict):
    """A probed kernel capability."""

    name: str
    available: bool
    required: bool
    detail: str


class Datapath(TypedDict):
    """The kernel side of this node."""

    device: str
    tunnel_port: int
    mtu_bytes: int
    programs: Literal["loaded", "adopted", "none"]
    features: list[Feature]


class Counts(TypedDict):
    """How much there is in the cluster."""

    networks: int
    endpoints: int
    endpoints_here: int
    addresses: int


class Node(TypedDict):
    """A host of the cluster."""

    name: str
    address: str
    tunnel_port: int
    mtu_bytes: int
    version: str
    alive: bool
    this_node: bool
    registered_at: str


class Status(TypedDict):
    """``/v1/status``."""

    healthy: bool
    problems: list[str]
    warnings: list[str]
    warning: str | None
    agent: Agent
    store: Store
    datapath: Datapath
    policy: PolicyStatus | None
    services: ServiceStatus
    counts: Counts | None
    nodes: list[Node] | None


class Nodes(TypedDict):
    """``/v1/nodes``."""

    nodes: list[Node]
    warning: str | None


class DockerNetwork(TypedDict):
    """A Docker network that is a hawse network."""

    holder: str
    id: str


class Network(TypedDict):
    """A hawse network."""

    pool: str
    vni: int
    gateway: str | None
    internal: bool
    mtu_bytes: int | None
    endpoints: int
    docker_networks: list[DockerNetwork]


class Networks(TypedDict):
    """``/v1/networks``."""

    networks: list[Network]
    warning: str | None


class Pool(TypedDict):
    """An address pool."""

    pool: str
    gateway: str | None
    holders: list[str]
    in_use: int
    capacity: int | None
    created_at: str


class Address(TypedDict):
    """An address in use."""

    pool: str
    address: str
    kind: Literal["endpoint", "gateway", "reserved", "vip"]
    holders: list[str]
    endpoint: str | None
    node: str | None
    granted_at: str


class Addresses(TypedDict):
    """``/v1/addresses``."""

    pools: list[Pool]
    addresses: list[Address]
    warning: str | None


class Finding(TypedDict):
    """A contradiction that the check found."""

    kind: str
    subject: str
    detail: str


class Check(TypedDict):
    """``/v1/check``."""

    findings: list[Finding]


class Counter(TypedDict):
    """Packets with one outcome in one direction."""

    reason: int
    text: str
    direction: Literal["egress", "ingress"]
    packets: int
    bytes: int


class Counters(TypedDict):
    """``/v1/counters``."""

    counters: list[Counter]
