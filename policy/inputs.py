"""Gathers what is compiled: the policies of the cluster, its identities, and which of them this node has.

1. Policies are the documents and the short forms of all identities. Everything is worked out anew only when what it
   comes from has changed, and is the same object until then: an endpoint more costs nothing of what there is already.
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
from typing import Final, TypeAlias

from datapath.api import Datapath
from kvstore import keys
from kvstore.watcher import View
from model.addresses import IPNetwork
from model.clock import Clock
from model.endpoints import Endpoint
from model.ids import IDENTITY_INIT, IdentityId, NodeName
from model.labels import Labels
from model.policies import Policy, PolicyMode
from policy.endpoint_index import EndpointIndex
from policy.kept import Kept
from policy.policy_inputs import PolicyInputs
from policy.prefix_cover import prefixes_of
from policy.prefix_identities import PrefixIdentities
from policy.short_form import ShortForm, short_form
from policy.views import PolicyEntry, PolicyViews

LINGER_S: Final = 60.0
_DELIVERED_S: Final = 1.0


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
        self._node = node
        self._mode = mode
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._expected: dict[IdentityId, float] = {}
        self._local_until: dict[IdentityId, float] = {}
        self._index = EndpointIndex(node)
        self._documents: Kept[_Documents] = Kept()
        self._identities: Kept[Mapping[IdentityId, Labels]] = Kept()
        self._short_forms: Kept[Mapping[IdentityId, _Read]] = Kept()
        self._policies: Kept[_Policies] = Kept()
        self._numbers: PrefixIdentities | None = None
        endpoints.subscribe(self._index.on_endpoints)

    def expect(self, identity: IdentityId) -> None:
        """Count an identity as one of this node although nothing has it yet. From any thread."""
        with self._lock:
            self._expected[identity] = self._clock.monotonic_s() + LINGER_S

    def gather(self) -> Gathered:
        """Read everything; what has not changed costs next to nothing.

        Raises:
            DatapathError: the kernel did not answer.
            Exhausted: policies name more prefixes than there are numbers.
        """
        # Versions are read before the views: what is newer then is read again.
        documents = self._documents.get((self._views.policies.version,), self._read_documents)
        index = self._told_index()
        identities = self._identities.get(
            (index, index.labels_version, self._views.identities.version), lambda: self._labels(index)
        )
        short_forms = self._short_forms.get(
            (self._identities.version,), lambda: _read_short_forms(identities, self._short_forms.latest or {})
        )
        policies = self._policies.get(
            (self._documents.version, self._short_forms.version), lambda: self._all_policies(documents, short_forms)
        )
        here = self._here(index)
        inputs = PolicyInputs(
            policies=policies.policies,
            identities=identities,
            local=self._local(here),
            mode=self._mode,
            audit=self._audit,
            prefix_identities=policies.prefix_identities,
            revisions=documents.revisions,
        )
        return Gathered(
            inputs=inputs,
            entries=documents.entries,
            here=here,
            problems=documents.problems,
            label_problems=policies.label_problems,
        )

    def _read_documents(self) -> _Documents:
        entries = {entry.value.name: entry.value for _, entry in sorted(self._views.policies.items().items())}
        return _Documents(
            entries=entries,
            revisions={entry.name: entry.revision for entry in entries.values()},
            problems=tuple(f"policy {entry.name}: {entry.problem}" for entry in entries.values() if entry.problem),
        )

    def _told_index(self) -> EndpointIndex:
        """What the view of endpoints shows now: the index, once it has been told of all."""
        if self._endpoints.wait_delivered(self._endpoints.revision, _DELIVERED_S):
            return self._index
        endpoints = {key: entry.value for key, entry in self._endpoints.items().items()}
        return EndpointIndex.of(self._node, endpoints)

    def _labels(self, index: EndpointIndex) -> Mapping[IdentityId, Labels]:
        recorded = {
            keys.parse_identity(key): entry.value.labels for key, entry in self._views.identities.items().items()
        }
        return dict(sorted({**index.labels(), **recorded}.items()))

    def _all_policies(self, documents: _Documents, short_forms: Mapping[IdentityId, _Read]) -> _Policies:
        policies = (
            *(entry.policy for entry in documents.entries.values()),
            *(short.policy for _, short in short_forms.values() if short.policy is not None),
        )
        return _Policies(
            policies=policies,
            prefix_identities=self._number(policies),
            label_problems={number: short.problems for number, (_, short) in short_forms.items() if short.problems},
        )

    def _here(self, index: EndpointIndex) -> Mapping[IdentityId, int]:
        recorded, kernel = index.here(), self._datapath.local_identities()
        counts: Counter[IdentityId] = Counter(recorded.values())
        # The two differ while an identity is being changed; the endpoint is judged by either.
        counts.update(identity for ident, identity in kernel.items() if recorded.get(ident) != identity)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    """What the store has of policies."""

    entries: Mapping[str, PolicyEntry]
    revisions: Mapping[str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policies:
    """Documents and short forms together."""

    policies: tuple[Policy, ...]
    prefix_identities: Mapping[IPNetwork, int]
    label_problems: Mapping[IdentityId, tuple[str, ...]]


_Read: TypeAlias = tuple[Labels, ShortForm]
"""Labels, and what they say of policy."""


def _read_short_forms(
    identities: Mapping[IdentityId, Labels], known: Mapping[IdentityId, _Read]
) -> Mapping[IdentityId, _Read]:
    found = {}
    for number, labels in identities.items():
        before = known.get(number)
        same = before is not None and before[0] == labels
        found[number] = before if before and same else (labels, short_form(number, labels))
    return found
