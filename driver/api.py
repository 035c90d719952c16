"""Routes of ``Plugin.Activate`` and ``NetworkDriver.*``: parse, call, answer.

``NetworkDriver.GwAllocCheck`` is not among them: :class:`driver.protocol.Capabilities` tells the engine not to call
it, and why.
"""

from __future__ import annotations

from flask import Blueprint, Flask

from driver.external import ExternalConnectivity
from driver.http import add_call, add_constant, handle_errors
from driver.ipam_adapter import IpamAdapter
from driver.ipam_api import ipam_routes
from driver.protocol import (
    Activation,
    AllocateNetworkRequest,
    Capabilities,
    CreateEndpointRequest,
    CreateNetworkRequest,
    DiscoveryRequest,
    EndpointRequest,
    ExternalConnectivityRequest,
    JoinRequest,
    NetworkRequest,
)
from driver.service import NetworkService


def create_app(
    network_service: NetworkService,
    external: ExternalConnectivity,
    ipam_adapter: IpamAdapter,
    capabilities: Capabilities,
) -> Flask:
    """Build the WSGI application that dockerd talks to."""
    app = Flask(__name__, static_folder=None)
    handle_errors(app)
    app.register_blueprint(network_routes(network_service, external, capabilities))
    app.register_blueprint(ipam_routes(ipam_adapter))
    return app


def network_routes(service: NetworkService, external: ExternalConnectivity, capabilities: Capabilities) -> Blueprint:
    """Build the routes; what has no argument answers from constants and touches no service."""
    routes = Blueprint("network_driver", __name__)
    add_constant(routes, "Plugin.Activate", Activation())
    add_constant(routes, "NetworkDriver.GetCapabilities", capabilities)
    add_call(routes, "NetworkDriver.AllocateNetwork", AllocateNetworkRequest, service.allocate_network)
    add_call(routes, "NetworkDriver.FreeNetwork", NetworkRequest, service.free_network)
    add_call(routes, "NetworkDriver.CreateNetwork", CreateNetworkRequest, service.create_network)
    add_call(routes, "NetworkDriver.DeleteNetwork", NetworkRequest, service.delete_network)
    add_call(routes, "NetworkDriver.CreateEndpoint", CreateEndpointRequest, service.create_endpoint)
    add_call(routes, "NetworkDriver.DeleteEndpoint", EndpointRequest, service.delete_endpoint)
    add_call(routes, "NetworkDriver.EndpointOperInfo", EndpointRequest, service.endpoint_oper_info)
    add_call(routes, "NetworkDriver.Join", JoinRequest, service.join)
    add_call(routes, "NetworkDriver.Leave", EndpointRequest, service.leave)
    add_call(routes, "NetworkDriver.ProgramExternalConnectivity", ExternalConnectivityRequest, external.program)
    add_call(routes, "NetworkDriver.RevokeExternalConnectivity", EndpointRequest, external.revoke)
    add_call(routes, "NetworkDriver.DiscoverNew", DiscoveryRequest, service.discover_new)
    add_call(routes, "NetworkDriver.DiscoverDelete", DiscoveryRequest, service.discover_delete)
    return routes
