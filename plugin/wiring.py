"""Where concrete classes meet: everything is built here, once, and handed what it needs.

Building starts nothing and waits for nothing, apart from one question to the engine (at most 0.3 s) that decides the
scope.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Flask, request

from balancer.published import PublishedPorts
from cluster.departed import DepartedNodes
from cluster.election import Election
from cluster.endpoints import EndpointRegistry
from cluster.forwarding import ForwardingController
from cluster.garbage import GarbageCollector
from cluster.local_garbage import LocalGarbage
from cluster.networks import NetworkRegistry
from cluster.nodes import NodeRegistry
from cluster.usage import RegistryUsage
from cluster.views import ClusterViews
from datapath.cgroup import find_cgroup
from datapath.host_ports import HostPorts
from datapath.linux import LinuxDatapath
from datapath.names import TUNNEL_IFNAME
from datapath.underlay import Underlay, UnderlayNotFound, find_underlay
from driver.api import create_app
from driver.engine import Engine
from driver.external import ExternalConnectivity
from driver.ipam_adapter import IpamAdapter
from driver.protocol import Capabilities
from driver.protocol import Scope as DriverScope
from driver.reattachment import Reattachment
from driver.scope import AutoScope
from driver.service import NetworkService
from driver.swarm_engine import SwarmEngine
from driver.swarm_memory import SwarmMemory, SwarmState
from ipam.config import IpamConfig
from ipam.service import Ipam
from kvstore.etcd import EtcdStore
from kvstore.etcd_config import EtcdConfig
from model.clock import SystemClock, rfc3339
from model.errors import EngineUnavailable
from model.ids import DockerNetworkId, node_name
from model.nodes import Node
from model.version import VERSION
from observe.api import create_agent_app
from observe.state import Scope as OperatorScope
from plugin.agent import Agent, Step
from plugin.closing import Closing
from plugin.datapath_config import datapath_config
from plugin.embedded_etcd import EmbeddedEtcd
from plugin.operator_state import Identity, OperatorState, Sources
from plugin.scope_watch import ScopeWatch
from plugin.settings import Scope, Settings
from plugin.sweeper import Sweeper
from plugin.wiring_balancer import build_balancer
from plugin.wiring_policy import build_policy

log = logging.getLogger(__name__)

DOCKER_SOCKET: Final = Path("/host/run/docker.sock")
DATAPATH_PATIENCE_S: Final = 8.5
"""How long a call of dockerd waits for the datapath of an agent that has just been started."""

_NEED_DATAPATH: Final = frozenset(
    f"/NetworkDriver.{call}"
    for call in (
        "CreateEndpoint",
        "DeleteEndpoint",
        "Join",
        "Leave",
        "ProgramExternalConnectivity",
        "RevokeExternalConnectivity",
    )
)


@dataclass(frozen=True, slots=True)
class Wired:
    """What gunicorn serves, and what runs beside it."""

    driver: Flask
    """For Docker, on the plugin's socket."""
    operator: Flask
    """For the ``hawse`` command, on the agent's socket."""
    agent: Agent


def has_underlay(settings: Settings) -> bool:
    """Whether :func:`build` would find the way to the other nodes now."""
    try:
        _underlay(settings, SwarmMemory(Engine(DOCKER_SOCKET), settings.state_dir).at_start())
    except UnderlayNotFound:
        return False
    return True


def build(settings: Settings) -> Wired:
    """Build everything; nothing is started.

    Raises:
        UnderlayNotFound: there is no way to the other nodes, yet.
        InvalidInput: a setting does not fit this host; the message names it.
    """
    clock = SystemClock()
    engine = Engine(DOCKER_SOCKET)
    memory = SwarmMemory(engine, settings.state_dir)
    swarm = memory.at_start()
    auto_scope = AutoScope(swarm, memory) if settings.scope is Scope.AUTO else None
    scope = auto_scope.decided if auto_scope else DriverScope(settings.scope)
    scope_watch = ScopeWatch(auto_scope)
    underlay = _underlay(settings, swarm)
    mtu_bytes = settings.mtu or underlay.container_mtu_bytes
    node = Node(
        name=settings.node_name or node_name(socket.gethostname()),
        address=underlay.address,
        tunnel_port=settings.tunnel_port,
        mtu_bytes=mtu_bytes,
        version=VERSION,
        registered_at=rfc3339(clock.now()),
    )

    embedded = _embedded_etcd(settings)
    store = EtcdStore(_etcd_config(settings, embedded))
    views = ClusterViews.of(store)
    networks = NetworkRegistry(store, views.networks)
    endpoints = EndpointRegistry(store, views.endpoints, node.name)
    nodes = NodeRegistry(store, views.nodes, views.alive, node)
    ipam = Ipam(
        store,
        RegistryUsage(networks, endpoints),
        IpamConfig(
            node=node.name,
            default_pools=settings.default_pools,
            default_pool_prefix=settings.default_pool_prefix,
            address_quarantine_s=settings.address_quarantine_s,
        ),
        clock=clock,
    )
    config = datapath_config(settings, node)
    datapath = LinuxDatapath(root=settings.bpffs_root / "hawse")
    forwarding = ForwardingController(
        datapath, views.endpoints, views.nodes, views.networks, node.name, lost=views.lost, clock=clock
    )
    balancer = build_balancer(
        node,
        store=store,
        cluster=views,
        addresses=ipam,
        datapath=datapath,
        engine=engine,
        manager=SwarmEngine(DOCKER_SOCKET),
        clock=clock,
    )
    policy = build_policy(
        settings,
        node,
        store=store,
        cluster=views,
        endpoints=endpoints,
        networks=networks,
        services=balancer.views.services,
        datapath=datapath,
        engine=engine,
        clock=clock,
    )
    reattachment = Reattachment(
        endpoints=endpoints,
        networks=networks,
        datapath=datapath,
        locks=policy.endpoint_locks,
        mtu_bytes=mtu_bytes,
    )
    garbage = GarbageCollector(
        views=views,
        holds=ipam,
        nodes=nodes,
        local=LocalGarbage(
            node.name,
            endpoints=endpoints,
            networks=networks,
            holds=ipam,
            datapath=datapath,
            docker_networks=lambda: _docker_networks(engine),
            clock=clock,
        ),
        departed=DepartedNodes(
            nodes=nodes,
            endpoints=endpoints,
            networks=networks,
            holds=ipam,
            clock=clock,
            absence_s=settings.node_gc_after_h * 3600.0,
        ),
        election=Election(store, node.name, lambda: nodes.lease),
        node_steps=[reattachment.reattach, policy.upkeep.keep],
        leader_steps=[policy.upkeep.collect, *balancer.leader_steps],
    )

    masqueraded = range(settings.masquerade_ports.first, settings.masquerade_ports.last + 1)
    ports = PublishedPorts(
        node=node.name,
        endpoints=endpoints,
        view=views.endpoints,
        datapath=datapath,
        host=HostPorts(cgroup=find_cgroup(), avoid=masqueraded),
        clock=clock,
    )
    datapath_step = Step("datapath", lambda: datapath.start(config))
    agent = Agent(
        followers=[
            *([embedded] if embedded else []),
            Closing([datapath.close, store.close]),
            views,
            *policy.followers,
            *balancer.followers,
            ipam,
        ],
        steps=[datapath_step, Step("registration of this node in etcd", nodes.start)],
        workers=[
            Closing([nodes.stop]),
            forwarding,
            Sweeper(datapath),
            *policy.workers,
            *balancer.workers,
            ports,
            garbage,
            scope_watch,
        ],
    )

    driver = create_app(
        NetworkService(
            node=node.name,
            mtu_bytes=mtu_bytes,
            networks=networks,
            endpoints=endpoints,
            addresses=ipam,
            datapath=datapath,
            identities=policy.label_identities,
            locks=policy.endpoint_locks,
            newcomers=policy.containers,
            ports=ports,
        ),
        ExternalConnectivity(endpoints=endpoints, ports=ports, locks=policy.endpoint_locks),
        IpamAdapter(ipam),
        Capabilities(scope=scope),
    )
    _await_datapath(driver, agent, datapath_step)
    state = OperatorState(
        Identity(
            node=node.name,
            version=VERSION,
            scope=OperatorScope(scope),
            tunnel_device=TUNNEL_IFNAME,
            tunnel_port=settings.tunnel_port,
            started_s=clock.monotonic_s(),
            address=underlay.address,
            mtu_bytes=mtu_bytes,
            translation=settings.service_translation,
        ),
        Sources(
            store=store,
            views=views,
            nodes=nodes,
            networks=networks,
            endpoints=endpoints,
            ipam=ipam,
            datapath=datapath,
            docker_networks=lambda: _docker_networks(engine),
            policies=policy.service,
            services=balancer.state,
            service_views=balancer.views,
            policy_views=policy.views,
            problems=lambda: [
                *_problems(agent, embedded, forwarding),
                *policy.problems(),
                *ports.problems(),
                *balancer.problems(),
            ],
            scope_warning=lambda: scope_watch.warning,
            clock=clock,
        ),
    )
    return Wired(driver=driver, operator=create_agent_app(state, policy.flows), agent=agent)


def _underlay(settings: Settings, swarm: SwarmState | None) -> Underlay:
    hint = swarm.address if swarm else None
    return find_underlay(address=settings.node_ip, ifname=settings.underlay_if, hint=hint)


def _embedded_etcd(settings: Settings) -> EmbeddedEtcd | None:
    if settings.etcd_endpoints:
        return None
    return EmbeddedEtcd(directory=settings.state_dir / "etcd", port=settings.embedded_etcd_port)


def _etcd_config(settings: Settings, embedded: EmbeddedEtcd | None) -> EtcdConfig:
    return EtcdConfig(
        endpoints=(embedded.endpoint,) if embedded else settings.etcd_endpoints,
        ca=settings.etcd_ca,
        cert=settings.etcd_cert,
        key=settings.etcd_key,
        allow_plaintext=settings.etcd_allow_plaintext,
    )


def _docker_networks(engine: Engine) -> frozenset[DockerNetworkId] | None:
    """Ask the engine for its networks; None when it does not answer. Not for handlers."""
    try:
        return frozenset(DockerNetworkId(ident) for ident in engine.network_ids())
    except EngineUnavailable as err:
        log.info("engine did not list its networks", extra={"reason": str(err)})
        return None


def _await_datapath(driver: Flask, agent: Agent, datapath_step: Step) -> None:
    """Let calls that need the kernel side wait until it stands, instead of failing in the first second of an agent."""

    @driver.before_request
    def wait() -> None:
        if request.path in _NEED_DATAPATH:
            agent.wait_for(datapath_step, DATAPATH_PATIENCE_S)


def _problems(agent: Agent, embedded: EmbeddedEtcd | None, forwarding: ForwardingController) -> Sequence[str]:
    """Everything that does not work at the moment, a sentence each."""
    health = forwarding.health
    candidates = (
        agent.waiting_for,
        embedded.problem if embedded else None,
        f"the datapath does not follow the cluster: {health.error}" if health.failures else None,
    )
    return [problem for problem in candidates if problem]
