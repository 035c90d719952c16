"""Numbers for sets of labels, on the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.memory import MemoryStore
from kvstore.store import Compare, Delete, KeyValue, Newest, Op, Put, Snapshot, Store, TxnResult
from kvstore.watcher import View
from model.errors import Exhausted, StoreUnavailable
from model.identities import IDENTITY_MAX, IDENTITY_MIN, IdentityRecord, is_cluster_identity
from model.ids import IDENTITY_HOST, IDENTITY_INIT, IdentityId
from model.labels import Labels
from policy.identities import IdentityRegistry
from policy.identity_garbage import GRACE_S, IdentityGarbage
from policy.identity_view import identity_view
from tests.support.cluster_world import ManualClock
from tests.support.wait import until

WEB = Labels.of({"app": "web"})
DB = Labels.of({"app": "db"})


@dataclass
class World:
    """One agent's identities."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)
    held: set[IdentityId] = field(default_factory=set)
    views: list[View[IdentityRecord]] = field(default_factory=list)

    def registry(self, numbers: range = range(IDENTITY_MIN, IDENTITY_MAX + 1)) -> IdentityRegistry:
        registry, view = self.stopped_registry(numbers)
        view.start()
        assert view.wait_synced(5)
        return registry

    def stopped_registry(self, numbers: range) -> tuple[IdentityRegistry, View[IdentityRecord]]:
        view = identity_view(self.store)
        self.views.append(view)
        return IdentityRegistry(self.store, view, self.clock, held=lambda: self.held, numbers=numbers), view

    def garbage(self) -> IdentityGarbage:
        return IdentityGarbage(self.store, self.views[0], self.clock)

    def settle(self) -> None:
        revision = self.store.list(keys.ROOT).revision
        self.store.report_progress()
        for view in self.views:
            assert view.wait_delivered(revision, 5)

    def write(self, *ops: Put | Delete) -> None:
        self.store.txn([], list(ops))
        self.settle()

    def record(self, number: IdentityId) -> IdentityRecord:
        item = self.store.get(keys.identity(number))
        assert item is not None
        return decode(IdentityRecord, item.value, key=item.key)

    def claim(self, labels: Labels) -> str | None:
        item = self.store.get(keys.identity_labels(labels))
        return None if item is None else item.value.decode()

    def calls(self, work: Callable[[], object]) -> int:
        """How many revisions the work makes."""
        before = self.store.list(keys.ROOT).revision
        work()
        return self.store.list(keys.ROOT).revision - before


class Interrupted:
    """A store in which something happens just before each transaction."""

    def __init__(self, store: Store, happens: Callable[[], object]) -> None:
        self._store = store
        self._happens = happens

    def get(self, key: str) -> KeyValue | None:
        return self._store.get(key)

    def list(self, prefix: str) -> Snapshot:
        return self._store.list(prefix)

    def newest(self, prefix: str) -> Newest:
        return self._store.newest(prefix)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        self._happens()
        return self._store.txn(compare, ops)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for view in world.views:
        view.stop()
    world.store.close()


@pytest.fixture
def registry(world: World) -> IdentityRegistry:
    return world.registry()


def put_record(number: int, labels: Labels, unused_since: str = "") -> Put:
    return Put(
        keys.identity(IdentityId(number)),
        encode(IdentityRecord(labels=labels, created_at="x", unused_since=unused_since)),
    )


def put_claim(labels: Labels, value: object) -> Put:
    return Put(keys.identity_labels(labels), str(value).encode())


def test_new_labels_get_a_number_with_both_keys(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)

    assert is_cluster_identity(number)
    assert world.record(number).labels == WEB
    assert world.record(number).created_at == "1970-01-12T13:46:40.000000Z"
    assert world.claim(WEB) == str(number)
    assert (registry.labels_of(number), registry.number_of(WEB)) == (WEB, number)
    assert registry.all() == {number: WEB}
    assert registry.records() == {number: world.record(number)}


def test_same_labels_have_the_same_number_on_every_node_and_others_another(
    world: World, registry: IdentityRegistry
) -> None:
    other_node = world.registry()

    assert registry.ensure(WEB) == other_node.ensure(WEB)
    assert registry.ensure(WEB) != other_node.ensure(DB)
    assert registry.ensure(Labels()) not in {registry.ensure(WEB), registry.ensure(DB)}


def test_known_labels_cost_nothing_also_while_etcd_is_away(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    world.store.fail_with(StoreUnavailable("away"))

    assert number == registry.ensure(WEB) == registry.restore(number, WEB)
    with pytest.raises(StoreUnavailable):
        registry.ensure(DB)


def test_labels_that_another_node_has_just_made_are_found_before_the_view_shows_them(world: World) -> None:
    number = world.registry().ensure(WEB)
    late, view = world.stopped_registry(range(IDENTITY_MIN, IDENTITY_MAX + 1))
    assert view.revision == 0
    answers: list[IdentityId] = []
    asking = threading.Thread(target=lambda: answers.append(late.ensure(WEB)))
    asking.start()
    view.start()
    asking.join(10)

    assert [number] == answers


def test_mark_of_the_collector_is_cleared_by_use(world: World, registry: IdentityRegistry) -> None:
    world.write(put_record(300, WEB, unused_since="2026-01-01T00:00:00Z"), put_claim(WEB, 300))

    assert registry.ensure(WEB) == 300
    assert world.record(IdentityId(300)).unused_since == ""
    assert world.record(IdentityId(300)).created_at == "x"
    assert world.calls(lambda: registry.ensure(WEB)) == 0


@pytest.mark.parametrize("value", ["300", "none", "7", "999999", "0300"], ids=lambda value: f"claim of {value}")
def test_claim_that_leads_nowhere_is_repaired(world: World, registry: IdentityRegistry, value: str) -> None:
    world.write(put_claim(WEB, value))

    number = registry.ensure(WEB)

    assert world.record(number).labels == WEB
    assert world.claim(WEB) == str(number)


def test_number_of_a_lost_record_comes_back_by_its_claim(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    world.write(Delete(keys.identity(number)))

    assert registry.labels_of(number) is None
    assert number == registry.ensure(WEB)


def test_claim_of_a_record_with_other_labels_is_repaired(world: World, registry: IdentityRegistry) -> None:
    world.write(put_record(300, DB), put_claim(DB, 300), put_claim(WEB, 300))

    number = registry.ensure(WEB)

    assert number != 300
    assert (world.claim(WEB), world.claim(DB)) == (str(number), "300")


def test_record_without_its_claim_keeps_its_number(world: World, registry: IdentityRegistry) -> None:
    world.write(put_record(300, WEB))
    late, view = world.stopped_registry(range(300, 301))
    view.start()

    assert registry.ensure(WEB) == late.restore(IdentityId(300), WEB) == 300


def test_lost_claim_is_made_anew_by_an_allocation_that_meets_the_record(world: World) -> None:
    world.write(put_record(300, WEB))
    late, view = world.stopped_registry(range(300, 301))
    answers: list[IdentityId] = []
    asking = threading.Thread(target=lambda: answers.append(late.ensure(WEB)))
    asking.start()
    view.start()
    asking.join(10)

    assert answers == [300]


@pytest.mark.parametrize(
    "broken",
    [
        Put(keys.identity(IdentityId(300)), b"{"),
        Put(keys.identity(IdentityId(300)), b'{"labels":{"reserved:host":""}}'),
        Put(keys.identity(IdentityId(300)), b'{"labels":["app"]}'),
    ],
    ids=["no JSON", "reserved label", "no labels"],
)
def test_record_that_cannot_be_read_is_no_identity_and_its_number_is_passed_over(world: World, broken: Put) -> None:
    registry = world.registry(range(300, 302))
    world.write(broken, put_claim(WEB, 300))

    assert registry.all() == {}
    assert registry.ensure(WEB) == 301
    with pytest.raises(Exhausted):
        registry.ensure(DB)


def test_record_outside_of_the_range_is_no_identity(world: World, registry: IdentityRegistry) -> None:
    world.write(
        *(Put(f"{keys.IDENTITY_IDS}{number}", b'{"labels":{"app":"web"}}') for number in ("1", "65536", "0300"))
    )

    assert registry.all() == {}
    assert registry.number_of(WEB) is None


def test_lower_one_of_two_numbers_counts(world: World, registry: IdentityRegistry) -> None:
    world.write(put_record(900, WEB), put_record(300, WEB), put_claim(WEB, 900))

    assert registry.ensure(WEB) == 300
    world.write(Delete(keys.identity(IdentityId(300))))
    assert registry.ensure(WEB) == 900


def test_every_number_is_used_and_then_it_is_said_that_none_is_left(world: World) -> None:
    registry = world.registry(range(300, 310))

    assert {registry.ensure(Labels.of({"app": str(n)})) for n in range(10)} == set(range(300, 310))
    with pytest.raises(Exhausted, match=r"all 10 identities, 300 to 309, are in use; .*IDENTITY_LABELS"):
        registry.ensure(WEB)
    assert registry.ensure(Labels.of({"app": "3"})) in range(300, 310)


def test_number_that_became_free_a_moment_ago_is_found(world: World) -> None:
    registry = world.registry(range(300, 302))
    registry.ensure(WEB)
    gone = registry.ensure(DB)
    world.views[0].stop()
    world.store.txn([], [Delete(keys.identity(gone)), Delete(keys.identity_labels(DB))])

    assert registry.ensure(Labels.of({"app": "new"})) == gone


def test_number_that_an_endpoint_has_is_not_given_to_other_labels(world: World) -> None:
    registry = world.registry(range(300, 303))
    world.held |= {IdentityId(300), IdentityId(302)}

    assert registry.ensure(WEB) == 301
    with pytest.raises(Exhausted):
        registry.ensure(DB)
    assert registry.restore(IdentityId(302), DB) == 302


def test_deleted_identity_comes_back_under_its_number(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    world.write(Delete(keys.identity(number)), Delete(keys.identity_labels(WEB)))

    assert number == registry.restore(number, WEB)
    assert world.record(number).labels == WEB
    assert world.claim(WEB) == str(number)


def test_identity_comes_back_under_another_number_when_its_own_is_taken(
    world: World, registry: IdentityRegistry
) -> None:
    world.write(put_record(300, DB), put_claim(DB, 300))

    number = registry.restore(IdentityId(300), WEB)

    assert number != 300
    assert registry.labels_of(number) == WEB
    assert registry.labels_of(IdentityId(300)) == DB


def test_identity_comes_back_under_the_number_that_its_labels_have_meanwhile(
    world: World, registry: IdentityRegistry
) -> None:
    world.write(put_record(300, WEB), put_claim(WEB, 300))

    assert registry.restore(IdentityId(400), WEB) == 300
    assert world.store.get(keys.identity(IdentityId(400))) is None


@pytest.mark.parametrize("number", [0, IDENTITY_HOST, IDENTITY_INIT, 255, 65536, 0x01000001])
def test_number_that_is_not_allocated_is_never_restored(registry: IdentityRegistry, number: int) -> None:
    assert is_cluster_identity(registry.restore(IdentityId(number), WEB))


def test_everything_lost_is_everything_restored(world: World, registry: IdentityRegistry) -> None:
    known = {registry.ensure(Labels.of({"app": str(n)})): Labels.of({"app": str(n)}) for n in range(20)}
    world.store.lose_everything()
    until("the loss is seen", lambda: registry.synced and not registry.all(), timeout_s=5)

    assert {registry.restore(number, labels): labels for number, labels in known.items()} == known
    assert {number: world.record(number).labels for number in known} == known


def test_labels_of_any_text_are_told_apart(world: World, registry: IdentityRegistry) -> None:
    sets = [{"a": "b,c"}, {"a": "b", "c": ""}, {"a": "b"}, {"a=b": ""}, {"a": "ä"}, {"a": "a\u0308"}, {"A": "b"}, {}]

    numbers = [registry.ensure(Labels.of(labels)) for labels in sets]

    assert len(set(numbers)) == len(sets)
    assert [dict(world.record(number).labels) for number in numbers] == sets


# --- collection ---


def test_identity_that_nobody_has_goes_in_two_phases(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    garbage = world.garbage()

    garbage.collect(frozenset())
    world.settle()
    assert world.record(number).unused_since == "1970-01-12T13:46:40.000000Z"
    garbage.collect(frozenset())
    world.clock.time_s += GRACE_S - 1
    garbage.collect(frozenset())
    assert world.record(number).labels == WEB
    world.clock.time_s += 1
    garbage.collect(frozenset())

    assert world.store.list(keys.IDENTITIES).items == ()


def test_identity_in_use_stays_and_its_mark_goes(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    garbage = world.garbage()
    garbage.collect(frozenset())
    world.settle()
    garbage.collect(frozenset())
    world.clock.time_s += GRACE_S
    garbage.collect({number})
    world.settle()

    assert world.record(number).unused_since == ""
    world.clock.time_s += GRACE_S
    assert world.calls(lambda: garbage.collect({number})) == 0


def test_identity_that_was_used_between_the_phases_stays(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    garbage = world.garbage()
    garbage.collect(frozenset())
    world.settle()
    garbage.collect(frozenset())
    registry.ensure(WEB)
    world.clock.time_s += GRACE_S
    garbage.collect(frozenset())  # its endpoint is not recorded yet: the time begins anew
    world.settle()
    garbage.collect(frozenset())

    assert world.record(number).labels == WEB


def test_use_that_the_collector_does_not_know_of_yet_wins(world: World, registry: IdentityRegistry) -> None:
    number = registry.ensure(WEB)
    used = []
    store = Interrupted(world.store, lambda: used.append(registry.ensure(WEB)))
    garbage = IdentityGarbage(store, world.views[0], world.clock)  # type: ignore[arg-type]  # the rest is not used
    world.garbage().collect(frozenset())
    world.settle()
    garbage.collect(frozenset())
    world.clock.time_s += GRACE_S
    garbage.collect(frozenset())

    assert used == [number]
    assert world.record(number).unused_since == ""


def test_new_leader_counts_anew_whatever_its_clock_says(world: World, registry: IdentityRegistry) -> None:
    world.write(put_record(300, WEB, unused_since="1969-01-01T00:00:00Z"), put_claim(WEB, 300))
    garbage = world.garbage()
    garbage.collect(frozenset())
    garbage.collect(frozenset())

    assert world.record(IdentityId(300)).labels == WEB
    world.clock.time_s += GRACE_S
    garbage.collect(frozenset())
    assert world.store.list(keys.IDENTITIES).items == ()


def test_nothing_is_collected_while_the_view_is_out_of_date(world: World, registry: IdentityRegistry) -> None:
    registry.ensure(WEB)
    world.views[0].stop()

    assert world.calls(lambda: world.garbage().collect(frozenset())) == 0


def test_claim_of_another_number_survives_the_collection(world: World, registry: IdentityRegistry) -> None:
    world.write(put_record(900, WEB, unused_since="x"), put_record(300, WEB), put_claim(WEB, 300))
    garbage = world.garbage()
    garbage.collect({IdentityId(300)})
    world.clock.time_s += GRACE_S
    garbage.collect({IdentityId(300)})

    assert [item.key for item in world.store.list(keys.IDENTITIES).items] == [
        keys.identity_labels(WEB),
        keys.identity(IdentityId(300)),
    ]


def test_claims_are_compared_with_the_records(world: World, registry: IdentityRegistry) -> None:
    world.write(
        put_record(300, WEB),
        put_record(301, DB),
        put_claim(DB, 300),
        put_claim(Labels.of({"app": "gone"}), 302),
        Put(keys.IDENTITY_LABELS + "junk", b"?"),
    )
    world.garbage().collect({IdentityId(300), IdentityId(301)})

    assert {item.key: item.value for item in world.store.list(keys.IDENTITY_LABELS).items} == {
        keys.identity_labels(WEB): b"300",
        keys.identity_labels(DB): b"301",
        keys.IDENTITY_LABELS + "junk": b"?",
    }


def test_claim_of_a_record_that_cannot_be_read_is_left_alone(world: World, registry: IdentityRegistry) -> None:
    world.write(Put(keys.identity(IdentityId(300)), b"newer"), put_claim(WEB, 300))

    assert world.calls(lambda: world.garbage().collect(frozenset())) == 0


def test_one_look_does_not_write_without_end(world: World, registry: IdentityRegistry) -> None:
    world.write(*(put_record(number, Labels.of({"n": str(number)})) for number in range(300, 900)))
    garbage = world.garbage()

    assert world.calls(lambda: garbage.collect(frozenset())) == 250
    for _ in range(2):
        world.settle()
        garbage.collect(frozenset())
    world.settle()
    assert all(record.unused_since for record in registry.records().values())
