"""Links: the veth pair of every endpoint, the one to the host's own stack, and the one VXLAN device.

An endpoint costs two messages: make the pair, then mark and raise the host end. The alias is what makes a pair an
endpoint: one without it was left half-made. The host end and the tunnel device get no IPv6 link-local address, so the
host sends no router solicitations and detects no duplicate addresses on interfaces that it never uses itself.
"""

from __future__ import annotations

import contextlib
import errno
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from datapath import names
from datapath.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, Request, attributes
from datapath.netlink_messages import ifinfmsg
from model.addresses import MacAddress
from model.errors import LinkError
from model.ids import EndpointId

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_IFF_UP: Final = 1
_IFF_NOARP: Final = 1 << 7
_ADDR_GEN_MODE_NONE: Final = 1
_SKIP_STATISTICS: Final = 1 << 3
_GONE: Final = frozenset({errno.ENODEV})

_ONE_QUEUE: Final = (("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1))
"""Otherwise a pair has one for each processor at both ends, each with a folder in sysfs. They carry no more: without an
XDP program a veth device queues nothing."""

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_LINK_NETNSID: Final = 37
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_VXLAN_PORT: Final = 15
_IFLA_VXLAN_GBP: Final = 23
_IFLA_VXLAN_COLLECT_METADATA: Final = 25

_IFINFO: Final = struct.Struct("=BxHiII")
_ARPHRD_ETHER: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is asked of an interface."""

    ifindex: int
    ifname: str
    alias: str
    mac: bytes
    mtu_bytes: int
    up: bool
    peer_elsewhere: bool
    """Whether the other end of the pair is in another network namespace."""
    kind: str
    info: bytes
    """What only this kind has, not yet read."""
    ethernet: bool
    """Whether its packets are Ethernet frames."""


class Links:
    """Makes, finds and removes interfaces.

    Raises:
        LinkError: from every method, when the kernel refused.
    """

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def create_veth(self, endpoint_id: EndpointId, *, mac: MacAddress, mtu_bytes: int) -> Link:
        """Make the pair of an endpoint, the host end marked and up."""
        ifname = names.host_ifname(endpoint_id)
        peer = {"attrs": [
            ("IFLA_IFNAME", names.container_ifname(endpoint_id)),
            ("IFLA_ADDRESS", str(mac)),
            ("IFLA_MTU", mtu_bytes),
            *_ONE_QUEUE,
        ]}  # fmt: skip
        pair = _message(
            ("IFLA_IFNAME", ifname),
            ("IFLA_ADDRESS", str(names.router_mac())),
            ("IFLA_MTU", mtu_bytes),
            *_ONE_QUEUE,
            _linkinfo("veth", ("VETH_INFO_PEER", peer)),
        )
        mark = _message(
            ("IFLA_IFNAME", ifname),
            ("IFLA_IFALIAS", names.alias(endpoint_id)),
            _no_link_local_addresses(),
        )
        _raise_it(mark)
        self._netlink.execute(
            f"create veth pair {ifname} of endpoint {endpoint_id}",
            [Request(pair, _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL), Request(mark, _RTM_NEWLINK)],
        )
        link = self.find(ifname)
        if link is None:
            raise LinkError(f"veth pair {ifname} of endpoint {endpoint_id} vanished right after it was made")
        return link

    def create_vxlan(self, *, port: int, mtu_bytes: int) -> Link:
        """Make the tunnel device: network, group policy id and peer come with every packet; nothing is learned.

        It is down, so that no packet comes in before a program is attached.
        """
        device = _message(
            ("IFLA_IFNAME", names.TUNNEL_IFNAME),
            ("IFLA_ADDRESS", str(names.router_mac())),
            ("IFLA_MTU", mtu_bytes),
            _linkinfo(
                "vxlan",
                ("IFLA_VXLAN_PORT", port),
                ("IFLA_VXLAN_LEARNING", 0),
                ("IFLA_VXLAN_COLLECT_METADATA", 1),
                ("IFLA_VXLAN_GBP", True),
            ),
        )
        quiet = _message(("IFLA_IFNAME", names.TUNNEL_IFNAME), _no_link_local_addresses())
        with _taken_port(port):
            self._netlink.execute(
                f"create VXLAN device {names.TUNNEL_IFNAME}",
                [Request(device, _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL), Request(quiet, _RTM_NEWLINK)],
            )
        link = self.find(names.TUNNEL_IFNAME)
        if link is None:
            raise LinkError(f"VXLAN device {names.TUNNEL_IFNAME} vanished right after it was made")
        return link

    def ensure_host_pair(self, *, mtu_bytes: int) -> Link:
        """Make the pair that joins the host's own stack, without ARP; returns our end of it. Idempotent.

        Both ends have the router's address, so every frame is addressed to whoever receives it. The host's end stays
        down until a program is attached (:meth:`raise_host_pair`).
        """
        ours = self.find(names.HOST_PEER_IFNAME)
        if ours is not None and (ours.kind != "veth" or self.find(names.HOST_IFNAME) is None):
            self.remove(names.HOST_PEER_IFNAME)
            ours = None
        if ours is None:
            mac = str(names.router_mac())
            peer = {"attrs": [("IFLA_IFNAME", names.HOST_IFNAME), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu_bytes)]}
            pair = _message(
                ("IFLA_IFNAME", names.HOST_PEER_IFNAME),
                ("IFLA_ADDRESS", mac),
                ("IFLA_MTU", mtu_bytes),
                _linkinfo("veth", ("VETH_INFO_PEER", peer)),
            )
            quiet = [
                Request(_message(("IFLA_IFNAME", ifname), _no_link_local_addresses()), _RTM_NEWLINK)
                for ifname in (names.HOST_PEER_IFNAME, names.HOST_IFNAME)
            ]
            self._netlink.execute(
                f"create veth pair {names.HOST_IFNAME}",
                [Request(pair, _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL), *quiet],
            )
            ours = self.find(names.HOST_PEER_IFNAME)
        if ours is None:
            raise LinkError(f"veth pair {names.HOST_IFNAME} vanished right after it was made")
        return ours

    def raise_host_pair(self, *, mtu_bytes: int) -> int:
        """Set what can be set on both ends, and raise them; returns the ifindex of the host's end."""
        for ifname in (names.HOST_PEER_IFNAME, names.HOST_IFNAME):
            message = _message(("IFLA_IFNAME", ifname), ("IFLA_MTU", mtu_bytes))
            message["flags"] = _IFF_UP | _IFF_NOARP
            message["change"] = _IFF_UP | _IFF_NOARP
            self._netlink.execute(f"raise {ifname}", [Request(message, _RTM_NEWLINK)])
        link = self.find(names.HOST_IFNAME)
        if link is None:
            raise LinkError(f"interface {names.HOST_IFNAME} vanished right after it was raised")
        return link.ifindex

    def raise_vxlan(self, *, port: int, mtu_bytes: int) -> None:
        """Set what can be set on the tunnel device, and raise it; one whose port is taken is removed."""
        try:
            with _taken_port(port):
                self.configure(names.TUNNEL_IFNAME, mac=names.router_mac(), mtu_bytes=mtu_bytes)
        except LinkError as error:
            if error.errno == errno.EADDRINUSE:
                self.remove(names.TUNNEL_IFNAME)
            raise

    def configure(self, ifname: str, *, mac: MacAddress, mtu_bytes: int) -> None:
        """Set what can be set on a link that exists, and raise it."""
        message = _message(
            ("IFLA_IFNAME", ifname),
            ("IFLA_ADDRESS", str(mac)),
            ("IFLA_MTU", mtu_bytes),
        )
        _raise_it(message)
        self._netlink.execute(f"configure {ifname}", [Request(message, _RTM_NEWLINK)])

    def remove(self, ifname: str) -> None:
        """Remove an interface, and with one end of a pair the other; one that is gone is no error."""
        request = Request(_message(("IFLA_IFNAME", ifname)), _RTM_DELLINK, harmless=_GONE)
        self._netlink.execute(f"remove {ifname}", [request])

    def find(self, ifname: str) -> Link | None:
        """One interface by name."""
        message = _message(("IFLA_IFNAME", ifname), ("IFLA_EXT_MASK", _SKIP_STATISTICS))
        payload = self._netlink.get(f"find {ifname}", Request(message, _RTM_GETLINK))
        return None if payload is None else _link(payload)

    def all(self) -> Sequence[Link]:
        """Every interface."""
        message = _message(("IFLA_EXT_MASK", _SKIP_STATISTICS))
        return [_link(payload) for payload in self._netlink.dump("list interfaces", Request(message, _RTM_GETLINK))]

    def host_ends(self) -> Sequence[Link]:
        """Every veth that is the host end of one of our pairs, whole or half-made."""
        message = _message(_linkinfo("veth"), ("IFLA_EXT_MASK", _SKIP_STATISTICS))
        router = names.router_mac().packed
        return [
            link
            for link in map(_link, self._netlink.dump("list veth interfaces", Request(message, _RTM_GETLINK)))
            if link.kind == "veth"
            and (
                names.endpoint_of_alias(link.alias)
                or (link.mac == router and names.looks_like_host_ifname(link.ifname))
            )
        ]


@contextlib.contextmanager
def _taken_port(port: int) -> Iterator[None]:
    """Say it in the words of the settings; the kernel finds out when the device is made or when it is raised."""
    try:
        yield
    except LinkError as error:
        if error.errno in {errno.EADDRINUSE, errno.EEXIST}:
            raise LinkError(
                f"{error}: UDP port {port} is taken by another device or program; set another TUNNEL_PORT everywhere",
                errno=error.errno,
            ) from error
        raise


def vxlan_is_usable(link: Link, *, port: int) -> bool:
    """Is the device what :meth:`Links.create_vxlan` makes? These properties cannot be changed later."""
    info = dict(attributes(link.info))
    return (
        link.kind == "vxlan"
        and info.get(_IFLA_VXLAN_PORT) == port.to_bytes(2, "big")
        and _IFLA_VXLAN_GBP in info
        and info.get(_IFLA_VXLAN_COLLECT_METADATA) == b"\1"
    )


def _message(*attributes: tuple[str, object]) -> ifinfmsg:
    message = ifinfmsg()
    message["attrs"] = list(attributes)
    return message


def _raise_it(message: ifinfmsg) -> None:
    message["flags"] = _IFF_UP
    message["change"] = _IFF_UP


def _linkinfo(kind: str, *data: tuple[str, object]) -> tuple[str, object]:
    attributes: list[tuple[str, object]] = [("IFLA_INFO_KIND", kind)]
    if data:
        attributes.append(("IFLA_INFO_DATA", {"attrs": list(data)}))
    return ("IFLA_LINKINFO", {"attrs": attributes})


def _no_link_local_addresses() -> tuple[str, object]:
    inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE)]}
    return ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", inet6)]})


def _link(payload: bytes) -> Link:
    """Read ``struct ifinfomsg`` and the few attributes we use; pyroute2 would read all of them."""
    _, kind, ifindex, flags, _ = _IFINFO.unpack_from(payload)
    found = dict(attributes(payload[_IFINFO.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    return Link(
        ifindex=ifindex,
        ifname=_text(found.get(_IFLA_IFNAME, b"")),
        alias=_text(found.get(_IFLA_IFALIAS, b"")),
        mac=found.get(_IFLA_ADDRESS, b""),
        mtu_bytes=int.from_bytes(found.get(_IFLA_MTU, b""), sys.byteorder),
        up=bool(flags & _IFF_UP),
        peer_elsewhere=_IFLA_LINK_NETNSID in found,
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        info=info.get(_IFLA_INFO_DATA, b""),
        ethernet=kind == _ARPHRD_ETHER,
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
