"""The kernel judges by what the cluster's policies say, also through errors and restarts."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from datapath.api import Direction
from datapath.policy_table import IdentityFlags, PolicyKey
from kvstore import keys
from kvstore.backoff import Backoff
from kvstore.codec import encode
from kvstore.memory import MemoryStore
from kvstore.store import Delete, Put
from model.errors import DatapathError, Exhausted, StoreUnavailable
from model.identities import CIDR_IDENTITY_BASE, IdentityRecord
from model.ids import IDENTITY_INIT, IDENTITY_WORLD, EndpointId, IdentityId
from model.labels import INGRESS_LABEL, PORT_PREFIX, Labels
from model.policies import PolicyMode
from model.policy_answers import PolicyRecord
from policy.documents import read
from policy.inputs import LINGER_S
from tests.support import wait
from tests.support.policy_node import (
    SLOW,
    WAIT_S,
    PolicyNode,
    WatchedKernel,
    an_endpoint,
    connect,
    put,
    put_endpoint,
    put_identity,
    remove,
)
from tests.support.wait import until

WEB, DB, OTHER = 300, 301, 302
OPEN = IdentityFlags.KNOWN | IdentityFlags.READY
CLOSED_IN = OPEN | IdentityFlags.INGRESS
CLOSED = CLOSED_IN | IdentityFlags.EGRESS

DB_FROM_WEB = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: db}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: web}
"""
DB_FROM_NET = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: net}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromCIDR: [%s]
"""


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture
def node(store: MemoryStore) -> Iterator[PolicyNode]:
    """A node with one endpoint of each of two identities; a third identity is elsewhere."""
    put_identity(store, WEB, {"app": "web"})
    put_identity(store, DB, {"app": "db"})
    put_identity(store, OTHER, {"app": "other"})
    put_endpoint(store, an_endpoint("w", WEB, host=5))
    put_endpoint(store, an_endpoint("d", DB, host=6))
    node = PolicyNode(store).start()
    until("the first table is applied", lambda: node.controller.applied, timeout_s=WAIT_S)
    yield node
    node.stop()


def apply(node: PolicyNode, text: str) -> int:
    revision = node.registry.apply(read(text)).revision
    node.applied(revision)
    return revision


def ingress(local: int, remote: int) -> PolicyKey:
    return PolicyKey(local, remote, Direction.INGRESS)


def test_without_policies_everything_is_open(node: PolicyNode) -> None:
    assert OPEN == node.flags(WEB) == node.flags(DB) == node.flags(IDENTITY_INIT)
    assert IdentityFlags.KNOWN == node.flags(OTHER)
    assert {} == node.kernel.policy.entries


def test_policy_closes_what_it_selects_and_opens_what_it_names(node: PolicyNode) -> None:
    apply(node, DB_FROM_WEB)

    assert CLOSED_IN == node.flags(DB)
    assert OPEN == node.flags(WEB)
    verdict = node.kernel.policy.entries[ingress(DB, WEB)]
    assert not verdict.deny
    assert ingress(DB, OTHER) not in node.kernel.policy.entries
    rule = node.controller.rule(verdict.rule)
    assert rule is not None
    assert ("db", False) == (rule.policy, rule.deny)
    assert node.registry.get("db").revision == rule.revision


def test_deleted_policy_opens_again_and_its_rule_is_explained_for_a_while(node: PolicyNode) -> None:
    apply(node, DB_FROM_WEB)
    verdict = node.kernel.policy.entries[ingress(DB, WEB)]
    node.applied(node.registry.delete(["db"]).revision)

    assert OPEN == node.flags(DB)
    assert {} == node.kernel.policy.entries
    rule = node.controller.rule(verdict.rule)
    assert rule is not None
    assert "db" == rule.policy


def test_identity_that_comes_later_gets_the_rules(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_WEB)
    put_identity(store, 303, {"app": "web", "tier": "new"})
    node.becomes(303, IdentityFlags.KNOWN)
    assert ingress(DB, 303) in node.kernel.policy.entries

    put_identity(store, 304, {"app": "db", "tier": "new"})
    put_endpoint(store, an_endpoint("e", 304, host=9))

    node.becomes(304, CLOSED_IN)
    assert ingress(304, 303) in node.kernel.policy.entries


def test_endpoint_of_another_node_gets_no_rules_here(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_WEB)
    put_endpoint(store, an_endpoint("x", OTHER, node="node-b", host=9))
    put_endpoint(store, an_endpoint("e", WEB, host=10))
    node.controller.resync()
    node.applied(apply(node, DB_FROM_NET % "198.51.100.0/24"))

    assert IdentityFlags.KNOWN == node.flags(OTHER)


def test_labels_of_an_identity_without_a_record_come_from_its_endpoints(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_WEB)
    put_endpoint(store, an_endpoint("x", 310, node="node-b", labels={"app": "web"}, host=9))
    node.becomes(310, IdentityFlags.KNOWN)
    assert ingress(DB, 310) in node.kernel.policy.entries
    put_endpoint(store, an_endpoint("y", 311, labels={"app": "db"}, host=10))
    node.becomes(311, CLOSED_IN)

    remove(store, keys.identity(IdentityId(WEB)))
    node.becomes(WEB, IdentityFlags(0))


def test_interface_without_a_record_is_judged_by_its_identity_in_the_kernel(
    node: PolicyNode, store: MemoryStore
) -> None:
    apply(node, DB_FROM_WEB)
    put_identity(store, 304, {"app": "db", "tier": "new"})
    connect(node.kernel, an_endpoint("e", 304, host=9))
    node.controller.resync()

    node.becomes(304, CLOSED_IN)


def test_identity_is_ready_before_its_endpoint_is_there(node: PolicyNode) -> None:
    apply(node, DB_FROM_WEB)
    assert IdentityFlags.KNOWN == node.flags(OTHER)

    assert node.controller.ensure_ready(IdentityId(OTHER), WAIT_S)
    assert OPEN == node.flags(OTHER)


def test_identity_that_nobody_knows_is_not_ready_in_time(
    node: PolicyNode, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert not node.controller.ensure_ready(IdentityId(400), 0.05)
    assert "not in the kernel yet" in caplog.text

    put_identity(store, 400, {"app": "late"})
    assert node.controller.wait_ready(IdentityId(400), WAIT_S)


def test_identity_stays_ready_for_a_while_after_its_last_endpoint(node: PolicyNode, store: MemoryStore) -> None:
    epoch = node.kernel.epoch
    gone = keys.endpoint(node.name, EndpointId("w"))
    remove(store, gone)
    wait.until("the view knows", lambda: gone not in node.cluster.endpoints.items(), timeout_s=5)
    node.controller.resync()
    node.applied(apply(node, DB_FROM_NET % "198.51.100.0/24"))
    assert OPEN == node.flags(WEB)
    assert node.kernel.epoch == epoch + 1

    node.clock.time_s += LINGER_S + 1
    node.controller.resync()

    node.becomes(WEB, IdentityFlags.KNOWN)


def test_short_form_of_labels_is_a_policy(node: PolicyNode, store: MemoryStore) -> None:
    put_identity(store, 305, {"app": "cache", INGRESS_LABEL: "app=web"})
    put_endpoint(store, an_endpoint("c", 305, host=9))

    node.becomes(305, CLOSED_IN)
    assert ingress(305, WEB) in node.kernel.policy.entries
    rule = node.controller.rule(node.kernel.policy.entries[ingress(305, WEB)].rule)
    assert rule is not None
    assert ("labels:305", 0) == (rule.policy, rule.revision)


def test_short_form_that_cannot_be_read_closes_its_direction(node: PolicyNode, store: MemoryStore) -> None:
    put_identity(store, 305, {"app": "cache", INGRESS_LABEL: "!!!"})
    put_endpoint(store, an_endpoint("c", 305, host=9))

    node.becomes(305, CLOSED_IN)
    assert {} == node.kernel.policy.entries


def test_mistake_in_labels_is_a_warning_while_an_endpoint_of_the_cluster_has_them(
    node: PolicyNode, store: MemoryStore
) -> None:
    there = an_endpoint("c", 305, node="node-b", host=9)
    put_identity(store, 305, {"app": "cache", INGRESS_LABEL: "!!!", f"{PORT_PREFIX}http": "80"})
    node.becomes(305, IdentityFlags.KNOWN)
    assert [] == list(node.controller.warnings())

    put_endpoint(store, there)
    short, port = until("the mistakes are said", node.controller.warnings, timeout_s=WAIT_S)
    assert short.startswith(f"identity 305: label {INGRESS_LABEL}: ")
    assert port.startswith(f'identity 305: label "{PORT_PREFIX}http": ')
    assert list(node.service.warnings()) == [short, port]

    remove(store, keys.endpoint(there.node, there.endpoint_id))
    until("nobody has it any more", lambda: not node.controller.warnings(), timeout_s=WAIT_S)
    assert IdentityFlags.KNOWN == node.flags(305)


def test_mistake_in_labels_is_no_reason_why_a_node_would_not_enforce(node: PolicyNode, store: MemoryStore) -> None:
    put_identity(store, 305, {"app": "cache", INGRESS_LABEL: "!!!"})
    put_endpoint(store, an_endpoint("c", 305, host=9))
    node.becomes(305, CLOSED_IN)

    revision = apply(node, DB_FROM_WEB)

    until("the revision is said", lambda: (node.says() or _NOTHING).revision == revision, timeout_s=WAIT_S)
    assert "" == (node.says() or _PROBLEM).problem
    assert [] == list(node.controller.problems())


def test_init_is_closed_where_a_policy_of_the_cluster_closes_anybody(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_WEB)
    assert CLOSED_IN == node.flags(IDENTITY_INIT)
    assert ingress(IDENTITY_INIT, WEB) not in node.kernel.policy.entries

    node.applied(node.registry.delete(["db"]).revision)

    assert OPEN == node.flags(IDENTITY_INIT)


def test_policy_that_cannot_be_read_closes_every_endpoint(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_WEB)
    newer = PolicyRecord(document={"apiVersion": "hawse/v9", "kind": "Policy", "metadata": {"name": "n"}, "spec": {}})
    node.applied(put(store, keys.policy("n"), newer))

    assert CLOSED == node.flags(WEB) == node.flags(DB) == node.flags(IDENTITY_INIT)
    assert ingress(DB, WEB) in node.kernel.policy.entries
    (problem,) = node.controller.problems()
    assert problem.startswith("policy n: ")
    until("the problem is said", lambda: (node.says() or _NOTHING).problem, timeout_s=WAIT_S)

    node.applied(store.txn([], [Put(keys.policy("n"), b"{")]).revision)
    assert CLOSED == node.flags(WEB)
    node.applied(remove(store, keys.policy("n")))

    assert OPEN == node.flags(WEB)
    assert () == tuple(node.controller.problems())
    until("all is well again", lambda: node.says() and not (node.says() or _NOTHING).problem, timeout_s=WAIT_S)


@pytest.mark.parametrize(("mode", "flags"), [(PolicyMode.ALWAYS, CLOSED), (PolicyMode.NEVER, OPEN)])
def test_mode_always_closes_everybody_and_never_nobody(
    store: MemoryStore, mode: PolicyMode, flags: IdentityFlags
) -> None:
    put_identity(store, WEB, {"app": "web"})
    put_identity(store, DB, {"app": "db"})
    put_endpoint(store, an_endpoint("d", DB))
    node = PolicyNode(store, mode=mode, audit=True).start()
    try:
        apply(node, DB_FROM_WEB)

        assert flags == node.flags(DB) == node.flags(IDENTITY_INIT)
        assert node.kernel.policy.audit
        said = until("the mode is said", node.says, timeout_s=WAIT_S)
        assert (mode, True) == (said.mode, said.audit)
    finally:
        node.stop()


def test_table_that_does_not_fit_leaves_the_kernel_as_it_was(store: MemoryStore) -> None:
    put_identity(store, WEB, {"app": "web"})
    put_identity(store, DB, {"app": "db"})
    put_endpoint(store, an_endpoint("d", DB))
    node = PolicyNode(store, backoff=SLOW).start()
    try:
        first = apply(node, DB_FROM_WEB)
        before = node.kernel.policy
        node.kernel.error = Exhausted("the policy map has room for 3 entries, 4 are needed")

        revision = node.registry.apply(read(DB_FROM_NET % "198.51.100.0/24")).revision

        problem = until("the problem is said", lambda: (node.says() or _NOTHING).problem, timeout_s=WAIT_S)
        assert "room for 3 entries" in problem
        assert before == node.kernel.policy
        said = node.says()
        assert said is not None
        assert first == said.revision
        until(
            "it is a problem", lambda: any("room for 3" in one for one in node.controller.problems()), timeout_s=WAIT_S
        )
        assert node.controller.health.exhausted == 1
        assert not node.controller.wait_applied(revision, 0)
        latest, applied = node.controller.latest, node.controller.applied
        assert latest is not None
        assert applied is not None
        assert (revision, first) == (latest.revision, applied.revision)

        # The backoff is an hour: what helps is that something changes.
        node.kernel.error = None
        node.applied(node.registry.delete(["db"]).revision)

        assert ingress(DB, CIDR_IDENTITY_BASE) in node.kernel.policy.entries
        until("all is well again", lambda: not (node.says() or _PROBLEM).problem, timeout_s=WAIT_S)
        until("no failure is left", lambda: not node.controller.health.failures, timeout_s=WAIT_S)
    finally:
        node.stop()


def test_kernel_error_is_tried_again_by_itself(node: PolicyNode, store: MemoryStore) -> None:
    node.kernel.error = DatapathError("no")
    revision = node.registry.apply(read(DB_FROM_WEB)).revision
    assert node.kernel.failed.wait(WAIT_S)
    put_endpoint(store, an_endpoint("w2", WEB, host=8))
    assert "no" in node.controller.problems()[0]
    node.kernel.error = None

    node.applied(revision)

    assert CLOSED_IN == node.flags(DB)
    assert [] == list(node.controller.problems())


def test_kernel_that_does_not_say_its_identities_is_asked_again(node: PolicyNode) -> None:
    node.kernel.failures["local_identities"] = DatapathError("busy")
    node.controller.resync()

    apply(node, DB_FROM_WEB)

    assert CLOSED_IN == node.flags(DB)


def test_nothing_is_compiled_again_when_nothing_changed(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_WEB)
    compilations, epoch = node.controller.health.compilations, node.kernel.epoch
    put(store, keys.identity(IdentityId(OTHER)), _marked({"app": "other"}))
    put_endpoint(store, an_endpoint("w2", WEB, host=8))
    applications = node.kernel.applications
    node.controller.resync()

    until("the kernel is compared", lambda: node.kernel.applications > applications, timeout_s=WAIT_S)
    assert compilations == node.controller.health.compilations
    assert epoch == node.kernel.epoch


def test_enforced_revision_follows_every_policy_change_and_no_other(node: PolicyNode, store: MemoryStore) -> None:
    def enforced(revision: int) -> bool:
        said = node.says()
        return said is not None and said.revision >= revision

    for change in (
        lambda: apply(node, DB_FROM_WEB),
        lambda: apply(node, DB_FROM_NET % "198.51.100.0/24"),
        lambda: node.registry.delete(["net"]).revision,
        # Written again with the same content, and made and deleted in one breath: somebody may wait for either.
        lambda: _rewritten(store, "db"),
        lambda: _made_and_deleted(store),
    ):
        revision = change()
        until(f"{revision} is enforced", lambda at=revision: enforced(at), timeout_s=WAIT_S)
    said = node.says()
    put_identity(store, 303, {"app": "web", "tier": "new"})
    put_endpoint(store, an_endpoint("e", 303, host=9))
    node.becomes(303, OPEN)

    assert said == node.says()
    item = store.get(keys.enforced(node.name))
    assert item is not None
    assert item.mod_revision < store.list(keys.IDENTITIES).revision


def test_revision_of_a_change_made_while_the_watch_was_broken_is_enforced(node: PolicyNode, store: MemoryStore) -> None:
    store.break_watches()
    revision = _made_and_deleted(store)

    until("it is enforced", lambda: (node.says() or _NOTHING).revision >= revision, timeout_s=WAIT_S)


def test_enforced_revision_is_written_again_when_somebody_deletes_it(node: PolicyNode, store: MemoryStore) -> None:
    before = until("it is said", node.says, timeout_s=WAIT_S)
    store.txn([], [Delete(keys.enforced(node.name))])
    until("it is said again", lambda: store.get(keys.enforced(node.name)), timeout_s=WAIT_S)

    assert before == until("it is said", node.says, timeout_s=WAIT_S)


def test_policy_holds_while_the_store_is_away_and_what_was_written_meanwhile_is_enforced(
    node: PolicyNode, store: MemoryStore
) -> None:
    apply(node, DB_FROM_WEB)
    before = node.kernel.policy
    other = PolicyNode(store, "node-b").start()
    assert other.views.wait_synced(WAIT_S)
    store.fail_with(StoreUnavailable("away"))
    store.break_watches()
    until("the view has lost the store", lambda: not node.views.policies.synced, timeout_s=WAIT_S)
    node.controller.resync()
    assert before == node.kernel.policy

    store.fail_with(None)
    revision = other.registry.delete(["db"]).revision
    other.stop()

    node.applied(revision)
    assert OPEN == node.flags(DB)


def test_restarted_agent_leaves_the_kernel_alone_until_it_knows_the_cluster(
    node: PolicyNode, store: MemoryStore
) -> None:
    apply(node, DB_FROM_WEB)
    apply(node, DB_FROM_NET % "198.51.100.0/24")
    before, kernel = node.kernel.policy, node.kernel
    node.stop()
    assert before == kernel.policy
    applications, epoch = kernel.applications, kernel.epoch

    store.fail_with(StoreUnavailable("away"))
    again = PolicyNode(store, kernel=kernel).start()
    try:
        assert not again.controller.wait_applied(1, 0.1)
        assert applications == kernel.applications
        store.fail_with(None)
        again.applied(1)

        assert before == kernel.policy
        assert epoch == kernel.epoch
    finally:
        again.stop()


def test_prefixes_keep_their_numbers_over_a_restart(node: PolicyNode, store: MemoryStore) -> None:
    apply(node, DB_FROM_NET % "198.51.100.0/24, 203.0.113.0/24")
    before = dict(node.kernel.policy.prefixes)
    apply(node, DB_FROM_NET % "203.0.113.0/24")
    kept = dict(node.kernel.policy.prefixes)
    assert kept.items() <= before.items()
    node.stop()

    again = PolicyNode(store, kernel=node.kernel).start()
    try:
        apply(again, DB_FROM_NET % "192.0.2.0/24, 203.0.113.0/24")

        assert kept.items() <= again.kernel.policy.prefixes.items()
        assert 2 == len(set(again.kernel.policy.prefixes.values()))
        assert IDENTITY_WORLD not in again.kernel.policy.prefixes.values()
    finally:
        again.stop()


def test_time_from_a_change_to_the_kernel_is_kept_over_failures(store: MemoryStore) -> None:
    kernel = WatchedKernel()
    node = PolicyNode(store, kernel=kernel, backoff=Backoff(first_s=3600, limit_s=3600)).start()
    try:
        until("the first table is applied", lambda: node.controller.applied, timeout_s=WAIT_S)
        kernel.error = DatapathError("no")
        node.registry.apply(read(DB_FROM_WEB))
        until("it has failed", lambda: node.controller.health.failures == 1, timeout_s=WAIT_S)
        node.clock.time_s += 30
        kernel.error = None
        apply(node, DB_FROM_NET % "198.51.100.0/24")

        until("no failure is left", lambda: not node.controller.health.failures, timeout_s=WAIT_S)
        assert node.controller.health.last_apply_s >= 30
    finally:
        node.stop()


_NOTHING = PolicyNode.nothing()
_PROBLEM = PolicyNode.nothing("not said yet")


def _marked(labels: dict[str, str]) -> IdentityRecord:
    return IdentityRecord(labels=Labels.of(labels), unused_since="2026-01-01T00:00:00Z")


def _rewritten(store: MemoryStore, name: str) -> int:
    item = store.get(keys.policy(name))
    assert item is not None
    return store.txn([], [Put(item.key, item.value)]).revision


def _made_and_deleted(store: MemoryStore) -> int:
    store.txn([], [Put(keys.policy("short"), encode(PolicyRecord(document={})))])
    return remove(store, keys.policy("short"))
