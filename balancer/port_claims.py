"""Which ports of this host are whose, and what keeps them from everybody else."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Protocol

from model import policies
from model.endpoints import PortRequest, Publication
from model.errors import Conflict, HawseError
from model.ids import EndpointId

_ADVICE: Final = "choose another host port"


class Hold(Protocol):
    """A port that is kept: :class:`datapath.host_ports.Hold`."""

    port: int

    @property
    def firm(self) -> bool:
        """Whether something keeps it; False: it is free, but cannot be kept yet."""
        ...

    def release(self) -> None:
        """Give it back; idempotent."""
        ...


class HostPorts(Protocol):
    """The ports of this host: :class:`datapath.host_ports.HostPorts`."""

    def hold(self, protocol: policies.Protocol, port: int, address: IPv4Address | None) -> Hold:
        """Take a port; 0: any free one.

        Raises:
            Conflict: a process of the host has it; the message names it.
            InvalidInput: the host does not have the address or the protocol.
            Exhausted: nothing is free.
        """
        ...

    def make_room(self) -> None:
        """Prepare for many."""
        ...


class Neighbours(Protocol):
    """What must be known of the other endpoints of this node."""

    def name(self, endpoint_id: EndpointId) -> str:
        """Name the container of an endpoint, for people."""
        ...

    def is_gone(self, endpoint_id: EndpointId) -> bool:
        """Whether an endpoint is only a record that was left behind; what it published is free then."""
        ...


@dataclass(slots=True)
class _Claim:
    endpoint_id: EndpointId
    publication: Publication
    hold: Hold | None = None
    problem: str = ""
    """Why there is no hold."""


class PortClaims:
    """The claims of this node's endpoints. Not thread-safe: who has it has a lock.

    Args:
        host: takes the ports.
        neighbours: asked when two endpoints want the same port.
    """

    def __init__(self, host: HostPorts, neighbours: Neighbours) -> None:
        self._host = host
        self._neighbours = neighbours
        self._by_endpoint: dict[EndpointId, dict[Publication, _Claim]] = {}
        self._by_port: defaultdict[tuple[str, int], list[_Claim]] = defaultdict(list)

    def claim(
        self, endpoint_id: EndpointId, requests: Sequence[PortRequest], known: Sequence[Publication]
    ) -> tuple[Publication, ...]:
        """Find a port for each request, in their order. What is known already stays; what is not asked for is over.

        Raises:
            Conflict: a container or a process of the host has the port; nothing new is claimed then.
            InvalidInput: the host does not have the address or the protocol. Exhausted: nothing is free.
        """
        left: defaultdict[tuple[object, ...], list[Publication]] = defaultdict(list)
        for one in known:
            left[one.port, one.protocol, one.host_address].append(one)
        found: dict[int, Publication] = {}
        # Certain ports first: what is left to choose must not take theirs.
        order = sorted(range(len(requests)), key=lambda index: not requests[index].is_certain)
        for index in order:
            request = requests[index]
            alike = left[request.port, request.protocol, request.host_address]
            met = next((one for one in alike if request.is_met_by(one)), None)
            if met is not None:
                alike.remove(met)
                found[index] = met
        self.restore(endpoint_id, found.values())
        for over in itertools.chain.from_iterable(left.values()):
            self._drop(endpoint_id, over)
        taken: list[Publication] = []
        try:
            for index in order:
                if index not in found:
                    found[index] = self._take(endpoint_id, requests[index])
                    taken.append(found[index])
        except HawseError:
            for publication in taken:
                self._drop(endpoint_id, publication)
            raise
        return tuple(found[index] for index in range(len(requests)))

    def restore(self, endpoint_id: EndpointId, publications: Iterable[Publication]) -> None:
        """Claim what is recorded, and keep what can be kept; what cannot is told by :meth:`problems`."""
        for publication in publications:
            claim = self._by_endpoint.get(endpoint_id, {}).get(publication)
            if claim is None:
                claim = self._add(_Claim(endpoint_id, publication))
            if claim.hold is not None and claim.hold.firm:
                continue
            try:
                claim.hold = self._hold(publication.protocol, publication.host_port, publication.host_address)
                claim.problem = ""
            except HawseError as err:
                claim.problem = str(err)

    def keep_only(self, wanted: Mapping[EndpointId, AbstractSet[Publication]]) -> None:
        """Give back everything else."""
        for endpoint_id, claims in list(self._by_endpoint.items()):
            for publication in [one for one in claims if one not in wanted.get(endpoint_id, frozenset())]:
                self._drop(endpoint_id, publication)

    def has(self, endpoint_id: EndpointId) -> bool:
        """Whether an endpoint has any port."""
        return endpoint_id in self._by_endpoint

    def release_all(self) -> None:
        """Give everything back."""
        self.keep_only({})

    def problems(self) -> Sequence[str]:
        """What could not be kept, a sentence each."""
        return [
            f"{claim.publication} of this host leads to {self._neighbours.name(endpoint_id)} "
            f"and cannot be kept for it: {claim.problem}"
            for endpoint_id, claims in self._by_endpoint.items()
            for claim in claims.values()
            if claim.problem
        ]

    def _take(self, endpoint_id: EndpointId, request: PortRequest) -> Publication:
        first_conflict: Conflict | None = None
        for port in range(request.first_host_port, request.last_host_port + 1):
            try:
                return self._take_port(endpoint_id, request, port)
            except Conflict as err:
                first_conflict = first_conflict or err
        if request.is_certain or first_conflict is None:
            raise Conflict(f"{first_conflict}; {_ADVICE}") from first_conflict
        raise Conflict(
            f"no port of {request.first_host_port}-{request.last_host_port}/{request.protocol} is free: "
            f"{first_conflict}, and others have the rest; choose other host ports"
        ) from first_conflict

    def _take_port(self, endpoint_id: EndpointId, request: PortRequest, port: int) -> Publication:
        if port:
            self._require_unclaimed(endpoint_id, request, port)
        hold = self._hold(request.protocol, port, request.host_address)
        publication = Publication(
            port=request.port,
            protocol=request.protocol,
            host_port=hold.port,
            host_address=request.host_address,
        )
        self._add(_Claim(endpoint_id, publication, hold))
        return publication

    def _require_unclaimed(self, endpoint_id: EndpointId, request: PortRequest, port: int) -> None:
        for claim in list(self._by_port.get((request.protocol, port), ())):
            other = claim.publication
            if None not in (other.host_address, request.host_address) and other.host_address != request.host_address:
                continue
            if claim.endpoint_id == endpoint_id:
                raise Conflict(f"{other} is asked for twice by this container")
            if self._neighbours.is_gone(claim.endpoint_id):
                self._drop(claim.endpoint_id, other)
                continue
            raise Conflict(f"{other} is published by {self._neighbours.name(claim.endpoint_id)} already")

    def _hold(self, protocol: str, port: int, address: IPv4Address | None) -> Hold:
        return self._host.hold(policies.Protocol[protocol.upper()], port, address)

    def _add(self, claim: _Claim) -> _Claim:
        publication = claim.publication
        self._by_endpoint.setdefault(claim.endpoint_id, {})[publication] = claim
        self._by_port[publication.protocol, publication.host_port].append(claim)
        return claim

    def _drop(self, endpoint_id: EndpointId, publication: Publication) -> None:
        claims = self._by_endpoint.get(endpoint_id, {})
        claim = claims.pop(publication, None)
        if claim is None:
            return
        if not claims:
            del self._by_endpoint[endpoint_id]
        place = publication.protocol, publication.host_port
        self._by_port[place].remove(claim)
        if not self._by_port[place]:
            del self._by_port[place]
        if claim.hold is not None:
            claim.hold.release()
