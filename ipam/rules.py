"""Rules of pools and addresses; pure, for IPv4 and IPv6 alike unless a rule says otherwise."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from model.addresses import IPAddress, IPInterface, IPNetwork
from model.errors import InvalidInput

_MIN_HOST_BITS: Final = 2
"""A gateway and one container; an IPv4 pool also loses its network and broadcast address."""

_UNUSABLE: Final = (
    (ipaddress.ip_network("0.0.0.0/8"), "«this network» (0.0.0.0/8)"),
    (ipaddress.ip_network("127.0.0.0/8"), "loopback (127.0.0.0/8)"),
    (ipaddress.ip_network("169.254.0.0/16"), "link-local addresses (169.254.0.0/16)"),
    (ipaddress.ip_network("224.0.0.0/4"), "multicast (224.0.0.0/4)"),
    (ipaddress.ip_network("240.0.0.0/4"), "reserved addresses (240.0.0.0/4)"),
)


def parse_network(text: str, *, option: str) -> IPNetwork:
    """Read ``--subnet`` or ``--ip-range``; ``option`` is its name for the message.

    Raises:
        InvalidInput: not a network in CIDR notation, or bits behind the prefix are set.
    """
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as err:
        raise InvalidInput(f"{option} {text[:80]!r} is not a network in CIDR notation like 10.1.0.0/16") from err
    if "/" not in text:
        raise InvalidInput(f"{option} {text} has no prefix length; write it like {text}/{interface.max_prefixlen - 8}")
    if interface.ip != interface.network.network_address:
        raise InvalidInput(f"{option} {text} has host bits set; did you mean {interface.network}?")
    return interface.network


def check_pool(pool: IPNetwork, sub_pool: IPNetwork | None) -> None:
    """Refuse pools that containers cannot use.

    Raises:
        InvalidInput: IPv6, too small, in a range with another meaning, or a sub-pool that is not a part of the pool.
    """
    if pool.version != 4:  # noqa: PLR2004  (the IP version is its own name)
        raise InvalidInput(
            f"subnet {pool} is IPv6, which hawse does not support yet; use an IPv4 --subnet and no --ipv6"
        )
    if pool.max_prefixlen - pool.prefixlen < _MIN_HOST_BITS:
        longest = pool.max_prefixlen - _MIN_HOST_BITS
        raise InvalidInput(f"subnet {pool} is too small: a gateway and one container need /{longest} or larger")
    for unusable, what in _UNUSABLE:
        if pool.overlaps(unusable):
            raise InvalidInput(
                f"subnet {pool} contains {what}, which containers cannot use; "
                "choose a private range, for example inside 10.0.0.0/8"
            )
    if sub_pool is None:
        return
    if not contains(pool, sub_pool):
        raise InvalidInput(f"--ip-range {sub_pool} is not inside --subnet {pool}; choose a part of {pool}")
    if not selectable(pool, sub_pool):
        raise InvalidInput(
            f"--ip-range {sub_pool} has no address that a container in {pool} can use; choose a larger one"
        )


def contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    """Whether ``inner`` is ``outer`` or a part of it; networks of different IP versions never are."""
    return outer.version == inner.version and outer.overlaps(inner) and outer.prefixlen <= inner.prefixlen


def selectable(pool: IPNetwork, sub_pool: IPNetwork | None = None) -> range:
    """The addresses, as integers, that may be chosen: without network and broadcast address of the pool."""
    first = int(pool.network_address) + 1
    last = int(pool.broadcast_address) - (1 if pool.version == 4 else 0)  # noqa: PLR2004
    if sub_pool is not None:
        first = max(first, int(sub_pool.network_address))
        last = min(last, int(sub_pool.broadcast_address))
    return range(first, last + 1)


def check_address(pool: IPNetwork, address: IPAddress) -> None:
    """Refuse an address that no interface in the pool can have.

    Raises:
        InvalidInput: outside the pool, or its network or broadcast address.
    """
    if address.version != pool.version or address not in pool:
        usable = selectable(pool)
        raise InvalidInput(
            f"address {address} is not in pool {pool}; "
            f"choose one from {to_address(pool, usable[0])} to {to_address(pool, usable[-1])}"
        )
    if int(address) not in selectable(pool):
        which = "network" if address == pool.network_address else "broadcast"
        raise InvalidInput(f"address {address} is the {which} address of pool {pool}; choose another one")


def to_address(pool: IPNetwork, number: int) -> IPAddress:
    """The address of the pool's family with this value."""
    return pool.network_address + (number - int(pool.network_address))


def on_network(pool: IPNetwork, address: IPAddress) -> IPInterface:
    """The address with its pool's prefix length, as an interface has it."""
    return ipaddress.ip_interface(f"{address}/{pool.prefixlen}")


def overlapping(pool: IPNetwork, others: Iterable[IPNetwork]) -> IPNetwork | None:
    """The first of the others that shares an address with the pool."""
    return next((other for other in others if other.version == pool.version and other.overlaps(pool)), None)


def next_free_subnet(ranges: Sequence[IPNetwork], prefix: int, taken: Iterable[IPNetwork]) -> IPNetwork | None:
    """The first subnet of length ``prefix`` in the ranges that overlaps nothing taken; None when there is none.

    Jumps over what is taken, so it costs a sort of the taken pools and not a step per subnet.
    """
    spans = sorted((int(net.network_address), int(net.broadcast_address), net.version) for net in taken)
    for outer in ranges:
        size = 1 << (outer.max_prefixlen - prefix)
        start = int(outer.network_address)
        for low, high, version in spans:
            if version == outer.version and low < start + size and high >= start:
                start = (high // size + 1) * size
        if start + size - 1 <= int(outer.broadcast_address):
            return type(outer)((start, prefix))
    return None


def subnet_count(ranges: Iterable[IPNetwork], prefix: int) -> int:
    """How many subnets of length ``prefix`` the ranges have room for."""
    return sum(1 << (prefix - outer.prefixlen) for outer in ranges)
