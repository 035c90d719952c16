"""What the datapath has to make of an endpoint's record."""

from __future__ import annotations

from datapath.api import EndpointSpec
from model.endpoints import Endpoint
from model.networks import Network


def endpoint_spec(endpoint: Endpoint, network: Network, *, node_mtu_bytes: int) -> EndpointSpec:
    """Say it; ``node_mtu_bytes`` is for networks that ask for no MTU of their own."""
    return EndpointSpec(
        endpoint_id=endpoint.endpoint_id,
        vni=endpoint.vni,
        addresses=endpoint.addresses,
        mac=endpoint.mac,
        identity=endpoint.identity,
        mtu_bytes=network.mtu_bytes or node_mtu_bytes,
        gateway=None if network.internal else network.gateway,
    )
