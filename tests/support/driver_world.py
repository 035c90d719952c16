"""A node as the driver sees it, without root: the real services on the store in memory, and ways to break each step."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from flask.testing import FlaskClient

from balancer.published import PublishedPorts
from cluster.endpoints import EndpointRegistry
from cluster.networks import NetworkRegistry
from cluster.usage import RegistryUsage
from cluster.views import ClusterViews
from datapath.api import DatapathConfig, EndpointSpec
from datapath.fake import FakeDatapath
from driver.api import create_app
from driver.external import ExternalConnectivity
from driver.ipam_adapter import IpamAdapter
from driver.label_identities import LabelIdentities
from driver.labelling import Labelling
from driver.locks import KeyedLocks
from driver.protocol import Capabilities, Scope
from driver.service import NetworkService
from ipam.config import IpamConfig
from ipam.service import Ipam
from ipam.views import IpamViews
from kvstore import keys
from kvstore.memory import MemoryStore
from model.clock import SystemClock
from model.endpoints import Endpoint
from model.ids import EndpointId, IdentityId, NodeName
from policy.identities import IdentityRegistry
from policy.identity_view import identity_view
from policy.label_filter import LabelFilter
from tests.support.host_ports import FakeHostPorts

NODE = NodeName("node-1")
POOL = "10.1.0.0/16"
GATEWAY = "10.1.0.1/16"
NETWORK_ID = "5c" * 32
ENDPOINT_ID = EndpointId("e1" * 32)
ADDRESS = "10.1.0.5/16"
POOL_ID = f"hawse-local:{POOL}"
SYNC_S = 10


@dataclass
class Faults:
    """What is called of the store and the kernel, and where that fails."""

    before: dict[str, Exception] = field(default_factory=dict)
    """By name of the call: fails instead of doing its work, every time."""
    after: dict[str, Exception] = field(default_factory=dict)
    """By name of the call: does its work, then fails, every time."""
    once: tuple[int, str, Exception] | None = None
    """Position in :attr:`calls`, ``before`` or ``after``, and the error: fails this one time."""
    calls: list[str] = field(default_factory=list)

    def at(self, when: str, step: str, position: int) -> None:
        error = (self.before if when == "before" else self.after).get(step)
        if self.once is not None and self.once[:2] == (position, when):
            error = self.once[2]
        if error is not None:
            raise error


class Breakable:
    """Passes every call on, and fails where it is told to."""

    def __init__(self, target: object, faults: Faults) -> None:
        self._target = target
        self._faults = faults

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)
        step = f"{type(self._target).__name__}.{name}"

        def call(*args: object, **kwargs: object) -> Any:
            position = len(self._faults.calls)
            self._faults.calls.append(step)
            self._faults.at("before", step, position)
            result = method(*args, **kwargs)
            self._faults.at("after", step, position)
            return result

        return call


class Readiness:
    """What of the policies stands in the kernel: everything, unless a test takes something out."""

    def __init__(self) -> None:
        self.late: set[IdentityId] = set()
        """Identities whose rules do not come in time."""
        self.calls: list[tuple[str, IdentityId]] = []

    def expect(self, identity: IdentityId) -> None:
        self.calls.append(("expect", identity))

    def wait_ready(self, identity: IdentityId, timeout_s: float) -> bool:
        self.calls.append(("wait", identity))
        return identity not in self.late


class Newcomers:
    """New containers: prepared, unless a test says that they are late."""

    def __init__(self) -> None:
        self.late = False
        self.waited_s: list[float] = []
        self.heard: list[tuple[str, str]] = []

    def await_prepared(self, timeout_s: float) -> bool:
        self.waited_s.append(timeout_s)
        return not self.late

    def joined(self, endpoint_id: str, docker_network: str) -> None:
        self.heard.append((endpoint_id, docker_network))


class World:
    """One node with its app. Several worlds on one store are a cluster."""

    def __init__(self, *, node: NodeName = NODE, store: MemoryStore | None = None) -> None:
        self.faults = Faults()
        self.store = store or MemoryStore()
        self.kernel = FakeDatapath()
        self.kernel.start(
            DatapathConfig(node_address=ipaddress.ip_address("192.0.2.1"), tunnel_port=8472, mtu_bytes=1450)
        )
        # Views follow the store itself; what is asked and written in a call goes through what can be broken.
        store_of_calls: Any = Breakable(self.store, self.faults)
        kernel: Any = Breakable(self.kernel, self.faults)
        self.views = ClusterViews.of(self.store)
        self.networks = NetworkRegistry(store_of_calls, self.views.networks)
        self.endpoints = EndpointRegistry(store_of_calls, self.views.endpoints, node)
        config = IpamConfig(node=node, default_pools=(ipaddress.ip_network("10.200.0.0/16"),), default_pool_prefix=24)
        usage = RegistryUsage(networks=self.networks, endpoints=self.endpoints)
        self.ipam = Ipam(store_of_calls, usage, config, views=IpamViews.of(self.store))
        self.identity_records = identity_view(self.store)
        self.identities = IdentityRegistry(store_of_calls, self.identity_records, SystemClock())
        self.readiness = Readiness()
        self.newcomers = Newcomers()
        self.locks = KeyedLocks()
        label_identities = LabelIdentities(LabelFilter.parse(), self.identities, self.readiness)
        self.host = FakeHostPorts()
        self.ports = PublishedPorts(
            node=node,
            endpoints=self.endpoints,
            view=self.views.endpoints,
            datapath=kernel,
            host=self.host,
            clock=SystemClock(),
        )
        self.labelling = Labelling(
            identities=label_identities,
            endpoints=self.endpoints,
            networks=self.networks,
            datapath=kernel,
            locks=self.locks,
            mtu_bytes=1450,
        )
        self.service = NetworkService(
            node=node,
            mtu_bytes=1450,
            networks=self.networks,
            endpoints=self.endpoints,
            addresses=self.ipam,
            datapath=kernel,
            identities=label_identities,
            locks=self.locks,
            newcomers=self.newcomers,
            ports=self.ports,
        )
        external = ExternalConnectivity(endpoints=self.endpoints, ports=self.ports, locks=self.locks)
        app = create_app(self.service, external, IpamAdapter(self.ipam), Capabilities(scope=Scope.LOCAL))
        self.client: FlaskClient = app.test_client()

    def __enter__(self) -> Self:
        self.views.start()
        self.identity_records.start()
        self.ipam.start()
        assert self.views.wait_synced(SYNC_S)
        assert self.identity_records.wait_synced(SYNC_S)
        assert self.ipam.wait_synced(SYNC_S)
        self.faults.calls.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.views.stop()
        self.identity_records.stop()
        self.ipam.stop()

    def post(self, method: str, body: Mapping[str, object] | bytes = b"") -> tuple[int, Any]:
        """Call a method as the engine does (no Content-Type); status and decoded answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.client.post(f"/{method}", data=data)
        return response.status_code, json.loads(response.data)

    def ok(self, method: str, body: Mapping[str, object] | bytes = b"") -> Any:
        """Call a method that has to succeed; the answer."""
        status, answer = self.post(method, body)
        assert status == 200, answer
        return answer

    def refused(self, method: str, body: Mapping[str, object] | bytes, status: int = 500) -> str:
        """Call a method that has to fail; the message."""
        got, answer = self.post(method, body)
        assert status == got, answer
        assert {"Err", "Error"} == answer.keys()
        assert answer["Err"] == answer["Error"]
        return str(answer["Err"])

    def request_pool(self, space: str = "hawse-local", pool: str = POOL) -> Self:
        """RequestPool and the gateway, as before every CreateNetwork."""
        self.ok("IpamDriver.RequestPool", {"AddressSpace": space, "Pool": pool, "SubPool": "", "Options": None})
        options = {"RequestAddressType": "com.docker.network.gateway"}
        self.ok("IpamDriver.RequestAddress", {"PoolID": f"{space}:{pool}", "Address": "", "Options": options})
        return self

    def with_network(self, **changes: Any) -> Self:
        """``docker network create``."""
        self.request_pool()
        self.ok("NetworkDriver.CreateNetwork", create_network(**changes))
        return self

    def with_endpoint(self) -> Self:
        """The first half of ``docker run``."""
        self.with_network()
        self.ok("IpamDriver.RequestAddress", {"PoolID": POOL_ID, "Address": ADDRESS.partition("/")[0], "Options": None})
        self.ok("NetworkDriver.CreateEndpoint", create_endpoint())
        return self

    def state(self) -> tuple[Mapping[str, bytes], Sequence[EndpointSpec | None]]:
        """Everything that could be left behind: in the store and in the kernel.

        Without the cursor of a pool, which only says where the next search for an address begins.
        """
        items = {item.key: item.value for item in self.store.list(keys.ROOT).items if item.key.startswith(_KEPT)}
        return items, [local.spec for local in self.kernel.local_endpoints()]

    def held_addresses(self) -> Sequence[str]:
        """Addresses that IPAM has granted."""
        return [str(keys.parse_address(item.key)[1]) for item in self.store.list(keys.ADDRESSES).items]

    def record(self) -> Endpoint:
        """The endpoint's record."""
        return self.endpoints.get(ENDPOINT_ID)


_KEPT = (keys.NETWORKS, keys.VNIS, keys.POOLS, keys.ADDRESSES, keys.ENDPOINTS)


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


def port(
    container_port: int = 80,
    host_port: int = 8080,
    end: int | None = None,
    *,
    proto: int = 6,
    host_ip: str = "",
) -> dict[str, object]:
    """One entry of a port map as all engines send it."""
    return {
        "Proto": proto,
        "IP": "",
        "Port": container_port,
        "HostIP": host_ip,
        "HostPort": host_port,
        "HostPortEnd": host_port if end is None else end,
    }


def program(*ports: Mapping[str, object], endpoint_id: str = ENDPOINT_ID) -> dict[str, object]:
    """ProgramExternalConnectivity as the engine sends it."""
    options = {"com.docker.network.endpoint.exposedports": None, "com.docker.network.portmap": list(ports)}
    return {**endpoint(endpoint_id), "Options": options}
