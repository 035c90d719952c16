"""Who plays in a module of the policy tests: containers with labels from every source, hosts, and the world.

Everybody runs ``tests/support/probe.c``, from the start to the end of the module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from model.ids import IDENTITY_INIT
from tests.support import leaks, probe, swarm, wait
from tests.support.images import IMAGE
from tests.support.machine import Machine
from tests.support.node import Node
from tests.support.probe import Spot
from tests.support.testbed import Testbed

NETWORK: Final = "app"
_POOL: Final = "10.2.0.0/16"
_ORDERS: Final = "/orders"
_TASK_HOSTNAME: Final = "{{.Node.Hostname}}-{{.Service.Name}}"
_WORLD: Final = {"world": "192.0.2.10", "world-far": "192.0.2.200"}
_PATIENCE_S: Final = 60
_INIT: Final = {"reserved:init": ""}
"""What flows show of an endpoint whose labels are not known."""
_SERVICE_LABEL: Final = "com.docker.swarm.service.name"
_STACK_LABEL: Final = "com.docker.stack.namespace"
# Docker's own rule for what a host forwards is «drop»; what a host does not let in is not what these tests are about.
_FORWARD: Final = ("iptables", "-w", "-I", "FORWARD", "-j", "ACCEPT")
_FORWARD_NO_MORE: Final = ("iptables", "-w", "-D", "FORWARD", "-j", "ACCEPT")


class Cast:
    """The spots of a module by role; :meth:`wait_ready` when all were asked for."""

    def __init__(self, testbed: Testbed, nodes: Sequence[Node]) -> None:
        self.nodes: Final = tuple(nodes)
        self.spots: Final[dict[str, list[Spot]]] = {}
        self._testbed = testbed
        self._orders = testbed.data / "orders"
        self._orders.mkdir(exist_ok=True)
        self._starting: dict[str, list[Callable[[], Spot]]] = {}
        self._undo: list[Callable[[], object]] = []
        self._services: list[str] = []
        self._stacks: list[str] = []

    def container(
        self, role: str, node: int, *, unknown: bool = False, shown: Mapping[str, str] | None = None, **labels: str
    ) -> None:
        """A container of «docker run --label» on a node.

        ``shown`` are the labels that count, where not all do; ``unknown``: what its labels are is never known.
        """
        options = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
        known = labels if shown is None else shown
        self._run(role, self.nodes[node], NETWORK, options, _INIT if unknown else known)

    def attached(self, role: str, node: int, **labels: str) -> None:
        """A container with the labels at its attachment, in options of the driver."""
        options = "".join(f",driver-opt=label.{key}={value}" for key, value in labels.items())
        self._run(role, self.nodes[node], f"name={NETWORK}{options}", ["--label", "app=another"], labels)

    def service(self, role: str, *, attachment: Mapping[str, str] | None = None, **labels: str) -> None:
        """A Swarm service with a task on every node, with labels of containers or at the attachment."""
        options = "".join(f",driver-opt=label.{key}={value}" for key, value in (attachment or {}).items())
        self.nodes[0].engine(
            "service", "create", "--detach", "--name", role, "--mode", "global", "--endpoint-mode", "dnsrr",
            "--network", f"name={NETWORK}{options}", "--hostname", _TASK_HOSTNAME, "--no-resolve-image",
            "--mount", f"type=bind,source={self._orders},target={_ORDERS}",
            *(part for key, value in labels.items() for part in ("--container-label", f"{key}={value}")),
            IMAGE, *probe.command(_ORDERS),
        )  # fmt: skip
        self._services.append(role)
        known = attachment if attachment is not None else {**labels, _SERVICE_LABEL: role}
        self._add_tasks(role, role, known)

    def stack(self, name: str, services: Mapping[str, Mapping[str, str]]) -> None:
        """A stack of global services, with the labels of their containers; the roles are like the stack's services."""
        document = {
            "version": "3.8",
            "networks": {NETWORK: {"external": True}},
            "services": {
                service: {
                    "image": IMAGE,
                    "command": list(probe.command(_ORDERS)),
                    "hostname": _TASK_HOSTNAME,
                    "labels": dict(labels),
                    "networks": [NETWORK],
                    "volumes": [{"type": "bind", "source": str(self._orders), "target": _ORDERS}],
                    "deploy": {"mode": "global", "endpoint_mode": "dnsrr"},
                }
                for service, labels in services.items()
            },
        }
        file = self._testbed.data / f"stack-{name}.json"
        file.write_text(json.dumps(document))
        self.nodes[0].engine("stack", "deploy", "--resolve-image", "never", "--compose-file", str(file), name)
        self._stacks.append(name)
        for service, labels in services.items():
            full = f"{name}_{service}"
            self._add_tasks(full, full, {**labels, _SERVICE_LABEL: full, _STACK_LABEL: name})

    def hosts(self) -> None:
        """The nodes themselves: ``host`` is that of the other end, ``remote-node`` every other one."""
        for node in self.nodes:
            self._spawn(node.machine)
            for role in ("host", "remote-node"):
                self._add(
                    role,
                    Spot(
                        role=role,
                        node=node,
                        address=str(node.address),
                        labels=frozenset({f"reserved:{role}"}),
                        orders=self._orders / node.name,
                    ),
                )

    def world(self) -> None:
        """A machine outside of the cluster with two addresses, the nodes' way to everywhere."""
        underlay = self._testbed.underlay
        self._spawn(underlay)
        for role, address in _WORLD.items():
            underlay.must("ip", "addr", "add", f"{address}/32", "dev", "br0")
            self._undo.append(lambda address=address: underlay.run("ip", "addr", "del", f"{address}/32", "dev", "br0"))
            labels = frozenset({"reserved:world"})
            self._add(
                role, Spot(role=role, node=None, address=address, labels=labels, orders=self._orders / "underlay")
            )
        for node in self.nodes:
            node.machine.must(*_FORWARD)
            self._undo.append(lambda node=node: node.machine.run(*_FORWARD_NO_MORE))

    def wait_ready(self) -> None:
        """Wait until everybody takes orders, and every node knows every container's identity."""
        jobs = [(role, start) for role, starts in self._starting.items() for start in starts]
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for (role, _), spot in zip(jobs, pool.map(lambda job: job[1](), jobs), strict=True):
                self._add(role, spot)
        everybody = [spot for spots in self.spots.values() for spot in spots]
        containers = {spot.address: spot for spot in everybody if spot.container}
        for spot in everybody:
            spot.wait_listens()
        for node in self.nodes:
            wait.until_passes(lambda node=node: _knows(node, containers), timeout_s=_PATIENCE_S, interval_s=0.3)
        if "world" in self.spots:
            self._route_from_world(containers.values())

    def remove(self) -> None:
        """Everything goes; nothing may stay."""
        for undo in reversed(self._undo):
            undo()
        for kind, names in (("stack", self._stacks), ("service", self._services)):
            for name in names:
                self.nodes[0].engine(kind, "rm", name)

        def no_task() -> bool:
            return not any(node.engine("ps", "-aq", "--filter", f"label={_SERVICE_LABEL}") for node in self.nodes)

        wait.until("the tasks are gone", no_task, timeout_s=_PATIENCE_S, interval_s=0.3)
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.remove(*node.engine("ps", "-aq").split()), self.nodes))

    def _add(self, role: str, spot: Spot) -> None:
        self.spots.setdefault(role, []).append(spot)

    def _run(self, role: str, node: Node, network: str, options: Sequence[str], labels: Mapping[str, str]) -> None:
        def start() -> Spot:
            name = f"{node.name}-{role}"
            volume = ("--volume", f"{self._orders}:{_ORDERS}")
            node.start(name, network, "--hostname", name, *volume, *options, command=tuple(probe.command(_ORDERS)))
            return self._spot(role, node, name, labels)

        self._starting.setdefault(role, []).append(start)

    def _add_tasks(self, role: str, service: str, labels: Mapping[str, str]) -> None:
        def task(node: Node) -> Callable[[], Spot]:
            def start() -> Spot:
                swarm.wait_running(self.nodes[0].engine, service, len(self.nodes))
                name = node.engine("ps", "--filter", f"label={_SERVICE_LABEL}={service}", "--format", "{{.Names}}")
                return self._spot(role, node, name, labels)

            return start

        self._starting[role] = [task(node) for node in self.nodes]

    def _spot(self, role: str, node: Node, container: str, labels: Mapping[str, str]) -> Spot:
        return Spot(
            role=role,
            node=node,
            address=node.address_in(container, NETWORK),
            container=container,
            labels=frozenset(f"{key}={value}" if value else key for key, value in labels.items()),
            orders=self._orders / f"{node.name}-{role}",
        )

    def _spawn(self, machine: Machine) -> None:
        argv = [str(self._testbed.probe), *probe.command(self._orders)[1:]]
        with (self._testbed.data / "probe.log").open("a") as log:
            process = machine.spawn(argv, log=log)

        def end() -> None:
            probe.end(self._orders / machine.name)
            process.wait(timeout=_PATIENCE_S)

        self._undo.append(end)

    def _route_from_world(self, containers: Sequence[Spot]) -> None:
        underlay = self._testbed.underlay
        for spot in containers:
            underlay.must("ip", "route", "replace", f"{spot.address}/32", "via", str(spot.place.address))
            self._undo.append(lambda spot=spot: underlay.run("ip", "route", "del", f"{spot.address}/32"))


@contextmanager
def playing(testbed: Testbed, nodes: Sequence[Node]) -> Iterator[Cast]:
    """A cast to fill, with a network for it; afterwards nothing of it is left."""
    nodes[0].create_network(NETWORK, "--subnet", _POOL, "--attachable")
    cast = Cast(testbed, nodes)
    try:
        yield cast
    finally:
        cast.remove()
        nodes[0].engine("network", "rm", NETWORK)
    leaks.check(nodes, timeout_s=60)


def _knows(node: Node, containers: Mapping[str, Spot]) -> None:
    """The agent of a node has the identity of every container."""
    listed = {
        address.partition("/")[0]: entry
        for entry in node.hawse_json("endpoint", "ls")["endpoints"]
        for address in entry["addresses"]
    }
    for address, spot in containers.items():
        is_init = spot.labels == {"reserved:init"}
        assert address in listed, f"{node.name} does not know {spot}"
        assert (listed[address]["identity"] == IDENTITY_INIT) is is_init, f"{node.name}: {spot}: {listed[address]}"
