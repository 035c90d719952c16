"""What can be asked of policies: documents, how far the nodes are, identities, rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from datapath.api import Direction
from datapath.policy_table import IdentityFlags
from kvstore import keys
from kvstore.memory import MemoryStore
from kvstore.store import Delete
from model.deadline import deadline
from model.errors import InvalidDocument, NotFound, StoreUnavailable
from model.identities import CIDR_IDENTITY_BASE, RESERVED_NAMES
from model.ids import IDENTITY_HOST, IDENTITY_INIT, IdentityId, NodeName
from model.labels import Labels
from model.policies import PolicyMode, Protocol
from model.policy_answers import Enforcement, PolicyRecord, Rollout, TraceQuestion
from tests.support.policy_node import (
    WAIT_S,
    PolicyNode,
    an_endpoint,
    put,
    put_endpoint,
    put_identity,
    register,
    remove,
)
from tests.support.wait import until

WEB, DB, OTHER = 300, 301, 302
BOTH = """
apiVersion: hawse/v1
kind: Policy
metadata: {name: db}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: web}
    toPorts:
    - ports: [{port: "5432", protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec:
  podSelector: {}
  policyTypes: [Egress]
"""


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture
def node(store: MemoryStore) -> Iterator[PolicyNode]:
    """Two endpoints of one identity and one of ``init`` here; another identity on another node."""
    put_identity(store, WEB, {"app": "web"})
    put_identity(store, DB, {"app": "db"})
    put_identity(store, OTHER, {"app": "other"})
    put_endpoint(store, an_endpoint("d1", DB, host=5))
    put_endpoint(store, an_endpoint("d2", DB, host=6))
    put_endpoint(store, an_endpoint("i", IDENTITY_INIT, host=7))
    put_endpoint(store, an_endpoint("w", WEB, node="node-b", host=8))
    register(store, "node-a")
    node = PolicyNode(store).start()
    until("the first table is applied", lambda: node.controller.applied, timeout_s=WAIT_S)
    assert node.cluster.wait_synced(WAIT_S)
    assert node.views.wait_synced(WAIT_S)
    yield node
    node.stop()


def enforces(store: MemoryStore, name: str, revision: int) -> None:
    put(store, keys.enforced(NodeName(name)), Enforcement(revision=revision, mode=PolicyMode.DEFAULT))


def look(node: PolicyNode) -> Rollout:
    return node.service.rollout(None, 0)


def alive(node: PolicyNode) -> int:
    return sum(one.alive for one in look(node).nodes)


def test_documents_are_applied_listed_and_deleted(node: PolicyNode) -> None:
    applied = node.service.apply(BOTH)
    node.applied(applied.revision)
    assert ("db", "default/closed") == applied.created

    stored = {one.name: one for one in node.service.stored()}

    assert {"db": "Policy", "default/closed": "NetworkPolicy"} == {one.name: one.kind for one in stored.values()}
    assert 2 == stored["db"].selects_here
    assert applied.revision == stored["db"].revision
    assert "db" == node.service.stored_one("db").name
    deleted = node.service.delete(["db"])
    assert ("db",) == deleted.deleted
    with pytest.raises(NotFound):
        node.service.stored_one("db")


def test_invalid_text_is_refused_before_anything_is_written(node: PolicyNode, store: MemoryStore) -> None:
    assert ("db", "default/closed") == node.service.validate(BOTH)
    with pytest.raises(InvalidDocument, match="70000"):
        node.service.apply(BOTH.replace('"5432"', "70000"))
    with pytest.raises(InvalidDocument):
        node.service.validate("kind: Nothing")

    assert () == store.list(keys.POLICIES).items


def test_policy_that_cannot_be_read_is_listed_with_its_problem_and_selects_everything(
    node: PolicyNode, store: MemoryStore
) -> None:
    node.applied(put(store, keys.policy("newer"), PolicyRecord(document={"apiVersion": "hawse/v9", "kind": "Policy"})))

    one = node.service.stored_one("newer")

    assert "hawse/v9" in one.problem
    assert "unknown" == one.kind
    assert 3 == one.selects_here
    assert ["policy newer: " + one.problem] == list(node.service.problems())


def test_rollout_is_complete_when_every_node_that_runs_enforces_it(node: PolicyNode, store: MemoryStore) -> None:
    register(store, "node-b")
    register(store, "node-c", alive=False)
    revision = node.service.apply(BOTH).revision
    enforces(store, "node-b", revision - 1)
    until(
        "all is known",
        lambda: alive(node) == 2 and sum(one.enforcement is not None for one in look(node).nodes) == 2,
        timeout_s=WAIT_S,
    )
    until("this node enforces it", lambda: (node.says() or node.nothing()).revision >= revision, timeout_s=WAIT_S)
    behind = node.service.rollout(revision, 0)
    assert not behind.complete
    assert [("node-a", True), ("node-b", True), ("node-c", False)] == [(one.node, one.alive) for one in behind.nodes]

    found: list[Rollout] = []
    waiting = threading.Thread(target=lambda: found.append(node.service.rollout(revision, WAIT_S)))
    waiting.start()
    enforces(store, "node-b", revision)
    waiting.join(WAIT_S)

    assert found[0].complete
    assert revision == found[0].revision
    assert found[0].nodes[2].enforcement is None


def test_rollout_is_not_complete_when_the_time_is_over(node: PolicyNode, store: MemoryStore) -> None:
    register(store, "node-b")
    until("both are alive", lambda: alive(node) == 2, timeout_s=WAIT_S)

    with deadline(0.05):
        assert not node.service.rollout(1, 3600).complete


def test_rollout_goes_on_without_a_node_that_stops(node: PolicyNode, store: MemoryStore) -> None:
    register(store, "node-b")
    revision = node.service.apply(BOTH).revision
    until("both are alive", lambda: alive(node) == 2, timeout_s=WAIT_S)
    found: list[Rollout] = []
    waiting = threading.Thread(target=lambda: found.append(node.service.rollout(revision, WAIT_S)))
    waiting.start()

    store.txn([], [Delete(keys.alive(NodeName("node-b")))])
    waiting.join(WAIT_S)

    assert found[0].complete


def test_without_a_revision_the_newest_policy_change_is_meant(node: PolicyNode, store: MemoryStore) -> None:
    node.service.apply(BOTH)
    deleted = node.service.delete(["db"])
    put_identity(store, 305, {"app": "later"})

    assert deleted.revision == node.service.rollout(None, WAIT_S).revision


def test_who_waits_is_let_go_when_the_agent_stops(node: PolicyNode, store: MemoryStore) -> None:
    register(store, "node-b")
    until("both are alive", lambda: alive(node) == 2, timeout_s=WAIT_S)
    began = time.monotonic()
    threading.Timer(0.05, node.rollout.stop).start()

    assert not node.service.rollout(1, 3600).complete
    assert time.monotonic() - began < WAIT_S


def test_identities_are_listed_with_endpoints_and_enforcement(node: PolicyNode) -> None:
    node.applied(node.service.apply(BOTH).revision)

    found = {one.number: one for one in node.service.identities()}

    assert [*sorted(RESERVED_NAMES), WEB, DB, OTHER] == list(found)
    assert (2, True, True) == (found[DB].endpoints, found[DB].ingress_enforced, found[DB].egress_enforced)
    assert ("db",) == found[DB].policies["ingress"]
    assert ("default/closed",) == found[DB].policies["egress"]
    assert (1, None, None) == (found[WEB].endpoints, found[WEB].ingress_enforced, found[WEB].egress_enforced)
    assert {} == found[WEB].policies
    assert (1, True) == (found[IDENTITY_INIT].endpoints, found[IDENTITY_INIT].ingress_enforced)
    assert {"reserved:host": ""} == dict(found[IDENTITY_HOST].labels)


def test_identity_of_another_node_is_explained_with_its_policies(node: PolicyNode) -> None:
    node.applied(node.service.apply(BOTH).revision)

    assert {"ingress": (), "egress": ("default/closed",)} == node.service.identity(WEB).policies
    assert {"ingress": ("db",), "egress": ("default/closed",)} == node.service.identity(DB).policies
    with pytest.raises(NotFound, match="identity 999"):
        node.service.identity(999)


def test_numbers_have_names(node: PolicyNode, store: MemoryStore) -> None:
    node.applied(node.service.apply(BOTH).revision)
    (number,) = {verdict.rule for key, verdict in node.kernel.policy.entries.items() if key.remote == WEB}

    rule = node.service.rule(number)

    assert rule is not None
    assert ("db", "spec.ingress[0]", False) == (rule.policy, rule.path, rule.deny)
    assert node.service.stored_one("db").revision == rule.revision
    assert node.service.rule(1) is None
    assert ("db",) == node.service.selecting(DB, Direction.INGRESS)
    assert () == node.service.selecting(WEB, Direction.INGRESS)
    assert IdentityFlags.KNOWN | IdentityFlags.READY | IdentityFlags.INGRESS | IdentityFlags.EGRESS == (
        node.service.flags(DB)
    )
    assert IdentityFlags(0) == node.service.flags(999)
    assert {"app": "db"} == dict(node.service.labels_of(DB))
    assert {"reserved:init": ""} == dict(node.service.labels_of(IDENTITY_INIT))
    assert Labels() == node.service.labels_of(CIDR_IDENTITY_BASE) == node.service.labels_of(999)


def test_labels_of_an_identity_whose_record_is_lost_are_those_of_its_endpoints(
    node: PolicyNode, store: MemoryStore
) -> None:
    put_endpoint(store, an_endpoint("x", OTHER, node="node-b", labels={"app": "other"}, host=9))
    remove(store, keys.identity(IdentityId(OTHER)))
    until(
        "the record is gone",
        lambda: node.views.identities.get(keys.identity(IdentityId(OTHER))) is None,
        timeout_s=WAIT_S,
    )
    node.controller.resync()

    until("its labels are known", lambda: node.service.labels_of(OTHER), timeout_s=WAIT_S)


def test_trace_knows_what_was_applied_a_moment_ago(node: PolicyNode) -> None:
    question = TraceQuestion(
        source=Labels.of({"app": "other"}), destination=Labels.of({"app": "db"}), protocol=Protocol.TCP, port=5432
    )
    assert node.service.trace(question).allowed

    node.service.apply(BOTH.replace("policyTypes: [Egress]", "policyTypes: [Ingress]\n  ingress: []"))

    assert not node.service.trace(question).allowed
    node.service.delete(["db", "default/closed"])
    assert node.service.trace(question).allowed


def test_before_the_store_was_read_nothing_is_answered_and_nothing_raises_that_may_not() -> None:
    store = MemoryStore()
    store.fail_with(StoreUnavailable("away"))
    node = PolicyNode(store).start()
    try:
        with deadline(0.05), pytest.raises(StoreUnavailable):
            node.service.stored()
        with deadline(0.05), pytest.raises(StoreUnavailable):
            node.service.identities()
        assert node.service.rule(20) is None
        assert () == node.service.selecting(DB, Direction.INGRESS) == tuple(node.service.problems())
        assert Labels() == node.service.labels_of(DB)
        assert IdentityFlags(0) == node.service.flags(DB)
    finally:
        node.stop()
        store.close()
