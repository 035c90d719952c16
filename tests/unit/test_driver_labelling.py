"""Labels of endpoints: given with the attachment, or learned of the container afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from driver.engine_records import Readiness
from driver.service import NEWCOMERS_TIMEOUT_S
from model.errors import DatapathError, Exhausted, InvalidInput, StoreUnavailable
from model.ids import IDENTITY_INIT, EndpointId, IdentityId
from model.labels import Labels
from tests.support.driver_world import ENDPOINT_ID, NETWORK_ID, World, create_endpoint, endpoint, join

WEB = {"app": "web"}
OPTIONS = {"label.app": "web"}


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def kernel_identity(world: World) -> int:
    (local,) = world.kernel.local_endpoints()
    assert local.spec is not None
    return local.spec.identity


def test_an_endpoint_without_labels_is_init(world: World) -> None:
    world.with_endpoint()

    record = world.record()
    assert (IDENTITY_INIT, None, "", False) == (record.identity, record.labels, record.container, record.own_labels)
    assert IDENTITY_INIT == kernel_identity(world)
    assert [ENDPOINT_ID] == list(world.labelling.unlabelled())


def test_labels_of_the_container_become_the_identity_everywhere(world: World) -> None:
    world.with_endpoint()

    assert world.labelling.label(ENDPOINT_ID, "web-1", {**WEB, "com.docker.compose.container-number": "1"})

    record = world.record()
    assert (Labels.of(WEB), "web-1", False) == (record.labels, record.container, record.own_labels)
    assert world.identities.number_of(Labels.of(WEB)) == record.identity == kernel_identity(world)
    assert {} == world.labelling.unlabelled()


def test_no_labels_are_labels_too(world: World) -> None:
    world.with_endpoint()

    world.labelling.label(ENDPOINT_ID, "web-1", {})

    assert Labels() == world.record().labels
    assert IDENTITY_INIT != world.record().identity


def test_the_same_labels_again_change_nothing(world: World) -> None:
    world.with_endpoint()
    world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    state = world.state()
    world.faults.calls.clear()

    assert world.labelling.label(ENDPOINT_ID, "web-1", WEB)

    assert state == world.state()
    assert [] == world.faults.calls


def test_a_new_name_leaves_the_kernel_alone(world: World) -> None:
    world.with_endpoint()
    world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    world.faults.calls.clear()

    world.labelling.label(ENDPOINT_ID, "web-2", WEB)

    assert "web-2" == world.record().container
    assert ["MemoryStore.txn"] == world.faults.calls


def test_an_endpoint_that_is_gone_is_not_labelled(world: World) -> None:
    world.with_network()

    assert not world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    assert [] == world.kernel.local_endpoints()


def test_an_endpoint_that_goes_meanwhile_is_not_made_again(world: World) -> None:
    world.with_endpoint()
    ensure = world.identities.ensure

    def deleted_meanwhile(labels: Labels) -> IdentityId:
        world.ok("NetworkDriver.DeleteEndpoint", endpoint())
        return ensure(labels)

    world.identities.ensure = deleted_meanwhile  # type: ignore[method-assign]

    assert not world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    assert [] == world.kernel.local_endpoints()


def test_reserved_labels_of_a_container_do_not_count(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.with_endpoint()

    world.labelling.label(ENDPOINT_ID, "web-1", {**WEB, "reserved:host": "", "reserved:": "x"})

    assert Labels.of(WEB) == world.record().labels
    assert ["reserved:, reserved:host"] == [
        record.__dict__["labels"] for record in caplog.records if "hawse's own" in record.message
    ]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({f"l{number}": "" for number in range(10_000)}, id="many"),
        pytest.param({"app": "x" * 100_000}, id="long"),
        pytest.param({"app": "a\nb"}, id="newline"),
    ],
)
def test_labels_that_make_no_identity_leave_the_endpoint_init(world: World, labels: dict[str, str]) -> None:
    world.with_endpoint()

    with pytest.raises(InvalidInput):
        world.labelling.label(ENDPOINT_ID, "web-1", labels)

    assert world.record().labels is None
    assert IDENTITY_INIT == world.record().identity == kernel_identity(world)
    assert "web-1" == world.record().container  # what is dropped of it has its name
    assert [ENDPOINT_ID] == list(world.labelling.unlabelled())


def test_without_a_free_number_the_endpoint_stays_init(world: World) -> None:
    world.with_endpoint()
    world.identities._numbers = range(256, 257)
    world.labelling.prepare("other", {"app": "other"})

    with pytest.raises(Exhausted):
        world.labelling.label(ENDPOINT_ID, "web-1", WEB)

    assert world.record().labels is None
    assert IDENTITY_INIT == kernel_identity(world)
    assert "web-1" == world.record().container
    assert [ENDPOINT_ID] == list(world.labelling.unlabelled())


def test_without_the_store_the_endpoint_stays_init_and_is_labelled_later(world: World) -> None:
    world.with_endpoint()
    world.faults.before["MemoryStore.txn"] = StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    assert IDENTITY_INIT == world.record().identity == kernel_identity(world)

    world.faults.before.clear()
    world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    assert IDENTITY_INIT != world.record().identity == kernel_identity(world)


def test_a_kernel_that_refuses_is_told(world: World) -> None:
    world.with_endpoint()
    world.faults.before["FakeDatapath.ensure_endpoint"] = DatapathError("no")

    with pytest.raises(DatapathError):
        world.labelling.label(ENDPOINT_ID, "web-1", WEB)

    assert Labels.of(WEB) == world.record().labels, "the record is ahead; the upkeep of identities sees that"
    assert IDENTITY_INIT == kernel_identity(world)


def test_labels_that_make_no_identity_still_close_init_by_the_policy_among_them(world: World) -> None:
    carried = {"hawse.egress": "none"}

    with pytest.raises(InvalidInput):
        world.labelling.prepare("web-1", {**carried, "app": "a\nb"})

    number = world.identities.number_of(Labels.of(carried))
    assert number is not None
    assert ("expect", number) in world.readiness.calls


def test_an_identity_is_prepared_before_there_is_an_endpoint(world: World) -> None:
    world.labelling.prepare("web-1", {**WEB, "reserved:host": ""})

    number = world.identities.number_of(Labels.of(WEB))
    assert number is not None
    assert [("expect", number), ("wait", number)] == world.readiness.calls


@pytest.mark.parametrize("late", [False, True])
def test_a_container_is_joined_when_new_ones_are_prepared_or_late(world: World, late: bool) -> None:  # noqa: FBT001
    world.with_network()
    world.newcomers.late = late
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    world.ok("NetworkDriver.Join", join())

    assert [NEWCOMERS_TIMEOUT_S] == world.newcomers.waited_s


def test_with_labels_of_its_attachment_it_waits_for_nobody(world: World) -> None:
    world.with_network()
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(options=OPTIONS))

    world.ok("NetworkDriver.Join", join())

    assert [] == world.newcomers.waited_s


def test_rules_are_waited_for_before_the_kernel_changes(world: World) -> None:
    world.with_endpoint()
    seen: list[int] = []
    wait_ready = world.readiness.wait_ready

    def look(identity: IdentityId, timeout_s: float) -> bool:
        seen.append(kernel_identity(world))
        return wait_ready(identity, timeout_s)

    world.readiness.wait_ready = look  # type: ignore[method-assign]
    world.labelling.label(ENDPOINT_ID, "web-1", WEB)

    number = world.record().identity
    assert [IDENTITY_INIT] == seen
    assert [("expect", number), ("wait", number)] == world.readiness.calls


def test_rules_that_are_late_do_not_keep_an_endpoint_from_its_identity(world: World) -> None:
    world.labelling.prepare("web-1", WEB)
    number = world.identities.number_of(Labels.of(WEB))
    assert number is not None
    world.readiness.late.add(number)
    world.with_endpoint()

    world.labelling.label(ENDPOINT_ID, "web-1", WEB)

    assert number == kernel_identity(world), "it is closed until they come"


def test_an_attachment_with_labels_has_its_identity_before_its_interface(world: World) -> None:
    world.with_network()
    world.faults.calls.clear()

    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(options=OPTIONS))

    record = world.record()
    assert (Labels.of(WEB), True) == (record.labels, record.own_labels)
    assert IDENTITY_INIT != record.identity == kernel_identity(world)
    assert [("expect", record.identity), ("wait", record.identity)] == world.readiness.calls
    assert 1 == world.faults.calls.count("FakeDatapath.ensure_endpoint")


def test_labels_of_an_attachment_are_not_replaced_by_the_containers(world: World) -> None:
    world.with_network()
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(options=OPTIONS))
    before = world.record()

    world.labelling.label(ENDPOINT_ID, "web-1", {"app": "db", "tier": "back"})

    after = world.record()
    assert "web-1" == after.container
    assert (before.identity, before.labels) == (after.identity, after.labels)
    assert before.identity == kernel_identity(world)


def test_a_repeated_create_endpoint_keeps_what_was_learned(world: World) -> None:
    world.with_endpoint()
    world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    state = world.state()

    world.ok("NetworkDriver.CreateEndpoint", create_endpoint())

    assert state == world.state()


def test_join_is_told(world: World) -> None:
    world.with_endpoint()

    world.ok("NetworkDriver.Join", join())

    assert [(ENDPOINT_ID, NETWORK_ID)] == world.newcomers.heard


def test_join_again_keeps_the_identity(world: World) -> None:
    world.with_endpoint()
    world.ok("NetworkDriver.Join", join())
    world.labelling.label(ENDPOINT_ID, "web-1", WEB)
    number = world.record().identity

    world.ok("NetworkDriver.Join", join())

    assert number == world.record().identity == kernel_identity(world)


def test_an_endpoint_does_not_get_other_labels_by_a_repeated_call(world: World) -> None:
    world.with_network()
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(options=OPTIONS))
    state = world.state()

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint(options={"label.app": "db"}))
    assert "labels app=web, not app=db" in message
    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint())
    assert "labels app=web, not of its container" in message

    assert state == world.state()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"label.reserved:host": ""}, "begin with 'reserved:'", id="reserved"),
        pytest.param({"label.app": "x" * 2000}, "has a value of 2000 bytes", id="long"),
        pytest.param({f"label.l{number}": "" for number in range(200)}, "at most 128", id="many"),
    ],
)
def test_labels_that_cannot_be_are_refused_and_nothing_is_left(
    world: World, options: dict[str, Any], said: str
) -> None:
    world.with_network()
    state = world.state()

    assert said in world.refused("NetworkDriver.CreateEndpoint", create_endpoint(options=options))

    assert state == world.state()


def test_several_endpoints_of_a_container_have_one_identity(world: World) -> None:
    other = EndpointId("e2" * 32)
    world.with_endpoint()
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=other, address="10.1.0.6/16"))

    for ident in (ENDPOINT_ID, other):
        world.labelling.label(ident, "web-1", WEB)

    assert 1 == len({found.identity for found in world.endpoints.local()})


def test_docker_ids_of_networks_are_known(world: World) -> None:
    assert frozenset() == world.labelling.docker_networks()

    world.with_network()

    assert frozenset({NETWORK_ID}) == world.labelling.docker_networks()


def test_an_attachment_that_names_a_service_waits_until_its_container_runs(world: World) -> None:
    world.with_network()
    world.ok("NetworkDriver.CreateEndpoint", create_endpoint(options={"label.hawse.service": "web:80"}))
    assert world.record().unhealthy

    world.labelling.label(ENDPOINT_ID, "web-1", {}, Readiness.WAITING)
    assert world.record().unhealthy
    world.labelling.label(ENDPOINT_ID, "web-1", {}, Readiness.READY)
    assert not world.record().unhealthy


@pytest.mark.parametrize(
    ("readiness", "serves", "unhealthy"),
    [
        (Readiness.WAITING, False, False),
        (Readiness.WAITING, True, True),
        (Readiness.FAILING, False, True),
        (Readiness.FAILING, True, True),
        (Readiness.READY, False, False),
        (Readiness.READY, True, False),
    ],
)
def test_what_a_container_can_answer_is_recorded(
    world: World, readiness: Readiness, *, serves: bool, unhealthy: bool
) -> None:
    world.with_endpoint()

    world.labelling.label(ENDPOINT_ID, "web-1", {"hawse.service": "web:80"} if serves else WEB, readiness)

    assert unhealthy == world.record().unhealthy
