"""What a Swarm's lists mean in hawse's words: services with their backends, and the hosts that are lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Self

from driver.swarm_records import DOWN, READY, RUNNING, VIP, Listing, SwarmNode, SwarmService, SwarmTask, Unread
from model.addresses import IPNetwork
from model.ids import DockerNetworkId, NodeName, ServiceId
from model.networks import Network
from model.nodes import Node
from model.services import Service, ServiceSource, ServiceTask, VirtualAddress

AFFINITY_LABEL: Final = "hawse.service.affinity"

_UNREAD: Final = "unread"
"""The state of a node that cannot be read: like what is neither ``down`` nor ``ready`` it changes nothing."""
_TOLD: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmLists:
    """What a manager said at about one moment."""

    services: Sequence[SwarmService]
    tasks: Sequence[SwarmTask]
    nodes: Sequence[SwarmNode]
    unread_services: Sequence[Unread] = ()
    unread_tasks: Sequence[Unread] = ()
    unread_nodes: Sequence[Unread] = ()

    @classmethod
    def of(cls, services: Listing[SwarmService], nodes: Listing[SwarmNode], tasks: Listing[SwarmTask]) -> Self:
        """Put the three together. Of a node that cannot be read its names are there, if they can be."""
        unread = [
            SwarmNode(node_id=one.entry_id, hostname=one.hostname, state=_UNREAD, address=one.address)
            for one in nodes.unread
        ]
        return cls(
            services=services.entries,
            tasks=tasks.entries,
            nodes=(*nodes.entries, *unread) if unread else nodes.entries,
            unread_services=services.unread,
            unread_tasks=tasks.unread,
            unread_nodes=nodes.unread,
        )

    def keeps(self) -> Callable[[Service], bool]:
        """Whose record has to stay as it is: something of that service cannot be read.

        An entry without a readable id may be any that is missing, so no service is taken for removed then.
        """
        listed = {service.service_id for service in self.services}
        unread = {one.entry_id for one in self.unread_services}
        of_tasks = {one.service_id for one in self.unread_tasks if one.service_id}
        # Of a task whose service cannot be read the record may know it.
        tasks = {one.entry_id for one in self.unread_tasks if one.entry_id and not one.service_id}

        def keeps(service: Service) -> bool:
            if service.service_id not in listed:
                return service.service_id in unread or "" in unread
            return service.service_id in of_tasks or any(task.task_id in tasks for task in service.tasks)

        return keeps

    def warnings(self) -> Sequence[str]:
        """What could not be read, a sentence each."""
        return (
            *_told("service", "it stays as it was", self.unread_services),
            *_told("task", "its service stays as it was", self.unread_tasks),
            *_told("node", "it stays lost or not lost, as it was", self.unread_nodes),
        )


def _told(what: str, so: str, unread: Sequence[Unread]) -> Iterable[str]:
    for one in unread[:_TOLD]:
        name = one.entry_id[:80] or "without a readable id"
        yield f"{what} {name} of the Swarm cannot be read, so {so}: {one.reason}"
    if len(unread) > _TOLD:
        yield f"{len(unread) - _TOLD} more {what}s of the Swarm cannot be read"


class KnownServices:
    """The services that have a virtual address in one of our networks; remembers them, most are the same next time.

    Networks are known by Docker's ids, which :meth:`driver.service.NetworkService.allocate_network` has noted before a
    service can be in one. Not by their subnets: Docker's own overlays may have the same. ``ingress`` is none of ours.
    """

    def __init__(self) -> None:
        self._known: dict[ServiceId, tuple[tuple[object, ...], Service]] = {}

    def look(self, said: SwarmLists, networks: Iterable[Network]) -> Sequence[Service]:
        """Work out all services; those that have not changed are the same objects as before."""
        pools = {docker_id: network.pool for network in networks for _, docker_id in network.docker_ids}
        hosts = {node.node_id: node for node in said.nodes if node.node_id}
        tasks: dict[ServiceId, list[SwarmTask]] = defaultdict(list)
        for task in said.tasks:
            if task.service_id is not None:
                tasks[task.service_id].append(task)
        known, self._known = self._known, {}
        for service in said.services:
            places = _places(service, pools)
            if not places:
                continue
            own = tasks[service.service_id]
            basis = (service, places, own, [hosts.get(task.node_id) for task in own])
            before = known.get(service.service_id)
            made = before[1] if before is not None and before[0] == basis else _service(service, places, own, hosts)
            self._known[service.service_id] = (basis, made)
        return [service for _, service in self._known.values()]


def _service(
    service: SwarmService,
    places: Mapping[DockerNetworkId, VirtualAddress],
    tasks: Iterable[SwarmTask],
    hosts: Mapping[str, SwarmNode],
) -> Service:
    return Service(
        service_id=service.service_id,
        name=service.name,
        source=ServiceSource.SWARM,
        addresses=tuple(places.values()),
        affinity=service.labels.get(AFFINITY_LABEL, "").lower() == "true",
        tasks=tuple(
            _task(service, task, places, hosts.get(task.node_id))
            for task in sorted(tasks, key=lambda one: (one.slot, one.node_id, one.task_id))
        ),
    )


def _places(
    service: SwarmService, pools: Mapping[DockerNetworkId, IPNetwork]
) -> Mapping[DockerNetworkId, VirtualAddress]:
    """Where it is asked for, by Docker's network ids, sorted; nowhere with ``dnsrr``."""
    if service.mode != VIP:
        return {}
    return {
        network: VirtualAddress(network=pools[network], address=address)
        for network, address in sorted(service.virtual, key=lambda pair: pair[0])
        if network in pools and address in pools[network]
    }


def _task(
    service: SwarmService, task: SwarmTask, places: Iterable[DockerNetworkId], host: SwarmNode | None
) -> ServiceTask:
    addresses = tuple(address for network in places for address in task.addresses.get(network, ()))
    # A manager says for some moments that tasks run on a host that it has just given up.
    lost = host is not None and host.state == DOWN
    return ServiceTask(
        name=f"{service.name}.{task.slot or task.node_id or task.task_id}",
        task_id=task.task_id,
        node=(host.hostname if host is not None else "") or task.node_id,
        addresses=addresses,
        active=task.desired == RUNNING and task.state == RUNNING and bool(addresses) and not lost,
        state=task.state,
    )


class LostHosts:
    """Which of our nodes the Swarm has given up. Remembers who was in the Swarm: one that is removed is on no list.

    A host is lost when the Swarm says ``down``, and until it says ``ready``: what it says in between (``unknown`` to a
    manager that has just begun to lead, ``disconnected``) changes nothing. One that was removed from the Swarm is lost
    unless its agent runs: then it has left, and lives on by itself. While an entry cannot be told to be of a host, no
    host is taken for removed.
    """

    def __init__(self) -> None:
        self._members: set[NodeName] = set()

    def look(
        self,
        said: Sequence[SwarmNode],
        nodes: Sequence[Node],
        *,
        alive: AbstractSet[NodeName],
        lost: AbstractSet[NodeName],
    ) -> frozenset[NodeName]:
        """Compare the Swarm's nodes with ours.

        Args:
            said: what the Swarm says.
            nodes: our nodes.
            alive: those of them whose agent runs.
            lost: those of them that are noted as lost now.
        """
        states = _states(said, nodes)
        known = {node.name for node in nodes}
        self._members = (self._members | states.keys()) & known
        found = {name for name, seen in states.items() if seen == {DOWN} or (name in lost and READY not in seen)}
        missing = (self._members | (lost & known)) - states.keys()
        addresses = {node.address for node in nodes}
        if any(one.state == _UNREAD and not one.hostname and one.address not in addresses for one in said):
            return frozenset(found | (missing & lost))
        self._members -= missing & alive
        return frozenset(found | (missing - alive))


def _states(said: Sequence[SwarmNode], nodes: Iterable[Node]) -> Mapping[NodeName, set[str]]:
    """What is said of each of our nodes: more than one thing of a host that has left the Swarm and joined again.

    Ours is the one with the underlay address that the Swarm sees, or, if that is another (``NODE_IP``), its host name.
    """
    by_address = {node.address: node.name for node in nodes}
    by_name = {str(node.name): node.name for node in nodes}
    states: dict[NodeName, set[str]] = defaultdict(set)
    for one in said:
        name = by_address.get(one.address) if one.address is not None else None
        name = name or by_name.get(one.hostname)
        if name is not None:
            states[name].add(one.state)
    return states
