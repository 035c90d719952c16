"""The container interfaces of this host: veth pairs, their filters and their map entries."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from datapath import abi, entries, ipv4_settings, names, tc
from datapath.api import EndpointSpec, LocalEndpoint
from datapath.link_removal import LinkRemoval
from datapath.links import Link, Links
from datapath.local_addresses import LocalAddresses
from datapath.maps import TypedMap
from datapath.netlink import Netlink
from model.addresses import MacAddress
from model.errors import LinkError
from model.ids import EndpointId, IdentityId

log = logging.getLogger(__name__)


class Endpoints:
    """Makes, finds and removes them. Not thread-safe; the datapath's lock is around it.

    Args:
        netlink: to the kernel.
        links: over it.
        removal: takes interfaces away.
        endpoints: the map of endpoints.
        addresses: the ipcache.
        program_fd: ``from_container``.
        changed: called after every change of the map but an endpoint that is new in it.
    """

    def __init__(
        self,
        *,
        netlink: Netlink,
        links: Links,
        removal: LinkRemoval,
        endpoints: TypedMap[abi.EndpointKey, abi.EndpointValue],
        addresses: LocalAddresses,
        program_fd: int,
        changed: Callable[[], None],
    ) -> None:
        self._netlink = netlink
        self._links = links
        self._removal = removal
        self._endpoints = endpoints
        self._addresses = addresses
        self._program_fd = program_fd
        self._changed = changed
        self._identities: dict[EndpointId, IdentityId] = {}
        """As they stand in the map of endpoints."""

    def adopt(self, *, switch_programs: bool) -> None:
        """Take over what an earlier agent left: know its addresses, switch its programs, clear away the rest."""
        ends = {link.ifindex: link for link in self._links.host_ends()}
        known = {key.ifindex: value for key, value in self._endpoints.items()}
        vanished = known.keys() - ends.keys()
        # Addresses and even the endpoint of an interface that vanished may be those of a newer one, which comes last.
        for ifindex in (*vanished, *(known.keys() - vanished)):
            spec = entries.endpoint_spec(known[ifindex], mtu_bytes=0)
            self._addresses.adopt(entries.ipcache_keys(spec), ifindex)
        for ifindex in vanished:
            self._forget(ifindex)
        for ifindex in known.keys() - vanished:
            self._identities[entries.endpoint_id(known[ifindex])] = IdentityId(known[ifindex].identity)
            if switch_programs:
                with _vanishing_link():
                    self._attach(ifindex)
        for link in ends.values():
            if names.endpoint_of_alias(link.alias) is None:
                self._links.remove(link.ifname)

    def ensure(self, spec: EndpointSpec) -> LocalEndpoint:
        """See :meth:`datapath.api.Datapath.ensure_endpoint`."""
        value = entries.endpoint_value(spec)
        with contextlib.ExitStack() as undo:
            link = self._ensure_veth(spec, undo)
            key = abi.EndpointKey(ifindex=link.ifindex)
            before = self._endpoints.lookup(key)
            if before is None:
                self._attach(link.ifindex)
            elif bytes(before) == bytes(value) and link.mtu_bytes == spec.mtu_bytes:
                undo.pop_all()
                return _local_endpoint(link, spec.endpoint_id, spec)
            elif _container_end(entries.endpoint_spec(before, mtu_bytes=link.mtu_bytes)) != _container_end(spec):
                self._adapt_container_end(spec)
            for address in entries.ipcache_keys(spec):
                if self._addresses.owner(address) != link.ifindex:
                    undo.callback(self._addresses.release, address, link.ifindex)
                self._addresses.claim(address, entries.local_place(spec, link.ifindex))
            self._endpoints.update(key, value)
            self._identities[spec.endpoint_id] = spec.identity
            undo.pop_all()
            if before is not None:
                self._changed()
                old = entries.endpoint_spec(before, mtu_bytes=link.mtu_bytes)
                for address in set(entries.ipcache_keys(old)) - set(entries.ipcache_keys(spec)):
                    self._addresses.release(address, link.ifindex)
        log.info("endpoint connected", extra={"endpoint_id": spec.endpoint_id, "ifindex": link.ifindex})
        return _local_endpoint(link, spec.endpoint_id, spec)

    def remove(self, endpoint_id: EndpointId) -> None:
        """See :meth:`datapath.api.Datapath.remove_endpoint`."""
        ifname = names.host_ifname(endpoint_id)
        link = None if ifname in self._removal.pending() else self._links.find(ifname)
        if link is not None and names.endpoint_of_alias(link.alias) not in {endpoint_id, None}:
            link = None  # another endpoint whose id begins alike
        ifindex = self._vanished_ifindex(endpoint_id) if link is None else link.ifindex
        if ifindex is not None:
            self._forget(ifindex)
        if link is not None:
            self._removal.begin(link.ifname)
        if ifindex is not None:
            log.info("endpoint disconnected", extra={"endpoint_id": endpoint_id, "ifindex": ifindex})

    def all(self) -> Sequence[LocalEndpoint]:
        """See :meth:`datapath.api.Datapath.local_endpoints`."""
        known = {key.ifindex: value for key, value in self._endpoints.items()}
        going = self._removal.pending()
        found: list[LocalEndpoint] = []
        for link in self._links.host_ends():
            endpoint_id = names.endpoint_of_alias(link.alias)
            if endpoint_id is not None and link.ifname not in going:
                value = known.get(link.ifindex)
                spec = None if value is None else entries.endpoint_spec(value, mtu_bytes=link.mtu_bytes)
                found.append(_local_endpoint(link, endpoint_id, spec))
        return found

    def identities(self) -> Mapping[EndpointId, IdentityId]:
        """See :meth:`datapath.api.Datapath.local_identities`."""
        return dict(self._identities)

    def _attach(self, ifindex: int) -> None:
        name = "from_container"
        self._netlink.execute(
            f"attach {name} to interface {ifindex}",
            [
                ipv4_settings.request(ifindex, ipv4_settings.FORWARDING),
                *tc.requests_to_attach(ifindex=ifindex, hook=tc.OWN_INGRESS, program_fd=self._program_fd, name=name),
            ],
        )

    def _ensure_veth(self, spec: EndpointSpec, undo: contextlib.ExitStack) -> Link:
        """The host end of the endpoint's pair; one made here is removed again by ``undo``."""
        ifname = names.host_ifname(spec.endpoint_id)
        self._removal.settle(ifname)
        link = self._links.find(ifname)
        if link is not None and not link.alias:
            self._links.remove(ifname)
            link = None
        if link is None:
            undo.callback(self._links.remove, ifname)
            return self._links.create_veth(spec.endpoint_id, mac=spec.mac, mtu_bytes=spec.mtu_bytes)
        if names.endpoint_of_alias(link.alias) != spec.endpoint_id:
            raise LinkError(
                f"interface {ifname} of endpoint {spec.endpoint_id} exists already, its alias is {link.alias!r}"
            )
        router = names.router_mac()
        if (link.mac, link.mtu_bytes, link.up) != (router.packed, spec.mtu_bytes, True):
            self._links.configure(ifname, mac=router, mtu_bytes=spec.mtu_bytes)
        return link

    def _adapt_container_end(self, spec: EndpointSpec) -> None:
        """Give the other end its new properties while it is still here; once Docker has moved it, it is Docker's."""
        ifname = names.container_ifname(spec.endpoint_id)
        if self._links.find(ifname) is not None:
            self._links.configure(ifname, mac=spec.mac, mtu_bytes=spec.mtu_bytes)

    def _forget(self, ifindex: int) -> None:
        """Delete the map entries of an endpoint."""
        key = abi.EndpointKey(ifindex=ifindex)
        value = self._endpoints.lookup(key)
        if value is None:
            return
        self._endpoints.delete(key)
        self._changed()
        self._identities.pop(entries.endpoint_id(value), None)
        for address in entries.ipcache_keys(entries.endpoint_spec(value, mtu_bytes=0)):
            self._addresses.release(address, ifindex)

    def _vanished_ifindex(self, endpoint_id: EndpointId) -> int | None:
        """The interface that an endpoint had before its namespace died with it."""
        for key, value in self._endpoints.items():
            if entries.endpoint_id(value) == endpoint_id:
                return int(key.ifindex)
        return None


@contextlib.contextmanager
def _vanishing_link() -> Iterator[None]:
    """An interface may die with its namespace at any moment."""
    try:
        yield
    except LinkError as error:
        if error.errno != errno.ENODEV:
            raise


def _container_end(spec: EndpointSpec) -> tuple[MacAddress, int]:
    """What of an endpoint stands in the other end of its pair; Docker may be about to move that."""
    return spec.mac, spec.mtu_bytes


def _local_endpoint(link: Link, endpoint_id: EndpointId, spec: EndpointSpec | None) -> LocalEndpoint:
    return LocalEndpoint(
        endpoint_id=endpoint_id,
        host_ifname=link.ifname,
        container_ifname=names.container_ifname(endpoint_id),
        ifindex=link.ifindex,
        in_container=link.peer_elsewhere,
        spec=spec,
    )
