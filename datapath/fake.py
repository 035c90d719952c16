"""A datapath without a kernel, for tests of what stands above it. Passes the same contract suite as the real one."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence

from datapath import entries, names
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
from datapath.flow_event import FlowEvent, FlowEvents, TrackedConnection
from datapath.newest import Newest, newest
from datapath.policy_table import PolicyKey, PolicyTable, PolicyVerdict
from datapath.service_maps import require_fitting
from datapath.sweep import Swept
from model.addresses import IPAddress, IPNetwork
from model.errors import DatapathError, HawseError
from model.ids import EndpointId, IdentityId


class FakeDatapath:
    """Implements :class:`datapath.api.Datapath` with dictionaries.

    Attributes:
        remotes: the remote part of the ipcache.
        networks: the pools that reach their host.
        balanced: the services.
        ports: the published ports.
        translated: what :meth:`translations` answers; for tests to fill.
        sweeps: how often it was swept, and ``probes`` how often half-open connections were looked for.
        nodes: whose tunnel packets are accepted.
        packet_counters: what :meth:`counters` answers; for tests to set.
        policy: the table that was applied last, and ``epoch`` how often it changed.
        reported: what :meth:`flow_events` hands out next; for tests to fill.
        unreported: how many reports it says were lost; begins anew each time.
        failures: errors by method name; each is raised once, before the method does anything.
    """

    def __init__(self) -> None:
        self.config: DatapathConfig | None = None
        self.remotes: dict[IpcacheKey, RemoteEndpoint] = {}
        self.nodes: frozenset[IPAddress] = frozenset()
        self.packet_counters: list[PacketCounter] = []
        self.networks: dict[IPNetwork, NetworkSpec] = {}
        self.balanced: dict[Frontend, Balancing] = {}
        self.ports: dict[PublishedPort, PublishedTarget] = {}
        self.translated: list[Translation] = []
        self.sweeps = 0
        self.probes = 0
        self.policy = PolicyTable()
        self.epoch = 0
        self.reported: list[FlowEvent] = []
        self.unreported = 0
        self.failures: dict[str, HawseError] = {}
        self.closed = False
        self._endpoints: dict[EndpointId, LocalEndpoint] = {}
        self._ifindexes = itertools.count(10)
        self._lock = threading.Lock()

    def start(self, config: DatapathConfig) -> None:
        """See :meth:`datapath.api.Datapath.start`."""
        self._fail_if_told("start")
        self.config = config

    def programs_loaded(self) -> bool | None:
        """See :meth:`datapath.api.Datapath.programs_loaded`; nothing outlives a fake, so it has to load them."""
        return None if self.config is None else True

    def features(self) -> Sequence[Feature]:
        """See :meth:`datapath.api.Datapath.features`."""
        return [Feature(name="redirect_peer", available=True, required=True, detail="")]

    def ensure_endpoint(self, spec: EndpointSpec) -> LocalEndpoint:
        """See :meth:`datapath.api.Datapath.ensure_endpoint`."""
        self._require_started("ensure_endpoint")
        entries.endpoint_value(spec)  # refuses what the real one refuses
        with self._lock:
            present = self._endpoints.get(spec.endpoint_id)
            if present is None:
                present = LocalEndpoint(
                    endpoint_id=spec.endpoint_id,
                    host_ifname=names.host_ifname(spec.endpoint_id),
                    container_ifname=names.container_ifname(spec.endpoint_id),
                    ifindex=next(self._ifindexes),
                    spec=spec,
                )
            self._endpoints[spec.endpoint_id] = dataclasses.replace(present, spec=spec)
            return self._endpoints[spec.endpoint_id]

    def move_into_container(self, endpoint_id: EndpointId) -> None:
        """Do what Docker does after Join."""
        with self._lock:
            present = self._endpoints[endpoint_id]
            self._endpoints[endpoint_id] = dataclasses.replace(present, in_container=True)

    def begin_another_layout(self) -> None:
        """Do what an upgrade to maps of another layout does: interfaces stand, and no map knows them."""
        with self._lock:
            for ident, local in self._endpoints.items():
                self._endpoints[ident] = dataclasses.replace(local, spec=None)

    def remove_endpoint(self, endpoint_id: EndpointId) -> None:
        """See :meth:`datapath.api.Datapath.remove_endpoint`."""
        self._require_started("remove_endpoint")
        with self._lock:
            self._endpoints.pop(endpoint_id, None)

    def local_endpoints(self) -> Sequence[LocalEndpoint]:
        """See :meth:`datapath.api.Datapath.local_endpoints`."""
        self._require_started("local_endpoints")
        with self._lock:
            return list(self._endpoints.values())

    def local_identities(self) -> Mapping[EndpointId, IdentityId]:
        """See :meth:`datapath.api.Datapath.local_identities`."""
        self._require_started("local_identities")
        with self._lock:
            return {ident: local.spec.identity for ident, local in self._endpoints.items() if local.spec}

    def replace_remotes(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        """See :meth:`datapath.api.Datapath.replace_remotes`."""
        self._require_started("replace_remotes")
        self.remotes = dict(remotes)

    def update_remotes(self, upserts: Mapping[IpcacheKey, RemoteEndpoint], deletes: Iterable[IpcacheKey]) -> None:
        """See :meth:`datapath.api.Datapath.update_remotes`."""
        self._require_started("update_remotes")
        with self._lock:
            for key in deletes:
                self.remotes.pop(key, None)
            self.remotes.update(upserts)

    def replace_nodes(self, addresses: Iterable[IPAddress]) -> None:
        """See :meth:`datapath.api.Datapath.replace_nodes`."""
        self._require_started("replace_nodes")
        self.nodes = frozenset(addresses)

    def replace_networks(self, networks: Mapping[IPNetwork, NetworkSpec]) -> None:
        """See :meth:`datapath.api.Datapath.replace_networks`."""
        self._require_started("replace_networks")
        self.networks = dict(networks)

    def replace_services(self, services: Mapping[Frontend, Balancing]) -> None:
        """See :meth:`datapath.api.Datapath.replace_services`."""
        self._require_started("replace_services")
        for frontend, balancing in services.items():
            require_fitting(frontend, balancing)  # refuses what the real one refuses
        self.balanced = dict(services)

    def services(self) -> Mapping[Frontend, Balancing]:
        """See :meth:`datapath.api.Datapath.services`."""
        self._require_started("services")
        return dict(self.balanced)

    def replace_published(self, ports: Mapping[PublishedPort, PublishedTarget]) -> None:
        """See :meth:`datapath.api.Datapath.replace_published`."""
        self._require_started("replace_published")
        self.ports = dict(ports)

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        """See :meth:`datapath.api.Datapath.published`."""
        self._require_started("published")
        return dict(self.ports)

    def translations(self, limit: int | None = None) -> Newest[Translation]:
        """See :meth:`datapath.api.Datapath.translations`."""
        self._require_started("translations")
        return newest(((one.idle_s, one) for one in self.translated), limit, lambda _, one: one)

    def translation_mode(self) -> TranslationMode | None:
        """See :meth:`datapath.api.Datapath.translation_mode`."""
        return None if self.config is None else TranslationMode.PACKET

    def apply_policy(self, table: PolicyTable) -> int:
        """See :meth:`datapath.api.Datapath.apply_policy`."""
        self._require_started("apply_policy")
        with self._lock:
            if table != self.policy:
                self.policy = table
                self.epoch += 1
            return self.epoch

    def policy_entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """See :meth:`datapath.api.Datapath.policy_entries`."""
        self._require_started("policy_entries")
        return self.policy.entries

    def policy_prefixes(self) -> Mapping[IPNetwork, int]:
        """See :meth:`datapath.api.Datapath.policy_prefixes`."""
        self._require_started("policy_prefixes")
        return self.policy.prefixes

    def ipcache(self) -> Mapping[IpcacheKey, Place]:
        """See :meth:`datapath.api.Datapath.ipcache`."""
        self._require_started("ipcache")
        with self._lock:
            found = {
                key: Place(
                    identity=remote.identity, tunnel_endpoint=remote.tunnel_endpoint, ifindex=0, gone=remote.gone
                )
                for key, remote in self.remotes.items()
            }
            for local in self._endpoints.values():
                if local.spec is not None:
                    for address in local.spec.addresses:
                        found[IpcacheKey(local.spec.vni, address)] = Place(
                            identity=local.spec.identity, tunnel_endpoint=None, ifindex=local.ifindex
                        )
            return found

    def connections(self, limit: int | None = None) -> Newest[TrackedConnection]:  # noqa: ARG002  # there are none
        """See :meth:`datapath.api.Datapath.connections`."""
        self._require_started("connections")
        return Newest([])

    def sweep(self) -> Swept:
        """See :meth:`datapath.api.Datapath.sweep`; there is nothing."""
        self._require_started("sweep")
        self.sweeps += 1
        return Swept(connections=0, translations=0)

    def probe_half_open(self) -> int:
        """See :meth:`datapath.api.Datapath.probe_half_open`; there is none."""
        self._require_started("probe_half_open")
        self.probes += 1
        return 0

    def flow_events(self) -> FlowEvents:
        """See :meth:`datapath.api.Datapath.flow_events`; what was put into :attr:`reported`."""
        self._require_started("flow_events")
        with self._lock:
            events, self.reported = self.reported, []
            lost, self.unreported = self.unreported, 0
            return FlowEvents(events=tuple(events), lost=lost)

    def counters(self) -> Sequence[PacketCounter]:
        """See :meth:`datapath.api.Datapath.counters`."""
        self._require_started("counters")
        return list(self.packet_counters)

    def destroy(self) -> None:
        """See :meth:`datapath.api.Datapath.destroy`."""
        self._fail_if_told("destroy")
        with self._lock:
            self._endpoints.clear()
            self.remotes = {}
            self.nodes = frozenset()
            self.balanced = {}
            self.ports = {}
            self.config = None

    def close(self) -> None:
        """See :meth:`datapath.api.Datapath.close`."""
        self.closed = True

    def _require_started(self, method: str) -> None:
        self._fail_if_told(method)
        if self.config is None:
            raise DatapathError("the datapath has not been started")

    def _fail_if_told(self, method: str) -> None:
        error = self.failures.pop(method, None)
        if error is not None:
            raise error
