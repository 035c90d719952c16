"""Names and numbers that identify things, and the few rules about their form."""

from __future__ import annotations

import re
from typing import Final, NewType

from model.errors import InvalidInput

NodeName = NewType("NodeName", str)
"""A host's name in the cluster; unique, usually its host name."""

DockerNetworkId = NewType("DockerNetworkId", str)
"""Docker's id of a network: 64 hex digits (local) or 25 base-36 digits (Swarm)."""

EndpointId = NewType("EndpointId", str)
"""Docker's id of an endpoint: 64 hex digits."""

Vni = NewType("Vni", int)
"""VXLAN network identifier, 1 … 2^24 - 1; names one hawse network on the wire."""

ServiceId = NewType("ServiceId", str)
"""Names a service: the Swarm's id (25 base-36 digits), or ``label-<pool>-<name>``."""

IdentityId = NewType("IdentityId", int)
"""Security identity, 16 bits; see ARCHITECTURE for the reserved ones."""

IDENTITY_HOST: Final = IdentityId(1)
IDENTITY_WORLD: Final = IdentityId(2)
IDENTITY_UNMANAGED: Final = IdentityId(3)
IDENTITY_HEALTH: Final = IdentityId(4)
IDENTITY_INIT: Final = IdentityId(5)
IDENTITY_REMOTE_NODE: Final = IdentityId(6)

VNI_MIN: Final = 1
VNI_MAX: Final = 2**24 - 1

_SERVICE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DOCKER_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}")


def node_name(text: str) -> NodeName:
    """Check a host name for use as a node name (it becomes part of an etcd key).

    Raises:
        InvalidInput: empty, longer than 63 characters, or with a character outside ``A-Za-z0-9_.-``.
    """
    if not _NODE_NAME.fullmatch(text):
        msg = f"node name {text!r} is not usable: 1 to 63 letters, digits, '-', '_' or '.', set NODE_NAME"
        raise InvalidInput(msg)
    return NodeName(text)


def endpoint_id(text: str) -> EndpointId:
    """Check an endpoint id from Docker.

    Raises:
        InvalidInput: empty, longer than 64 characters, or not alphanumeric.
    """
    if not _DOCKER_ID.fullmatch(text):
        msg = f"EndpointID {text[:80]!r} is not an id: 1 to 64 letters and digits"
        raise InvalidInput(msg)
    return EndpointId(text)


def docker_network_id(text: str) -> DockerNetworkId:
    """Check a network id from Docker.

    Raises:
        InvalidInput: empty, longer than 64 characters, or not alphanumeric.
    """
    if not _DOCKER_ID.fullmatch(text):
        msg = f"NetworkID {text[:80]!r} is not an id: 1 to 64 letters and digits"
        raise InvalidInput(msg)
    return DockerNetworkId(text)


def vni(number: int) -> Vni:
    """Check a VXLAN network identifier.

    Raises:
        InvalidInput: outside 1 … 2^24 - 1.
    """
    if not VNI_MIN <= number <= VNI_MAX:
        msg = f"VNI {number} is outside {VNI_MIN} to {VNI_MAX}"
        raise InvalidInput(msg)
    return Vni(number)


def service_id(text: str) -> ServiceId:
    """Check a service id (it becomes part of an etcd key).

    Raises:
        InvalidInput: empty, longer than 255 characters, or with a character outside ``A-Za-z0-9_.-``.
    """
    if not _SERVICE_ID.fullmatch(text):
        msg = f"service id {text[:80]!r} is not usable: 1 to 255 letters, digits, '-', '_' or '.'"
        raise InvalidInput(msg)
    return ServiceId(text)
