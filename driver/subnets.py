"""Which subnets a network may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driver.protocol import Subnet
from model.addresses import IPAddress, IPNetwork
from model.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSubnet:
    """The one subnet of a network, checked."""

    pool: IPNetwork
    gateway: IPAddress | None
    reserved: tuple[IPAddress, ...]
    """``--aux-address``."""


def single_subnet(ipv4: Sequence[Subnet], ipv6: Sequence[Subnet]) -> NetworkSubnet:
    """Check what IPAM data a network comes with.

    A hawse network is one pool with one VNI (a second network on the same pool is the same network), so a network of
    several subnets would be several networks to every other host.

    Raises:
        InvalidInput: an IPv6 subnet, no IPv4 subnet, more than one, or an address outside of it.
    """
    if ipv6:
        raise refuse_ipv6()
    if len(ipv4) > 1:
        pools = ", ".join(str(subnet.pool) for subnet in ipv4)
        raise InvalidInput(
            f"a hawse network has one subnet, not {len(ipv4)} ({pools}); make one network for each --subnet"
        )
    if not ipv4 or ipv4[0].pool is None:
        raise refuse_foreign_ipam("the network has no IPv4 subnet")
    subnet = ipv4[0]
    pool = ipv4[0].pool
    gateway = None if subnet.gateway is None else subnet.gateway.ip
    aux = {name: address.ip for name, address in subnet.aux_addresses.items()}
    for what, address in (("gateway", gateway), *((f"aux-address {name}", address) for name, address in aux.items())):
        if address is not None and address not in pool:
            raise InvalidInput(
                f"{what} {address} is not in the network's subnet {pool}; choose an address inside of it"
            )
    return NetworkSubnet(pool=pool, gateway=gateway, reserved=tuple(sorted(set(aux.values()), key=int)))


def refuse_ipv6() -> InvalidInput:
    """Say that IPv6 is not there yet."""
    return InvalidInput(
        "hawse does not support IPv6 yet; make the network without --ipv6 and with an IPv4 --subnet only"
    )


def refuse_foreign_ipam(why: str) -> InvalidInput:
    """Say that addresses have to come from hawse's own IPAM: they are unique in the cluster, other drivers' are not."""
    return InvalidInput(
        f"{why}; create the network with --ipam-driver, with the same plugin name as for --driver: "
        "docker network create --driver NAME --ipam-driver NAME …"
    )
