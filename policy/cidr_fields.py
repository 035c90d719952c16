"""Address prefixes with exceptions: Kubernetes' ``ipBlock``, Cilium's ``fromCIDR`` and ``fromCIDRSet``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from model.addresses import IPNetwork
from model.policies import CidrPeer
from policy.faults import Part, quoted
from policy.limits import EXCEPT_MAX

_PREFIX: Final = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")


def prefix(text: str) -> IPNetwork:
    """Read ``10.0.0.0/8``.

    Raises:
        ValueError: it is none; the message says why.
    """
    if not _PREFIX.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a prefix like 10.0.0.0/8")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a prefix like 10.0.0.0/8") from None
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ip.ipv4_mapped is not None:
        raise ValueError(f"{quoted(text)} is an IPv4 prefix written as IPv6: write it as 10.0.0.0/8")
    network = interface.network
    if interface.ip != network.network_address:
        one = f"{interface.ip}/{network.max_prefixlen}"
        raise ValueError(f"{quoted(text)} has bits beyond its prefix: write {network}, or {one} for one address")
    return network


def prefix_or_address(text: str) -> IPNetwork:
    """Read ``10.0.0.0/8``, or ``10.0.0.1`` for one address.

    Raises:
        ValueError: it is neither; the message says why.
    """
    if "/" in text:
        return prefix(text)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a prefix like 10.0.0.0/8") from None
    return prefix(f"{address}/{address.max_prefixlen}")


def cidr_peer(part: Part) -> CidrPeer | None:
    """Read one element of ``fromCIDR``; None, and a fault, when it is wrong."""
    text = part.text()
    if text is None:
        return None
    try:
        return CidrPeer(prefix_or_address(text))
    except ValueError as err:
        part.fault(str(err))
        return None


def cidr_set_peer(part: Part, *, refused: Mapping[str, str], null_is_absent: bool) -> CidrPeer | None:
    """Read ``{cidr, except}``; None, and a fault, when it is wrong."""
    fields = part.fields(
        ("cidr", "except"),
        null_is_absent=null_is_absent,
        required={"cidr": "write a prefix like 10.0.0.0/8"},
        refused=refused,
    )
    if fields is None:
        return None
    cidr = _read_prefix(fields["cidr"]) if "cidr" in fields else None
    excluded = []
    for element in (fields["except"].elements(most=EXCEPT_MAX) or []) if "except" in fields else []:
        one = _read_prefix(element)
        if one is None or cidr is None:
            continue
        if one.version != cidr.version or one == cidr or not one.subnet_of(cidr):  # type: ignore[arg-type]
            element.fault(f"{one} is not a smaller part of {cidr}")
        else:
            excluded.append(one)
    return None if cidr is None else CidrPeer(cidr, tuple(excluded))


def _read_prefix(part: Part) -> IPNetwork | None:
    text = part.text()
    if text is None:
        return None
    try:
        return prefix(text)
    except ValueError as err:
        part.fault(str(err))
        return None
