"""The datapath in the Linux kernel.

How packets go is told in :mod:`datapath.api`, what stands where in :mod:`datapath.pins`. The kernel is the only place
that knows what there is: what is kept here (which addresses are local) is read from the maps at the start.

An address can be here and, by news from the cluster that is late or early, on another host too. The entry of this host
wins as long as its endpoint exists; the other is remembered and put in its place afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from datapath import abi, conntrack, entries, names, nat, pins, programs, source, tc
from datapath.addresses import words
from datapath.api import (
    Balancing,
    DatapathConfig,
    Direction,
    EndpointSpec,
    Feature,
    Frontend,
    IpcacheKey,
    LocalEndpoint,
    NetworkSpec,
    PacketCounter,
    Place,
    PublishedPort,
    PublishedTarget,
    RemoteEndpoint,
    Translation,
    TranslationMode,
)
from datapath.features import probe_features
from datapath.flow_event import FlowEvents, TrackedConnection
from datapath.links import Link, Links, vxlan_is_usable
from datapath.netlink import Netlink
from datapath.open_maps import OpenMaps
from datapath.pins import Pins
from datapath.policy_maps import prefix_key
from datapath.policy_table import PolicyKey, PolicyTable, PolicyVerdict
from datapath.routes import Routes
from model.addresses import IPAddress, IPNetwork, MacAddress
from model.errors import DatapathError, LinkError
from model.ids import EndpointId

log = logging.getLogger(__name__)

_DIRECTIONS: Final = {abi.Direction.INGRESS: Direction.INGRESS, abi.Direction.EGRESS: Direction.EGRESS}


class LinuxDatapath:
    """Implements :class:`datapath.api.Datapath`.

    Args:
        root: folder in a BPF file system that is ours.
        program_folder: where the C files are.
    """

    def __init__(self, *, root: Path = pins.DEFAULT_ROOT, program_folder: Path = source.FOLDER) -> None:
        self._pins = Pins(root)
        self._program_folder = program_folder
        self._lock = threading.RLock()
        self._netlink = Netlink()
        self._links = Links(self._netlink)
        self._routes = Routes(self._netlink)
        self._maps: OpenMaps | None = None
        self._programs: programs.Programs | None = None
        self._local: dict[IpcacheKey, int] = {}
        self._shadowed: dict[IpcacheKey, RemoteEndpoint] = {}
        self._lost_events: int | None = None

    def start(self, config: DatapathConfig) -> None:
        """See :meth:`datapath.api.Datapath.start`."""
        with self._lock:
            pins.require_bpf_file_system(self._pins.root)
            self._release()
            self._programs = programs.open_programs(self._pins, self._program_folder)
            self._maps = OpenMaps(self._pins.maps, source.build(self._pins, self._program_folder).files)
            tunnel = self._ensure_tunnel(config)
            host_ifindex = self._ensure_host_pair(config)
            self._maps.config.describe_host(config, tunnel_ifindex=tunnel.ifindex, host_ifindex=host_ifindex)
            routed = config.way_out.routed if config.way_out else ()
            self._maps.routed.sync((prefix_key(prefix), abi.RoutedValue()) for prefix in routed)
            self._adopt_endpoints()
            for folder in (*self._pins.other_programs(self._programs.digest), *self._pins.other_versions()):
                pins.remove(folder)

    def programs_compiled(self) -> bool | None:
        """See :meth:`datapath.api.Datapath.programs_compiled`."""
        with self._lock:
            return self._programs.compiled if self._programs else None

    def features(self) -> Sequence[Feature]:
        """See :meth:`datapath.api.Datapath.features`."""
        return self._features

    @functools.cached_property
    def _features(self) -> Sequence[Feature]:
        return probe_features(self._pins.root)

    def ensure_endpoint(self, spec: EndpointSpec) -> LocalEndpoint:
        """See :meth:`datapath.api.Datapath.ensure_endpoint`."""
        value = entries.endpoint_value(spec)
        with self._lock, contextlib.ExitStack() as undo:
            endpoints = self._open_maps.endpoints
            link = self._ensure_veth(spec, undo)
            key = abi.EndpointKey(ifindex=link.ifindex)
            before = endpoints.lookup(key)
            if before is None:
                self._attach(link.ifindex, self._open_programs.from_container, "from_container")
            elif bytes(before) == bytes(value) and link.mtu_bytes == spec.mtu_bytes:
                undo.pop_all()
                return _local_endpoint(link, spec.endpoint_id, spec)
            elif _container_end(entries.endpoint_spec(before, mtu_bytes=link.mtu_bytes)) != _container_end(spec):
                self._adapt_container_end(spec)
            for address in entries.ipcache_keys(spec):
                if self._local.get(address) != link.ifindex:
                    undo.callback(self._release_address, address, link.ifindex)
                self._claim_address(address, entries.local_place(spec, link.ifindex))
            endpoints.update(key, value)
            undo.pop_all()
            if before is not None:
                old = entries.endpoint_spec(before, mtu_bytes=link.mtu_bytes)
                for address in set(entries.ipcache_keys(old)) - set(entries.ipcache_keys(spec)):
                    self._release_address(address, link.ifindex)
        log.info("endpoint connected", extra={"endpoint_id": spec.endpoint_id, "ifindex": link.ifindex})
        return _local_endpoint(link, spec.endpoint_id, spec)

    def remove_endpoint(self, endpoint_id: EndpointId) -> None:
        """See :meth:`datapath.api.Datapath.remove_endpoint`."""
        with self._lock:
            link = self._links.find(names.host_ifname(endpoint_id))
            if link is not None and names.endpoint_of_alias(link.alias) not in {endpoint_id, None}:
                link = None  # another endpoint whose id begins alike
            ifindex = self._vanished_ifindex(endpoint_id) if link is None else link.ifindex
            if ifindex is not None:
                self._forget_endpoint(ifindex)
            if link is not None:
                self._links.remove(link.ifname)
        if ifindex is not None:
            log.info("endpoint disconnected", extra={"endpoint_id": endpoint_id, "ifindex": ifindex})

    def local_endpoints(self) -> Sequence[LocalEndpoint]:
        """See :meth:`datapath.api.Datapath.local_endpoints`."""
        with self._lock:
            known = {key.ifindex: value for key, value in self._open_maps.endpoints.items()}
            links = self._links.host_ends()
        found: list[LocalEndpoint] = []
        for link in links:
            endpoint_id = names.endpoint_of_alias(link.alias)
            if endpoint_id is not None:
                value = known.get(link.ifindex)
                spec = None if value is None else entries.endpoint_spec(value, mtu_bytes=link.mtu_bytes)
                found.append(_local_endpoint(link, endpoint_id, spec))
        return found

    def replace_remotes(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        """See :meth:`datapath.api.Datapath.replace_remotes`."""
        with self._lock:
            self._shadowed = {key: remote for key, remote in remotes.items() if key in self._local}
            self._open_maps.ipcache.sync(
                (
                    (entries.ipcache_key(key), entries.remote_place(remote))
                    for key, remote in remotes.items()
                    if key not in self._local
                ),
                untouched=map(entries.ipcache_key, self._local),
            )

    def update_remotes(self, upserts: Mapping[IpcacheKey, RemoteEndpoint], deletes: Iterable[IpcacheKey]) -> None:
        """See :meth:`datapath.api.Datapath.update_remotes`."""
        with self._lock:
            gone = [key for key in deletes if key not in upserts]
            for key in gone:
                self._shadowed.pop(key, None)
            self._shadowed.update((key, remote) for key, remote in upserts.items() if key in self._local)
            ipcache = self._open_maps.ipcache
            ipcache.update_many(
                (entries.ipcache_key(key), entries.remote_place(remote))
                for key, remote in upserts.items()
                if key not in self._local
            )
            ipcache.delete_many(entries.ipcache_key(key) for key in gone if key not in self._local)

    def replace_nodes(self, addresses: Iterable[IPAddress]) -> None:
        """See :meth:`datapath.api.Datapath.replace_nodes`."""
        wanted = [(abi.NodeKey(address=words(address)), abi.NodeValue()) for address in addresses]
        with self._lock:
            self._open_maps.nodes.sync(wanted)

    def replace_networks(self, networks: Mapping[IPNetwork, NetworkSpec]) -> None:
        """See :meth:`datapath.api.Datapath.replace_networks`."""
        with self._lock:
            source = self._open_maps.config.node_address
            host = self._links.find(names.HOST_IFNAME)
            if source is None or host is None:
                raise DatapathError(f"interface {names.HOST_IFNAME} is missing; it is made when the agent starts")
            self._open_maps.networks.sync(
                (prefix_key(pool), entries.network_value(spec)) for pool, spec in networks.items()
            )
            self._routes.replace(networks, ifindex=host.ifindex, source=source)

    def apply_policy(self, table: PolicyTable) -> int:
        """See :meth:`datapath.api.Datapath.apply_policy`."""
        with self._lock:
            policy, config = self._open_maps.policy, self._open_maps.config
            try:
                policy.apply(table)
                # Before the epoch: what is judged under the new one must not go by the old flags.
                if config.set_flag(abi.ConfigFlags.AUDIT, on=table.audit):
                    policy.unsettled = True
            finally:
                # Also when it failed: a connection may have been judged by what has been taken back.
                if policy.unsettled:
                    config.raise_policy_epoch()
                    policy.unsettled = False
            return config.read().policy_epoch

    def replace_services(self, services: Mapping[Frontend, Balancing]) -> None:
        """See :meth:`datapath.api.Datapath.replace_services`."""
        with self._lock:
            self._open_maps.services.replace(services)

    def services(self) -> Mapping[Frontend, Balancing]:
        """See :meth:`datapath.api.Datapath.services`."""
        with self._lock:
            return self._open_maps.services.read()

    def replace_published(self, ports: Mapping[PublishedPort, PublishedTarget]) -> None:
        """See :meth:`datapath.api.Datapath.replace_published`."""
        with self._lock:
            self._open_maps.published.replace(ports)
            self._open_maps.config.set_flag(abi.ConfigFlags.PUBLISHED, on=bool(ports))

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        """See :meth:`datapath.api.Datapath.published`."""
        with self._lock:
            return self._open_maps.published.read()

    def translations(self) -> Sequence[Translation]:
        """See :meth:`datapath.api.Datapath.translations`."""
        with self._lock:
            return list(nat.translations(self._open_maps.nat, now_s=int(time.monotonic())))

    def translation_mode(self) -> TranslationMode | None:
        """See :meth:`datapath.api.Datapath.translation_mode`."""
        with self._lock:
            return None if self._maps is None else TranslationMode.PACKET

    def policy_entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """See :meth:`datapath.api.Datapath.policy_entries`."""
        with self._lock:
            return self._open_maps.policy.entries()

    def policy_prefixes(self) -> Mapping[IPNetwork, int]:
        """See :meth:`datapath.api.Datapath.policy_prefixes`."""
        with self._lock:
            return self._open_maps.policy.prefixes()

    def ipcache(self) -> Mapping[IpcacheKey, Place]:
        """See :meth:`datapath.api.Datapath.ipcache`."""
        with self._lock:
            return dict(entries.place(key, value) for key, value in self._open_maps.ipcache.items())

    def connections(self) -> Sequence[TrackedConnection]:
        """See :meth:`datapath.api.Datapath.connections`."""
        with self._lock:
            return list(conntrack.connections(self._open_maps.conntrack, now_s=int(time.monotonic())))

    def flow_events(self) -> FlowEvents:
        """See :meth:`datapath.api.Datapath.flow_events`."""
        with self._lock:
            limits = [
                value
                for kind in abi.EventKind
                for value in self._open_maps.event_limits.lookup_per_cpu(abi.ArrayKey(index=kind))
            ]
            before, self._lost_events = self._lost_events, sum(value.lost for value in limits)
            events = tuple(self._open_maps.events.take())
            return FlowEvents(events=events, lost=0 if before is None else self._lost_events - before)

    def counters(self) -> Sequence[PacketCounter]:
        """See :meth:`datapath.api.Datapath.counters`."""
        with self._lock:
            metrics = self._open_maps.metrics
            counted: list[PacketCounter] = []
            for reason in abi.DropReason:
                for raw, direction in _DIRECTIONS.items():
                    values = metrics.lookup_per_cpu(abi.ArrayKey(index=reason * 2 + raw))
                    packets = sum(value.packets for value in values)
                    if packets:
                        counted.append(
                            PacketCounter(
                                reason=int(reason),
                                text=reason.text,
                                direction=direction,
                                packets=packets,
                                bytes=sum(value.bytes for value in values),
                            )
                        )
        return counted

    def destroy(self) -> None:
        """See :meth:`datapath.api.Datapath.destroy`."""
        with self._lock:
            for link in self._links.host_ends():
                self._links.remove(link.ifname)
            self._links.remove(names.HOST_PEER_IFNAME)
            tunnel = self._links.find(names.TUNNEL_IFNAME)
            if tunnel is not None and tunnel.kind == "vxlan":
                self._links.remove(names.TUNNEL_IFNAME)
            self._release()
            pins.remove(self._pins.root)

    def close(self) -> None:
        """See :meth:`datapath.api.Datapath.close`."""
        with self._lock:
            self._release()
            self._netlink.close()

    @property
    def _open_maps(self) -> OpenMaps:
        if self._maps is None:
            raise DatapathError("the datapath has not been started")
        return self._maps

    @property
    def _open_programs(self) -> programs.Programs:
        if self._programs is None:
            raise DatapathError("the datapath has not been started")
        return self._programs

    def _release(self) -> None:
        """Close what :meth:`start` opened."""
        opened, self._maps = self._maps, None
        if opened is not None:
            opened.close()
        loaded, self._programs = self._programs, None
        if loaded is not None:
            loaded.close()
        self._local = {}
        self._shadowed = {}

    def _attach(self, ifindex: int, program_fd: int, name: str) -> None:
        tc.attach_ingress(self._netlink, ifindex=ifindex, program_fd=program_fd, name=name)

    def _ensure_tunnel(self, config: DatapathConfig) -> Link:
        """The VXLAN device with its program; made anew when it is another one than we need."""
        link = self._links.find(names.TUNNEL_IFNAME)
        if link is not None and not vxlan_is_usable(link, port=config.tunnel_port):
            self._links.remove(link.ifname)
            link = None
        if link is None:
            link = self._links.create_vxlan(port=config.tunnel_port, mtu_bytes=config.mtu_bytes)
        self._attach(link.ifindex, self._open_programs.from_overlay, "from_overlay")
        if (link.mac, link.mtu_bytes, link.up) != (names.router_mac().packed, config.mtu_bytes, True):
            self._links.raise_vxlan(port=config.tunnel_port, mtu_bytes=config.mtu_bytes)
        return link

    def _ensure_host_pair(self, config: DatapathConfig) -> int:
        """The pair to the host's own stack with its program; the ifindex of our end."""
        ours = self._links.ensure_host_pair(mtu_bytes=config.mtu_bytes)
        self._attach(ours.ifindex, self._open_programs.from_host, "from_host")
        self._links.raise_host_pair(mtu_bytes=config.mtu_bytes)
        return ours.ifindex

    def _adopt_endpoints(self) -> None:
        """Take over what an earlier agent left: know its addresses, switch its programs, clear away the rest."""
        ends = {link.ifindex: link for link in self._links.host_ends()}
        unfinished_switch = bool(self._pins.other_programs(self._open_programs.digest))
        vanished: list[int] = []
        for key, value in self._open_maps.endpoints.items():
            for address in entries.ipcache_keys(entries.endpoint_spec(value, mtu_bytes=0)):
                self._local[address] = key.ifindex
            if key.ifindex not in ends:
                vanished.append(key.ifindex)
            elif unfinished_switch:
                with _vanishing_link():
                    self._attach(key.ifindex, self._open_programs.from_container, "from_container")
        for ifindex in vanished:
            self._forget_endpoint(ifindex)
        for link in ends.values():
            if names.endpoint_of_alias(link.alias) is None:
                self._links.remove(link.ifname)

    def _ensure_veth(self, spec: EndpointSpec, undo: contextlib.ExitStack) -> Link:
        """The host end of the endpoint's pair; one made here is removed again by ``undo``."""
        ifname = names.host_ifname(spec.endpoint_id)
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

    def _claim_address(self, key: IpcacheKey, place: abi.IpcacheValue) -> None:
        """Make an address local; what another host says of it is remembered."""
        raw = entries.ipcache_key(key)
        if key not in self._local:
            other = self._open_maps.ipcache.lookup(raw)
            remote = None if other is None else entries.remote_endpoint(other)
            if remote is not None:
                self._shadowed[key] = remote
        self._open_maps.ipcache.update(raw, place)
        self._local[key] = place.ifindex

    def _release_address(self, key: IpcacheKey, ifindex: int) -> None:
        """End an address of an endpoint, unless a newer one has it by now."""
        if self._local.get(key) != ifindex:
            return
        raw = entries.ipcache_key(key)
        remote = self._shadowed.pop(key, None)
        if remote is None:
            self._open_maps.ipcache.delete(raw)
        else:
            self._open_maps.ipcache.update(raw, entries.remote_place(remote))
        del self._local[key]

    def _forget_endpoint(self, ifindex: int) -> None:
        """Delete the map entries of an endpoint."""
        key = abi.EndpointKey(ifindex=ifindex)
        value = self._open_maps.endpoints.lookup(key)
        if value is None:
            return
        self._open_maps.endpoints.delete(key)
        for address in entries.ipcache_keys(entries.endpoint_spec(value, mtu_bytes=0)):
            self._release_address(address, ifindex)

    def _vanished_ifindex(self, endpoint_id: EndpointId) -> int | None:
        """The interface that an endpoint had before its namespace died with it."""
        for key, value in self._open_maps.endpoints.items():
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
