"""A node as the driver sees it, without root, store or kernel, and ways to break each step."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flask.testing import FlaskClient

from datapath.api import EndpointSpec, LocalEndpoint
from driver.api import create_app
from driver.ipam_adapter import IpamAdapter
from driver.protocol import Capabilities, Scope
from driver.service import NetworkService
from ipam.pool_id import AddressSpace, PoolId
from model.addresses import IPAddress, IPInterface, IPNetwork
from model.endpoints import Endpoint
from model.errors import Conflict, EndpointNotFound, NetworkNotFound, PoolNotFound
from model.ids import DockerNetworkId, EndpointId, NodeName, Vni
from model.networks import Network

NODE = NodeName("node-1")
POOL = "10.1.0.0/16"
GATEWAY = "10.1.0.1/16"
NETWORK_ID = "5c" * 32
ENDPOINT_ID = "e1" * 32
ADDRESS = "10.1.0.5/16"
POOL_ID = f"hawse-local:{POOL}"


class Networks:
    def __init__(self) -> None:
        self.by_pool: dict[IPNetwork, Network] = {}

    def ensure(
        self,
        pool: IPNetwork,
        *,
        holder: str,
        docker_id: DockerNetworkId,
        gateway: IPAddress | None,
        internal: bool,
        mtu_bytes: int | None,
    ) -> Network:
        wanted = Network(
            pool=pool,
            vni=Vni(len(self.by_pool) + 1),
            gateway=gateway,
            internal=internal,
            mtu_bytes=mtu_bytes,
        )
        known = self.by_pool.get(pool, wanted)
        if replace(known, vni=wanted.vni, docker_ids=()) != wanted:
            raise Conflict(f"network {pool} exists with other options")
        ids = tuple(sorted({*known.docker_ids, (holder, docker_id)}))
        self.by_pool[pool] = replace(known, docker_ids=ids)
        return self.by_pool[pool]

    def leave(self, docker_id: DockerNetworkId, *, holder: str) -> Network | None:
        for pool, network in self.by_pool.items():
            if (holder, docker_id) in network.docker_ids:
                rest = tuple(pair for pair in network.docker_ids if pair != (holder, docker_id))
                if rest:
                    self.by_pool[pool] = replace(network, docker_ids=rest)
                else:
                    del self.by_pool[pool]
                return network
        return None

    def by_docker_id(self, docker_id: DockerNetworkId) -> Network:
        for network in self.by_pool.values():
            if any(ident == docker_id for _, ident in network.docker_ids):
                return network
        raise NetworkNotFound(f"network {docker_id} is not known")

    def holds_network(self, pool: IPNetwork, holder: str) -> bool:
        network = self.by_pool.get(pool)
        return network is not None and any(name == holder for name, _ in network.docker_ids)


class Endpoints:
    def __init__(self) -> None:
        self.records: dict[EndpointId, Endpoint] = {}

    def put(self, endpoint: Endpoint) -> None:
        if self.records.setdefault(endpoint.endpoint_id, endpoint) != endpoint:
            raise Conflict(f"endpoint {endpoint.endpoint_id} is recorded with another content")

    def set_sandbox(self, endpoint_id: EndpointId, sandbox_key: str | None) -> None:
        self.records[endpoint_id] = replace(self.get(endpoint_id), sandbox_key=sandbox_key)

    def remove(self, endpoint_id: EndpointId) -> Endpoint | None:
        return self.records.pop(endpoint_id, None)

    def get(self, endpoint_id: EndpointId) -> Endpoint:
        try:
            return self.records[endpoint_id]
        except KeyError:
            raise EndpointNotFound(f"endpoint {endpoint_id} is not known on this node") from None

    def local(self) -> Sequence[Endpoint]:
        return [endpoint for endpoint in self.records.values() if endpoint.node == NODE]

    def endpoint_at(self, pool: IPNetwork, address: IPAddress) -> Endpoint | None:
        return next((e for e in self.records.values() if e.network == pool and address in e.addresses), None)


class Addresses:
    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.holders: dict[IPNetwork, set[str]] = {}
        self.held: dict[tuple[IPNetwork, IPAddress], set[str]] = {}

    def request_pool(self, *, space: AddressSpace, pool: IPNetwork | None, sub_pool: IPNetwork | None) -> PoolId:
        pool = pool or ipaddress.ip_network("10.200.0.0/24")
        self.holders.setdefault(pool, set()).add(space.holder(NODE))
        return PoolId(space=space, pool=pool, sub_pool=sub_pool)

    def release_pool(self, pool_id: PoolId) -> None:
        self.drop_hold(pool_id.pool, pool_id.space.holder(NODE))

    def request_address(self, pool_id: PoolId, *, address: IPAddress | None, gateway: bool) -> IPInterface:  # noqa: ARG002
        pool = pool_id.pool
        if pool not in self.holders:
            raise PoolNotFound(f"pool {pool} is not known")
        chosen = address or next(ip for ip in pool.hosts() if (pool, ip) not in self.held)
        self.held.setdefault((pool, chosen), set()).add(pool_id.space.holder(NODE))
        return ipaddress.ip_interface(f"{chosen}/{pool.prefixlen}")

    def release_address(self, pool_id: PoolId, address: IPAddress) -> None:
        self.held.pop((pool_id.pool, address), None)

    def reserve(self, pool: IPNetwork, addresses: Iterable[IPAddress]) -> None:
        for address in addresses:
            self.held.setdefault((pool, address), set()).add(NODE)

    def drop_hold(self, pool: IPNetwork, holder: str) -> None:
        if self.networks.holds_network(pool, holder):
            return
        self.holders.get(pool, set()).discard(holder)
        if not self.holders.get(pool):
            self.holders.pop(pool, None)
            self.held = {key: value for key, value in self.held.items() if key[0] != pool}

    def holds_pool(self, pool: IPNetwork, holder: str) -> bool:
        return holder in self.holders.get(pool, set())


class Kernel:
    def __init__(self) -> None:
        self.endpoints: dict[EndpointId, LocalEndpoint] = {}

    def ensure_endpoint(self, spec: EndpointSpec) -> LocalEndpoint:
        local = LocalEndpoint(
            endpoint_id=spec.endpoint_id,
            host_ifname=f"hw{spec.endpoint_id[:12]}",
            container_ifname=f"hwp{spec.endpoint_id[:12]}",
            ifindex=len(self.endpoints) + 10,
            spec=spec,
        )
        return self.endpoints.setdefault(spec.endpoint_id, local)

    def remove_endpoint(self, endpoint_id: EndpointId) -> None:
        self.endpoints.pop(endpoint_id, None)


@dataclass
class Faults:
    """Which method fails, before or after doing its work."""

    before: dict[str, Exception] = field(default_factory=dict)
    after: dict[str, Exception] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)


class Breakable:
    """Passes every call on, and fails where it is told to."""

    def __init__(self, target: object, faults: Faults) -> None:
        self._target = target
        self._faults = faults

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)
        step = f"{type(self._target).__name__}.{name}"

        def call(*args: object, **kwargs: object) -> Any:
            self._faults.calls.append(step)
            if step in self._faults.before:
                raise self._faults.before[step]
            result = method(*args, **kwargs)
            if step in self._faults.after:
                raise self._faults.after[step]
            return result

        return call


class World:
    """One node with its app."""

    def __init__(self, *, scope: Scope = Scope.LOCAL) -> None:
        self.faults = Faults()
        self.networks = Networks()
        self.endpoints = Endpoints()
        self.addresses = Addresses(self.networks)
        self.kernel = Kernel()
        addresses: Any = Breakable(self.addresses, self.faults)
        self.service = NetworkService(
            node=NODE,
            mtu_bytes=1450,
            networks=self._breakable(self.networks),
            endpoints=self._breakable(self.endpoints),
            addresses=addresses,
            datapath=self._breakable(self.kernel),
        )
        app = create_app(self.service, IpamAdapter(addresses), Capabilities(scope=scope))
        self.client: FlaskClient = app.test_client()

    def _breakable(self, target: object) -> Any:
        return Breakable(target, self.faults)

    def post(self, method: str, body: Mapping[str, object] | bytes = b"") -> tuple[int, Any]:
        """Call a method as the engine does (no Content-Type); status and decoded answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.client.post(f"/{method}", data=data)
        return response.status_code, json.loads(response.data)

    def ok(self, method: str, body: Mapping[str, object] | bytes = b"") -> Any:
        status, answer = self.post(method, body)
        assert (200, "") == (status, answer.get("Err", "")), answer
        return answer

    def refused(self, method: str, body: Mapping[str, object] | bytes, status: int = 500) -> str:
        """Call a method that has to fail; the message."""
        got, answer = self.post(method, body)
        assert status == got, answer
        assert {"Err", "Error"} == answer.keys()
        assert answer["Err"] == answer["Error"]
        return str(answer["Err"])

    def with_pool(self, space: str = "hawse-local", pool: str = POOL) -> World:
        self.ok("IpamDriver.RequestPool", {"AddressSpace": space, "Pool": pool, "SubPool": "", "Options": None})
        return self

    def with_network(self, **changes: object) -> World:
        self.with_pool()
        self.ok("NetworkDriver.CreateNetwork", create_network(**changes))
        return self

    def with_endpoint(self) -> World:
        self.with_network()
        self.ok("NetworkDriver.CreateEndpoint", create_endpoint())
        return self

    def state(self) -> tuple[object, ...]:
        """Everything that could be left behind."""
        return (
            dict(self.networks.by_pool),
            dict(self.endpoints.records),
            dict(self.kernel.endpoints),
        )


def create_network(
    *,
    network_id: str = NETWORK_ID,
    generic: Mapping[str, str] | None = None,
    pool: str = POOL,
    gateway: str = GATEWAY,
    options: Mapping[str, object] | None = None,
    aux: Mapping[str, str] | None = None,
    ipv6: Sequence[Mapping[str, object]] = (),
) -> dict[str, object]:
    """CreateNetwork as 28.5 sends it."""
    subnet: dict[str, object] = {"AddressSpace": "hawse-local", "Pool": pool, "Gateway": gateway}
    if aux is not None:
        subnet["AuxAddresses"] = aux
    return {
        "NetworkID": network_id,
        "Options": {
            "com.docker.network.enable_ipv4": True,
            "com.docker.network.enable_ipv6": False,
            "com.docker.network.generic": generic or {},
            **(options or {}),
        },
        "IPv4Data": [subnet],
        "IPv6Data": list(ipv6),
    }


def create_endpoint(
    *,
    network_id: str = NETWORK_ID,
    endpoint_id: str = ENDPOINT_ID,
    address: str = ADDRESS,
    address_ipv6: str = "",
    mac: str = "",
    options: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """CreateEndpoint as 20.10 and 28.5 send it."""
    return {
        "NetworkID": network_id,
        "EndpointID": endpoint_id,
        "Interface": {"Address": address, "AddressIPv6": address_ipv6, "MacAddress": mac},
        "Options": {
            "com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}],
            "com.docker.network.portmap": None,
            **(options or {}),
        },
    }


def endpoint(endpoint_id: str = ENDPOINT_ID, network_id: str = NETWORK_ID) -> dict[str, object]:
    """Any call that names an endpoint and nothing else."""
    return {"NetworkID": network_id, "EndpointID": endpoint_id}


def join(endpoint_id: str = ENDPOINT_ID) -> dict[str, object]:
    """Join as the engine sends it."""
    return {
        **endpoint(endpoint_id),
        "SandboxKey": "/var/run/docker/netns/0123456789ab",
        "Options": {"com.docker.network.endpoint.exposedports": None, "com.docker.network.portmap": None},
    }
