"""What is forwarded goes on while the agent or the engine is away: no packet of an existing flow is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.support import leaks, wait
from tests.support.disturb import (
    disable_and_enable,
    kill_the_agent,
    kill_the_engine,
    kill_the_worker,
    move_to_maps_of_another_layout,
    restart_the_engine,
)
from tests.support.flows import Ping, Stream
from tests.support.node import Node

_POOL: Final = "10.7.0.0/24"


@pytest.fixture(scope="module")
def nodes(pair: tuple[Node, Node]) -> Iterator[tuple[Node, Node]]:
    """Two nodes with the network «net»; «target» on the second answers."""
    for node in pair:
        node.create_network("net", "--subnet", _POOL, "--gateway", "10.7.0.1")
    pair[1].start("target", "net")
    yield pair
    pair[1].remove("target")
    for node in pair:
        node.engine("network", "rm", "net")
    leaks.check(pair)


@pytest.fixture(autouse=True)
def _no_container_stays(nodes: tuple[Node, Node]) -> Iterator[None]:
    """A test that failed half-way does not take the next one along."""
    yield
    for node in nodes:
        node.remove(*(name for name in node.engine("ps", "-a", "--format", "{{.Names}}").split() if name != "target"))


@contextmanager
def flows_go_on(nodes: tuple[Node, Node], figures: list[str], what: str) -> Iterator[None]:
    """A ping, a TCP and a UDP stream between the hosts run all the time and lose nothing."""
    one, other = nodes
    ping = Ping(one, "pinger", "net", other.address_in("target", "net"))
    tcp = Stream(server=other, client=one, name="tcp", network="net")
    udp = Stream(server=other, client=one, name="udp", network="net", udp=True)

    yield

    ping.wait_answers(25)
    tcp.wait_intervals(3)
    udp.wait_intervals(3)
    pinged, streamed, datagrams = ping.stop(), tcp.stop(), udp.stop()
    figures.append(
        f"{what}: {pinged.sent} pings, {len(pinged.missing)} unanswered; TCP {streamed.megabytes:.0f} MB, "
        f"{streamed.stalled} intervals of 0.2 s without data, {streamed.retransmitted} segments sent again; "
        f"UDP {datagrams.datagrams} datagrams, {datagrams.lost} lost"
    )
    assert pinged.missing == (), str(pinged)
    # TCP sends again what is lost: pings and datagrams tell of losses, its stalls of the machine's load.
    assert datagrams.lost == 0


def new_containers_work(nodes: tuple[Node, Node]) -> None:
    """A container started now on either node reaches what was there before, and the other one."""
    one, other = nodes
    for node, name in zip(nodes, ("new1", "new2"), strict=True):
        node.start(name, "net")
    for address in (other.address_in("target", "net"), other.address_in("new2", "net")):

        def answered(address: str = address) -> None:
            result = one.execute("new1", "ping", "-c", "1", "-W", "1", address)
            assert result.rc == 0, str(result)

        wait.until_passes(answered, timeout_s=10)
    for node, name in zip(nodes, ("new1", "new2"), strict=True):
        node.remove(name)
    for node in nodes:
        leaks.check_addresses(node)


@pytest.mark.parametrize("side", [0, 1], ids=["sender", "receiver"])
@pytest.mark.parametrize(
    "disturb", [kill_the_agent, kill_the_worker, disable_and_enable, restart_the_engine, kill_the_engine]
)
def test_no_packet_is_lost(
    nodes: tuple[Node, Node], figures: list[str], disturb: Callable[[Node], None], side: int
) -> None:
    with flows_go_on(nodes, figures, f"{disturb.__name__} on the {('sender', 'receiver')[side]}"):
        disturb(nodes[side])
        new_containers_work(nodes)


@pytest.mark.parametrize("side", [0, 1], ids=["sender", "receiver"])
def test_containers_reach_each_other_after_maps_have_got_another_layout(
    nodes: tuple[Node, Node], figures: list[str], side: int
) -> None:
    one, other = nodes
    ping = Ping(one, "pinger", "net", other.address_in("target", "net"))

    move_to_maps_of_another_layout(nodes[side])

    ping.wait_answers(25)
    pinged = ping.stop()
    figures.append(f"maps of another layout: {len(pinged.missing)} of {pinged.sent} pings unanswered, one each 0.2 s")
    new_containers_work(nodes)
