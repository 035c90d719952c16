"""The datapath in the Linux kernel.

How packets go is told in :mod:`datapath.api`, what stands where in :mod:`datapath.pins`. The kernel is the only place
that knows what there is: what is kept here is read from it at the start.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datapath import (
    abi,
    conntrack,
    counters,
    entries,
    half_open,
    names,
    nat,
    own_devices,
    pins,
    programs,
    socket_programs,
    source,
)
from datapath.addresses import words
from datapath.api import (
    Balancing,
    DatapathConfig,
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
from datapath.devices import Devices
from datapath.endpoints import Endpoints
from datapath.features import probe_features
from datapath.flow_event import FlowEvents, TrackedConnection
from datapath.frames import FrameSender
from datapath.link_removal import LinkRemoval
from datapath.links import Links
from datapath.local_addresses import LocalAddresses
from datapath.maps import DEVICES, TypedMap
from datapath.netlink import Netlink
from datapath.newest import Newest
from datapath.open_maps import OpenMaps
from datapath.pins import Pins
from datapath.policy_maps import prefix_key
from datapath.policy_table import PolicyKey, PolicyTable, PolicyVerdict
from datapath.routes import Routes
from datapath.sweep import Swept, own_descriptor, sweep_map
from model.addresses import IPAddress, IPNetwork
from model.errors import DatapathError
from model.ids import EndpointId, IdentityId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """What :meth:`LinuxDatapath.start` opens."""

    programs: programs.Programs
    maps: OpenMaps
    addresses: LocalAddresses
    endpoints: Endpoints
    devices: Devices

    def close(self) -> None:
        self.maps.close()
        self.programs.close()


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
        self._removing = Netlink()
        self._removal = LinkRemoval(Links(self._removing).remove)
        self._routes = Routes(self._netlink)
        self._sender = FrameSender()
        self._asked: frozenset[IpcacheKey] = frozenset()
        self._started: _Started | None = None
        self._probed: Sequence[Feature] = ()
        self._packets_because = "the datapath has not been started"
        self._lost_events: int | None = None
        self._ranges_routed = False

    def start(self, config: DatapathConfig) -> None:
        """See :meth:`datapath.api.Datapath.start`."""
        with self._lock:
            pins.require_bpf_file_system(self._pins.root)
            self._release()
            self._started = started = self._open()
            tunnel = own_devices.ensure_tunnel(self._netlink, self._links, started.programs, config)
            host = own_devices.ensure_host_pair(self._netlink, self._links, started.programs, config)
            started.maps.config.describe_host(config, tunnel_ifindex=tunnel, host_ifindex=host)
            routed = config.way_out.routed if config.way_out else ()
            started.maps.routed.sync((prefix_key(prefix), abi.RoutedValue()) for prefix in routed)
            self._ranges_routed = bool(routed)
            if routed:
                started.maps.config.set_flag(abi.ConfigFlags.ROUTED, on=True)
            others = self._pins.other_programs(started.programs.digest)
            started.endpoints.adopt(switch_programs=bool(others))
            started.devices.follow(config.node_address, programs=started.programs)
            self._watch_loopback(any_published=bool(started.maps.published.read()))
            self._translate_at_sockets(config.cgroup)
            for folder in (*others, *self._pins.other_versions()):
                pins.remove(folder)

    def programs_loaded(self) -> bool | None:
        """See :meth:`datapath.api.Datapath.programs_loaded`."""
        with self._lock:
            return self._started.programs.loaded if self._started else None

    def features(self) -> Sequence[Feature]:
        """See :meth:`datapath.api.Datapath.features`."""
        with self._lock:
            self._probed = self._probed or probe_features(self._pins.root)
            why_not = self._packets_because
            at_sockets = Feature(name="services at sockets", available=not why_not, required=False, detail=why_not)
            return [*self._probed, at_sockets]

    def ensure_endpoint(self, spec: EndpointSpec) -> LocalEndpoint:
        """See :meth:`datapath.api.Datapath.ensure_endpoint`."""
        with self._lock:
            return self._opened.endpoints.ensure(spec)

    def remove_endpoint(self, endpoint_id: EndpointId) -> None:
        """See :meth:`datapath.api.Datapath.remove_endpoint`."""
        with self._lock:
            self._opened.endpoints.remove(endpoint_id)

    def local_endpoints(self) -> Sequence[LocalEndpoint]:
        """See :meth:`datapath.api.Datapath.local_endpoints`."""
        with self._lock:
            return self._opened.endpoints.all()

    def local_identities(self) -> Mapping[EndpointId, IdentityId]:
        """See :meth:`datapath.api.Datapath.local_identities`."""
        with self._lock:
            return self._opened.endpoints.identities()

    def replace_remotes(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        """See :meth:`datapath.api.Datapath.replace_remotes`."""
        with self._lock:
            self._opened.addresses.replace_remotes(remotes)

    def update_remotes(self, upserts: Mapping[IpcacheKey, RemoteEndpoint], deletes: Iterable[IpcacheKey]) -> None:
        """See :meth:`datapath.api.Datapath.update_remotes`."""
        with self._lock:
            self._opened.addresses.update_remotes(upserts, deletes)

    def replace_nodes(self, addresses: Iterable[IPAddress]) -> None:
        """See :meth:`datapath.api.Datapath.replace_nodes`."""
        wanted = [(abi.NodeKey(address=words(address)), abi.NodeValue()) for address in addresses]
        with self._lock:
            try:
                self._open_maps.nodes.sync(wanted)
            finally:
                self._open_maps.config.raise_places_epoch()  # also when it failed half way

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
            self._open_maps.config.set_flag(
                abi.ConfigFlags.ROUTED, on=self._ranges_routed or any(spec.routed for spec in networks.values())
            )
            self._routes.replace(networks, ifindex=host.ifindex, source=source)
            self._opened.devices.follow(source, programs=self._opened.programs)

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
            if ports:
                # Before the first entry; it does no harm when that does not come.
                self._watch_loopback(any_published=True)
            self._open_maps.published.replace(ports)
            if not ports:
                self._watch_loopback(any_published=False)

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        """See :meth:`datapath.api.Datapath.published`."""
        with self._lock:
            return self._open_maps.published.read()

    def translations(self, limit: int | None = None) -> Newest[Translation]:
        """See :meth:`datapath.api.Datapath.translations`."""
        # Reading a large map takes seconds, in which nobody else may have to wait.
        with self._lock:
            translated = self._open_maps.nat.duplicate()
        with contextlib.closing(translated):
            return nat.translations(translated, now_s=int(time.monotonic()), limit=limit)

    def translation_mode(self) -> TranslationMode | None:
        """See :meth:`datapath.api.Datapath.translation_mode`."""
        with self._lock:
            if self._started is None:
                return None
            return TranslationMode.PACKET if self._packets_because else TranslationMode.SOCKET

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

    def connections(self, limit: int | None = None) -> Newest[TrackedConnection]:
        """See :meth:`datapath.api.Datapath.connections`."""
        with self._lock:
            tracked = self._open_maps.conntrack.duplicate()
        with contextlib.closing(tracked):
            return conntrack.connections(tracked, now_s=int(time.monotonic()), limit=limit)

    def sweep(self) -> Swept:
        """See :meth:`datapath.api.Datapath.sweep`."""
        with self._lock, contextlib.ExitStack() as opened:
            tracked = opened.enter_context(contextlib.closing(self._open_maps.conntrack.duplicate()))
            translated = opened.enter_context(contextlib.closing(self._open_maps.nat.duplicate()))
            programs = self._opened.programs
            of_connections = opened.enter_context(own_descriptor(programs.sweep_connections))
            of_translations = opened.enter_context(own_descriptor(programs.sweep_translations))
            everything = opened.pop_all()
        with everything:
            return Swept(
                connections=sweep_map(of_connections, tracked), translations=sweep_map(of_translations, translated)
            )

    def probe_half_open(self) -> int:
        """See :meth:`datapath.api.Datapath.probe_half_open`."""
        with self._lock:
            departed = self._opened.addresses.take_departed()
            sequences = dict.fromkeys(self._asked, half_open.ANOTHER_SEQUENCE)
            sequences |= dict.fromkeys(departed, half_open.SEQUENCE)
            self._asked = departed
            if not sequences:
                return 0
            maps = self._open_maps
            # One after the other would leave the first ones open when a later one fails.
            with contextlib.ExitStack() as undo:
                tables = half_open.ConnectionTables(
                    connections=undo.enter_context(contextlib.closing(maps.conntrack.duplicate())),
                    translations=undo.enter_context(contextlib.closing(maps.nat.duplicate())),
                    places=undo.enter_context(contextlib.closing(maps.ipcache.duplicate())),
                    endpoints=undo.enter_context(contextlib.closing(maps.endpoints.duplicate())),
                )
                opened = undo.pop_all()
        with opened:
            return half_open.probe(sequences, tables, self._sender)

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
            return list(counters.counters(self._open_maps.metrics))

    def destroy(self) -> None:
        """See :meth:`datapath.api.Datapath.destroy`."""
        with self._lock:
            self._removal.close()
            self._leave_devices()
            own_devices.remove(self._links)
            self._release()
            pins.remove(self._pins.root)

    def close(self) -> None:
        """See :meth:`datapath.api.Datapath.close`."""
        with self._lock:
            self._removal.close()
            self._release()
            self._removing.close()
            self._netlink.close()
            self._sender.close()

    @property
    def _opened(self) -> _Started:
        if self._started is None:
            raise DatapathError("the datapath has not been started")
        return self._started

    @property
    def _open_maps(self) -> OpenMaps:
        return self._opened.maps

    def _open(self) -> _Started:
        with contextlib.ExitStack() as undo:
            opened = programs.open_programs(self._pins, self._program_folder)
            undo.callback(opened.close)
            maps = OpenMaps(self._pins.maps, opened.files)
            undo.pop_all()
        changed = maps.config.raise_places_epoch
        addresses = LocalAddresses(maps.ipcache, changed=changed)
        return _Started(
            programs=opened,
            maps=maps,
            addresses=addresses,
            endpoints=Endpoints(
                netlink=self._netlink,
                links=self._links,
                removal=self._removal,
                endpoints=maps.endpoints,
                addresses=addresses,
                program_fd=opened.from_container,
                changed=changed,
            ),
            devices=Devices(self._netlink, self._links, maps.devices),
        )

    def _release(self) -> None:
        """Close what :meth:`start` opened."""
        started, self._started = self._started, None
        if started is not None:
            started.close()

    def _watch_loopback(self, *, any_published: bool) -> None:
        """Have the programs look for published ports, or spare them that."""
        self._open_maps.config.set_flag(abi.ConfigFlags.PUBLISHED, on=any_published)
        if any_published:
            self._opened.devices.watch_loopback(program_fd=self._opened.programs.from_loopback)
        else:
            self._opened.devices.leave_loopback()

    def _leave_devices(self) -> None:
        """Take our programs away from the host's own interfaces, also when no agent has started."""
        if (self._pins.maps / "hawse_devices").exists():
            with contextlib.closing(TypedMap(self._pins.maps, "hawse_devices", DEVICES)) as opened:
                Devices(self._netlink, self._links, opened).release_all()

    def _translate_at_sockets(self, cgroup: Path | None) -> None:
        """Attach the programs for sockets, or detach them; packets are translated anyhow."""
        if cgroup is None:
            self._packets_because = "no control group to attach to was found or wished for"
        else:
            try:
                socket_programs.attach(self._opened.programs, self._pins.maps, cgroup)
            except DatapathError as error:
                log.warning("addresses of services are translated in packets", extra={"reason": str(error)})
                self._packets_because = str(error)
            else:
                self._packets_because = ""
                return
        socket_programs.detach(self._pins.maps)
