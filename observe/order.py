"""By what documents are sorted, so that two calls compare: numbers, not their spelling."""

from __future__ import annotations

from model.addresses import IPAddress, IPNetwork


def network_order(network: IPNetwork) -> tuple[int, int, int]:
    """IPv4 first, by address, the larger network first."""
    return (network.version, int(network.network_address), network.prefixlen)


def address_order(address: IPAddress) -> tuple[int, int]:
    """IPv4 first, by address."""
    return (address.version, int(address))
