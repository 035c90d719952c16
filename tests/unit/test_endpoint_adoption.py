"""What an agent takes over from the one before it, when an interface vanished in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, cast

import pytest

from datapath import abi, entries, names
from datapath.api import EndpointSpec, IpcacheKey
from datapath.endpoints import Endpoints
from datapath.links import Link
from datapath.local_addresses import LocalAddresses
from model.addresses import MacAddress
from model.ids import EndpointId, IdentityId, Vni

VNI = Vni(7)
ADDRESS = ipaddress.IPv4Address("10.5.0.2")
OLD, NEW = EndpointId("a" * 64), EndpointId("b" * 64)
OLD_IFINDEX, NEW_IFINDEX = 10, 20


class Map:
    """A map of the kernel, with its entries in a chosen order."""

    def __init__(self) -> None:
        self.content: dict[bytes, tuple[Any, Any]] = {}

    def items(self) -> Iterator[tuple[Any, Any]]:
        return iter(list(self.content.values()))

    def lookup(self, key: Any) -> Any:
        return self.content.get(bytes(key), (None, None))[1]

    def update(self, key: Any, value: Any) -> None:
        self.content[bytes(key)] = (key, value)

    def delete(self, key: Any) -> bool:
        return self.content.pop(bytes(key), None) is not None


class OneLink:
    """The host has one interface of ours."""

    def host_ends(self) -> list[Link]:
        return [
            Link(
                ifindex=NEW_IFINDEX,
                ifname="hw1",
                alias=names.alias(NEW),
                mac=b"",
                mtu_bytes=1450,
                up=True,
                peer_elsewhere=True,
                kind="veth",
                info=b"",
                ethernet=True,
            )
        ]


def a_spec(endpoint_id: EndpointId, identity: int) -> EndpointSpec:
    return EndpointSpec(
        endpoint_id=endpoint_id,
        vni=VNI,
        addresses=(ADDRESS,),
        mac=MacAddress.for_address(VNI, ADDRESS),
        identity=IdentityId(identity),
        mtu_bytes=1450,
    )


@pytest.mark.parametrize("order", [(OLD_IFINDEX, NEW_IFINDEX), (NEW_IFINDEX, OLD_IFINDEX)])
@pytest.mark.parametrize("before", [OLD, NEW], ids=["of another endpoint", "of the same endpoint"])
def test_what_vanished_takes_nothing_from_its_successor(order: tuple[int, int], before: EndpointId) -> None:
    specs = {OLD_IFINDEX: a_spec(before, 300), NEW_IFINDEX: a_spec(NEW, 301)}
    endpoints, ipcache = Map(), Map()
    for ifindex in order:
        endpoints.update(abi.EndpointKey(ifindex=ifindex), entries.endpoint_value(specs[ifindex]))
    place = entries.ipcache_key(IpcacheKey(VNI, ADDRESS))
    ipcache.update(place, entries.local_place(specs[NEW_IFINDEX], NEW_IFINDEX))
    nothing: Any = None
    made = Endpoints(
        netlink=nothing,
        links=cast("Any", OneLink()),
        removal=nothing,
        endpoints=cast("Any", endpoints),
        addresses=LocalAddresses(cast("Any", ipcache), changed=lambda: None),
        program_fd=0,
        changed=lambda: None,
    )

    made.adopt(switch_programs=False)

    assert {NEW: 301} == made.identities()
    assert [NEW_IFINDEX] == [key.ifindex for key, _ in endpoints.items()]
    assert ipcache.lookup(place).ifindex == NEW_IFINDEX
