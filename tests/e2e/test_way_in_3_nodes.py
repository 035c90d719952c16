"""Three nodes of a Swarm: published ports, from everywhere they can be asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pytest

from tests.support import leaks, shell, swarm, wait
from tests.support.disturb import kill_the_agent
from tests.support.firewall import FIREWALLS, kept
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.peer import (
    BRIEF_MS,
    Answer,
    Asker,
    Outcome,
    Question,
    in_container,
    serve_command,
    serving,
    start_idle,
    start_server,
)
from tests.support.policies import PolicyAgent
from tests.support.policy_matrix import dropped, labelled, policy
from tests.support.testbed import Testbed
from tests.support.world import OTHER_SERVER, PORT, SERVER, World

_PROTOCOLS: Final = ("tcp", "udp")
_LOOPBACK: Final = "127.0.0.1"
_CHOSEN_PORT: Final = 7020
_CHOSEN_OF_RANGE_PORT: Final = 7030
_SOME: Final = range(8200, 8211)
"""Ports to choose from."""
_PUBLISHED: Final = {
    "one port": {8080: 7001},
    "a range": {8100: 7010, 8101: 7011, 8102: 7012},
    "with the host's address": {8300: 7040},
}
_LOCAL: Final = 8310
"""Published with the address 127.0.0.1."""
_KINDS: Final = (*_PUBLISHED, "a chosen port", "one chosen from a range")
_CLIENTS: Final = (
    "outside",
    "another one outside",
    "the host",
    "the host at 127.0.0.1",
    "another host",
    "a container beside it",
    "a container of another network beside it",
    "a container on another host",
    "a container of another network on another host",
    "itself",
)
_PATIENCE_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Somebody who asks for published ports."""

    asker: Asker
    at: str
    """Address that it asks."""
    seen: str
    """Address that the server has to see."""
    source: str = "0.0.0.0"

    def ask(self, ports: Sequence[int], *, wait_ms: int) -> list[Answer]:
        """Ask each port in both protocols; answers in the order of ports, TCP first."""
        return self.asker.ask(
            [
                Question(protocol=protocol, address=self.at, port=port, source=self.source)
                for port in ports
                for protocol in _PROTOCOLS
            ],
            wait_ms=wait_ms,
        )


class Shop:
    """A server on the first node that publishes in every way there is, and who asks."""

    def __init__(self, nodes: Sequence[Node], world: World) -> None:
        self.nodes: Final = nodes
        self.world: Final = world
        self.node: Final = nodes[0]
        self.host: Final = str(self.node.address)
        self.node.create_network("front", "--subnet", "10.41.0.0/24", "--attachable")
        self.node.create_network("back", "--subnet", "10.42.0.0/24", "--attachable")
        inside = [port for ports in _PUBLISHED.values() for port in ports.values()]
        self.address: Final = start_server(
            self.node,
            "server",
            "front",
            "--label=app=shop",
            *_options(self.host),
            ports=[*inside, _CHOSEN_PORT, _CHOSEN_OF_RANGE_PORT, 7050],
        )
        self.clients: Final[Mapping[str, Client]] = dict(zip(_CLIENTS, self._make_clients(), strict=True))

    def _make_clients(self) -> Iterator[Client]:
        other = self.nodes[1]
        outside = self.world.asker()
        yield Client(asker=outside, at=self.host, seen=SERVER, source=SERVER)
        yield Client(asker=outside, at=self.host, seen=OTHER_SERVER, source=OTHER_SERVER)
        yield Client(asker=self.world.on(self.node.machine), at=self.host, seen=self.host)
        yield Client(asker=self.world.on(self.node.machine), at=_LOOPBACK, seen=self.host)
        yield Client(asker=self.world.on(other.machine), at=self.host, seen=str(other.address))
        for node in (self.node, other):
            for network in ("front", "back"):
                name = f"{network}-{node.name}"
                asker = start_idle(node, name, network)
                yield Client(asker=asker, at=self.host, seen=node.address_in(name, network))
        yield Client(asker=in_container(self.node, "server"), at=self.host, seen=self.host)

    def published(self, protocol: str) -> dict[str, list[int]]:
        """Ports of the host by kind."""
        chosen = chosen_ports(self.node, "server")
        return {
            **{kind: list(ports) for kind, ports in _PUBLISHED.items()},
            "a chosen port": [chosen[_CHOSEN_PORT, protocol]],
            "one chosen from a range": [chosen[_CHOSEN_OF_RANGE_PORT, protocol]],
        }

    def ask_everything(self, *, wait_ms: int) -> dict[tuple[str, str, str], list[Answer]]:
        """What became of every question, by client, kind and protocol."""
        ports = {protocol: self.published(protocol) for protocol in _PROTOCOLS}
        keys = [
            (kind, protocol, port) for protocol in _PROTOCOLS for kind, some in ports[protocol].items() for port in some
        ]

        def ask(client: Client) -> list[Answer]:
            questions = [
                Question(protocol=protocol, address=client.at, port=port, source=client.source)
                for _, protocol, port in keys
            ]
            return client.asker.ask(questions, wait_ms=wait_ms)

        answers: dict[tuple[str, str, str], list[Answer]] = {}
        with ThreadPoolExecutor(4) as pool:
            for name, told in zip(self.clients, pool.map(ask, self.clients.values()), strict=True):
                for (kind, protocol, _), answer in zip(keys, told, strict=True):
                    answers.setdefault((name, kind, protocol), []).append(answer)
        return answers


def _options(host: str) -> Iterator[str]:
    for protocol in _PROTOCOLS:
        yield f"--publish=8080:7001/{protocol}"
        yield f"--publish=8100-8102:7010-7012/{protocol}"
        yield f"--publish={host}:8300:7040/{protocol}"
        yield f"--publish={_LOOPBACK}:{_LOCAL}:7050/{protocol}"
        yield f"--publish={_CHOSEN_PORT}/{protocol}"
        yield f"--publish={_SOME[0]}-{_SOME[-1]}:{_CHOSEN_OF_RANGE_PORT}/{protocol}"


def chosen_ports(node: Node, container: str) -> dict[tuple[int, str], int]:
    """Ports of the host by port of the container and protocol, as «hawse endpoint get» tells them."""
    told = node.hawse_json("endpoint", "get", container)
    return {(one["port"], one["protocol"].lower()): one["host_port"] for one in told["published"]}


@pytest.fixture(scope="module")
def shop(swarm_of_three: list[Node], world: World) -> Iterator[Shop]:
    with world.reached_by(swarm_of_three):
        yield Shop(swarm_of_three, world)
        for node in reversed(swarm_of_three):
            node.remove(*node.engine("ps", "-aq").split())
        for network in ("front", "back"):
            swarm_of_three[0].engine("network", "rm", network)
    leaks.check(swarm_of_three, timeout_s=60)


@pytest.fixture(scope="module")
def answers(shop: Shop) -> dict[tuple[str, str, str], list[Answer]]:
    return shop.ask_everything(wait_ms=2000)


def is_reachable(name: str, kind: str) -> bool:
    """A port with the host's address is none of another address."""
    return not (name == "the host at 127.0.0.1" and kind == "with the host's address")


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", _CLIENTS)
def test_a_published_port_answers(
    answers: Mapping[tuple[str, str, str], Sequence[Answer]], shop: Shop, name: str, kind: str, protocol: str
) -> None:
    told = answers[name, kind, protocol]

    if is_reachable(name, kind):
        expected = [(Outcome.OPEN, "server", shop.clients[name].seen)]
    else:
        expected = [(Outcome.REFUSED, "", "")]
    assert [(one.outcome, one.server, one.address) for one in told] == expected * len(told)


def test_a_port_of_a_range_is_in_it(shop: Shop) -> None:
    assert all(shop.published(protocol)["one chosen from a range"][0] in _SOME for protocol in _PROTOCOLS)


def test_a_port_of_127_0_0_1_is_for_the_host_alone(shop: Shop) -> None:
    inside = shop.clients["the host at 127.0.0.1"].ask([_LOCAL], wait_ms=BRIEF_MS)
    others = [
        answer
        for name in ("outside", "the host", "another host")
        for answer in shop.clients[name].ask([_LOCAL], wait_ms=BRIEF_MS)
    ]

    assert [(one.outcome, one.address) for one in inside] == [(Outcome.OPEN, shop.host)] * 2
    assert [one.outcome for one in others] == [Outcome.REFUSED] * 6


@pytest.mark.parametrize("name", _CLIENTS)
def test_fragments_and_large_streams_come_in(shop: Shop, name: str) -> None:
    client = shop.clients[name]
    questions = [
        Question(protocol=protocol, address=client.at, port=8080, size=size, source=client.source)
        for protocol, size in (("tcp", 3_000_000), ("udp", 4000), ("udp", 1400))
    ]

    told = client.asker.ask(questions)

    assert [(one.outcome, one.address) for one in told] == [(Outcome.OPEN, client.seen)] * 3


def test_a_published_port_that_nobody_listens_at_is_refused_by_the_container(shop: Shop) -> None:
    start_server(shop.node, "deaf", "front", *_publish(8590, 7999), ports=[7001])

    told = {name: client.ask([8590], wait_ms=BRIEF_MS) for name, client in shop.clients.items()}

    shop.node.remove("deaf")
    assert {name: [one.outcome for one in some] for name, some in told.items()} == dict.fromkeys(
        _CLIENTS, [Outcome.REFUSED] * 2
    )


def test_many_flows_from_outside(shop: Shop, figures: list[str]) -> None:
    for protocol in _PROTOCOLS:
        flood = shop.world.asker().flood(protocol, shop.host, 8080, count=2000, first_port=20000)

        figures.append(
            f"way in: {flood.answered} {protocol} flows from outside: {flood.duration_ms / 1000:.2f} s, "
            f"{flood.repeated} datagrams sent again"
        )
        assert flood.answered == 2000, str(flood)
        assert sorted(port for _, port in flood.seen) == list(range(20000, 22000)), "the true ports"


def test_what_is_not_published_is_refused_by_the_host(shop: Shop) -> None:
    told = [
        answer
        for name in ("outside", "the host", "another host")
        for answer in shop.clients[name].ask([8081], wait_ms=BRIEF_MS)
    ]

    assert [one.outcome for one in told] == [Outcome.REFUSED] * 6


@contextmanager
def under(node: Node, name: str, text: str) -> Iterator[None]:
    """A policy holds meanwhile."""
    agent = PolicyAgent(node)
    agent.wait_enforced(agent.apply(text))
    try:
        yield
    finally:
        agent.wait_enforced(agent.delete(name))


_DOOR: Final = policy("door", labelled(app="shop"), ingress=[{"fromCIDR": [f"{SERVER}/32"]}])


def check_door(shop: Shop) -> None:
    """One client outside is let in, and nobody else; nobody is kept from itself."""
    told = shop.ask_everything(wait_ms=BRIEF_MS)
    for (name, kind, protocol), some in told.items():
        if is_reachable(name, kind):
            expected = Outcome.OPEN if name in {"outside", "itself"} else Outcome.SILENT
            assert {one.outcome for one in some} == {expected}, f"{name}, {kind}, {protocol}: {some}"


def test_a_policy_by_prefix_tells_clients_outside_apart(shop: Shop) -> None:
    with under(shop.node, "door", _DOOR):
        began = datetime.now(UTC)
        check_door(shop)

        def told() -> None:
            flows = [flow for flow in dropped(shop.node, began) if flow.get("IP", {}).get("source") == OTHER_SERVER]
            assert {flow["protocol"] for flow in flows} == set(_PROTOCOLS), flows
            for flow in flows:
                assert flow["traffic_direction"] == "INGRESS"
                assert flow["IP"]["destination"] == shop.address
                assert flow["destination"]["pod_name"] == "server"
                assert flow["policy_explanation"] == "no rule allows it; selected by door"

        wait.until_passes(told, timeout_s=_PATIENCE_S, interval_s=0.2)


@pytest.fixture(scope="module")
def virtual_address(shop: Shop) -> Iterator[str]:
    """Of a service that has tasks on two nodes."""
    manager = shop.nodes[0].engine
    manager(
        "service", "create", "--detach", "--name", "named", "--replicas", "2", "--network", "front",
        "--replicas-max-per-node", "1", "--no-resolve-image", IMAGE, *serve_command("named", 7001),
    )  # fmt: skip
    swarm.wait_running(manager, "named", 2)
    (virtual,) = manager.inspect("service", "named")["Endpoint"]["VirtualIPs"]
    yield virtual["Addr"].partition("/")[0]
    manager("service", "rm", "named")
    wait.until_passes(lambda: no_task(shop), timeout_s=60, interval_s=0.3)


def no_task(shop: Shop) -> None:
    for node in shop.nodes:
        assert node.engine("ps", "-q", "--filter", "label=com.docker.swarm.service.name") == ""


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_nothing_depends_on_the_firewall(shop: Shop, virtual_address: str, firewall: str) -> None:
    """Ports in, the way out, the overlay, names of containers and services; and the policy."""
    other = shop.nodes[1]
    inside = [shop.clients[f"a container {where}"].asker for where in ("beside it", "on another host")]
    with kept(*(node.machine for node in shop.nodes)):
        for node in shop.nodes:
            FIREWALLS[firewall](node.machine)

        for (name, kind, _), some in shop.ask_everything(wait_ms=2000).items():
            if is_reachable(name, kind):
                assert {one.address for one in some} == {shop.clients[name].seen}, f"{name}, {kind}: {some}"
        for asker, node in zip(inside, (shop.node, other), strict=True):
            out = asker.ask([Question(protocol=protocol, address=SERVER, port=PORT) for protocol in _PROTOCOLS])
            across = asker.ask(
                [Question(protocol=protocol, address=shop.address, port=7001) for protocol in _PROTOCOLS]
            )
            service = asker.ask(
                [Question(protocol=protocol, address=virtual_address, port=7001) for protocol in _PROTOCOLS] * 4
            )
            assert [(one.server, one.address) for one in out] == [("world", str(node.address))] * 2
            assert [one.server for one in across] == ["server"] * 2
            assert [one.server for one in service] == ["named"] * 8
            for name, address in (("server", shop.address), ("named", virtual_address)):
                resolved = asker.run("nslookup", "-type=a", name)
                assert f"Address: {address}" in resolved.out, str(resolved)
        with under(shop.node, "door", _DOOR):
            check_door(shop)


def test_ports_are_gone_with_their_container(shop: Shop) -> None:
    start_server(shop.node, "short", "front", *_publish(8600), ports=[7001])
    names = ("outside", "the host", "the host at 127.0.0.1", "a container beside it")
    before = [answer for name in names for answer in shop.clients[name].ask([8600], wait_ms=2000)]

    shop.node.remove("short")

    after = [answer for name in names for answer in shop.clients[name].ask([8600], wait_ms=BRIEF_MS)]
    assert [one.outcome for one in before] == [Outcome.OPEN] * 8
    assert [one.outcome for one in after] == [Outcome.REFUSED] * 8


def test_a_container_that_starts_again_has_its_ports(shop: Shop) -> None:
    start_server(shop.node, "again", "front", *_publish(8610), ports=[7001])
    shop.node.engine("stop", "again")
    stopped = shop.clients["outside"].ask([8610], wait_ms=BRIEF_MS)
    shop.node.engine("start", "again")

    def answers() -> None:
        assert [one.server for one in shop.clients["outside"].ask([8610], wait_ms=2000)] == ["again"] * 2

    wait.until_passes(answers, timeout_s=_PATIENCE_S)
    shop.node.remove("again")
    assert [one.outcome for one in stopped] == [Outcome.REFUSED] * 2


def check_ports(shop: Shop, chosen: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    """What is asked for from outside is served at the same ports as ever."""
    client = shop.clients["outside"]
    questions = [
        Question(protocol=protocol, address=client.at, port=port, source=client.source)
        for protocol in _PROTOCOLS
        for ports in chosen[protocol].values()
        for port in ports
    ]
    told = client.asker.ask(questions, wait_ms=2000)
    assert {(one.server, one.address) for one in told} == {("server", SERVER)}, told


def test_ports_stay_while_the_agent_is_away_and_after_it_is_back(shop: Shop) -> None:
    before = {protocol: shop.published(protocol) for protocol in _PROTOCOLS}

    kill_the_agent(shop.node)
    assert {protocol: shop.published(protocol) for protocol in _PROTOCOLS} == before
    check_ports(shop, before)

    shop.node.plugin.disable(force=True)
    check_ports(shop, before)
    shop.node.plugin.enable()
    shop.node.wait_healthy()
    assert {protocol: shop.published(protocol) for protocol in _PROTOCOLS} == before
    check_ports(shop, before)
    assert "server" in refused(shop, "8080:7001").err, "what is taken is still known"


def _publish(port: int, inside: int = 7001) -> list[str]:
    return [f"--publish={port}:{inside}/{protocol}" for protocol in _PROTOCOLS]


def refused(shop: Shop, *published: str) -> shell.Result:
    """Try to run a container that publishes what it must not have; nothing of it stays."""
    node = shop.node
    before = state(node)
    options = [f"--publish={one}" for one in published]
    command = serve_command("loser", 7001)
    result = node.engine.run("run", "-d", "--name", "loser", "--network", "front", *options, IMAGE, *command)
    # What Docker itself makes before it asks: the container, which was never started.
    node.engine("rm", "-f", "loser")

    assert result.rc != 0, str(result)
    wait.until_passes(lambda: _same(state(node), before), timeout_s=_PATIENCE_S)
    return result


def _same(now: object, before: object) -> None:
    assert now == before


def state(node: Node) -> object:
    """What hawse has of the containers of a node."""
    endpoints = node.hawse_json("endpoint", "ls")["endpoints"]
    return (
        sorted(one["id"] for one in endpoints),
        sorted(node.etcd.entries("/hawse/v1/addresses")),
        node.hawse_json("bpf", "published", "ls"),
        sorted(name for name in node.links() if name.startswith("hw")),
    )


@pytest.mark.parametrize(
    "published",
    [["8080:7001"], ["8080:7001/udp"], ["127.0.0.1:8080:7001"], ["8611:7001", "8101:7002"], ["8300:7001"]],
    ids=["tcp", "udp", "one address of all", "the second of two", "all addresses of one"],
)
def test_a_port_of_another_container_is_refused_with_its_name(shop: Shop, published: list[str]) -> None:
    result = refused(shop, *published)

    port = published[-1].split("/")[0].split(":")[-2]
    assert port in result.err, str(result)
    assert "server" in result.err, str(result)
    assert [one.outcome for one in shop.clients["outside"].ask([8611], wait_ms=BRIEF_MS)] == [Outcome.REFUSED] * 2


def test_a_port_of_the_same_number_is_free_on_another_host_and_in_another_protocol(shop: Shop) -> None:
    other = shop.nodes[1]
    start_server(other, "twin", "front", "--publish=8080:7001", ports=[7001])
    start_server(shop.node, "tcp-only", "front", "--publish=8620:7001/tcp", ports=[7001])
    start_server(shop.node, "udp-only", "front", "--publish=8620:7001/udp", ports=[7001])
    outside = shop.world.asker()

    twin = outside.ask_one(Question(protocol="tcp", address=str(other.address), port=8080, source=SERVER))
    split = shop.clients["outside"].ask([8620], wait_ms=2000)

    other.remove("twin")
    shop.node.remove("tcp-only", "udp-only")
    assert (twin.server, twin.address) == ("twin", SERVER)
    assert [one.server for one in split] == ["tcp-only", "udp-only"]


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_a_port_of_a_process_of_the_host_is_refused_with_its_name(shop: Shop, protocol: str) -> None:
    with serving(shop.node.machine, shop.world.peer, "squatter", 8630):
        result = refused(shop, f"8630:7001/{protocol}")

        assert (
            shop.world.asker().ask_one(Question(protocol=protocol, address=shop.host, port=8630, source=SERVER)).server
            == "squatter"
        )
    assert "8630" in result.err, str(result)
    assert "squatter.service on this host" in result.err, str(result)


def test_a_process_of_the_host_cannot_take_a_published_port(shop: Shop) -> None:
    result = shop.node.machine.run(str(shop.world.peer), *serve_command("late", 8080)[1:], timeout_s=10)

    assert result.rc != 0
    assert "Address already in use" in result.err


def test_swarm_services_publish_at_their_hosts(shop: Shop, testbed: Testbed) -> None:
    """With ``mode=host``, on the command line and in a stack's ``ports:``."""
    manager = shop.nodes[0].engine
    command = ["/bin/sh", "-c", "exec peer serve $(hostname) 7001"]
    published = [
        part for one in _PROTOCOLS for part in ("--publish", f"mode=host,published=8400,target=7001,protocol={one}")
    ]
    manager(
        "service", "create", "--detach", "--name", "by-command", "--mode", "global", "--network", "front",
        "--endpoint-mode", "dnsrr", "--hostname", "{{.Node.Hostname}}", "--no-resolve-image", *published, IMAGE,
        *command,
    )  # fmt: skip
    ports = [{"mode": "host", "published": 8410, "target": 7001, "protocol": protocol} for protocol in _PROTOCOLS]
    service = {
        "image": IMAGE,
        "command": [part.replace("$", "$$") for part in command],
        "hostname": "{{.Node.Hostname}}",
        "networks": ["front"],
        "ports": ports,
        "deploy": {"mode": "global", "endpoint_mode": "dnsrr"},
    }
    document = {"version": "3.8", "networks": {"front": {"external": True}}, "services": {"web": service}}
    file = testbed.data / "stack-ports.json"
    file.write_text(json.dumps(document))
    manager("stack", "deploy", "--resolve-image", "never", "--compose-file", str(file), "by-stack")
    try:
        for name in ("by-command", "by-stack_web"):
            swarm.wait_running(manager, name, len(shop.nodes))

        def answered() -> None:
            for port in (8400, 8410):
                for node in shop.nodes:
                    client = Client(asker=shop.world.asker(), at=str(node.address), seen=SERVER, source=SERVER)
                    told = client.ask([port], wait_ms=2000)
                    assert [(one.server, one.address) for one in told] == [(node.name, SERVER)] * 2

        wait.until_passes(answered, timeout_s=_PATIENCE_S)
    finally:
        manager("service", "rm", "by-command")
        manager("stack", "rm", "by-stack")

    def gone() -> None:
        for node in shop.nodes:
            assert node.engine("ps", "-q", "--filter", "name=by-") == ""
        told = shop.clients["outside"].ask([8400, 8410], wait_ms=BRIEF_MS)
        assert [one.outcome for one in told] == [Outcome.REFUSED] * 4

    wait.until_passes(gone, timeout_s=60, interval_s=0.3)
