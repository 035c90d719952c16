"""What the agent knows of policies, identities and their enforcement without asking the store.

A view treats a value that it cannot read as absent. For a policy that would open what it closes, so reading one never
fails: a policy that this version cannot read is one that closes every endpoint in both directions, with a problem.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from kvstore import keys
from kvstore.codec import decode
from kvstore.store import KeyValue, Store
from kvstore.watcher import View
from model.errors import HawseError
from model.identities import IdentityRecord
from model.policies import Policy, Selector
from model.policy_answers import Enforcement, PolicyRecord
from policy.documents import from_record
from policy.identity_view import identity_view

log = logging.getLogger(__name__)

_UNKNOWN_KIND: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEntry:
    """One policy of the cluster, as this node understands it."""

    name: str
    kind: str
    """``Policy`` or ``NetworkPolicy``; ``unknown`` when it cannot be read."""
    revision: int
    """Store revision of its last change."""
    record: PolicyRecord
    policy: Policy
    """What is enforced; one that closes everything when the document cannot be read."""
    problem: str = ""
    """Why the document cannot be read; empty when all is well."""


@dataclass(frozen=True, slots=True)
class PolicyViews:
    """The views of the keys of policies; made stopped, because subscriptions come before :meth:`start`."""

    policies: View[PolicyEntry]
    identities: View[IdentityRecord]
    enforced: View[Enforcement]

    @classmethod
    def of(cls, store: Store) -> PolicyViews:
        """Views of one store."""
        return cls(
            policies=View(store, keys.POLICIES, read_policy),
            identities=identity_view(store),
            enforced=View(store, keys.ENFORCED, _enforcement),
        )

    def start(self) -> None:
        """Begin to follow the store; returns at once."""
        for view in self._all():
            view.start()

    def stop(self) -> None:
        """Stop following; what was seen stays readable."""
        for view in self._all():
            view.stop()

    @property
    def known(self) -> bool:
        """Whether all have been read, however long ago."""
        return all(view.revision for view in self._all())

    def wait_synced(self, timeout_s: float) -> bool:
        """Wait until all have been read and are followed."""
        ends = time.monotonic() + timeout_s
        return all(view.wait_synced(max(0.0, ends - time.monotonic())) for view in self._all())

    def _all(self) -> tuple[View[Any], ...]:
        return (self.identities, self.policies, self.enforced)


def read_policy(item: KeyValue) -> PolicyEntry:
    """Read one policy; never raises."""
    # A key that no policy can have is below the prefix all the same: somebody has put it there to be enforced.
    name = item.key.removeprefix(keys.POLICIES)
    record = PolicyRecord(document={})
    try:
        keys.parse_policy(item.key)
        record = decode(PolicyRecord, item.value, key=item.key)
        document = from_record(name, record.document)
    except HawseError as err:
        problem = str(err)
    except Exception as err:
        log.exception("reading a policy broke", extra={"policy": name, "revision": item.mod_revision})
        problem = f"unexpected {type(err).__name__}, the agent's log says where"
    else:
        return PolicyEntry(
            name=name, kind=document.kind, revision=item.mod_revision, record=record, policy=document.policy
        )
    log.error(
        "policy cannot be read, every endpoint is closed beyond what other policies allow",
        extra={"policy": name, "revision": item.mod_revision, "error": problem},
    )
    return PolicyEntry(
        name=name,
        kind=_UNKNOWN_KIND,
        revision=item.mod_revision,
        record=record,
        policy=closing_everything(name),
        problem=problem,
    )


def closing_everything(name: str) -> Policy:
    """A policy that selects every endpoint and allows nothing."""
    return Policy(name=name, subject=Selector(), enforce_ingress=True, enforce_egress=True)


def _enforcement(item: KeyValue) -> Enforcement:
    keys.parse_enforced(item.key)
    return decode(Enforcement, item.value, key=item.key)
