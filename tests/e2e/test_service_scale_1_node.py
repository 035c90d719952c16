"""One node and a store full of services: all of them are in the kernel soon, and nobody else loses a packet."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import Final

import pytest

import model.nodes
from kvstore import keys
from kvstore.codec import encode
from model.addresses import MacAddress
from model.endpoints import Endpoint
from model.ids import DockerNetworkId, EndpointId, NodeName, ServiceId, Vni
from model.services import Service, ServiceSource, ServiceTask, VirtualAddress
from tests.support import leaks, wait
from tests.support.flows import Ping, Stream
from tests.support.node import Node
from tests.support.testbed import Testbed

_NET: Final = "many"
_POOL: Final = ipaddress.IPv4Network("10.44.0.0/16")
_SERVICES: Final = 500
_BACKENDS: Final = 20
_FIRST_BACKEND: Final = 0x4000
_FIRST_VIP: Final = 0x8000
_FAR: Final = NodeName("far")
_PATIENCE_S: Final = 60


@pytest.fixture(scope="module")
def node(testbed: Testbed) -> Iterator[Node]:
    made = testbed.node("many")
    made.create_network(_NET, "--subnet", str(_POOL))
    yield made
    made.engine("network", "rm", _NET)
    leaks.check([made])
    made.machine.power_off()


def test_five_hundred_services_of_twenty_are_programmed_while_others_lose_nothing(
    node: Node, figures: list[str]
) -> None:
    node.start("target", _NET)
    flows = (
        Ping(node, "ping", _NET, node.address_in("target", _NET)),
        Stream(server=node, client=node, name="datagrams", network=_NET, udp=True),
    )
    node.etcd.put(endpoints(node))
    wait.until(
        "the agent knows all backends",
        lambda: len(node.hawse_json("bpf", "ipcache", "ls")["entries"]) > _SERVICES * _BACKENDS,
        timeout_s=_PATIENCE_S,
        interval_s=0.5,
    )
    written = services()

    begun = time.monotonic()
    node.etcd.put(written)
    put_s = time.monotonic() - begun
    status = wait.until(
        "all services are in the kernel",
        lambda: status if (status := node.hawse_json("status")["services"])["frontends"] == _SERVICES else None,
        timeout_s=_PATIENCE_S,
    )
    seen_s = time.monotonic() - begun
    figures.append(
        f"{_SERVICES} services of {_BACKENDS}: written in {put_s:.2f} s, seen in the kernel {seen_s - put_s:.2f} s "
        f"later; the last change took {status['last_apply_s']:.2f} s"
    )

    frontends = {one["address"]: one for one in node.hawse_json("bpf", "lb", "ls")["frontends"]}
    for number in range(_SERVICES):
        backends = {one["address"] for one in frontends[str(_POOL[_FIRST_VIP + number])]["backends"]}
        assert backends == {str(backend(number, each)) for each in range(_BACKENDS)}
    ping, datagrams = flows
    pinged, streamed = ping.stop(), datagrams.stop()
    figures.append(f"meanwhile {pinged}; {streamed.lost} of {streamed.datagrams} datagrams lost")
    assert not pinged.missing
    assert streamed.lost == 0
    assert streamed.stalled == 0

    node.etcd.delete(keys.SERVICES)
    node.etcd.delete(f"{keys.ENDPOINTS}{_FAR}/")
    node.etcd.delete(keys.node(_FAR))
    wait.until(
        "no service is in the kernel",
        lambda: not node.hawse_json("bpf", "lb", "ls")["frontends"],
        timeout_s=_PATIENCE_S,
        interval_s=0.2,
    )
    node.remove("target")


def backend(service: int, number: int) -> ipaddress.IPv4Address:
    return _POOL[_FIRST_BACKEND + service * _BACKENDS + number]


def endpoints(node: Node) -> dict[str, str]:
    """Records of a host that nobody sees, and of all backends on it."""
    (network,) = node.hawse_json("network", "ls")["networks"]
    vni = Vni(network["vni"])
    far = model.nodes.Node(
        name=_FAR,
        address=ipaddress.ip_address("10.77.0.200"),
        tunnel_port=8472,
        mtu_bytes=1450,
        version="0.1.0",
    )
    found = {keys.node(_FAR): encode(far).decode()}
    for service in range(_SERVICES):
        for number in range(_BACKENDS):
            address = backend(service, number)
            ident = EndpointId(f"{int(address):064x}")
            found[keys.endpoint(_FAR, ident)] = encode(
                Endpoint(
                    endpoint_id=ident,
                    node=_FAR,
                    network=_POOL,
                    docker_network=DockerNetworkId(network["docker_networks"][0]["id"]),
                    vni=vni,
                    addresses=(address,),
                    mac=MacAddress.for_address(vni, address),
                )
            ).decode()
    return found


def services() -> dict[str, str]:
    """Records as a manager's agent writes them."""
    found = {}
    for service in range(_SERVICES):
        ident = ServiceId(f"service{service:018}")
        found[keys.service(ident)] = encode(
            Service(
                service_id=ident,
                name=f"service{service}",
                source=ServiceSource.SWARM,
                addresses=(VirtualAddress(network=_POOL, address=_POOL[_FIRST_VIP + service]),),
                tasks=tuple(
                    ServiceTask(
                        name=f"service{service}.{number + 1}",
                        task_id=f"task{service:09}x{number:011}",
                        node=_FAR,
                        addresses=(backend(service, number),),
                        active=True,
                        state="running",
                    )
                    for number in range(_BACKENDS)
                ),
            )
        ).decode()
    return found
