"""What a Swarm's lists mean: from the API's JSON to services and lost hosts."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from driver.fields import Fields
from driver.swarm_records import Listing, SwarmNode, SwarmService, SwarmTask, Unread
from driver.swarm_state import KnownServices, LostHosts, SwarmLists
from model.errors import ProtocolError
from model.ids import DockerNetworkId, NodeName, ServiceId, Vni
from model.networks import Network
from model.nodes import Node
from model.services import Service, ServiceSource, ServiceTask, VirtualAddress
from tests.support import swarm_objects

POOL = ipaddress.ip_network("10.1.0.0/24")
NETWORK = Network(pool=POOL, vni=Vni(7), docker_ids=(("@swarm", DockerNetworkId(swarm_objects.NET)),))


def lists(
    services: Iterable[dict[str, Any]] = (), tasks: Iterable[dict[str, Any]] = (), nodes: Iterable[dict[str, Any]] = ()
) -> SwarmLists:
    def fields(objects: Iterable[dict[str, Any]]) -> list[Fields]:
        return [Fields(json.loads(json.dumps(one))) for one in objects]

    return SwarmLists(
        services=[SwarmService.read(one) for one in fields(services)],
        tasks=[SwarmTask.read(one) for one in fields(tasks)],
        nodes=[SwarmNode.read(one) for one in fields(nodes)],
    )


def of(said: SwarmLists, *networks: Network) -> list[Service]:
    return list(KnownServices().look(said, networks or [NETWORK]))


def test_a_service_has_its_address_and_its_tasks_in_our_network() -> None:
    said = lists(
        [swarm_objects.service("web")],
        [
            swarm_objects.task("web", 2, "10.1.0.6/24", node="s2", state="starting"),
            swarm_objects.task("web", 1, "10.1.0.5/24"),
            swarm_objects.task("db", 1, "10.1.0.9/24"),
        ],
        [swarm_objects.node("s1", "192.0.2.1"), swarm_objects.node("s2", "192.0.2.2")],
    )

    (web,) = of(said)

    assert web == Service(
        service_id=said.services[0].service_id,
        name="web",
        source=ServiceSource.SWARM,
        addresses=(VirtualAddress(network=POOL, address=ipaddress.ip_address("10.1.0.2")),),
        tasks=(
            ServiceTask(
                name="web.1",
                task_id=said.tasks[1].task_id,
                node="s1",
                addresses=(ipaddress.ip_address("10.1.0.5"),),
                active=True,
                state="running",
            ),
            ServiceTask(
                name="web.2",
                task_id=said.tasks[0].task_id,
                node="s2",
                addresses=(ipaddress.ip_address("10.1.0.6"),),
                active=False,
                state="starting",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("state", "desired", "address", "active"),
    [
        ("running", "running", "10.1.0.5/24", True),
        ("running", "shutdown", "10.1.0.5/24", False),
        ("starting", "running", "10.1.0.5/24", False),
        ("failed", "running", "10.1.0.5/24", False),
        ("running", "running", "", False),
    ],
)
def test_a_task_is_active_when_it_runs_and_is_to_run(*, state: str, desired: str, address: str, active: bool) -> None:
    task = swarm_objects.task("web", 1, address, state=state, desired=desired)

    (web,) = of(lists([swarm_objects.service("web")], [task]))

    assert [active] == [one.active for one in web.tasks]


def test_a_task_on_a_host_that_is_down_is_not_active() -> None:
    nodes = [swarm_objects.node("s1", "192.0.2.1", state="down")]

    (web,) = of(lists([swarm_objects.service("web")], [swarm_objects.task("web", 1, "10.1.0.5/24")], nodes))

    assert [False] == [one.active for one in web.tasks]


@pytest.mark.parametrize(
    "service",
    [
        pytest.param(swarm_objects.service("web", mode="dnsrr"), id="dnsrr"),
        pytest.param(swarm_objects.service("web", vip=""), id="not-allocated"),
        pytest.param({**swarm_objects.service("web"), "Endpoint": {"Spec": {}}}, id="no-network"),
        pytest.param({**swarm_objects.service("web"), "Endpoint": None}, id="nothing"),
    ],
)
def test_services_without_a_virtual_address_are_left_out(service: dict[str, Any]) -> None:
    assert [] == of(lists([service]))


def test_networks_of_other_drivers_are_not_taken_for_ours() -> None:
    """Docker's own overlay may have the same subnet: its ``ingress`` has the pool of our network here."""
    same = replace(NETWORK, pool=ipaddress.ip_network("10.0.0.0/24"), docker_ids=(("s1", DockerNetworkId("other")),))

    assert [] == of(lists([swarm_objects.service("web")]), same)


def test_in_two_networks_a_service_has_two_addresses_and_its_tasks_one_in_each() -> None:
    other = ipaddress.ip_network("10.2.0.0/24")
    second = Network(pool=other, vni=Vni(8), docker_ids=(("@swarm", DockerNetworkId("m" * 25)),))
    service, task = swarm_objects.service("web"), swarm_objects.task("web", 1, "10.1.0.5/24")
    service["Endpoint"]["VirtualIPs"].append({"NetworkID": "m" * 25, "Addr": "10.2.0.2/24"})
    task["NetworksAttachments"].append({"Network": {"ID": "m" * 25}, "Addresses": ["10.2.0.5/24"]})

    (web,) = of(lists([service], [task]), NETWORK, second)

    assert [(other, "10.2.0.2"), (POOL, "10.1.0.2")] == [(one.network, str(one.address)) for one in web.addresses]
    assert ["10.2.0.5", "10.1.0.5"] == [str(address) for address in web.tasks[0].addresses]


def test_services_that_have_not_changed_are_the_same_objects() -> None:
    known = KnownServices()
    services = [swarm_objects.service("web"), swarm_objects.service("db", vip="10.1.0.3/24")]
    tasks = [swarm_objects.task("web", 1, "10.1.0.5/24"), swarm_objects.task("db", 1, "10.1.0.6/24", node="s2")]
    nodes = [swarm_objects.node("s1", "192.0.2.1"), swarm_objects.node("s2", "192.0.2.2")]
    web, db = known.look(lists(services, tasks, nodes), [NETWORK])
    nodes[1]["Status"]["State"] = "down"

    web_again, db_again = known.look(lists(services, tasks, nodes), [NETWORK])

    assert web is web_again
    assert db == replace(db_again, tasks=(replace(db_again.tasks[0], active=True),))
    assert [] == known.look(lists(services, tasks, nodes), [])


def test_a_task_of_a_global_service_is_named_by_its_node() -> None:
    task = {**swarm_objects.task("web", 0, "10.1.0.5/24"), "Slot": None}

    (web,) = of(lists([swarm_objects.service("web")], [task]))

    assert f"web.{'s1'.ljust(25, '0')}" == web.tasks[0].name


@pytest.mark.parametrize(("value", "affinity"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_affinity_is_a_label_of_the_service(*, value: str, affinity: bool) -> None:
    (web,) = of(lists([swarm_objects.service("web", **{"hawse.service.affinity": value})]))

    assert affinity == web.affinity


def test_a_plain_container_in_an_attachable_network_is_of_no_service() -> None:
    task = {**swarm_objects.task("web", 1, "10.1.0.5/24"), "ServiceID": ""}

    (web,) = of(lists([swarm_objects.service("web")], [task]))

    assert () == web.tasks


@pytest.mark.parametrize(
    ("kind", "entry", "said"),
    [
        (SwarmService, {"ID": "a/b", "Spec": {"Name": "web"}}, "service id 'a/b' is not usable"),
        (SwarmService, {"ID": "a", "Spec": {}}, "Spec.Name: missing"),
        (SwarmTask, {"ID": "a", "Status": []}, "Status: expected an object"),
        (
            SwarmTask,
            {"ID": "a", "NetworksAttachments": [{"Network": {"ID": "n"}, "Addresses": ["x"]}]},
            r"NetworksAttachments\[0\].Addresses: 'x' is not an address",
        ),
        (SwarmNode, {}, "ID: missing"),
    ],
)
def test_what_cannot_be_read_is_refused(kind: type[SwarmService], entry: dict[str, object], said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        kind.read(Fields(entry))


# --- lost hosts ---

NAMES = [NodeName("s1"), NodeName("s2"), NodeName("s3")]
NODES = [
    Node(
        name=name,
        address=ipaddress.ip_address(f"192.0.2.{number}"),
        tunnel_port=8472,
        mtu_bytes=1450,
        version="0.1.0",
    )
    for number, name in enumerate(NAMES, start=1)
]


def said(*nodes: tuple[str, str, str]) -> list[SwarmNode]:
    return list(lists(nodes=[swarm_objects.node(name, addr, state=state) for name, addr, state in nodes]).nodes)


def look(
    hosts: LostHosts, *nodes: tuple[str, str, str], alive: Iterable[str] = NAMES, lost: Iterable[str] = ()
) -> set[str]:
    return set(hosts.look(said(*nodes), NODES, alive=set(map(NodeName, alive)), lost=set(map(NodeName, lost))))


@pytest.mark.parametrize(
    ("state", "lost_before", "lost"),
    [
        ("ready", False, False),
        ("ready", True, False),
        ("down", False, True),
        ("down", True, True),
        ("unknown", False, False),
        ("unknown", True, True),
        ("disconnected", False, False),
        ("disconnected", True, True),
    ],
)
def test_a_host_is_lost_from_down_until_ready(*, state: str, lost_before: bool, lost: bool) -> None:
    before = ["s2"] if lost_before else []

    assert look(LostHosts(), ("x", "192.0.2.2", state), lost=before) == ({"s2"} if lost else set())


def test_a_host_is_found_by_its_name_when_its_address_is_another() -> None:
    assert look(LostHosts(), ("s2", "198.51.100.2", "down")) == {"s2"}


def test_a_host_that_is_none_of_ours_does_not_matter() -> None:
    assert look(LostHosts(), ("elsewhere", "198.51.100.2", "down")) == set()


def test_a_host_that_has_left_and_joined_again_is_not_lost() -> None:
    assert look(LostHosts(), ("s2", "192.0.2.2", "down"), ("s2", "192.0.2.2", "ready")) == set()


def test_a_leader_that_sees_itself_nowhere_is_found_by_its_managers_address() -> None:
    (leader,) = lists(nodes=[swarm_objects.node("x", "0.0.0.0", manager="192.0.2.1:2377")]).nodes

    assert NODES[0].address == leader.address


def test_a_host_that_was_removed_is_lost_unless_its_agent_runs() -> None:
    hosts = LostHosts()
    look(hosts, ("s1", "192.0.2.1", "ready"), ("s2", "192.0.2.2", "ready"), ("s3", "192.0.2.3", "ready"))

    assert look(hosts, ("s1", "192.0.2.1", "ready"), alive=["s1", "s3"]) == {"s2"}
    # Its agent has come back: it is a host of its own now, and may be away for a while.
    assert look(hosts, ("s1", "192.0.2.1", "ready"), lost=["s2"]) == set()
    assert look(hosts, ("s1", "192.0.2.1", "ready"), alive=["s1"]) == set()


def test_a_host_without_a_swarm_is_never_lost() -> None:
    assert look(LostHosts(), ("s1", "192.0.2.1", "ready"), alive=["s1"]) == set()
    # What another manager knew stands in the store.
    assert look(LostHosts(), ("s1", "192.0.2.1", "ready"), alive=["s1"], lost=["s3"]) == {"s3"}


# --- what cannot be read ---


def unread(**fields: str) -> Unread:
    return Unread(reason="broken", **fields)  # type: ignore[arg-type]  # no address here


def kept(said: SwarmLists, *services: str, task_id: str = "") -> list[str]:
    keeps = said.keeps()
    records = [replace(a_record(name), tasks=(a_task(task_id),)) for name in services]
    return [record.name for record in records if keeps(record)]


def a_record(name: str) -> Service:
    ident = ServiceId(name.ljust(25, "0"))
    return Service(service_id=ident, name=name, source=ServiceSource.SWARM, addresses=())


def a_task(ident: str) -> ServiceTask:
    return ServiceTask(name="x.1", task_id=ident, node="s1", addresses=(), active=True)


def test_when_all_can_be_read_nothing_is_kept() -> None:
    assert [] == kept(lists([swarm_objects.service("web")]), "web", "gone")
    assert () == lists([swarm_objects.service("web")]).warnings()


def test_a_service_that_cannot_be_read_is_kept_and_others_go() -> None:
    said = replace(lists([swarm_objects.service("web")]), unread_services=[unread(entry_id="db".ljust(25, "0"))])

    assert ["db"] == kept(said, "web", "db", "gone")
    assert (f"service {'db'.ljust(25, '0')} of the Swarm cannot be read, so it stays as it was: broken",) == (
        said.warnings()
    )


def test_a_service_without_a_readable_id_may_be_any_that_is_missing() -> None:
    said = replace(lists([swarm_objects.service("web")]), unread_services=[unread()])

    assert ["db"] == kept(said, "web", "db")
    assert "service without a readable id of the Swarm" in said.warnings()[0]


def test_a_service_with_a_task_that_cannot_be_read_is_kept() -> None:
    both = lists([swarm_objects.service("web"), swarm_objects.service("db")])
    by_service = replace(both, unread_tasks=[unread(entry_id="t1", service_id="db".ljust(25, "0"))])

    assert ["db"] == kept(by_service, "web", "db")
    assert ["web"] == kept(replace(both, unread_tasks=[unread(entry_id="t1")]), "web", task_id="t1")
    assert [] == kept(replace(both, unread_tasks=[unread(entry_id="t1"), unread()]), "web", task_id="t2")
    assert [] == kept(replace(by_service, services=both.services[:1]), "db")  # it is removed


def test_of_many_entries_that_cannot_be_read_few_are_told() -> None:
    said = replace(lists(), unread_tasks=[unread(entry_id=f"t{number}") for number in range(5000)])

    assert 4 == len(said.warnings())
    assert "4997 more tasks of the Swarm cannot be read" == said.warnings()[-1]


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize(
    "entry", [unread(entry_id="x", hostname="s2"), Unread(reason="", address=NODES[1].address), unread(entry_id="x")]
)
def test_a_node_that_cannot_be_read_stays_lost_or_not(entry: Unread, *, lost: bool) -> None:
    hosts = LostHosts()
    before = said(("s1", "192.0.2.1", "ready"), ("s2", "192.0.2.2", "ready"), ("s3", "192.0.2.3", "down"))
    hosts.look(before, NODES, alive=set(), lost=set())
    nodes = SwarmLists.of(Listing(), Listing(entries=(before[0], before[2]), unread=[entry]), Listing()).nodes
    noted = {NodeName("s2")} if lost else set()

    assert {"s3"} | noted == hosts.look(nodes, NODES, alive=set(), lost=noted)
    # Once it is readable that it is missing, it is removed.
    assert {"s2", "s3"} == hosts.look((before[0], before[2]), NODES, alive=set(), lost=noted)


def test_tasks_on_a_node_that_cannot_be_read_go_on() -> None:
    tasks = lists([swarm_objects.service("web")], [swarm_objects.task("web", 1, "10.1.0.5/24")])
    entry = unread(entry_id="s1".ljust(25, "0"), hostname="s1")

    (web,) = of(SwarmLists.of(Listing(entries=tasks.services), Listing(unread=[entry]), Listing(entries=tasks.tasks)))

    assert [(True, "s1")] == [(task.active, task.node) for task in web.tasks]
