"""Gathers what is compiled: the policies of the cluster, its identities, and which of them this node has.

1. Policies are the documents and the short forms of all identities; both keep their objects while they do not change,
   so that comparing one gathering with the next is cheap.
2. Labels of an identity come from its record; while that is not known (deleted by hand, or not seen yet), from an
   endpoint that has it.
3. An identity is of this node while an endpoint's record or an interface in the kernel says so, while it was asked for
   (:meth:`InputGatherer.expect`), and for :data:`LINGER_S` after that: a container that is replaced by one like it
   costs nothing. ``init`` always is: an endpoint is judged from its first packet.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from datapath.api import Datapath
from kvstore import keys
from kvstore.watcher import Entry, View
from model.addresses import IPNetwork
from model.clock import Clock
from model.endpoints import Endpoint
from model.identities import is_cluster_identity
from model.ids import IDENTITY_INIT, EndpointId, IdentityId, NodeName
from model.labels import Labels
from model.policies import Policy, PolicyMode
from policy.policy_inputs import PolicyInputs
from policy.prefix_cover import prefixes_of
from policy.prefix_identities import PrefixIdentities
from policy.short_form import ShortForm, short_form
from policy.views import PolicyEntry, PolicyViews

LINGER_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything of one moment."""

    inputs: PolicyInputs
    entries: Mapping[str, PolicyEntry]
    """The documents by name."""
    here: Mapping[IdentityId, int]
    """How many endpoints of this node have each identity."""
    problems: tuple[str, ...]
    """Documents that cannot be read, a sentence each."""
    label_problems: Mapping[IdentityId, tuple[str, ...]]
    """What is wrong with labels, sentences by identity; whoever has none is not in it."""


class InputGatherer:
    """Reads the views. :meth:`gather` is for one thread.

    Args:
        datapath: the kernel of this node; started.
        views: policies and identities.
        endpoints: view of all endpoints.
        node: this node.
        mode: who is closed by default.
        audit: only report.
        clock: time.
    """

    def __init__(
        self,
        datapath: Datapath,
        views: PolicyViews,
        endpoints: View[Endpoint],
        node: NodeName,
        *,
        mode: PolicyMode,
        audit: bool,
        clock: Clock,
    ) -> None:
        self._datapath = datapath
        self._views = views
        self._endpoints = endpoints
        self._own_prefix = keys.endpoints_of(node)
        self._mode = mode
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._expected: dict[IdentityId, float] = {}
        self._local_until: dict[IdentityId, float] = {}
        self._in_kernel: Mapping[EndpointId, IdentityId] | None = None
        self._short_forms: dict[IdentityId, tuple[Labels, ShortForm]] = {}
        self._numbers: PrefixIdentities | None = None

    def expect(self, identity: IdentityId) -> None:
        """Count an identity as one of this node although nothing has it yet. From any thread."""
        with self._lock:
            self._expected[identity] = self._clock.monotonic_s() + LINGER_S

    def forget_kernel(self) -> None:
        """Read the interfaces of this host again the next time."""
        self._in_kernel = None

    def gather(self) -> Gathered:
        """Read everything.

        Raises:
            DatapathError: the kernel did not answer.
            Exhausted: policies name more prefixes than there are numbers.
        """
        if self._in_kernel is None:
            self._in_kernel = {
                local.endpoint_id: local.spec.identity for local in self._datapath.local_endpoints() if local.spec
            }
        documents = {entry.value.name: entry.value for _, entry in sorted(self._views.policies.items().items())}
        endpoints = self._endpoints.items()
        identities = self._labels(endpoints)
        short_forms = self._read_short_forms(identities)
        policies = [entry.policy for entry in documents.values()]
        policies += [short.policy for short in short_forms.values() if short.policy is not None]
        here = self._here(endpoints)
        inputs = PolicyInputs(
            policies=tuple(policies),
            identities=identities,
            local=self._local(here),
            mode=self._mode,
            audit=self._audit,
            prefix_identities=self._number(tuple(policies)),
            revisions={entry.name: entry.revision for entry in documents.values()},
        )
        return Gathered(
            inputs=inputs,
            entries=documents,
            here=here,
            problems=tuple(f"policy {entry.name}: {entry.problem}" for entry in documents.values() if entry.problem),
            label_problems={number: short.problems for number, short in short_forms.items() if short.problems},
        )

    def _labels(self, endpoints: Mapping[str, Entry[Endpoint]]) -> Mapping[IdentityId, Labels]:
        found = {keys.parse_identity(key): entry.value.labels for key, entry in self._views.identities.items().items()}
        for _, entry in sorted(endpoints.items()):
            endpoint = entry.value
            if endpoint.labels is not None and is_cluster_identity(endpoint.identity):
                found.setdefault(endpoint.identity, endpoint.labels)
        return dict(sorted(found.items()))

    def _read_short_forms(self, identities: Mapping[IdentityId, Labels]) -> Mapping[IdentityId, ShortForm]:
        known, self._short_forms = self._short_forms, {}
        for number, labels in identities.items():
            before = known.get(number)
            same = before is not None and before[0] == labels
            self._short_forms[number] = before if before and same else (labels, short_form(number, labels))
        return {number: short for number, (_, short) in self._short_forms.items()}

    def _here(self, endpoints: Mapping[str, Entry[Endpoint]]) -> Mapping[IdentityId, int]:
        recorded = {
            entry.value.endpoint_id: entry.value.identity
            for key, entry in endpoints.items()
            if key.startswith(self._own_prefix)
        }
        kernel = self._in_kernel or {}
        counts: Counter[IdentityId] = Counter()
        for ident in recorded.keys() | kernel.keys():
            # The two differ while an identity is being changed; the endpoint is judged by either.
            counts.update({places[ident] for places in (recorded, kernel) if ident in places})
        return counts

    def _local(self, here: Mapping[IdentityId, int]) -> frozenset[IdentityId]:
        now_s = self._clock.monotonic_s()
        self._local_until.update(dict.fromkeys(here, now_s + LINGER_S))
        self._local_until = {number: until for number, until in self._local_until.items() if until > now_s}
        with self._lock:
            self._expected = {number: until for number, until in self._expected.items() if until > now_s}
            expected = set(self._expected)
        return frozenset({IDENTITY_INIT, *self._local_until, *expected})

    def _number(self, policies: tuple[Policy, ...]) -> Mapping[IPNetwork, int]:
        if self._numbers is None:
            self._numbers = PrefixIdentities(self._datapath.policy_prefixes())
        return self._numbers.assign(prefixes_of(policies))
