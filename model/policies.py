"""Policies in the one form that is compiled, traced and explained, whichever document they came from.

A policy selects endpoints and says, for each direction, whether they are closed by default (``enforce_*``) and which
rules open or deny. What is decided for one new connection, at one end, in one direction:

1. a deny rule of a policy that selects the endpoint matches: denied;
2. no policy that selects it enforces the direction: allowed;
3. an allow rule of a selecting policy matches: allowed;
4. otherwise denied.

A rule matches when one of its peers and one of its ports match. ``peers=None`` is «anyone», ``ports=None`` «any
protocol and port»; an empty tuple matches nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.addresses import IPNetwork
from model.errors import InvalidInput

PORT_MAX: Final = 65535
NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""The one label that a namespace (a stack, a Compose project) has."""


class Protocol(enum.IntEnum):
    """IP protocols that policies know, by their number."""

    ICMP = 1
    TCP = 6
    UDP = 17
    SCTP = 132


PORT_PROTOCOLS: Final = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


class Entity(enum.StrEnum):
    """Peers that are no containers, or all of a kind."""

    ALL = "all"
    CLUSTER = "cluster"
    """Every managed endpoint of the cluster, and all its hosts."""
    HOST = "host"
    REMOTE_NODE = "remote-node"
    WORLD = "world"
    INIT = "init"
    UNMANAGED = "unmanaged"
    HEALTH = "health"
    NONE = "none"


class Operator(enum.StrEnum):
    """How a requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; as in Kubernetes, ``NotIn`` also holds when there is no such label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet the condition."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that all have to hold; without any it selects every endpoint.

    Reserved identities have the label ``reserved:<name>`` and are selected only when a requirement names it.
    """

    labels: tuple[Requirement, ...] = ()
    """On the endpoint's labels."""
    namespace: tuple[Requirement, ...] = ()
    """On the labels of the endpoint's namespace, of which there is one, :data:`NAMESPACE_NAME_LABEL`."""


@dataclass(frozen=True, slots=True)
class CidrPeer:
    """Addresses outside of the cluster; never a managed endpoint, a host of the cluster, or one inside ``excluded``."""

    cidr: IPNetwork
    excluded: tuple[IPNetwork, ...] = ()

    def __post_init__(self) -> None:
        for one in self.excluded:
            if one.version != self.cidr.version or not one.subnet_of(self.cidr):  # type: ignore[arg-type]
                raise InvalidInput(f"except {one} is not inside {self.cidr}")


Peer: TypeAlias = Selector | CidrPeer | Entity


@dataclass(frozen=True, slots=True)
class PortMatch:
    """A protocol and, of those that have ports, a range of destination ports; of ICMP a message type.

    ``protocol=None`` means TCP, UDP and SCTP.
    """

    protocol: Protocol | None
    first: int = 0
    last: int = PORT_MAX
    """Both included. For ICMP: ``first`` is the message type and ``last`` the same, or 0 to 65535 for any."""
    name: str | None = None
    """A named port instead: what the label ``hawse.port.<name>`` of the endpoint that is connected to says."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= PORT_MAX:
            raise InvalidInput(f"{self.first} to {self.last} is no range of ports")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of ``ingress``, ``ingressDeny``, ``egress`` or ``egressDeny``."""

    peers: tuple[Peer, ...] | None = None
    ports: tuple[PortMatch, ...] | None = None
    deny: bool = False
    path: str = ""
    """Where it stands in its document: ``spec.ingress[0]``; for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One document, or the short form of one set of labels.

    ``subject`` selects the endpoints it applies to.
    """

    name: str
    """Unique among policies: ``<name>``, ``<namespace>/<name>`` of a NetworkPolicy, ``labels:<identity>`` of a short
    form."""
    subject: Selector
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    enforce_ingress: bool = False
    enforce_egress: bool = False


class PolicyMode(enum.StrEnum):
    """Who is closed by default."""

    DEFAULT = "default"
    """Endpoints that a policy selects, in the directions it has."""
    ALWAYS = "always"
    """Every endpoint in both directions."""
    NEVER = "never"
    """Nobody: policies are kept and explained, not enforced."""
