"""One node, two engines: whatever becomes of the host's firewall, containers reach who they may, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.firewall import FIREWALLS
from tests.support.node import Node
from tests.support.peer import BRIEF_MS, Answer, Outcome, Question, in_container, start_idle, start_server
from tests.support.policies import PolicyAgent
from tests.support.policy_matrix import labelled, policy
from tests.support.world import OTHER_SERVER, PORT, SERVER, World

_PUBLISHED: Final = 8080
_POLICIES: Final = "---\n".join(
    [
        policy(
            "server",
            labelled(app="server"),
            ingress=[{"fromEndpoints": [labelled(app="friend")]}, {"fromCIDR": [f"{SERVER}/32"]}],
        ),
        policy("friend", labelled(app="friend"), egress=[{"toCIDR": [f"{SERVER}/32"]}, {"toEndpoints": [{}]}]),
    ]
)


# The Swarm of test_way_in_3_nodes.py runs on the other one.
pytestmark = pytest.mark.parametrize("node_of_each_engine", ["28"], indirect=True)


@pytest.fixture(scope="module")
def node(one_node: Node, world: World) -> Iterator[Node]:
    """A server with a published port, a friend that it lets in, and a stranger."""
    with world.reached_by([one_node]):
        one_node.create_network("net", "--subnet", "10.51.0.0/24")
        agent = PolicyAgent(one_node)
        agent.wait_enforced(agent.apply(_POLICIES))
        ports = [f"--publish={_PUBLISHED}:{PORT}/{protocol}" for protocol in ("tcp", "udp")]
        start_server(one_node, "server", "net", "--label=app=server", *ports, ports=[PORT])
        for name in ("friend", "stranger"):
            start_idle(one_node, name, "net", f"--label=app={name}")
        yield one_node
        agent.delete("server", "friend")
        one_node.remove_everything()


def both(address: str, port: int = PORT, *, size: int = 100, source: str = "0.0.0.0") -> list[Question]:
    return [
        Question(protocol=protocol, address=address, port=port, size=size, source=source) for protocol in ("tcp", "udp")
    ]


def seen(answers: list[Answer]) -> list[tuple[str, str]]:
    return [(answer.server or str(answer.outcome), answer.address) for answer in answers]


@pytest.mark.parametrize("firewall", ["as-docker-made-it", *FIREWALLS])
def test_the_firewall_is_not_needed(node: Node, world: World, firewall: str) -> None:
    """One after the other, on the same node."""
    if firewall in FIREWALLS:
        FIREWALLS[firewall](node.machine)

    check_the_way_out(node)
    check_the_way_in(node, world)
    check_containers(node)
    check_policy(node, world)


def check_the_way_out(node: Node) -> None:
    friend, stranger = (in_container(node, name) for name in ("friend", "stranger"))

    assert seen(friend.ask([*both(SERVER), *both(SERVER, size=4000)])) == [("world", str(node.address))] * 4
    assert seen(stranger.ask(both(OTHER_SERVER))) == [("world", str(node.address))] * 2
    assert friend.run("ping", "-n", "-c", "1", "-W", "5", SERVER).rc == 0


def check_the_way_in(node: Node, world: World) -> None:
    answers = world.asker().ask(both(str(node.address), _PUBLISHED, source=SERVER))

    assert seen(answers) == [("server", SERVER)] * 2


def check_containers(node: Node) -> None:
    """They reach each other, by name too: Docker's name server has rules in the container's own namespace."""
    friend = in_container(node, "friend")

    assert (
        seen(friend.ask(both(node.address_in("server", "net")))) == [("server", node.address_in("friend", "net"))] * 2
    )
    named = friend.run("nslookup", "-type=a", "server")
    assert f"Address: {node.address_in('server', 'net')}" in named.out, str(named)


def check_policy(node: Node, world: World) -> None:
    friend, stranger = (in_container(node, name) for name in ("friend", "stranger"))

    answers = [
        *stranger.ask(both(node.address_in("server", "net")), wait_ms=BRIEF_MS),
        *stranger.ask(both(str(node.address), _PUBLISHED), wait_ms=BRIEF_MS),
        *world.on(node.machine).ask(both(str(node.address), _PUBLISHED), wait_ms=BRIEF_MS),
        *world.asker().ask(both(str(node.address), _PUBLISHED, source=OTHER_SERVER), wait_ms=BRIEF_MS),
        *friend.ask(both(OTHER_SERVER), wait_ms=BRIEF_MS),
    ]

    assert [answer.outcome for answer in answers] == [Outcome.SILENT] * len(answers)
