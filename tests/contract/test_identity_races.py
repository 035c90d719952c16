"""Agents of three nodes that compete for identities: no labels have two numbers, no number has two sets of labels."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from kvstore import keys
from kvstore.codec import decode
from kvstore.etcd import EtcdStore
from kvstore.memory import MemoryStore
from kvstore.store import Delete, Store
from kvstore.watcher import View
from model.clock import SystemClock
from model.errors import Exhausted, StoreUnavailable
from model.identities import IDENTITY_MAX, IDENTITY_MIN, IdentityRecord
from model.ids import IdentityId
from model.labels import Labels
from policy.identities import ALL_NUMBERS, IdentityRegistry
from policy.identity_garbage import GRACE_S, IdentityGarbage
from policy.identity_view import identity_view
from tests.support.cluster_world import ManualClock
from tests.support.etcd import EtcdServer
from tests.support.wait import until

NODES = 3
THREADS = 8


@dataclass
class Node:
    """One node's identities."""

    store: Store
    numbers: range = ALL_NUMBERS
    view: View[IdentityRecord] = field(init=False)
    identities: IdentityRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.view = identity_view(self.store)
        self.identities = IdentityRegistry(self.store, self.view, SystemClock(), numbers=self.numbers)
        self.view.start()
        assert self.view.wait_synced(10)


@pytest.fixture(scope="module")
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("identities")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    """A way for each node to reach the one store that all share, empty."""
    stores: list[Store] = []
    memory = MemoryStore()

    def connected() -> Store:
        store = memory if request.param == "memory" else EtcdStore(request.getfixturevalue("own_etcd").config)
        stores.append(store)
        return store

    store = connected()
    for item in store.list(keys.ROOT).items:
        store.txn([], [Delete(item.key)])
    yield connected
    for store in stores:
        store.close()


@pytest.fixture
def make_nodes(connect: Callable[[], Store]) -> Iterator[Callable[[range], list[Node]]]:
    made: list[Node] = []

    def make(numbers: range = ALL_NUMBERS) -> list[Node]:
        made.extend(Node(connect(), numbers) for _ in range(NODES))
        return made

    yield make
    for node in made:
        node.view.stop()


@pytest.fixture
def nodes(make_nodes: Callable[[range], list[Node]]) -> list[Node]:
    return make_nodes(ALL_NUMBERS)


def at_once(jobs: Sequence[Callable[[], None]]) -> None:
    """Run the jobs, each in a thread, from one moment on; the first error is the test's."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        start.wait(10)
        job()

    with ThreadPoolExecutor(len(jobs)) as threads:
        for running in [threads.submit(run, job) for job in jobs]:
            running.result(120)


def app(name: object) -> Labels:
    return Labels.of({"app": str(name)})


def stored(store: Store) -> dict[IdentityId, Labels]:
    """All identities, after a look at the claims: one for each record, and it names it."""
    records = {
        keys.parse_identity(item.key): decode(IdentityRecord, item.value, key=item.key).labels
        for item in store.list(keys.IDENTITY_IDS).items
    }
    claims = {item.key: item.value.decode() for item in store.list(keys.IDENTITY_LABELS).items}
    assert claims == {keys.identity_labels(labels): str(number) for number, labels in records.items()}
    return records


def test_labels_that_many_want_at_once_have_one_number(nodes: list[Node], connect: Callable[[], Store]) -> None:
    answers: list[tuple[Labels, IdentityId]] = []

    def work(number: int) -> None:
        dice = random.Random(number)
        node = nodes[number % NODES]
        answers.extend((app(name), node.identities.ensure(app(name))) for name in dice.sample(range(40), 40))

    at_once([lambda number=number: work(number) for number in range(NODES * THREADS)])

    records = stored(connect())
    assert len(records) == len(set(records.values())) == 40
    assert {(labels, number) for number, labels in records.items()} == set(answers)
    assert all(IDENTITY_MIN <= number <= IDENTITY_MAX for number in records)


def test_different_labels_never_share_a_number_even_when_few_are_left(
    make_nodes: Callable[[range], list[Node]], connect: Callable[[], Store]
) -> None:
    numbers = range(300, 330)
    nodes = make_nodes(numbers)
    refused: list[str] = []

    def work(number: int) -> None:
        for turn in range(2):
            try:
                nodes[number % NODES].identities.ensure(app(f"{number}-{turn}"))
            except Exhausted as err:
                refused.append(str(err))

    at_once([lambda number=number: work(number) for number in range(NODES * THREADS)])

    records = stored(connect())
    assert set(records) == set(numbers)
    assert len(set(records.values())) == 30
    assert len(refused) == 2 * NODES * THREADS - 30
    assert all("all 30 identities, 300 to 329, are in use" in text for text in refused)


def test_what_is_freed_is_given_out_again(
    make_nodes: Callable[[range], list[Node]], connect: Callable[[], Store]
) -> None:
    nodes = make_nodes(range(300, 304))
    for name in range(4):
        nodes[0].identities.ensure(app(name))
    with pytest.raises(Exhausted):
        nodes[1].identities.ensure(app("new"))
    garbage = IdentityGarbage(nodes[2].store, nodes[2].view, SystemClock(), grace_s=0)
    last = nodes[0].identities.ensure(app(3))

    def only_one_is_left() -> bool:
        garbage.collect({last})
        return len(connect().list(keys.IDENTITY_IDS).items) == 1

    until("what nobody has is collected", only_one_is_left, timeout_s=10)

    assert nodes[1].identities.ensure(app("new")) != last
    assert stored(connect())[last] == app(3)


def test_collector_never_takes_what_somebody_has_just_got(
    make_nodes: Callable[[range], list[Node]], connect: Callable[[], Store]
) -> None:
    """The grace period is longer than views are late, and than it takes to record an endpoint; the rest is raced."""
    nodes = make_nodes(range(300, 310))
    names = [app(name) for name in range(8)]
    clock, store = ManualClock(), connect()
    recording, done = threading.Lock(), threading.Event()
    in_use: dict[int, IdentityId] = {}
    lost: list[str] = []
    counts: list[int] = []

    def collected() -> int:
        return sum(later < earlier for earlier, later in itertools.pairwise(list(counts)))

    def collect() -> None:
        garbage = IdentityGarbage(nodes[0].store, nodes[0].view, clock)
        while not done.is_set():
            with recording:
                revision = store.list(keys.ROOT).revision
                assert all(node.view.wait_delivered(revision, 10) for node in nodes)
                clock.time_s += GRACE_S
                held = frozenset(in_use.values())
            garbage.collect(held)
            counts.append(len(store.list(keys.IDENTITY_IDS).items))

    def use(number: int) -> None:
        node, dice = nodes[number % NODES], random.Random(number)
        for turn in range(2000):
            if turn >= 60 and collected() >= 5:
                break
            labels = dice.choice(names)
            with recording:
                in_use[number] = node.identities.ensure(labels)
            for _ in range(dice.randrange(4)):
                found = node.store.get(keys.identity(in_use[number]))
                if found is None or decode(IdentityRecord, found.value, key=found.key).labels != labels:
                    lost.append(f"{in_use[number]} of {labels}")
            del in_use[number]

    def use_and_finish() -> None:
        try:
            at_once([lambda number=number: use(number) for number in range(6)])
        finally:
            done.set()

    at_once([collect, use_and_finish])

    assert lost == []
    assert collected() >= 5
    records = stored(store)
    assert len(records) == len(set(records.values()))


def test_deleted_identities_come_back_as_they_were_while_others_allocate(
    nodes: list[Node], connect: Callable[[], Store]
) -> None:
    known = {nodes[0].identities.ensure(app(name)): app(name) for name in range(30)}
    store = connect()
    for number, labels in known.items():
        store.txn([], [Delete(keys.identity(number)), Delete(keys.identity_labels(labels))])
    revision = store.list(keys.ROOT).revision
    assert all(node.view.wait_delivered(revision, 10) for node in nodes)
    answers: dict[IdentityId, set[IdentityId]] = {number: set() for number in known}

    def restore(node: Node) -> None:
        for number, labels in known.items():
            answers[number].add(node.identities.restore(number, labels))

    def allocate(node: Node) -> None:
        for name in range(30):
            node.identities.ensure(app(f"new {name}"))

    at_once([lambda work=work, node=node: work(node) for node in nodes for work in (restore, allocate)])

    records = stored(store)
    assert len(records) == len(set(records.values())) == 60
    # A new set of labels may have been given a number that was free for a moment; then all nodes agree on another.
    assert all(len(each) == 1 for each in answers.values())
    assert {next(iter(each)): known[number] for number, each in answers.items()}.items() <= records.items()
    assert sum(answers[number] == {number} for number in known) >= 28


@pytest.mark.etcd
def test_known_labels_keep_their_numbers_while_etcd_is_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    with EtcdServer(tmp_path_factory.mktemp("away")) as server:
        node = Node(EtcdStore(server.config))
        number = node.identities.ensure(app("web"))
        server.kill()

        assert number == node.identities.ensure(app("web")) == node.identities.restore(number, app("web"))
        with pytest.raises(StoreUnavailable):
            node.identities.ensure(app("db"))

        server.start()
        assert node.view.wait_synced(20)
        assert number == node.identities.ensure(app("web"))
        assert {number, node.identities.ensure(app("db"))} == set(stored(node.store))
        node.view.stop()
        node.store.close()


def test_allocation_rate_is_told(nodes: list[Node], record_property: Callable[[str, object], None]) -> None:
    """Not a limit: a figure for the notes."""
    began = time.perf_counter()
    for name in range(200):
        nodes[0].identities.ensure(app(name))
    new = 200 / (time.perf_counter() - began)
    began = time.perf_counter()
    for name in range(200):
        nodes[0].identities.ensure(app(name))
    known = 200 / (time.perf_counter() - began)

    record_property("identities_per_second_new", round(new))
    record_property("identities_per_second_known", round(known))
    print(f"{new:.0f} new identities/s, {known:.0f} known ones/s in one thread")  # noqa: T201
