"""Addresses: IP pools, link-layer addresses, and who holds an address.

IPv4 and IPv6 are one type here (``IPAddress``, ``IPNetwork``); nothing in the model assumes a family.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.errors import InvalidInput
from model.ids import ServiceId

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_MAC: Final = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class MacAddress:
    """A 48-bit link-layer address in the form ``02:68:61:00:00:01``, lower case."""

    text: str

    def __post_init__(self) -> None:
        if not _MAC.fullmatch(self.text):
            msg = f"MAC address {self.text!r} is not six pairs of hex digits like 02:42:0a:00:00:05"
            raise InvalidInput(msg)
        if self.packed[0] & 1:
            msg = f"MAC address {self.text} is a multicast address; an interface needs a unicast one"
            raise InvalidInput(msg)

    def __str__(self) -> str:
        return self.text

    @property
    def packed(self) -> bytes:
        """The six bytes in wire order."""
        return bytes.fromhex(self.text.replace(":", ""))

    @classmethod
    def parse(cls, text: str) -> MacAddress:
        """Read any of the usual notations (upper case, ``-`` between pairs).

        Raises:
            InvalidInput: not a unicast MAC address.
        """
        return cls(text.strip().lower().replace("-", ":"))

    @classmethod
    def from_packed(cls, packed: bytes) -> MacAddress:
        """Read six bytes in wire order."""
        return cls(packed.hex(":"))

    @classmethod
    def for_address(cls, vni: int, address: IPAddress) -> MacAddress:
        """Derive the address that an interface gets when the user asked for none.

        Locally administered, the same on every attempt (a repeated ``CreateEndpoint`` answers the same), and different
        for the same IP address in another network.
        """
        digest = hashlib.blake2b(vni.to_bytes(4, "big") + address.packed, digest_size=5).digest()
        return cls.from_packed(b"\x0a" + digest)


class AddressKind(enum.StrEnum):
    """What an address is held for."""

    ENDPOINT = "endpoint"
    """A container interface, or a Swarm task or virtual IP that the leader allocated."""
    GATEWAY = "gateway"
    """The pool's gateway; shared by all nodes, lives as long as its pool."""
    RESERVED = "reserved"
    """An ``--aux-address``: never given to a container."""
    VIP = "vip"
    """The virtual address of a service of labels; held by the service itself (:func:`service_holder`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRecord:
    """One address that is in use: the value of one etcd key.

    The key exists exactly as long as ``holders`` is not empty. In global scope the Swarm leader and the worker that
    runs the task both hold the address, so neither can free it under the other.
    """

    kind: AddressKind
    holders: tuple[str, ...]
    """Sorted. A node name, or ``@swarm`` for the allocator on the Swarm's leader."""
    granted_at: str = ""
    """Time of the first grant, RFC 3339 in UTC."""


SWARM_HOLDER: Final = "@swarm"
"""The holder that stands for the Swarm's allocator; no node can have this name."""


def service_holder(ident: ServiceId) -> str:
    """The holder that stands for a service of labels; no node can have this name."""
    return f"@{ident}"


def is_node(holder: str) -> bool:
    """Whether a holder is a node."""
    return not holder.startswith("@")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecord:
    """One address pool: the value of ``/hawse/v1/ipam/pools/<pool>``."""

    pool: IPNetwork
    holders: tuple[str, ...]
    """Sorted; a node name or ``@swarm``. The pool lives until the last holder releases it."""
    gateway: IPAddress | None = None
    """The gateway of every network on this pool, once one was asked for; its address key lives as long as the pool."""
    created_at: str = ""
    """RFC 3339 in UTC."""
