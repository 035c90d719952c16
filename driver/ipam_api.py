"""Routes of ``IpamDriver.*``: parse, call, answer."""

from __future__ import annotations

from flask import Blueprint

from driver.http import add_call, add_constant
from driver.ipam_adapter import IpamAdapter
from driver.ipam_protocol import (
    DefaultAddressSpaces,
    IpamCapabilities,
    ReleaseAddressRequest,
    ReleasePoolRequest,
    RequestAddressRequest,
    RequestPoolRequest,
)
from ipam.pool_id import AddressSpace


def ipam_routes(ipam: IpamAdapter) -> Blueprint:
    """Build the routes; what has no argument answers from constants and touches no service."""
    routes = Blueprint("ipam_driver", __name__)
    spaces = DefaultAddressSpaces(local=AddressSpace.LOCAL, cluster=AddressSpace.GLOBAL)
    add_constant(routes, "IpamDriver.GetCapabilities", IpamCapabilities())
    add_constant(routes, "IpamDriver.GetDefaultAddressSpaces", spaces)
    add_call(routes, "IpamDriver.RequestPool", RequestPoolRequest, ipam.request_pool)
    add_call(routes, "IpamDriver.ReleasePool", ReleasePoolRequest, ipam.release_pool)
    add_call(routes, "IpamDriver.RequestAddress", RequestAddressRequest, ipam.request_address)
    add_call(routes, "IpamDriver.ReleaseAddress", ReleaseAddressRequest, ipam.release_address)
    return routes
