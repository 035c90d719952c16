"""What a manager's lists say of services, tasks and nodes.

Source: https://docs.docker.com/reference/api/engine/version/v1.41/ (ServiceList, TaskList, NodeList), unchanged up to
v1.51; engine 29 sends an address that was not given as ``""``, 20.10 leaves it out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Self, TypeVar

from driver.fields import Fields
from model import ids
from model.addresses import IPAddress, IPInterface
from model.errors import InvalidInput, ProtocolError
from model.ids import DockerNetworkId, ServiceId

T = TypeVar("T")

VIP: Final = "vip"
RUNNING: Final = "running"
READY: Final = "ready"
DOWN: Final = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmService:
    """One entry of the service list."""

    service_id: ServiceId
    name: str
    mode: str
    """``vip`` or ``dnsrr``."""
    virtual: Sequence[tuple[DockerNetworkId, IPAddress]] = ()
    """Its address in each network; none before the Swarm has allocated it."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: Fields) -> Self:
        """Read an entry of ``GET /services``.

        Raises:
            ProtocolError: a field is missing or has the wrong form.
        """
        spec, endpoint = entry.nested("Spec"), entry.nested("Endpoint")
        found = [(one, one.interface("Addr")) for one in endpoint.nested_list("VirtualIPs") if one.text("NetworkID")]
        return cls(
            service_id=_service_id(entry, "ID"),
            name=spec.needed_text("Name"),
            # What holds, not what is asked for: a service without any network has no mode yet.
            mode=endpoint.nested("Spec").text("Mode") or VIP,
            virtual=tuple((one.docker_network_id(), addr.ip) for one, addr in found if addr is not None),
            labels=spec.texts("Labels"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmTask:
    """One entry of the task list."""

    task_id: str
    service_id: ServiceId | None
    """None: a plain container in an attachable network."""
    slot: int
    """Which replica it is; 0: the service has one task on every node."""
    node_id: str
    """Empty before it is scheduled."""
    desired: str
    state: str
    addresses: Mapping[DockerNetworkId, Sequence[IPAddress]] = field(default_factory=dict)
    """In each network; none before the Swarm has allocated them."""

    @classmethod
    def read(cls, entry: Fields) -> Self:
        """Read an entry of ``GET /tasks``.

        Raises:
            ProtocolError: a field is missing or has the wrong form.
        """
        attached = entry.nested_list("NetworksAttachments")
        return cls(
            task_id=entry.needed_text("ID"),
            service_id=_service_id(entry, "ServiceID") if entry.text("ServiceID") else None,
            slot=entry.number("Slot"),
            node_id=entry.text("NodeID"),
            desired=entry.text("DesiredState"),
            state=entry.nested("Status").text("State"),
            addresses={
                one.nested("Network").docker_network_id("ID"): _addresses(one, "Addresses")
                for one in attached
                if one.nested("Network").text("ID")
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmNode:
    """One entry of the node list. A host that has left and joined again has two."""

    node_id: str
    hostname: str
    state: str
    """``ready``, ``down``, ``disconnected`` (it said goodbye), ``unknown`` (the manager has just begun to lead)."""
    address: IPAddress | None = None
    """The address that its managers see it at, or that it has as a manager."""

    @classmethod
    def read(cls, entry: Fields) -> Self:
        """Read an entry of ``GET /nodes``.

        Raises:
            ProtocolError: a field is missing or has the wrong form.
        """
        status, manager = entry.nested("Status"), entry.nested("ManagerStatus")
        # The leader sees itself at 0.0.0.0, or not at all.
        host, _, _ = manager.text("Addr").rpartition(":")
        return cls(
            node_id=entry.needed_text("ID"),
            hostname=entry.nested("Description").text("Hostname"),
            state=status.text("State"),
            address=_host(status.text("Addr")) or _host(host.strip("[]")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An entry of a list that cannot be read, and as much of it as can: to know whose it is. Empty: not known."""

    reason: str
    entry_id: str = ""
    service_id: str = ""
    """Of a task."""
    hostname: str = ""
    """Of a node."""
    address: IPAddress | None = None
    """Of a node."""

    @classmethod
    def of(cls, value: object, reason: str) -> Self:
        """Pick what can be read; never raises."""
        return cls(
            reason=reason,
            entry_id=_text_at(value, "ID"),
            service_id=_text_at(value, "ServiceID"),
            hostname=_text_at(value, "Description", "Hostname"),
            address=_host(_text_at(value, "Status", "Addr")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """What a manager answers when it is asked for a list."""

    entries: Sequence[T] = ()
    unread: Sequence[Unread] = ()
    """The others."""


def _service_id(entry: Fields, name: str) -> ServiceId:
    try:
        return ids.service_id(entry.needed_text(name))
    except ProtocolError:
        raise
    except InvalidInput as err:
        raise ProtocolError(f"{entry.path}.{name}: {err}") from err


def _addresses(entry: Fields, name: str) -> Sequence[IPAddress]:
    return tuple(_interface(entry, name, text).ip for text in entry.text_list(name) if text)


def _interface(entry: Fields, name: str, text: str) -> IPInterface:
    try:
        return ipaddress.ip_interface(text)
    except ValueError as err:
        raise ProtocolError(f"{entry.path}.{name}: {text[:80]!r} is not an address like 10.1.0.5/16") from err


def _text_at(value: object, *path: str) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _host(text: str) -> IPAddress | None:
    """An address that may be no address: for matching hosts, where the name is the other way."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if address.is_unspecified or address.is_loopback else address
