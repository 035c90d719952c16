"""Policy documents in the store: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.memory import MemoryStore
from kvstore.store import Compare, Delete, Op, Put, TxnResult
from model.errors import CasFailed, InvalidInput, NotFound, StoreUnavailable
from model.ids import NodeName
from model.policies import Selector
from model.policy_answers import PolicyRecord
from policy.documents import Document, read
from policy.registry import MAX_DOCUMENTS, PolicyRegistry
from policy.views import PolicyEntry, PolicyViews
from tests.support.cluster_world import ManualClock

NODE = NodeName("node-a")


class RacingStore(MemoryStore):
    """Somebody else is faster: writes ``rivals`` one by one before each transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.rivals: list[Op] = []
        self.transactions = 0

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        self.transactions += 1
        if self.rivals:
            super().txn([], [self.rivals.pop(0)])
        return super().txn(compare, ops)


class World:
    def __init__(self) -> None:
        self.store = RacingStore()
        self.clock = ManualClock()
        self.views = PolicyViews.of(self.store)
        self.registry = PolicyRegistry(self.store, self.views.policies, NODE, self.clock)

    def start(self) -> None:
        self.views.start()
        assert self.views.wait_synced(5)

    def names(self) -> list[str]:
        return [item.key.removeprefix(keys.POLICIES) for item in self.store.list(keys.POLICIES).items]

    def revision_of(self, name: str) -> int:
        item = self.store.get(keys.policy(name))
        assert item is not None
        return item.mod_revision


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.start()
    yield world
    world.views.stop()
    world.store.close()


def text_of(name: str, app: str = "db") -> str:
    return f"""
apiVersion: hawse/v1
kind: Policy
metadata: {{name: {name}}}
spec:
  endpointSelector: {{matchLabels: {{app: {app}}}}}
  ingress:
  - fromEndpoints:
    - matchLabels: {{app: web}}
"""


def documents(*names: str, app: str = "db") -> tuple[Document, ...]:
    return read("---".join(text_of(name, app) for name in names))


def test_documents_of_one_call_are_written_in_one_revision(world: World) -> None:
    applied = world.registry.apply(documents("b", "a"))

    assert ("a", "b") == applied.created
    assert () == applied.changed == applied.unchanged
    assert {applied.revision} == {world.revision_of("a"), world.revision_of("b")}
    item = world.store.get(keys.policy("a"))
    assert item is not None
    record = decode(PolicyRecord, item.value, key=item.key)
    assert NODE == record.applied_on
    assert "Policy" == record.document["kind"]
    assert record.applied_at


def test_what_was_applied_is_read_back_at_once(world: World) -> None:
    world.registry.apply(documents("a"))

    assert ["a"] == [entry.name for entry in world.registry.all()]
    assert "" == world.registry.get("a").problem


def test_document_that_is_the_same_is_not_written(world: World) -> None:
    first = world.registry.apply(documents("a", "b"))
    world.clock.time_s += 60
    world.registry.apply(documents("b", app="cache"))
    second = world.registry.apply((*documents("a", "c"), *documents("b", app="cache")))

    assert ("c",) == second.created
    assert ("a", "b") == second.unchanged
    assert first.revision == world.revision_of("a")


def test_revision_of_a_call_that_changes_nothing_is_that_of_the_last_change(world: World) -> None:
    first = world.registry.apply(documents("a", "b"))
    world.store.txn([], [Put("/elsewhere", b"")])

    again = world.registry.apply(documents("b", "a"))

    assert first.revision == again.revision
    assert ("a", "b") == again.unchanged


def test_somebody_who_is_faster_is_overwritten_with_what_he_wrote_known(world: World) -> None:
    world.store.rivals = [Put(keys.policy("a"), encode(PolicyRecord(document={"kind": "Other"})))]

    applied = world.registry.apply(documents("a"))

    assert ("a",) == applied.changed
    assert 2 == world.store.transactions


def test_others_who_never_stop_are_told_of(world: World) -> None:
    record = PolicyRecord(document={})
    world.store.rivals = [Put(keys.policy("a"), encode(record)) for _ in range(100)]

    with pytest.raises(CasFailed, match="a 16 times"):
        world.registry.apply(documents("a"))


def test_record_that_cannot_be_read_is_replaced(world: World) -> None:
    revision = world.store.txn([], [Put(keys.policy("a"), b"{")]).revision
    assert world.views.policies.wait_revision(revision, 5)

    assert ("a",) == world.registry.apply(documents("a")).changed
    assert "" == world.registry.get("a").problem


def test_names_are_deleted_in_one_revision(world: World) -> None:
    world.registry.apply(documents("a", "b", "c"))

    deleted = world.registry.delete(["c", "a", "c"])

    assert ("a", "c") == deleted.deleted
    assert ["b"] == world.names()
    assert deleted.revision == world.views.policies.written_revision


def test_missing_names_are_named_and_nothing_is_deleted(world: World) -> None:
    world.registry.apply(documents("a"))

    with pytest.raises(NotFound, match="x, y; nothing was deleted"):
        world.registry.delete(["y", "a", "x"])
    assert ["a"] == world.names()


def test_name_that_another_node_deleted_a_moment_ago_is_missing(world: World) -> None:
    world.registry.apply(documents("a", "b"))
    world.store.rivals = [Delete(keys.policy("a"))]

    with pytest.raises(NotFound, match="policy a;"):
        world.registry.delete(["a", "b"])
    assert ["b"] == world.names()


def test_policy_that_the_view_does_not_have_yet_is_deleted_all_the_same(world: World) -> None:
    world.store.rivals = [Put(keys.policy("a"), encode(PolicyRecord(document={})))]

    assert ("a",) == world.registry.delete(["a"]).deleted


@pytest.mark.parametrize("name", ["", "UPPER", "a/b/c", "../nodes/x", "a//b"])
def test_what_is_no_name_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidInput, match="no policy name"):
        world.registry.delete([name])


def test_key_that_a_hand_has_made_can_be_deleted_by_its_name(world: World) -> None:
    revision = world.store.txn([], [Put(keys.POLICIES + "Not A Name", b"")]).revision
    assert world.views.policies.wait_revision(revision, 5)

    assert ("Not A Name",) == world.registry.delete(["Not A Name"]).deleted
    assert [] == world.names()


def test_nothing_and_too_much_are_refused_before_anything_is_written(world: World) -> None:
    one = documents("a")[0]
    many = [Document(name=f"p{n}", kind=one.kind, plain=one.plain, policy=one.policy) for n in range(MAX_DOCUMENTS + 1)]
    big = [Document(name=f"p{n}", kind=one.kind, plain={"x": "y" * 200_000}, policy=one.policy) for n in range(8)]

    with pytest.raises(InvalidInput, match="no document"):
        world.registry.apply([])
    with pytest.raises(InvalidInput, match="129 documents at once: etcd takes 128"):
        world.registry.apply(many)
    with pytest.raises(InvalidInput, match="bytes: etcd takes"):
        world.registry.apply(big)
    with pytest.raises(InvalidInput, match="twice"):
        world.registry.apply([one, one])
    with pytest.raises(InvalidInput, match="no name"):
        world.registry.delete([])
    assert [] == world.names()
    assert len(world.registry.apply(many[:MAX_DOCUMENTS]).created) == MAX_DOCUMENTS


def test_unknown_name_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="no policy x"):
        world.registry.get("x")


def test_store_that_is_away_writes_nothing(world: World) -> None:
    world.store.fail_with(StoreUnavailable("away"))

    with pytest.raises(StoreUnavailable):
        world.registry.apply(documents("a"))
    world.store.fail_with(None)
    assert [] == world.names()


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("broken", b"{", "cannot be read"),
        ("newer", encode(PolicyRecord(document={"apiVersion": "hawse/v9", "kind": "Policy"})), "hawse/v9"),
        ("Not A Name", encode(PolicyRecord(document=documents("a")[0].plain)), "no policy name"),
        ("other", encode(PolicyRecord(document=documents("a")[0].plain)), "other"),
    ],
)
def test_policy_that_cannot_be_read_closes_everything_and_says_why(
    world: World, key: str, value: bytes, problem: str
) -> None:
    revision = world.store.txn([], [Put(keys.POLICIES + key, value)]).revision
    assert world.views.policies.wait_revision(revision, 5)

    entry: PolicyEntry = world.registry.get(key)

    assert problem in entry.problem
    assert revision == entry.revision
    assert Selector() == entry.policy.subject
    assert entry.policy.enforce_ingress
    assert entry.policy.enforce_egress
    assert () == entry.policy.ingress == entry.policy.egress
