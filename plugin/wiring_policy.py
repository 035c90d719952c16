"""Where the classes of identities, policies and flows meet; called by :mod:`plugin.wiring`, starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.endpoints import EndpointRegistry
from cluster.networks import NetworkRegistry
from cluster.views import ClusterViews
from datapath.api import Datapath
from driver.container_watch import ContainerWatch
from driver.engine import Engine
from driver.label_identities import LabelIdentities
from driver.labelling import Labelling
from driver.locks import KeyedLocks
from kvstore.store import Store
from kvstore.watcher import View
from model.clock import Clock
from model.nodes import Node
from model.services import Service as ServiceRecord
from observe.flow_names import EndpointNames, ServiceAddresses
from observe.flow_ring import FlowLog
from plugin.agent import Service
from plugin.closing import Closing
from plugin.identity_upkeep import IdentityUpkeep
from plugin.settings import Settings
from policy.controller import PolicyController
from policy.enforcement import EnforcementPublisher
from policy.identities import IdentityRegistry
from policy.identity_garbage import IdentityGarbage
from policy.registry import PolicyRegistry
from policy.rollout import RolloutWatch
from policy.service import PolicyService
from policy.views import PolicyViews

_RULES_S: Final = 0.5
"""How long the collector's thread waits for the rules of an identity that it gives back to an endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySide:
    """What the rest of the agent needs of it."""

    views: PolicyViews
    service: PolicyService
    """For the operator's API."""
    flows: FlowLog
    label_identities: LabelIdentities
    """For endpoints whose attachment says its labels."""
    endpoint_locks: KeyedLocks
    """Of everybody who changes interfaces of endpoints."""
    containers: ContainerWatch
    """Whose endpoints are."""
    upkeep: IdentityUpkeep
    """Steps of the collector."""
    followers: Sequence[Service]
    """Started at once; the views and what writes to the store."""
    workers: Sequence[Service]
    """Started when the datapath stands."""
    problems: Callable[[], Sequence[str]]
    """What does not work, a sentence each."""


def build_policy(
    settings: Settings,
    node: Node,
    *,
    store: Store,
    cluster: ClusterViews,
    endpoints: EndpointRegistry,
    networks: NetworkRegistry,
    services: View[ServiceRecord],
    datapath: Datapath,
    engine: Engine,
    clock: Clock,
) -> PolicySide:
    """Build everything; subscribes to views, which must not be started yet."""
    views = PolicyViews.of(store)
    identities = IdentityRegistry(store, views.identities, clock, held=endpoints.identities)
    publisher = EnforcementPublisher(store, views.enforced, node.name)
    controller = PolicyController(
        datapath,
        views,
        cluster.endpoints,
        node.name,
        publisher,
        mode=settings.policy_enforcement,
        audit=settings.policy_audit,
        clock=clock,
    )
    rollout = RolloutWatch(views.policies, views.enforced, cluster.nodes, cluster.alive)
    service = PolicyService(
        PolicyRegistry(store, views.policies, node.name, clock), controller, rollout, views, cluster.endpoints
    )
    locks = KeyedLocks()
    label_identities = LabelIdentities(settings.identity_labels, identities, controller)
    containers = ContainerWatch(
        engine,
        Labelling(
            identities=label_identities,
            endpoints=endpoints,
            networks=networks,
            datapath=datapath,
            locks=locks,
            mtu_bytes=node.mtu_bytes,
        ),
        clock=clock,
    )
    flows = FlowLog(
        datapath,
        EndpointNames(cluster.endpoints, clock),
        service,
        clock,
        node.name,
        services=ServiceAddresses(services),
    )
    return PolicySide(
        views=views,
        service=service,
        flows=flows,
        label_identities=label_identities,
        endpoint_locks=locks,
        containers=containers,
        upkeep=IdentityUpkeep(
            endpoints=endpoints,
            identities=identities,
            garbage=IdentityGarbage(store, views.identities, clock),
            datapath=datapath,
            locks=locks,
            await_rules=lambda identity: controller.ensure_ready(identity, _RULES_S),
        ),
        followers=(views, publisher),
        # Flows last: what they report is named by all that was started before.
        workers=(controller, containers, flows, Closing([rollout.stop])),
        problems=lambda: [*service.problems(), *containers.problems(), *filter(None, [flows.problem])],
    )
