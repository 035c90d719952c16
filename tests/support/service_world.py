"""Services, endpoints and networks in a store in memory, and one agent that balances."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace

from balancer.controller import ServiceController
from balancer.views import ServiceViews
from datapath.api import Frontend
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.store import Delete, Op, Put
from model.addresses import IPNetwork, MacAddress
from model.endpoints import Endpoint
from model.ids import DockerNetworkId, EndpointId, NodeName, ServiceId, Vni
from model.labels import AFFINITY_LABEL, SERVICE_LABEL, Labels
from model.networks import Network
from model.services import LostNode, Service, ServiceSource, ServiceTask, VirtualAddress
from tests.support.cluster_world import POOL, Agent, ClusterWorld
from tests.support.wait import until

VNI = Vni(7)
VIP = ipaddress.IPv4Address("10.1.0.200")


def endpoint(
    name: str,
    last: int,
    *,
    node: str = "node-b",
    pool: IPNetwork = POOL,
    labels: Mapping[str, str] | None = None,
    unhealthy: bool = False,
    created_at: str = "",
) -> Endpoint:
    """An endpoint of the container ``name`` at the address with this last byte."""
    address = pool.network_address + last
    return Endpoint(
        endpoint_id=EndpointId(name.replace(".", "").replace("-", "")),
        node=NodeName(node),
        network=pool,
        docker_network=DockerNetworkId("d" * 64),
        vni=VNI,
        addresses=(address,),
        mac=MacAddress.for_address(VNI, address),
        labels=None if labels is None else Labels.of(labels),
        container=name,
        unhealthy=unhealthy,
        created_at=created_at or f"2026-01-01T00:00:00.{last:06d}Z",
    )


def labelled(name: str, last: int, label: str, *, affinity: str | None = None, **more: object) -> Endpoint:
    """An endpoint whose container has the label ``hawse.service``."""
    labels = {SERVICE_LABEL: label, **({} if affinity is None else {AFFINITY_LABEL: affinity})}
    return replace(endpoint(name, last, labels=labels), **more)  # type: ignore[arg-type]  # fields of Endpoint


def task(number: int, *, name: str = "web", active: bool = True, state: str = "running") -> ServiceTask:
    """A task at the address with this last byte."""
    return ServiceTask(
        name=f"{name}.{number}",
        task_id=f"t{number}",
        node="node-b",
        addresses=(POOL.network_address + number,),
        active=active,
        state=state,
    )


def swarm_service(*tasks: ServiceTask, name: str = "web", vip: str = str(VIP), affinity: bool = False) -> Service:
    """A service of the Swarm with a virtual address in the pool."""
    return Service(
        service_id=ServiceId(f"id{name}"),
        name=name,
        source=ServiceSource.SWARM,
        addresses=(VirtualAddress(network=POOL, address=ipaddress.ip_address(vip)),),
        affinity=affinity,
        tasks=tasks,
    )


class ServiceWorld(ClusterWorld):
    """One balancing agent; everything else only exists in the store."""

    def balancing(self, *, wait: bool = True) -> Agent:
        agent = Agent(self.store, "node-a", 1, self.clock)
        self.services = ServiceViews.of(self.store)
        self.controller = ServiceController(
            agent.kernel,
            self.services.services,
            agent.views.endpoints,
            agent.views.networks,
            agent.views.lost,
            backoff=Backoff(first_s=0.001, limit_s=0.001),
        )
        self.controller.start()
        self.services.start()
        if wait:
            agent.start()
        else:
            agent.views.start()
            agent.ipam.start()
        self.agents.append(agent)
        return agent

    def put(self, *records: Service | Endpoint | Network | LostNode) -> int:
        return self.store.txn([], [Put(_key(record), encode(record)) for record in records]).revision

    def remove(self, *records: Service | Endpoint | Network | LostNode) -> int:
        gone: list[Op] = [Delete(_key(record)) for record in records]
        return self.store.txn([], gone).revision

    def backends(self, port: int = 0, protocol: int = 0, vip: str = str(VIP)) -> list[str] | None:
        """Who gets connections, as the kernel was told; None: there is no such frontend."""
        kernel = self.agents[0].kernel
        frontend = Frontend(address=ipaddress.IPv4Address(vip), vni=VNI, port=port, protocol=protocol)
        balancing = kernel.balanced.get(frontend)
        if balancing is None:
            return None
        assert {balancing.backends[place] for place in balancing.table} == set(balancing.backends)
        return [f"{one.address}:{one.port}" for one in balancing.backends]

    def await_backends(self, *expected: str, port: int = 0, protocol: int = 0, vip: str = str(VIP)) -> None:
        until(
            f"{expected} answer, now {self.backends(port, protocol, vip)}",
            lambda: self.backends(port, protocol, vip) == list(expected),
            timeout_s=5,
            interval_s=0.002,
        )

    def stop(self) -> None:
        self.controller.stop()
        self.services.stop()
        super().stop()


def _key(record: Service | Endpoint | Network | LostNode) -> str:
    match record:
        case Service():
            return keys.service(record.service_id)
        case Endpoint():
            return keys.endpoint(record.node, record.endpoint_id)
        case Network():
            return keys.network(record.pool)
        case LostNode():
            return keys.lost(record.node)
