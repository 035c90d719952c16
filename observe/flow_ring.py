"""The last flows of this node: a thread takes them from the kernel, any number of readers read them.

Every report the kernel wanted to make has a number, also one that it could not make: a reader that asks for what
follows a number learns how many are missing, because the kernel lost them or because newer ones took their place.

Names are looked up when a flow is taken, not when it is read: by then its container may be gone and its policy changed.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from datapath.api import Datapath
from datapath.flow_event import FlowEvent
from datapath.policy_table import FIRST_RULE, NO_RULE
from model.addresses import IPAddress
from model.clock import Clock, age_s, zero_of_monotonic_us
from model.errors import Exhausted, HawseError
from model.identities import is_cluster_identity
from model.ids import IDENTITY_INIT, NodeName
from model.labels import Labels
from model.policy_answers import RuleReference
from observe.drop_reasons import POLICY_DENIED
from observe.flow import Flow, KnownEndpoint
from observe.flow_names import FlowNames, RuleNames, ServiceNames, identity_labels

log = logging.getLogger(__name__)

CAPACITY: Final = 4095
"""As Hubble's."""
PAGE_FLOWS: Final = 1000
"""At most so many flows in an answer that was not asked for the last ones."""
MAX_WAITING: Final = 16
"""Requests that wait at once: each holds one of the 32 threads that also answer Docker."""

_IDLE_S: Final = 0.1
_BUSY_S: Final = 0.01
_BUSY_EVENTS: Final = 512
_RETRY_S: Final = 1.0
_STOP_S: Final = 2.0
_CLOCKS_DIFFER_S: Final = 1.0

Predicate: TypeAlias = Callable[[Flow], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPage:
    """What a reader gets."""

    flows: tuple[Flow, ...]
    """In the order of their numbers."""
    next: int
    """Where to go on."""
    lost: int
    """Reports that are missing between where it began and ``next``."""
    more: bool
    """There is more already; the answer was cut at :data:`PAGE_FLOWS`."""


class FlowLog:
    """Keeps the last flows of this node. Safe from any thread.

    Args:
        datapath: where flows come from; nobody else may take them.
        names: of endpoints.
        rules: and policies.
        clock: to write down when a packet was seen.
        node: this node.
        services: names of services.
        capacity: flows that are kept.

    Attributes:
        node: this node.
        epoch: names the numbers: another agent, also the next one on this node, counts anew.
    """

    def __init__(
        self,
        datapath: Datapath,
        names: FlowNames,
        rules: RuleNames,
        clock: Clock,
        node: NodeName,
        *,
        services: ServiceNames,
        capacity: int = CAPACITY,
    ) -> None:
        self._datapath = datapath
        self._names = names
        self._rules = rules
        self._clock = clock
        self._services = services
        self.node = node
        # The low 62 bits of a random UUID are free for the number of a flow.
        self._uuids = uuid.uuid4().int >> 62 << 62
        self.epoch = str(uuid.UUID(int=self._uuids))
        self._changed = threading.Condition()
        self._capacity = capacity
        self._flows: deque[Flow] = deque(maxlen=capacity)
        self._next = 0
        self._lost = 0
        self._places = threading.BoundedSemaphore(MAX_WAITING)
        self._problem: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flows", daemon=True)

    def start(self) -> None:
        """Begin to take flows; returns at once. A log is started once."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more, and let every reader that waits go; what was taken stays readable. Idempotent."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    @property
    def problem(self) -> str | None:
        """Why no flows can be taken, in a sentence; None while all is well."""
        return self._problem

    @property
    def lost(self) -> int:
        """Reports that the kernel could not make, since the start; for metrics."""
        with self._changed:
            return self._lost

    @property
    def next(self) -> int:
        """Number of the next flow: how many the kernel wanted to report since the start."""
        with self._changed:
            return self._next

    def uuid_of(self, flow: Flow) -> str:
        """Make the name of a flow that no other flow of any node has."""
        digits = f"{self._uuids | flow.number:032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def read(
        self,
        *,
        since: int | None = None,
        epoch: str | None = None,
        last: int | None = None,
        wait_s: float = 0.0,
        predicate: Predicate | None = None,
    ) -> FlowPage:
        """Read flows, oldest first.

        Args:
            since: the ``next`` of the page before; None: from the oldest that is kept.
            epoch: the :attr:`epoch` that ``since`` is of; another one: from the oldest that is kept.
            last: only so many, the newest.
            wait_s: when there is none, wait so long for one.
            predicate: which flows; None: all.

        Raises:
            Exhausted: :data:`MAX_WAITING` readers wait already.
        """
        if wait_s <= 0:
            return self._read(since=since, epoch=epoch, last=last, ends=0.0, predicate=predicate)
        if not self._places.acquire(blocking=False):
            raise Exhausted(
                f"{MAX_WAITING} requests wait for flows already; end one «hawse observe -f», then try again"
            )
        try:
            ends = time.monotonic() + wait_s
            return self._read(since=since, epoch=epoch, last=last, ends=ends, predicate=predicate)
        finally:
            self._places.release()

    def take(self) -> int:
        """Take what the kernel has reported; returns how many flows that were. For the thread, one call at a time.

        Raises:
            DatapathError: the kernel did not answer.
        """
        reported = self._datapath.flow_events()
        events = reported.events
        if not events and not reported.lost:
            return 0
        # What would be overwritten at once needs no names.
        kept = events[-self._capacity :]
        # The log's own thread is the only one that changes the number.
        first = self._next + reported.lost
        flows = self._named(kept, first + len(events) - len(kept))
        with self._changed:
            self._flows.extend(flows)
            self._next = first + len(events)
            self._lost += reported.lost
            self._changed.notify_all()
        return len(events)

    def _run(self) -> None:
        pause_s = _IDLE_S
        while not self._stopping.wait(pause_s):
            try:
                taken = self.take()
            except HawseError as err:
                pause_s = _RETRY_S
                self._fail(f"flows cannot be read from the kernel: {err}")
            except Exception:
                pause_s = _RETRY_S
                log.exception("flows were not taken")
                self._problem = "flows cannot be taken: a fault of the agent, its log has it"
            else:
                pause_s = _BUSY_S if taken >= _BUSY_EVENTS else _IDLE_S
                self._problem = None

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("flows are not taken", extra={"error": problem})
        self._problem = problem

    def _named(self, events: Sequence[FlowEvent], first: int) -> list[Flow]:
        # Within one batch the same names come again and again.
        labels_of = functools.cache(functools.partial(identity_labels, self._rules))
        rule_of = functools.cache(self._rule)
        selecting = functools.cache(self._rules.selecting)
        endpoint_at = self._names.endpoint_at
        service_at = self._services.service_at
        offset_us = zero_of_monotonic_us(self._clock)
        flows: list[Flow] = []
        for number, event in enumerate(events, first):
            source = event.source
            destination = event.destination
            source_identity = event.source_identity
            destination_identity = event.destination_identity
            flows.append(
                Flow(
                    number=number,
                    time_us=offset_us + event.monotonic_ns // 1000,
                    event=event,
                    source_endpoint=None if source is None else endpoint_at(event.vni, source, source_identity),
                    destination_endpoint=(
                        None if destination is None else endpoint_at(event.vni, destination, destination_identity)
                    ),
                    source_labels=labels_of(source_identity),
                    destination_labels=labels_of(destination_identity),
                    source_service=None if source is None else service_at(source),
                    destination_service=None if destination is None else service_at(destination),
                    rule=rule_of(event.rule),
                    other_rule=rule_of(event.other_rule),
                    selecting=(
                        selecting(
                            source_identity if event.judged_at_source else destination_identity,
                            event.direction,
                        )
                        if event.rule == NO_RULE and event.reason == POLICY_DENIED
                        else ()
                    ),
                )
            )
        return flows

    def _rule(self, number: int) -> RuleReference | None:
        return self._rules.rule(number) if number >= FIRST_RULE else None

    def _read(
        self, *, since: int | None, epoch: str | None, last: int | None, ends: float, predicate: Predicate | None
    ) -> FlowPage:
        if since is not None and (since > self.next or (epoch is not None and epoch != self.epoch)):
            since = 0
        cursor = since or 0
        lost = 0
        while True:
            kept, end = self._kept(cursor)
            found = [flow for flow in map(self._completed, kept) if predicate is None or predicate(flow)]
            if found or last == 0 or not self._wait_beyond(end, ends):
                break
            lost += _missing(kept, cursor, end)
            cursor = end
        more = last is None and len(found) > PAGE_FLOWS
        if more:
            found = found[:PAGE_FLOWS]
            end = found[-1].number + 1
        elif last is not None:
            found = found[len(found) - min(last, len(found)) :]
        if since is None:
            cursor = found[0].number if found else end
            lost = 0
        lost += _missing(kept, cursor, end)
        return FlowPage(flows=tuple(found), next=end, lost=lost, more=more)

    def _kept(self, begin: int) -> tuple[Sequence[Flow], int]:
        """Copy the flows from a number on; and the number that the next one will have."""
        with self._changed:
            newer = itertools.takewhile(lambda flow: flow.number >= begin, reversed(self._flows))
            return list(newer)[::-1], self._next

    def _wait_beyond(self, end: int, ends: float) -> bool:
        """Wait until there is a flow with this number; whether there is."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._next > end or self._stopping.is_set(), max(0.0, ends - time.monotonic())
            )
            return self._next > end and ends > time.monotonic()

    def _completed(self, flow: Flow) -> Flow:
        """Look again for what was not known yet when the flow was taken; names travel through etcd."""
        event = flow.event
        late: dict[str, object] = {}
        if flow.source_endpoint is None and event.source is not None and _is_container(event.source_identity):
            late["source_endpoint"] = self._late_endpoint(flow, event.source, event.source_identity)
        if (
            flow.destination_endpoint is None
            and event.destination is not None
            and _is_container(event.destination_identity)
        ):
            late["destination_endpoint"] = self._late_endpoint(flow, event.destination, event.destination_identity)
        if not flow.source_labels:
            late["source_labels"] = self._late_labels(flow.source_endpoint, event.source_identity)
        if not flow.destination_labels:
            late["destination_labels"] = self._late_labels(flow.destination_endpoint, event.destination_identity)
        if flow.rule is None and event.rule:
            late["rule"] = self._rule(event.rule)
        if flow.other_rule is None and event.other_rule:
            late["other_rule"] = self._rule(event.other_rule)
        return msgspec.structs.replace(flow, **late) if late else flow

    def _late_endpoint(self, flow: Flow, address: IPAddress, identity: int) -> KnownEndpoint | None:
        known = self._names.endpoint_at(flow.event.vni, address, identity)
        if known is None:
            return None
        # The address may have been given out only after the packet; other hosts' clocks differ a little.
        seen = datetime.fromtimestamp(flow.time_us / 1e6, UTC)
        return known if age_s(seen, known.endpoint.created_at) > -_CLOCKS_DIFFER_S else None

    def _late_labels(self, known: KnownEndpoint | None, identity: int) -> Labels:
        if known is not None and known.endpoint.identity == identity and known.endpoint.labels:
            return known.endpoint.labels
        return identity_labels(self._rules, identity)


def _missing(kept: Sequence[Flow], begin: int, end: int) -> int:
    """How many numbers from ``begin`` to before ``end`` have no flow."""
    return end - begin - sum(begin <= flow.number < end for flow in kept)


def _is_container(identity: int) -> bool:
    return is_cluster_identity(identity) or identity == IDENTITY_INIT
