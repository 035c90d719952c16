"""The agent's answers as this command reads them.

The command ships alone and imports nothing of the agent, so these types repeat ``observe/document.py``; a unit test
holds the two against each other. :func:`conform` is the border: behind it, an answer has these fields with these types.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, Final, Literal, TypedDict, TypeVar

Document = TypeVar("Document")

_PLAIN_NAMES: Final = {bool: "true or false", float: "a number", int: "a whole number", str: "a text"}


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
    programs: Literal["compiled", "adopted", "none"]
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
    warning: str | None
    agent: Agent
    store: Store
    datapath: Datapath
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


class Endpoint(TypedDict):
    """A container's interface."""

    id: str
    node: str
    network: str | None
    docker_network: str | None
    vni: int
    addresses: list[str]
    mac: str
    identity: int
    interface: str | None
    sandbox: str | None
    this_node: bool
    created_at: str


class Endpoints(TypedDict):
    """``/v1/endpoints``."""

    endpoints: list[Endpoint]
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
    kind: Literal["endpoint", "gateway", "reserved"]
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


class Mismatch(Exception):
    """An answer is not of the type that was expected; the message names the field."""


def conform(answer: object, kind: type[Document]) -> Document:
    """Check an answer, field by field; fields that are not known here are let through (a newer agent).

    Raises:
        Mismatch: a field is missing or of another type.
    """
    _conform(answer, kind, "the answer")
    return typing.cast("Document", answer)


def _conform(value: object, kind: Any, where: str) -> None:
    origin = typing.get_origin(kind)
    if typing.is_typeddict(kind):
        _conform_fields(value, kind, where)
    elif origin is list:
        if not isinstance(value, list):
            raise Mismatch(f"{where} is not a list")
        (item_kind,) = typing.get_args(kind)
        for number, item in enumerate(value):
            _conform(item, item_kind, f"{where}[{number}]")
    elif origin is Literal:
        # A newer agent may have a further word; it is only shown.
        _conform(value, str, where)
    elif origin in {types.UnionType, typing.Union}:
        if value is not None:
            (present,) = (choice for choice in typing.get_args(kind) if choice is not types.NoneType)
            _conform(value, present, where)
    elif not _is_plain(value, kind):
        raise Mismatch(f"{where} is not {_PLAIN_NAMES[kind]}")


def _conform_fields(value: object, kind: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise Mismatch(f"{where} is not an object")
    for name, field_kind in _fields(kind).items():
        if name in value:
            _conform(value[name], field_kind, f"{where}.{name}")
        elif name in kind.__required_keys__:
            raise Mismatch(f"{where} has no {name!r}")


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_plain(value: object, kind: type[object]) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
