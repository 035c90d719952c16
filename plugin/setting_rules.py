"""How the text of a setting is read: each raises ValueError or InvalidInput when the rule is broken."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar
from urllib.parse import urlsplit

_T = TypeVar("_T")

_FIRST_FREE_PORT: Final = 1024
"""Those below belong to the services of the host."""
_LAST_PORT: Final = 65535
_FEWEST_PORTS: Final = 1024
"""With fewer the search for a free one would often be in vain."""

_INTERFACE: Final = re.compile(r"[^\s/:]{1,15}")
"""What the kernel takes as an interface's name (``dev_valid_name`` in net/core/dev.c)."""


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        """As an operator writes it."""
        return f"{self.first}-{self.last}"

    def overlaps(self, other: PortRange) -> bool:
        """Whether a port is in both."""
        return self.first <= other.last and other.first <= self.last


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Make a reader of whole numbers in a range, both ends included."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
            raise ValueError(text)
        return int(text)

    return parse


def optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    """Make a reader that takes an empty text for None."""
    return lambda text: parse(text) if text else None


def boolean(text: str) -> bool:
    """Read ``true`` or ``false``."""
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def path(text: str) -> Path:
    """Read an absolute path without ``..``."""
    if not PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        raise ValueError(text)
    return Path(text)


def interface(text: str) -> str:
    """Read the name of a network interface."""
    if not _INTERFACE.fullmatch(text) or text in {".", ".."}:
        raise ValueError(text)
    return text


def node_ip(text: str) -> ipaddress.IPv4Address:
    """Read an address that a host can have."""
    address = ipaddress.IPv4Address(text)
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise ValueError(text)
    return address


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def endpoints(text: str) -> tuple[str, ...]:
    """Read URLs of etcd servers."""
    for url in _items(text):
        parts = urlsplit(url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or not parts.port
            or parts.username is not None
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
        ):
            raise ValueError(url)
    return tuple(url.rstrip("/") for url in _items(text))


def networks(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    """Read networks, also none."""
    return tuple(ipaddress.IPv4Network(item) for item in _items(text))


def port_range(text: str) -> PortRange:
    """Read ports from one to another, both included."""
    first, dash, last = text.partition("-")
    port = integer(_FIRST_FREE_PORT, _LAST_PORT)
    ports = PortRange(port(first.strip()), port(last.strip()))
    if not dash or ports.last - ports.first + 1 < _FEWEST_PORTS:
        raise ValueError(text)
    return ports


def pools(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    """Read networks that do not overlap, at least one."""
    found = tuple(ipaddress.IPv4Network(item) for item in _items(text))
    if not found or any(one.overlaps(other) for one, other in itertools.combinations(found, 2)):
        raise ValueError(text)
    return found
