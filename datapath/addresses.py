"""Addresses between the model and the structs of :mod:`datapath.abi`.

In the structs every address is four 32-bit words in wire order; IPv4 is written as IPv4-mapped IPv6.
"""

from __future__ import annotations

import ctypes
import ipaddress
from typing import Any, Final, TypeAlias

from model.addresses import IPAddress

Words: TypeAlias = "ctypes.Array[Any]"
"""An address field."""

_WordArray: Final = ctypes.c_uint32.__ctype_be__ * 4
_MAPPED: Final = bytes(10) + b"\xff\xff"


def words(address: IPAddress | None) -> Words:
    """For an address field; None is all zero."""
    if address is None:
        return _WordArray()
    packed = address.packed
    return _WordArray.from_buffer_copy(packed if isinstance(address, ipaddress.IPv6Address) else _MAPPED + packed)


def address(field: Words) -> IPAddress | None:
    """From an address field; None when it is all zero."""
    return unpacked(bytes(field))


def unpacked(packed: bytes) -> IPAddress | None:
    """From the bytes of an address field; None when it is all zero."""
    if packed.startswith(_MAPPED):
        return ipaddress.IPv4Address(packed[len(_MAPPED) :])
    return ipaddress.IPv6Address(packed) if any(packed) else None


def octets(packed: bytes, length: int) -> ctypes.Array[Any]:
    """For a field of bytes, padded with zeros."""
    return (ctypes.c_uint8 * length).from_buffer_copy(packed.ljust(length, b"\0"))
