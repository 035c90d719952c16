"""Services: a name and an address for many containers."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from model.addresses import IPAddress, IPNetwork
from model.ids import NodeName, ServiceId


class ServiceSource(enum.StrEnum):
    """Who says that there is a service."""

    SWARM = "swarm"
    """A service of the Swarm; its record is written by a manager's agent."""
    LABEL = "label"
    """The label ``hawse.service`` of containers; its record is written by the first node that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualAddress:
    """Where a service is asked for in one network."""

    network: IPNetwork
    """The pool of the hawse network."""
    address: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port that a service is asked for at."""

    port: int
    """1 to 65535."""
    protocol: str
    """``tcp``, ``udp`` or ``sctp``."""
    target_port: int
    """Port of the containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTask:
    """A container that answers for a service, as the Swarm says."""

    name: str
    """``web.1``."""
    task_id: str
    node: str
    """Name of its host; for people."""
    addresses: tuple[IPAddress, ...]
    """One in each network of the service."""
    active: bool
    """Whether it gets new connections: it runs, is healthy and is meant to stay."""
    state: str = ""
    """In the Swarm's words: ``running``, ``starting`` ...; for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The value of ``/hawse/v1/services/<id>``.

    A task answers only as long as an endpoint has its address, whatever is said here. Of a service of labels there are
    no tasks here: they are the endpoints that have the label.
    """

    service_id: ServiceId
    """Of the Swarm its own id; of labels ``label-<pool>-<name>``."""
    name: str
    source: ServiceSource
    addresses: tuple[VirtualAddress, ...]
    ports: tuple[ServicePort, ...] = ()
    """Empty: every port, as it is."""
    affinity: bool = False
    """Whether a client keeps its backend."""
    tasks: tuple[ServiceTask, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LostNode:
    """The value of ``/hawse/v1/lost/<node>``: the Swarm has given the host up, connections to it are reset."""

    node: NodeName
    since: str
    """RFC 3339 in UTC."""
