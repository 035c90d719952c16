"""Two nodes: containers reach the world through their host, and what the world says of it comes back to them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import pytest

from tests.support import leaks, wait
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.peer import (
    BRIEF_MS,
    Answer,
    Asker,
    Outcome,
    Question,
    in_container,
    serving,
    start_idle,
    start_server,
)
from tests.support.policies import PolicyAgent
from tests.support.policy_matrix import dropped, labelled, policy
from tests.support.world import (
    CLOSED_PORT,
    DOWNLOAD,
    DOWNLOAD_BYTES,
    MTU,
    NAME,
    NAME_SERVER,
    OTHER_SERVER,
    PORT,
    ROUTED,
    ROUTER,
    SERVER,
    World,
)

_PORTS: Final = range(10240, 32768)
"""Of masqueraded connections, when MASQUERADE_PORTS says nothing else."""
_FIRST_OWN_PORT: Final = 32768
"""Of the host itself, when it is not told otherwise."""
_POOLS: Final = {"net": "10.31.0.0/24", "routed": "10.32.0.0/24", "inside": "10.33.0.0/24"}
_CLIENTS: Final = ("one", "two")
"""On each node."""
_FLOWS: Final = 2500
"""Of each client in each protocol: in all 20 000."""
_BIG: Final = 4000
"""Bytes of a datagram that is fragmented on every link."""
_LARGE: Final = 3_000_000
_SOON_MS: Final = 1500


@pytest.fixture(scope="module")
def nodes(pair: tuple[Node, Node], world: World) -> Iterator[tuple[Node, Node]]:
    """The nodes with their way to the world, and two clients on each."""
    with world.reached_by(pair):
        for node in pair:
            node.create_network("net", "--subnet", _POOLS["net"])
            for name in _CLIENTS:
                start_idle(node, name, "net", "--dns", NAME_SERVER)
        yield pair
        for node in pair:
            node.remove_everything()
    leaks.check(pair)


@pytest.fixture(scope="module")
def clients(nodes: tuple[Node, Node]) -> dict[Asker, Node]:
    return {in_container(node, name): node for node in nodes for name in _CLIENTS}


@pytest.fixture
def client(clients: dict[Asker, Node]) -> Asker:
    return next(iter(clients))


def asked(*protocols: str, address: str = SERVER, port: int = PORT, size: int = 100) -> list[Question]:
    return [Question(protocol=protocol, address=address, port=port, size=size) for protocol in protocols]


def check_masqueraded(answers: Sequence[Answer], node: Node) -> None:
    for answer in answers:
        assert answer.outcome is Outcome.OPEN, str(answer)
        assert answer.address == str(node.address), f"not the address of {node.name}: {answer}"
        assert answer.port in _PORTS, str(answer)


def test_the_world_sees_the_host(clients: dict[Asker, Node]) -> None:
    for client, node in clients.items():
        check_masqueraded(client.ask(asked("tcp", "udp")), node)


def test_the_world_answers_pings(clients: dict[Asker, Node]) -> None:
    """All at once and with the same identifier, as process numbers in containers often are the same."""
    ping = ("ping", "-n", "-c", "10", "-i", "0.1", "-W", "5", "-e", "7", SERVER)
    with ThreadPoolExecutor(len(clients)) as pool:
        for pinged in pool.map(lambda client: client.run(*ping), clients):
            assert "10 packets transmitted, 10 received" in pinged.out, str(pinged)
            assert "DUP" not in pinged.out


def test_a_closed_port_is_refused(client: Asker) -> None:
    answers = client.ask(asked("tcp", "udp", port=CLOSED_PORT))

    assert [answer.outcome for answer in answers] == [Outcome.REFUSED, Outcome.REFUSED]


def test_routers_on_the_way_are_seen(client: Asker) -> None:
    pinged = client.run("ping", "-n", "-c", "1", "-t", "1", "-W", "5", SERVER)
    traced = client.run("traceroute", "-I", "-n", "-q", "1", "-w", "2", "-m", "5", SERVER)

    assert "Time to live exceeded" in pinged.out, str(pinged)
    hops = [line.split()[1] for line in traced.out.splitlines()]
    assert hops[-2:] == [str(ROUTER), SERVER], str(traced)


def test_a_datagram_to_a_router_that_ends_it_is_reported(client: Asker) -> None:
    traced = client.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "5", SERVER)

    hops = [line.split()[1] for line in traced.out.splitlines()]
    assert hops[-2:] == [str(ROUTER), SERVER], str(traced)


def test_ten_megabytes_are_downloaded(client: Asker, world: World, figures: list[str]) -> None:
    started = time.monotonic()
    fetched = client.run("sh", "-c", f"curl -sf {DOWNLOAD} | sha256sum")

    seconds = time.monotonic() - started
    assert fetched.out.split()[:1] == [world.download_checksum()], str(fetched)
    figures.append(
        f"way out: download of {DOWNLOAD_BYTES / 1e6:.0f} MB through the path of {MTU} bytes: {seconds:.2f} s"
    )


def test_a_ping_that_is_too_large_is_told_the_mtu(nodes: tuple[Node, Node]) -> None:
    result = nodes[0].engine.run(
        "run", "--rm", "--network", "net", IMAGE, "/bin/ping", "-n", "-c", "2", "-M", "do", "-s", "1400", SERVER
    )

    assert f"Frag needed and DF set (mtu = {MTU})" in result.out, str(result)
    assert f"message too long, mtu={MTU}" in result.out + result.err, str(result)


def test_the_datagram_after_one_that_is_too_large_fits(nodes: tuple[Node, Node]) -> None:
    fresh = start_idle(nodes[1], "fresh", "net")

    found = fresh.path_mtu(SERVER, PORT, 1400)

    assert found.mtu == MTU
    assert found.sent == 1, "the first one is enough to know"
    assert found.next_answered


def test_streams_find_the_mtu_in_both_directions(nodes: tuple[Node, Node]) -> None:
    fresh = start_idle(nodes[1], "stream", "net")

    check_masqueraded(fresh.ask(asked("tcp", size=_LARGE)), nodes[1])


def test_fragments_pass_in_both_directions(clients: dict[Asker, Node]) -> None:
    for client, node in clients.items():
        check_masqueraded(client.ask(asked(*["udp"] * 20, size=_BIG)), node)


@pytest.mark.timeout(120)
def test_twenty_thousand_flows(clients: dict[Asker, Node], figures: list[str]) -> None:
    """All clients use the same own ports, and all flows are open until the last is answered."""
    started = time.monotonic()
    jobs = [(client, protocol) for client in clients for protocol in ("tcp", "udp")]
    with ThreadPoolExecutor(len(jobs)) as pool:
        floods = pool.map(
            lambda job: job[0].flood(job[1], SERVER, PORT, count=_FLOWS, first_port=20000), jobs, timeout=100
        )
        results = dict(zip(jobs, floods, strict=True))
    seconds = time.monotonic() - started

    repeated = sum(flood.repeated for flood in results.values())
    figures.append(
        f"way out: {len(jobs) * _FLOWS} flows of {len(clients)} containers on 2 nodes: {seconds:.2f} s, "
        f"{repeated} datagrams sent again"
    )
    for (client, protocol), flood in results.items():
        told = f"{client}, {protocol}: {flood.answered} answered, {flood.wrong} wrong, {flood.refused} refused"
        assert flood.answered == _FLOWS, f"{told}, {flood.silent} silent"
        assert {address for address, _ in flood.seen} == {str(clients[client].address)}
        assert all(port in _PORTS for _, port in flood.seen)
    for protocol in ("tcp", "udp"):
        seen = [one for (_, kind), flood in results.items() if kind == protocol for one in flood.seen]
        assert len(set(seen)) == len(seen), "no two flows had the same port at the same time"


def test_a_host_has_its_own_way_out(nodes: tuple[Node, Node], world: World) -> None:
    for node in nodes:
        answers = world.on(node.machine).ask([*asked("tcp", "udp"), *asked("udp", size=_BIG)])

        for answer in answers:
            assert (answer.outcome, answer.address) == (Outcome.OPEN, str(node.address)), str(answer)
            assert answer.port >= _FIRST_OWN_PORT


def test_what_nobody_asked_for_is_refused_by_the_host(nodes: tuple[Node, Node], world: World) -> None:
    questions = asked("tcp", "udp", address=str(nodes[0].address), port=_PORTS[-1])

    assert [answer.outcome for answer in world.asker().ask(questions)] == [Outcome.REFUSED, Outcome.REFUSED]


def test_names_of_the_world_are_resolved(clients: dict[Asker, Node], world: World) -> None:
    before = len(world.names_asked_by())
    for client in clients:
        asked_for = client.run("nslookup", "-type=a", NAME)
        pinged = client.run("ping", "-c", "1", "-W", "5", NAME)

        assert f"Address: {SERVER}" in asked_for.out, str(asked_for)
        assert pinged.rc == 0, str(pinged)
    assert set(world.names_asked_by()[before:]) == {str(node.address) for node in clients.values()}


def test_names_that_are_not_there_are_not_found_at_once(client: Asker) -> None:
    result = client.run("nslookup", "-type=a", "nowhere.example")

    assert "NXDOMAIN" in result.out, str(result)


def test_an_internal_network_has_no_way_out(nodes: tuple[Node, Node], world: World) -> None:
    node = nodes[0]
    node.create_network("inside", "--subnet", _POOLS["inside"], "--internal")
    shut_in = start_idle(node, "inside", "inside", "--dns", NAME_SERVER, "--cap-add", "NET_ADMIN")
    before = len(world.names_asked_by())
    # Its routes are its own affair; that nothing gets out must not depend on them.
    for routed in (False, True):
        if routed:
            added = shut_in.run("sh", "-c", "ip route add default dev eth0 && ip route")
            assert added.out.startswith("default "), str(added)
        answers = shut_in.ask([*asked("tcp", "udp"), *asked("tcp", "udp", address=str(node.address))], wait_ms=BRIEF_MS)
        assert Outcome.OPEN not in {answer.outcome for answer in answers}
        assert shut_in.run("ping", "-c", "1", "-W", "1", SERVER).rc != 0
        assert SERVER not in shut_in.run("timeout", "2", "nslookup", "-type=a", NAME).out
    assert world.names_asked_by()[before:] == []


@pytest.fixture(scope="module")
def routed(nodes: tuple[Node, Node]) -> Asker:
    nodes[1].create_network("routed", "--subnet", _POOLS["routed"], "-o", "hawse.masquerade=false")
    start_server(nodes[1], "routed", "routed", ports=[PORT])
    return in_container(nodes[1], "routed")


def test_a_routed_network_keeps_its_addresses(nodes: tuple[Node, Node], routed: Asker, world: World) -> None:
    address = nodes[1].address_in("routed", "routed")

    with world.routes_to(_POOLS["routed"], nodes[1]):
        out = routed.ask([*asked("tcp", "udp"), *asked("udp", size=_BIG), *asked("tcp", size=_LARGE)], wait_ms=_SOON_MS)
        pinged = routed.run("ping", "-n", "-c", "1", "-W", "2", SERVER)
        into = world.asker().ask(asked("tcp", "udp", address=address), wait_ms=_SOON_MS)

    assert [(answer.outcome, answer.address) for answer in out] == [(Outcome.OPEN, address)] * 4
    assert pinged.rc == 0, str(pinged)
    assert [(answer.server, answer.address) for answer in into] == [("routed", SERVER)] * 2


def test_a_range_that_is_excluded_sees_the_container(nodes: tuple[Node, Node], world: World) -> None:
    node = nodes[0]
    client = in_container(node, "one")

    with world.routes_to(_POOLS["net"], node):
        told = client.ask([*asked("tcp", "udp", address=ROUTED), *asked("tcp", "udp")], wait_ms=_SOON_MS)

    assert [answer.address for answer in told] == [node.address_in("one", "net")] * 2 + [str(node.address)] * 2


def test_a_host_and_its_containers_reach_each_other(nodes: tuple[Node, Node], world: World) -> None:
    here, there = nodes
    address = start_server(here, "server", "net", ports=[PORT])
    client = in_container(here, "one")

    with serving(here.machine, world.peer, "here", PORT), serving(there.machine, world.peer, "there", PORT):
        into = [world.on(node.machine).ask_one(asked("tcp", address=address)[0]) for node in nodes]
        out = client.ask(
            [*asked("tcp", "udp", address=str(here.address)), *asked("tcp", "udp", address=str(there.address))]
        )

    assert [answer.server for answer in into] == ["server"] * 2
    assert [answer.server for answer in out] == ["here", "here", "there", "there"]
    assert {answer.address for answer in out} == {here.address_in("one", "net")}


def test_policy_tells_the_world_from_hosts_and_prefixes_of_it_apart(nodes: tuple[Node, Node], world: World) -> None:
    node = nodes[0]
    agent = PolicyAgent(node)
    text = policy(
        "fence",
        labelled(app="fenced"),
        egress=[{"toCIDR": [f"{SERVER}/32"]}, {"toEntities": ["host"]}],
    )
    agent.wait_enforced(agent.apply(text))
    client = start_idle(node, "fenced", "net", "--label", "app=fenced")
    began = datetime.now(UTC)

    try:
        with serving(node.machine, world.peer, "here", PORT):
            allowed = client.ask([*asked("tcp", "udp"), *asked("tcp", "udp", address=str(node.address))])
        denied = client.ask(asked("tcp", "udp", address=OTHER_SERVER), wait_ms=BRIEF_MS)
        pinged = [client.run("ping", "-c", "1", "-W", "1", address).rc for address in (SERVER, OTHER_SERVER)]
        reported(node, began, node.address_in("fenced", "net"))
    finally:
        agent.delete("fence")

    assert [answer.outcome for answer in allowed] == [Outcome.OPEN] * 4
    assert [answer.outcome for answer in denied] == [Outcome.SILENT] * 2
    assert pinged == [0, 1]


def reported(node: Node, since: datetime, source: str) -> None:
    """There is an event of every kind of packet that the policy has denied."""

    def all_there() -> None:
        flows = [
            flow
            for flow in dropped(node, since)
            if flow.get("IP", {}).get("source") == source and flow["IP"]["destination"] == OTHER_SERVER
        ]
        assert {flow["protocol"] for flow in flows} == {"tcp", "udp", "icmp"}, flows
        for flow in flows:
            assert flow["traffic_direction"] == "EGRESS"
            assert flow["drop_reason_desc"] == "POLICY_DENIED"
            assert flow["policy_explanation"] == "no rule allows it; selected by fence"
            assert flow["destination"]["labels"] == ["reserved:world"]

    wait.until_passes(all_there, timeout_s=15, interval_s=0.2)
