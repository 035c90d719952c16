"""The host's interfaces to the outside: which they are, and the programs at them.

An interface is one of them when it has the node's address or a default route, and is an Ethernet one that is not ours.
Its entry in ``hawse_devices`` says which address masqueraded packets get there; what comes back is seen by
``from_underlay``. The program comes before the entry and goes after it, so that no packet leaves by an interface whose
answers would not be seen.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from datapath import abi, ipv4_settings, names, tc
from datapath.links import Link, Links
from datapath.maps import TypedMap
from datapath.netlink import Netlink
from datapath.programs import Programs
from datapath.routes import MAIN_TABLE, ipv4_routes
from datapath.underlay import addresses
from model.addresses import IPAddress
from model.errors import Exhausted, LinkError

log = logging.getLogger(__name__)

LOOPBACK: Final = "lo"


class Devices:
    """The interfaces to the outside, and loopback. Not thread-safe; the datapath's lock is around it."""

    def __init__(self, netlink: Netlink, links: Links, devices: TypedMap[abi.DeviceKey, abi.DeviceValue]) -> None:
        self._netlink = netlink
        self._links = links
        self._devices = devices
        self._refused: frozenset[str] = frozenset()

    def follow(self, node_address: IPAddress | None, *, programs: Programs) -> None:
        """Look at the host again, and have the programs at exactly the interfaces that lead outside now.

        A program that somebody has removed comes back.

        Raises:
            LinkError: the kernel refused.
        """
        wanted = self._to_the_outside(node_address)
        present = {key.ifindex: value.address for key, value in self._devices.items()}
        for ifindex, address in wanted.items():
            with _vanishing_link():
                tc.attach(
                    self._netlink,
                    ifindex=ifindex,
                    hook=tc.SHARED_INGRESS,
                    program_fd=programs.from_underlay,
                    name="from_underlay",
                )
                tc.attach(
                    self._netlink,
                    ifindex=ifindex,
                    hook=tc.SHARED_EGRESS,
                    program_fd=programs.to_underlay,
                    name="to_underlay",
                )
                if present.get(ifindex) != int(address):
                    self._devices.update(abi.DeviceKey(ifindex=ifindex), abi.DeviceValue(address=int(address)))
        for ifindex in present.keys() - wanted.keys():
            self._release(ifindex)

    def watch_loopback(self, *, program_fd: int) -> None:
        """See what programs of the host send to the host itself, and let answers come from there. Idempotent.

        Raises:
            LinkError: the kernel refused.
        """
        link = self._links.find(LOOPBACK)
        if link is not None:
            ipv4_settings.apply(self._netlink, ifindex=link.ifindex, settings=ipv4_settings.FROM_ITSELF)
            tc.attach(
                self._netlink,
                ifindex=link.ifindex,
                hook=tc.SHARED_INGRESS,
                program_fd=program_fd,
                name="from_loopback",
            )

    def leave_loopback(self) -> None:
        """No longer see it. Idempotent."""
        link = self._links.find(LOOPBACK)
        if link is not None:
            tc.detach(self._netlink, ifindex=link.ifindex, hook=tc.SHARED_INGRESS)

    def release_all(self) -> None:
        """Take all programs away."""
        self.leave_loopback()
        for key, _ in list(self._devices.items()):
            self._release(key.ifindex)

    def _release(self, ifindex: int) -> None:
        self._devices.delete(abi.DeviceKey(ifindex=ifindex))
        for hook in (tc.SHARED_INGRESS, tc.SHARED_EGRESS):
            tc.detach(self._netlink, ifindex=ifindex, hook=hook)

    def _to_the_outside(self, node_address: IPAddress | None) -> Mapping[int, IPv4Address]:
        """Interfaces by index, with the address of each that packets get."""
        known = addresses(self._netlink)
        first: dict[int, IPv4Address] = {}
        for address, ifindex in known:
            first.setdefault(ifindex, address)  # the kernel lists the primary one first
        leading = {ifindex for address, ifindex in known if address == node_address}
        for route in ipv4_routes(self._netlink):
            if route.network.prefixlen == 0 and route.table == MAIN_TABLE:
                leading |= route.ifindexes
        links = [link for link in self._links.all() if link.ifindex in leading & first.keys() and not _is_ours(link)]
        self._tell_refused([link.ifname for link in links if not link.ethernet])
        usable = {link.ifindex: first[link.ifindex] for link in links if link.ethernet}
        if len(usable) > self._devices.max_entries:
            raise Exhausted(f"{len(usable)} interfaces to the outside: at most {self._devices.max_entries} can be used")
        return usable

    def _tell_refused(self, ifnames: Sequence[str]) -> None:
        for ifname in sorted(set(ifnames) - self._refused):
            log.warning(
                "interface carries no Ethernet frames: containers do not reach the outside by it",
                extra={"ifname": ifname},
            )
        self._refused = frozenset(ifnames)


def _is_ours(link: Link) -> bool:
    """Interfaces of the datapath, and loopback: that one leads nowhere."""
    return (
        link.ifname in {LOOPBACK, names.TUNNEL_IFNAME, names.HOST_IFNAME, names.HOST_PEER_IFNAME}
        or names.endpoint_of_alias(link.alias) is not None
    )


@contextlib.contextmanager
def _vanishing_link() -> Iterator[None]:
    """An interface may go at any moment."""
    try:
        yield
    except LinkError as error:
        if error.errno != errno.ENODEV:
            raise
