"""Everything that a table is a function of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from model.addresses import IPNetwork
from model.ids import IdentityId
from model.labels import Labels
from model.policies import Policy, PolicyMode


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInputs:
    """The policies of the cluster, who there is, and who of them is on this host."""

    policies: Sequence[Policy] = ()
    """Documents and short forms, in any order; names are unique."""
    identities: Mapping[IdentityId, Labels] = field(default_factory=dict)
    """Of the whole cluster. Reserved ones are known anyway."""
    local: frozenset[IdentityId] = frozenset()
    """Identities of endpoints of this host; ``init`` is always treated as one."""
    mode: PolicyMode = PolicyMode.DEFAULT
    audit: bool = False
    prefix_identities: Mapping[IPNetwork, int] = field(default_factory=dict)
    """At least of every prefix that the policies name (:func:`policy.prefix_cover.prefixes_of`)."""
    revisions: Mapping[str, int] = field(default_factory=dict)
    """Store revision of the last change of a policy, by its name; for explanations."""
