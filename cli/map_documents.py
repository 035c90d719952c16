"""The kernel's maps as the agent decodes them: repeats ``observe/map_document.py``."""

from __future__ import annotations

from typing import Literal, TypedDict


class MapIdentity(TypedDict):
    """An identity and whom it stands for."""

    number: int
    text: str


class MapRule(TypedDict):
    """The number of a rule, and where it stands."""

    number: int
    policy: str | None
    path: str | None


class PolicyEntry(TypedDict):
    """One entry of the policy map."""

    local: MapIdentity
    direction: Literal["egress", "ingress"]
    deny: bool
    remote: MapIdentity | None
    protocol: str | None
    first_port: int
    last_port: int
    rule: MapRule


class PolicyMap(TypedDict):
    """``/v1/bpf/policy``."""

    entries: list[PolicyEntry]


class Connection(TypedDict):
    """One tracked connection."""

    vni: int
    protocol: str
    source: str
    source_port: int
    source_identity: MapIdentity
    destination: str
    destination_port: int
    destination_identity: MapIdentity
    state: str
    idle_s: float
    epoch: int
    egress_rule: MapRule
    ingress_rule: MapRule


class Connections(TypedDict):
    """``/v1/bpf/ct``."""

    connections: list[Connection]
    left_out: int


class IpcacheEntry(TypedDict):
    """Where one address is."""

    vni: int
    address: str
    identity: MapIdentity
    tunnel_endpoint: str | None
    ifindex: int


class Ipcache(TypedDict):
    """``/v1/bpf/ipcache``."""

    entries: list[IpcacheEntry]
