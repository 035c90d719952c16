"""Keeps what the kernel enforces equal to what the cluster's policies say.

1. The views of policies, identities and endpoints say that something changed; a thread of its own gathers everything
   (:mod:`policy.inputs`), compiles it and hands the datapath one table. Changes that come meanwhile are taken together
   the next time; nothing waits for more to come.
2. Nothing is done before all three views have been read once: an agent that starts without etcd leaves the kernel as it
   was, and so does one that stops.
3. An error (also a map that is full) leaves the kernel as it was. It is tried again after a backoff, and at once when
   something changes.
4. What is enforced is said in the store by revision (:mod:`policy.enforcement`), when a policy was written and when it
   begins or ceases to work; not for a change of endpoints or identities.

An endpoint is closed until the rules of its identity are in the kernel. Whoever connects one says so first
(:meth:`PolicyController.expect`), and waits before it is used (:meth:`PolicyController.wait_ready`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from datapath.api import Datapath
from datapath.policy_table import IdentityFlags
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.view_worker import ViewWorker
from kvstore.watcher import Change, View
from model.clock import Clock, SystemClock
from model.endpoints import Endpoint
from model.errors import Exhausted
from model.identities import IdentityRecord
from model.ids import IdentityId, NodeName
from model.policies import PolicyMode
from model.policy_answers import Enforcement, RuleReference
from model.policy_health import PolicyHealth
from policy.compilation import Compilation
from policy.compiler import PolicyCompiler
from policy.enforcement import EnforcementPublisher
from policy.inputs import Gathered, InputGatherer
from policy.views import PolicyViews

log = logging.getLogger(__name__)

_FORMER_RULES: Final = 10_000
_PROBLEM_LENGTH: Final = 1_000
"""A node's word in the store is read by all nodes."""


class PolicyController:
    """Compiles policies and writes them to the datapath.

    Args:
        datapath: the kernel of this node.
        views: policies, identities and enforcement; not started yet.
        endpoints: view of all endpoints; not started yet.
        node: this node.
        publisher: says what is enforced.
        mode: who is closed by default.
        audit: only report what would be denied.
        resync_s: at least this often everything is looked at.
        backoff: waits after an error.
        clock: time.
    """

    def __init__(
        self,
        datapath: Datapath,
        views: PolicyViews,
        endpoints: View[Endpoint],
        node: NodeName,
        publisher: EnforcementPublisher,
        *,
        mode: PolicyMode = PolicyMode.DEFAULT,
        audit: bool = False,
        resync_s: float = 60.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        clock: Clock | None = None,
    ) -> None:
        self._datapath = datapath
        self._views = views
        self._endpoints = endpoints
        self._own_prefix = keys.endpoints_of(node)
        self._publisher = publisher
        self._mode = mode
        self._audit = audit
        clock = clock or SystemClock()
        self._gatherer = InputGatherer(datapath, views, endpoints, node, mode=mode, audit=audit, clock=clock)
        self._compiler = PolicyCompiler()
        self._changed = threading.Condition()
        """Of what follows; whoever waits for the kernel waits here."""
        self._policies_written = True
        self._stopping = False
        self._target_revision = 0
        self._latest: Compilation | None = None
        self._applied: Compilation | None = None
        self._rules: dict[int, RuleReference] = {}
        self._health = PolicyHealth()
        self._worker = ViewWorker(
            "policy",
            self._work,
            (views.policies, views.identities, endpoints),
            clock=clock,
            resync_s=resync_s,
            backoff=backoff,
        )
        views.policies.subscribe_writes(self._on_policies)
        views.identities.subscribe(self._on_identities)
        endpoints.subscribe(self._on_endpoints)

    def start(self) -> None:
        """Begin to write; the datapath has to be started."""
        self._worker.start()

    def stop(self) -> None:
        """Write no more; the kernel goes on judging as it does."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._worker.stop()

    @property
    def health(self) -> PolicyHealth:
        """How it goes."""
        work = self._worker.health
        with self._changed:
            return replace(self._health, failures=work.failures, error=work.error, last_apply_s=work.last_s)

    @property
    def latest(self) -> Compilation | None:
        """What was compiled last, also when the kernel could not take it; None before the first time."""
        with self._changed:
            return self._latest

    @property
    def applied(self) -> Compilation | None:
        """What the kernel judges by; None while this agent has not written anything."""
        with self._changed:
            return self._applied

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        health, latest = self.health, self.latest
        found = list(latest.gathered.problems) if latest else []
        if health.failures:
            found.append(_not_enforced(health.error))
        return found

    def warnings(self) -> Sequence[str]:
        """What is wrong with labels that an endpoint of the cluster has now, a sentence each."""
        latest = self.latest
        wrong = latest.gathered.label_problems if latest else {}
        if not wrong:
            return []
        # Asked now: endpoints of other nodes come and go without anything being gathered.
        present = {entry.value.identity for entry in self._endpoints.items().values()}
        return [problem for number, problems in wrong.items() if number in present for problem in problems]

    def flags(self, identity: int) -> IdentityFlags:
        """What the kernel was told of an identity."""
        applied = self.applied
        return applied.compiled.table.identities.get(identity, IdentityFlags(0)) if applied else IdentityFlags(0)

    def rule(self, number: int) -> RuleReference | None:
        """Where a rule stands; of rules that are gone too, for a while, because reports arrive late."""
        with self._changed:
            return self._rules.get(number)

    def expect(self, identity: IdentityId) -> None:
        """Write the rules of an identity for endpoints of this node that will have it soon; returns at once."""
        self._gatherer.expect(identity)
        with self._changed:
            ready = self._is_ready(identity)
        if not ready:
            self._worker.mark()

    def wait_ready(self, identity: IdentityId, timeout_s: float) -> bool:
        """Wait until the kernel judges endpoints of this identity by its rules; False when it does not in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._is_ready(identity), timeout_s)
            return self._is_ready(identity)

    def ensure_ready(self, identity: IdentityId, timeout_s: float) -> bool:
        """Have the rules of an identity in the kernel before an endpoint of this node gets it.

        When the time is over that is logged; the work goes on, and the endpoint is closed until it is done.
        """
        self.expect(identity)
        ready = self.wait_ready(identity, timeout_s)
        if not ready:
            log.warning(
                "rules of an identity are not in the kernel yet, its endpoints are closed until they are",
                extra={"identity": identity, "waited_s": timeout_s, "error": self.health.error},
            )
        return ready

    def wait_applied(self, revision: int, timeout_s: float) -> bool:
        """Wait until every policy write up to a store revision is in the kernel."""
        with self._changed:
            return self._changed.wait_for(lambda: self._health.applied_revision >= revision, timeout_s)

    def wait_compiled(self, revision: int, timeout_s: float) -> bool:
        """Wait until every policy write up to a store revision is in :attr:`latest`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._latest is not None and self._latest.revision >= revision, timeout_s
            )

    def resync(self) -> None:
        """Look at everything as soon as possible."""
        self._worker.mark()

    def _is_ready(self, identity: IdentityId) -> bool:
        table = self._applied.compiled.table.identities if self._applied else {}
        return bool(table.get(identity, IdentityFlags(0)) & IdentityFlags.READY)

    def _on_policies(self) -> None:
        with self._changed:
            self._policies_written = True
        self._worker.mark()

    def _on_identities(self, changes: Sequence[Change[IdentityRecord]]) -> None:
        # The collector's mark is no change of what an identity means.
        if any(
            change.old is None or change.new is None or change.old.labels != change.new.labels for change in changes
        ):
            self._worker.mark()

    def _on_endpoints(self, changes: Sequence[Change[Endpoint]]) -> None:
        if any(self._concerns(change) for change in changes):
            self._worker.mark()

    def _concerns(self, change: Change[Endpoint]) -> bool:
        """Whether policy has to look; where an endpoint is used and which ports lead to it is nothing to it."""
        old, new = change.old, change.new
        if old is not None and new is not None and (old.identity, old.labels) == (new.identity, new.labels):
            return False
        return change.key.startswith(self._own_prefix) or self._tells_labels(new)

    def _tells_labels(self, endpoint: Endpoint | None) -> bool:
        """Whether an endpoint's record is the only place that says what its identity is."""
        if endpoint is None or endpoint.labels is None:
            return False
        return self._views.identities.get(keys.identity(endpoint.identity)) is None

    def _work(self, *, everything: bool) -> None:
        del everything  # it is always looked at; what has not changed is not compiled again
        try:
            self._apply()
        except Exception as err:
            self._failed(err)
            raise
        with self._changed:
            problems = self._latest.gathered.problems if self._latest else ()
        self._publish("; ".join(problems))

    def _apply(self) -> None:
        with self._changed:
            policies_written, self._policies_written = self._policies_written, False
        if policies_written:
            # Read before the policies are: whatever was written up to here is in what is compiled.
            self._target_revision = self._views.policies.revision
        compilation = self._compile(self._gatherer.gather())
        epoch = self._datapath.apply_policy(compilation.compiled.table)
        with self._changed:
            self._applied = compilation
            self._health = replace(
                self._health,
                applied_revision=compilation.revision,
                epoch=epoch,
                entries=len(compilation.compiled.table.entries),
            )
            self._changed.notify_all()

    def _compile(self, gathered: Gathered) -> Compilation:
        latest = self._latest
        known = latest is not None and latest.gathered.inputs == gathered.inputs
        compiled = latest.compiled if latest and known else self._compiler.compile_table(gathered.inputs)
        compilation = Compilation(gathered=gathered, compiled=compiled, revision=self._target_revision)
        with self._changed:
            self._latest = compilation
            if not known:
                self._remember(compiled.rules)
                self._health = replace(self._health, compilations=self._health.compilations + 1)
            self._changed.notify_all()
        return compilation

    def _remember(self, rules: Mapping[int, RuleReference]) -> None:
        former = {} if len(self._rules) > len(rules) + _FORMER_RULES else self._rules
        self._rules = {**former, **rules}

    def _failed(self, err: Exception) -> None:
        if isinstance(err, Exhausted):
            with self._changed:
                self._health = replace(self._health, exhausted=self._health.exhausted + 1)
        self._publish(_not_enforced(str(err)))

    def _publish(self, problem: str) -> None:
        revision = self.health.applied_revision
        self._publisher.publish(
            Enforcement(revision=revision, mode=self._mode, audit=self._audit, problem=problem[:_PROBLEM_LENGTH])
        )


def _not_enforced(error: str) -> str:
    return f"policies are not enforced as they stand, the kernel judges by what it had before: {error}"
