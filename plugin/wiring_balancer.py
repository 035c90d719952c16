"""Where the classes of services meet; called by :mod:`plugin.wiring`, starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from balancer.answers import ServiceAnswers
from balancer.controller import ServiceController
from balancer.dissolved import DissolvedSwarm
from balancer.label_services import LabelServices, VirtualAddresses
from balancer.registry import LostNodes, ServiceRegistry
from balancer.views import ServiceViews
from cluster.election import Election
from cluster.office_lease import OfficeLease
from cluster.views import ClusterViews
from datapath.api import Datapath
from driver.engine import Engine
from driver.swarm_engine import SwarmEngine
from driver.swarm_services import SwarmFollower
from kvstore import keys
from kvstore.store import Store
from model.clock import Clock
from model.nodes import Node
from plugin.agent import Service

SWARM_LEADER_S: Final = 6
"""How long the Swarm is followed by nobody when the host that did it dies; the Swarm takes longer to notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerSide:
    """What the rest of the agent needs of it."""

    views: ServiceViews
    followers: Sequence[Service]
    """Started at once; the views."""
    workers: Sequence[Service]
    """Started when the datapath stands."""
    problems: Callable[[], Sequence[str]]
    """What keeps the Swarm from being followed, a sentence each; the rest says ``state``."""
    state: ServiceAnswers
    """For the operator's API."""
    leader_steps: Sequence[Callable[[], None]]
    """Steps of the cluster's leader."""


def build_balancer(
    node: Node,
    *,
    store: Store,
    cluster: ClusterViews,
    addresses: VirtualAddresses,
    datapath: Datapath,
    engine: Engine,
    manager: SwarmEngine,
    clock: Clock,
) -> BalancerSide:
    """Build everything; subscribes to views, which must not be started yet."""
    views = ServiceViews.of(store)
    services, lost = ServiceRegistry(store, views.services), LostNodes(store, cluster.lost, clock)
    office = OfficeLease(store, ttl_s=SWARM_LEADER_S)
    swarm = SwarmFollower(
        host=engine,
        manager=manager,
        election=Election(store, node.name, office.lease, key=keys.SWARM_LEADER),
        services=services,
        lost=lost,
        service_view=views.services,
        cluster=cluster,
        clock=clock,
    )
    labels = LabelServices(
        store,
        views.services,
        cluster.endpoints,
        cluster.networks,
        addresses=addresses,
        node=node.name,
        clock=clock,
    )
    dissolved = DissolvedSwarm(
        store,
        services=services,
        lost=lost,
        service_view=views.services,
        lost_view=cluster.lost,
        alive=cluster.alive,
        endpoints=cluster.endpoints,
        clock=clock,
    )
    controller = ServiceController(
        datapath, views.services, cluster.endpoints, cluster.networks, cluster.lost, clock=clock
    )
    return BalancerSide(
        views=views,
        followers=[views],
        workers=[controller, labels, office, swarm],
        problems=lambda: [*([swarm.problem] if swarm.problem else []), *services.problems()],
        state=ServiceAnswers(controller, labels, swarm_warnings=lambda: swarm.warnings),
        leader_steps=[labels.collect, dissolved.collect],
    )
