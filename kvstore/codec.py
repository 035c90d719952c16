"""Model values as JSON in the store: compact, human readable, checked on the way in.

Everything read from etcd is validated: a value that another version or a hand has broken is an :class:`InvalidInput` that
names the key, never a half-built object.
"""

from __future__ import annotations

import ipaddress
from typing import Any, TypeVar

import msgspec

from model.addresses import MacAddress
from model.errors import InvalidInput

T = TypeVar("T")

_ADDRESS_TYPES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    MacAddress,
)


def _enc_hook(value: object) -> str:
    if isinstance(value, _ADDRESS_TYPES):
        return str(value)
    raise NotImplementedError(type(value).__name__)
