"""Published ports: which ports of this host lead to which of its containers.

1. A port is taken first (:mod:`balancer.port_claims`), so that neither a container nor a process of the host has it.
2. Then it is recorded with the endpoint, in etcd. The record is the truth: the map in the kernel and the ports that are
   kept are functions of this node's records, so an agent that starts finds all of it, the chosen ports too.
3. Last it is written to the kernel. The map is pinned: ports lead to their containers while no agent runs.
4. A thread does steps 1 and 3 again when records change without a call (the collector removed one), at start, after an
   error, and now and then for ports that could not be kept.

Cost: one map entry, one socket and about 70 bytes of the endpoint's record for each port. Starting a container that
publishes costs a comparison of all published ports of the host.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, Protocol

from balancer.port_claims import HostPorts, PortClaims
from datapath.api import Datapath, PublishedPort, PublishedTarget
from kvstore.backoff import Backoff
from kvstore.view_worker import ViewWorker
from model import policies
from model.clock import Clock
from model.endpoints import Endpoint, PortRequest, Publication
from model.errors import EndpointNotFound, HawseError
from model.ids import EndpointId, NodeName

if TYPE_CHECKING:
    from kvstore.watcher import Change, View

log = logging.getLogger(__name__)

_SHORT_ID: Final = 12
_PROTOCOLS: Final = {protocol.name.lower(): protocol for protocol in policies.PORT_PROTOCOLS}
_PORTS: Final = range(1, policies.PORT_MAX + 1)


class EndpointRecords(Protocol):
    """The endpoints of this node: :class:`cluster.endpoints.EndpointRegistry`."""

    def get(self, endpoint_id: EndpointId) -> Endpoint:
        """Find one.

        Raises:
            EndpointNotFound: not recorded.
        """
        ...

    def local(self) -> Sequence[Endpoint]:
        """All of them.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        ...

    def set_published(self, endpoint_id: EndpointId, published: tuple[Publication, ...]) -> int:
        """Record which ports lead to one; returns the store revision that says so.

        Raises:
            EndpointNotFound: not recorded.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Change:
    """What this agent makes of an endpoint's ports, until the view shows it."""

    published: tuple[Publication, ...]
    revision: int | None = None
    """The store revision that says so; None: not written yet."""


class PublishedPorts:
    """Publishes ports of this host. Safe from any thread; calls for one endpoint come one at a time.

    Args:
        node: this node.
        endpoints: the records.
        view: of all endpoints; not started yet.
        datapath: the kernel.
        host: the ports of the host.
        clock: time.
        resync_s: how often what could not be kept is tried again.
        backoff: waits after an error.
    """

    def __init__(
        self,
        *,
        node: NodeName,
        endpoints: EndpointRecords,
        view: View[Endpoint],
        datapath: Datapath,
        host: HostPorts,
        clock: Clock,
        resync_s: float = 30.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
    ) -> None:
        self._node = node
        self._endpoints = endpoints
        self._datapath = datapath
        self._host = host
        self._lock = threading.RLock()
        self._claims = PortClaims(host, self)
        self._view = view
        self._changing: dict[EndpointId, _Change] = {}
        self._written: dict[PublishedPort, PublishedTarget] | None = None
        self._worker = ViewWorker(
            "published ports", self._work, [view], clock=clock, resync_s=resync_s, backoff=backoff
        )
        view.subscribe(self._on_endpoints)

    def start(self) -> None:
        """Take the recorded ports again, and follow the records; the datapath has to be started."""
        self._host.make_room()
        self._worker.start()

    def stop(self) -> None:
        """Give the ports back to the host; the kernel goes on leading them to their containers."""
        self._worker.stop()
        with self._lock:
            self._claims.release_all()

    def publish(self, endpoint: Endpoint, requests: Sequence[PortRequest]) -> tuple[Publication, ...]:
        """Lead ports of this host to an endpoint: these and no others. The same requests again keep the chosen ports.

        When it raises, some of it may have been done; :meth:`withdraw` takes it back.

        Raises:
            Conflict: a container or a process of the host has a port; the message names it.
            InvalidInput: the host does not have an address or a protocol.
            Exhausted: no port is free, or the map is full.
            EndpointNotFound: the endpoint is not recorded.
            DatapathError: the kernel refused.
        """
        if not requests and not endpoint.published:
            return ()
        with self._lock:
            if self._written is None:
                # Ports of other containers that an earlier agent published are theirs.
                self._apply()
            published = self._claims.claim(endpoint.endpoint_id, requests, endpoint.published)
            change = self._changing[endpoint.endpoint_id] = _Change(published)
        self._change(endpoint.endpoint_id, change)
        log.info(
            "ports published",
            extra={"endpoint_id": endpoint.endpoint_id, "ports": [str(one) for one in published]},
        )
        return published

    def withdraw(self, endpoint_id: EndpointId) -> None:
        """Lead no port to an endpoint any more; unknown ones are no error."""
        try:
            recorded = bool(self._endpoints.get(endpoint_id).published)
        except EndpointNotFound:
            recorded = False
        with self._lock:
            if not recorded and not self._claims.has(endpoint_id):
                return
            change = self._changing[endpoint_id] = _Change(())
        try:
            self._change(endpoint_id, change)
        except EndpointNotFound:
            self._apply()
        log.info("ports withdrawn", extra={"endpoint_id": endpoint_id})

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        with self._lock:
            health = self._worker.health
            failed = [f"published ports are not up to date: {health.error}"] if health.failures else []
            return [*failed, *self._claims.problems()]

    def name(self, endpoint_id: EndpointId) -> str:
        """See :class:`balancer.port_claims.Neighbours`."""
        with contextlib.suppress(HawseError):
            if container := self._endpoints.get(endpoint_id).container:
                return f"container {container}"
        return f"endpoint {endpoint_id[:_SHORT_ID]}"

    def is_gone(self, endpoint_id: EndpointId) -> bool:
        """See :class:`balancer.port_claims.Neighbours`.

        A record without an interface was left behind by an engine that crashed, or by a boot of the host. The collector
        removes it in some minutes, and a container that starts again cannot wait for that.
        """
        change = self._changing.get(endpoint_id)
        if change is not None and change.revision is None:
            return False
        if any(local.endpoint_id == endpoint_id for local in self._datapath.local_endpoints()):
            return False
        log.warning("ports of an endpoint that was left over are taken", extra={"endpoint_id": endpoint_id})
        with contextlib.suppress(EndpointNotFound):
            self._endpoints.set_published(endpoint_id, ())
        return True

    def _change(self, endpoint_id: EndpointId, change: _Change) -> None:
        """Record and write what :attr:`_changing` says of an endpoint."""
        try:
            revision = self._endpoints.set_published(endpoint_id, change.published)
            with self._lock:
                self._changing[endpoint_id] = replace(change, revision=revision)
            self._apply()
        except BaseException as err:
            with self._lock:
                self._changing.pop(endpoint_id, None)
            if isinstance(err, HawseError):
                # Whether the record came to be is only known when it is seen.
                self._worker.mark()
            raise

    def _apply(self, *, anew: bool = False) -> None:
        """Make the kernel and the kept ports what the records say; ``anew``: also if the kernel was told already."""
        with self._lock:
            # A record that was just written may not be visible yet, so what is being changed counts as written. While
            # the view does not follow the store that may take long, and the port must not go meanwhile.
            seen = self._view.revision
            self._changing = {
                ident: change
                for ident, change in self._changing.items()
                if change.revision is None or change.revision > seen
            }
            changing = {ident: change.published for ident, change in self._changing.items()}
            local = [(one, _usable(changing.get(one.endpoint_id, one.published))) for one in self._endpoints.local()]
            entries: dict[PublishedPort, PublishedTarget] = {}
            for endpoint, published in local:
                entries.update(_entries(endpoint, published))
            if anew or entries != self._written:
                # Until it has succeeded nobody knows what the kernel has.
                self._written = None
                self._datapath.replace_published(entries)
                self._written = entries
            wanted = {one.endpoint_id: frozenset(published) for one, published in local}
            self._claims.keep_only(wanted | {ident: frozenset(ports) for ident, ports in changing.items()})
            for endpoint, published in local:
                self._claims.restore(endpoint.endpoint_id, published)

    def _on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        for change in changes:
            old, new = change.old, change.new
            if self._node not in {one.node for one in (old, new) if one is not None}:
                continue
            if _leads(old) != _leads(new):
                self._worker.mark()
                return

    def _work(self, *, everything: bool) -> None:
        # What could not be kept is tried again in any case. Somebody may have taken the program from loopback.
        self._apply(anew=everything)


def _usable(published: Sequence[Publication]) -> tuple[Publication, ...]:
    """What can be led to a container; what another version or a hand has written and nobody knows is left out."""
    return tuple(
        one for one in published if one.protocol in _PROTOCOLS and one.port in _PORTS and one.host_port in _PORTS
    )


def _entries(endpoint: Endpoint, published: Sequence[Publication]) -> dict[PublishedPort, PublishedTarget]:
    address = next((one for one in endpoint.addresses if isinstance(one, IPv4Address)), None)
    if address is None:
        return {}
    return {
        PublishedPort(port=one.host_port, protocol=_PROTOCOLS[one.protocol], address=one.host_address): PublishedTarget(
            address=address, vni=endpoint.vni, port=one.port
        )
        for one in published
    }


def _leads(endpoint: Endpoint | None) -> object:
    """What of a record the kernel is told."""
    if endpoint is None or not endpoint.published:
        return None
    return endpoint.published, endpoint.addresses, endpoint.vni
