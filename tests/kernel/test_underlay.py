"""Which interface tunnel packets leave from, on hosts made of namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Final

import pytest

from datapath.underlay import Underlay, UnderlayNotFound, find_underlay
from tests.support.netns import Namespace, Namespaces, remove_leftovers

pytestmark = pytest.mark.kernel

OFFICE: Final = Underlay(address=IPv4Address("10.88.0.5"), ifname="office", mtu_bytes=1400)
STORAGE: Final = Underlay(address=IPv4Address("10.89.0.5"), ifname="storage", mtu_bytes=9000)


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    """A host with two networks; the default route with the lower metric leads through the second."""
    remove_leftovers()
    namespaces = Namespaces()
    made = namespaces.make("host")
    for underlay, metric in ((OFFICE, 200), (STORAGE, 100)):
        made.ip(
            "link",
            "add",
            underlay.ifname,
            "mtu",
            str(underlay.mtu_bytes),
            "type",
            "veth",
            "peer",
            "name",
            f"{underlay.ifname}-x",
        )
        made.ip("addr", "add", f"{underlay.address}/24", "dev", underlay.ifname)
        made.ip("link", "set", f"{underlay.ifname}-x", "up")
        made.ip("link", "set", underlay.ifname, "up")
        gateway = f"{str(underlay.address).rsplit('.', 1)[0]}.1"
        made.ip("route", "add", "default", "via", gateway, "metric", str(metric))
    yield made
    namespaces.close()


@pytest.mark.parametrize(
    ("ask", "found"),
    [
        pytest.param(lambda: find_underlay(address=OFFICE.address, ifname=None), OFFICE, id="address"),
        pytest.param(lambda: find_underlay(address=None, ifname="office"), OFFICE, id="interface"),
        pytest.param(lambda: find_underlay(address=None, ifname=None, hint=OFFICE.address), OFFICE, id="hint"),
        pytest.param(
            lambda: find_underlay(address=None, ifname=None, hint=IPv4Address("192.0.2.1")), STORAGE, id="useless hint"
        ),
        pytest.param(lambda: find_underlay(address=None, ifname=None), STORAGE, id="default route of lowest metric"),
    ],
)
def test_underlay_is_found(host: Namespace, ask: Callable[[], Underlay], found: Underlay) -> None:
    with host.entered():
        assert ask() == found


@pytest.mark.parametrize(
    ("ask", "setting"),
    [
        pytest.param(lambda: find_underlay(address=IPv4Address("192.0.2.1"), ifname=None), "NODE_IP", id="address"),
        pytest.param(lambda: find_underlay(address=None, ifname="attic"), "UNDERLAY_IF", id="interface"),
        pytest.param(lambda: find_underlay(address=IPv4Address("127.0.0.1"), ifname=None), "NODE_IP", id="loopback"),
    ],
)
def test_what_is_not_there_is_refused_with_its_setting(
    host: Namespace, ask: Callable[[], Underlay], setting: str
) -> None:
    with host.entered(), pytest.raises(UnderlayNotFound, match=setting):
        ask()


def test_host_without_a_way_out_is_refused(host: Namespace) -> None:
    routes = [line.split() for line in host.ip("route", "show", "default").splitlines()]
    host.ip("route", "flush", "default")
    try:
        with host.entered(), pytest.raises(UnderlayNotFound, match="no default route"):
            find_underlay(address=None, ifname=None)
    finally:
        for route in routes:
            host.ip("route", "add", *route)
