"""Security identities: one number for every set of labels, the same on every node.

Cluster-wide numbers (:data:`IDENTITY_MIN` to :data:`IDENTITY_MAX`) are allocated in etcd and travel in each tunnel
packet. Numbers above 16 bits are local to a node: they stand for address prefixes that policies name, and are never on
the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from model.ids import (
    IDENTITY_HEALTH,
    IDENTITY_HOST,
    IDENTITY_INIT,
    IDENTITY_REMOTE_NODE,
    IDENTITY_UNMANAGED,
    IDENTITY_WORLD,
    IdentityId,
)
from model.labels import RESERVED_PREFIX, Labels

IDENTITY_MIN: Final = IdentityId(256)
IDENTITY_MAX: Final = IdentityId(65535)

CIDR_IDENTITY_BASE: Final = 0x01000000
"""Node-local identities of address prefixes begin here."""

RESERVED_NAMES: Final[Mapping[IdentityId, str]] = MappingProxyType({
    IDENTITY_HOST: "host",
    IDENTITY_WORLD: "world",
    IDENTITY_UNMANAGED: "unmanaged",
    IDENTITY_HEALTH: "health",
    IDENTITY_INIT: "init",
    IDENTITY_REMOTE_NODE: "remote-node",
})  # fmt: skip


def is_cluster_identity(number: int) -> bool:
    """Whether the number was allocated for a set of labels."""
    return IDENTITY_MIN <= number <= IDENTITY_MAX


def reserved_labels(number: IdentityId) -> Labels:
    """The labels of a reserved identity, ``reserved:host``; empty for one that has no name."""
    name = RESERVED_NAMES.get(number)
    return Labels() if name is None else Labels(((RESERVED_PREFIX + name, ""),))


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord:
    """The value of ``/hawse/v1/identities/id/<n>``."""

    labels: Labels
    created_at: str = ""
    """RFC 3339 in UTC."""
    unused_since: str = ""
    """Set by the collector when no endpoint has the identity (RFC 3339 in UTC); cleared by whoever uses it again. Still
    set at a later look, the identity is deleted."""
