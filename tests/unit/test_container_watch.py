"""The watch of containers against an engine that shows things when the real ones do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver.container_watch import ContainerWatch
from driver.engine import Engine
from kvstore.backoff import Backoff
from model.clock import SystemClock
from model.errors import StoreUnavailable
from model.ids import IDENTITY_INIT, EndpointId, IdentityId
from model.labels import Labels
from tests.support import wait
from tests.support.cluster_world import ManualClock
from tests.support.driver_world import NETWORK_ID, World, create_endpoint, endpoint, join
from tests.support.fake_dockerd import FakeContainer, FakeDockerd, serving

SOON_S = 10
QUICK = Backoff(first_s=0.01, limit_s=0.05)
BRIDGE = "b1" * 32


class Host:
    """A node with its engine."""

    def __init__(self, world: World, dockerd: FakeDockerd, socket: Path) -> None:
        self.world = world
        self.dockerd = dockerd
        self.socket = socket
        self.watches: list[ContainerWatch] = []
        self._number = 0

    def watch(self, *, resync_s: float = 300, clock: ManualClock | None = None) -> ContainerWatch:
        made = ContainerWatch(
            Engine(self.socket),
            self.world.labelling,
            clock=clock or SystemClock(),
            resync_s=resync_s,
            backoff=QUICK,
            retry=QUICK,
        )
        self.watches.append(made)
        made.start()
        wait.until("events are followed", lambda: self.dockerd.listeners, timeout_s=SOON_S)
        return made

    def create(self, name: str, labels: dict[str, str] | None = None, *networks: str) -> FakeContainer:
        self._number += 1
        ident = f"{self._number:02x}" * 32
        return self.dockerd.create(ident, name, {"app": name} if labels is None else labels, *(networks or ("net",)))

    def connect(self, container: FakeContainer, *, options: dict[str, object] | None = None) -> EndpointId:
        """CreateEndpoint, Join, and the event."""
        self._number += 1
        ident = EndpointId(f"{self._number:02x}" * 32)
        address = f"10.1.0.{self._number}/16"
        self.world.ok(
            "NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=ident, address=address, options=options)
        )
        self.world.ok("NetworkDriver.Join", join(ident))
        self.dockerd.connect(container, NETWORK_ID, ident)
        return ident

    def is_labelled(self, ident: EndpointId, name: str, labels: dict[str, str] | None = None) -> bool:
        record = self.world.endpoints.get(ident)
        wanted = Labels.of({"app": name} if labels is None else labels)
        return (record.labels, record.container) == (wanted, name)

    def wait_labelled(self, ident: EndpointId, name: str, labels: dict[str, str] | None = None) -> None:
        wait.until(f"endpoint of {name}", lambda: self.is_labelled(ident, name, labels), timeout_s=SOON_S)
        wait.until(f"kernel has identity of {name}", lambda: self._kernel_follows(ident), timeout_s=SOON_S)

    def settled(self) -> None:
        """Wait until everything that was emitted has been dealt with."""
        marker = self.create("marker")
        self.wait_labelled(self.connect(marker), "marker")

    def _kernel_follows(self, ident: EndpointId) -> bool:
        specs = {local.endpoint_id: local.spec for local in self.world.kernel.local_endpoints()}
        spec = specs[ident]
        return spec is not None and spec.identity == self.world.endpoints.get(ident).identity


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    dockerd = FakeDockerd()
    dockerd.networks.update({NETWORK_ID: "net", BRIDGE: "bridge"})
    with World() as world, serving(dockerd, tmp_path / "docker.sock") as socket:
        host = Host(world.with_network(), dockerd, socket)
        yield host
        for watch in host.watches:
            watch.stop()


def test_an_endpoint_is_labelled_when_its_container_is_connected(host: Host) -> None:
    watch = host.watch()
    web = host.create("web")

    ident = host.connect(web)

    host.wait_labelled(ident, "web")
    assert not web.running
    assert [] == watch.problems()


def test_names_of_networks_that_are_known_are_not_asked_for_again(host: Host) -> None:
    host.watch()
    host.create("web")
    host.settled()
    asked = [path for path in host.dockerd.asked if path.endswith("/networks")]
    assert asked

    host.create("other")
    host.create("elsewhere", None, "bridge")
    host.settled()

    assert asked == [path for path in host.dockerd.asked if path.endswith("/networks")]


def arrive(host: Host, container: FakeContainer) -> EndpointId:
    """CreateEndpoint, and what the engine shows until the endpoint is connected."""
    host._number += 1
    ident = EndpointId(f"{host._number:02x}" * 32)
    create = create_endpoint(endpoint_id=ident, address=f"10.1.0.{host._number}/16")
    host.world.ok("NetworkDriver.CreateEndpoint", create)
    host.dockerd.arrive(container, NETWORK_ID, ident)
    return ident


def test_an_endpoint_is_labelled_at_join_already(host: Host) -> None:
    watch = host.watch()
    web = host.create("web")
    ident = arrive(host, web)

    watch.joined(ident, NETWORK_ID)

    host.wait_labelled(ident, "web")


def test_what_was_found_at_join_is_confirmed(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    watch = host.watch()
    web = host.create("web")
    ident = arrive(host, web)
    watch.joined(ident, NETWORK_ID)
    host.wait_labelled(ident, "web")

    host.dockerd.connect(web, NETWORK_ID, ident)
    host.settled()

    assert {} == watch._by_name
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_was_found_wrongly_at_join_is_put_right(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    watch = host.watch()
    web, db = host.create("web"), host.create("db")
    ident = arrive(host, web)
    watch.joined(ident, NETWORK_ID)
    host.wait_labelled(ident, "web")
    web.arriving.clear()

    host.dockerd.connect(db, NETWORK_ID, ident)

    host.wait_labelled(ident, "db")
    assert ["endpoint was labelled as another container's"] == [
        record.message for record in caplog.records if record.levelname == "ERROR"
    ]


def test_an_endpoint_that_the_engine_does_not_show_at_join_waits_for_the_event(host: Host) -> None:
    watch = host.watch()
    web = host.create("web")
    ident = arrive(host, web)
    web.arriving.clear()

    watch.joined(ident, NETWORK_ID)
    host.settled()
    assert host.world.endpoints.get(ident).labels is None

    host.dockerd.connect(web, NETWORK_ID, ident)
    host.wait_labelled(ident, "web")


def test_the_identity_exists_before_the_endpoint(host: Host) -> None:
    host.watch()

    host.create("web")

    wait.until("identity", lambda: host.world.identities.number_of(Labels.of({"app": "web"})), timeout_s=SOON_S)


def test_a_new_container_is_prepared_when_its_rules_are_in_the_kernel(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, written = threading.Event(), threading.Event()

    def wait_ready(identity: IdentityId, timeout_s: float) -> bool:
        del identity, timeout_s
        asked.set()
        return written.wait(SOON_S)

    monkeypatch.setattr(host.world.readiness, "wait_ready", wait_ready)
    watch = host.watch()
    host.create("web")
    assert asked.wait(SOON_S)

    before = watch.await_prepared(0.05)
    written.set()

    assert not before
    assert watch.await_prepared(SOON_S)


def test_without_events_nobody_waits_for_new_containers(host: Host) -> None:
    host.dockerd.broken.add("/events")
    watch = ContainerWatch(Engine(host.socket), host.world.labelling, clock=SystemClock(), backoff=QUICK, retry=QUICK)
    host.watches.append(watch)
    watch.start()
    wait.until("problem", watch.problems, timeout_s=SOON_S)

    assert not watch.await_prepared(1000)


@pytest.mark.parametrize("label", ["hawse.ingress", "hawse.egress"])
def test_a_container_that_was_created_long_ago_brings_its_policy(host: Host, label: str) -> None:
    labels = {"app": "old", label: "none"}
    host.create("old", labels)
    host.create("other", {"app": "other"})
    host.create("elsewhere", {"app": "elsewhere", label: "none"}, "bridge")
    host.dockerd.forget_events()

    watch = host.watch()
    assert watch.await_prepared(SOON_S)

    assert host.world.identities.number_of(Labels.of(labels)) is not None
    assert len(host.world.identities.all()) == 1


def test_a_policy_that_could_not_be_stored_is_tried_again(host: Host) -> None:
    labels = {"app": "web", "hawse.egress": "none"}
    host.watch()
    host.world.faults.before["MemoryStore.txn"] = StoreUnavailable("away")

    host.create("web", labels)
    wait.until("tried", lambda: "MemoryStore.txn" in host.world.faults.calls, timeout_s=SOON_S)
    host.world.faults.before.clear()

    wait.until("identity", lambda: host.world.identities.number_of(Labels.of(labels)), timeout_s=SOON_S)


@pytest.mark.parametrize("network", [NETWORK_ID, NETWORK_ID[:12], "net"])
def test_a_network_may_be_named_in_any_way(host: Host, network: str) -> None:
    host.watch()

    host.create("web", None, network)

    wait.until("identity", lambda: host.world.identities.number_of(Labels.of({"app": "web"})), timeout_s=SOON_S)


def test_containers_of_other_networks_get_no_identity(host: Host) -> None:
    host.watch()
    host.create("other", None, "bridge")

    host.settled()

    assert host.world.identities.number_of(Labels.of({"app": "other"})) is None


def test_labels_that_look_like_the_engines_own_are_taken_as_they_are(host: Host) -> None:
    host.watch()
    labels = {"name": "db", "image": "other", "exitCode": "0", "container": "x"}

    ident = host.connect(host.create("web", labels))

    host.wait_labelled(ident, "web", labels)


def test_many_at_once_in_one_network_are_never_mixed_up(host: Host) -> None:
    host.watch()
    containers = [host.create(f"c{number}") for number in range(8)]
    idents: dict[str, EndpointId] = {}

    # The interfaces are there before the engine says of any whose it is, in another order.
    for container in containers:
        host._number += 1
        idents[container.name] = EndpointId(f"{host._number:02x}" * 32)
        create = create_endpoint(endpoint_id=idents[container.name], address=f"10.1.0.{host._number}/16")
        host.world.ok("NetworkDriver.CreateEndpoint", create)
        host.world.ok("NetworkDriver.Join", join(idents[container.name]))
    seen: dict[str, set[Labels | None]] = {ident: set() for ident in idents.values()}
    for container in reversed(containers):
        host.dockerd.connect(container, NETWORK_ID, idents[container.name])
        for ident in idents.values():
            seen[ident].add(host.world.endpoints.get(ident).labels)

    for name, ident in idents.items():
        host.wait_labelled(ident, name)
        assert seen[ident] <= {None, Labels.of({"app": name})}


def test_an_endpoint_that_the_engine_does_not_show_stays_init(host: Host) -> None:
    host.watch()
    web = host.create("web")
    ident = host.connect(web)
    host.wait_labelled(ident, "web")
    stray = EndpointId("ee" * 32)
    host.world.ok("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=stray, address="10.1.0.99/16"))
    host.world.ok("NetworkDriver.Join", join(stray))

    host.dockerd.run(web)
    host.settled()

    assert host.world.endpoints.get(stray).labels is None
    assert IDENTITY_INIT == host.world.endpoints.get(stray).identity


def test_an_endpoint_without_a_container_becomes_a_problem(host: Host) -> None:
    clock = ManualClock()
    stray = EndpointId("ee" * 32)
    host.world.ok("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=stray))
    host.world.ok("NetworkDriver.Join", join(stray))
    watch = host.watch(clock=clock)

    clock.time_s = 4e9
    host.dockerd.break_streams()

    def stray_alone() -> None:
        # That the stream has ended is a problem too, until the next one stands.
        assert watch.problems() == ["endpoint eeeeeeeeeeee stays without labels: Docker knows no container of it"]

    wait.until_passes(stray_alone, timeout_s=SOON_S)

    host.world.ok("NetworkDriver.DeleteEndpoint", endpoint(stray))
    host.dockerd.break_streams()
    wait.until("no problem", lambda: not watch.problems(), timeout_s=SOON_S)


def test_labels_of_an_attachment_stay_and_the_name_is_learned(host: Host) -> None:
    host.watch()

    ident = host.connect(host.create("web"), options={"label.app": "own"})

    host.wait_labelled(ident, "web", {"app": "own"})


def test_a_container_in_two_networks_has_its_labels_in_both(host: Host) -> None:
    host.watch()
    other = "6d" * 32
    host.dockerd.networks[other] = "other"
    host.world.with_network(network_id=other)
    web = host.create("web", None, "net", "other")
    first = host.connect(web)
    second = EndpointId("ab" * 32)
    host.world.ok(
        "NetworkDriver.CreateEndpoint",
        create_endpoint(network_id=other, endpoint_id=second, address="10.1.0.200/16"),
    )
    host.dockerd.connect(web, other, second)

    host.wait_labelled(first, "web")
    host.wait_labelled(second, "web")


def test_a_renamed_container_keeps_its_labels(host: Host) -> None:
    host.watch()
    web = host.create("web")
    ident = host.connect(web)
    host.dockerd.run(web)
    host.wait_labelled(ident, "web")
    number = host.world.endpoints.get(ident).identity

    host.dockerd.rename(web, "front")

    host.wait_labelled(ident, "front", {"app": "web"})
    assert number == host.world.endpoints.get(ident).identity


def test_a_container_that_is_renamed_before_it_starts_has_its_new_name(host: Host) -> None:
    host.watch()
    web = host.create("web")
    host.dockerd.rename(web, "front")

    host.wait_labelled(host.connect(web), "front", {"app": "web"})


def test_what_happened_before_the_agent_came_is_found_in_the_list(host: Host) -> None:
    running, starting = host.create("running"), host.create("starting")
    idents = host.connect(running), host.connect(starting)
    host.dockerd.run(running)
    host.dockerd.forget_events()

    host.watch()

    host.wait_labelled(idents[0], "running")
    host.wait_labelled(idents[1], "starting")


def test_what_happened_while_the_engine_was_away_is_found_in_the_list(host: Host) -> None:
    host.watch()
    host.settled()
    host.dockerd.broken.add("/events")
    host.dockerd.break_streams()
    web = host.create("web")
    ident = host.connect(web)
    host.dockerd.run(web)
    host.dockerd.forget_events()
    assert host.world.endpoints.get(ident).labels is None

    host.dockerd.broken.clear()

    host.wait_labelled(ident, "web")


def test_an_engine_whose_events_cannot_be_followed_is_a_problem(host: Host) -> None:
    watch = host.watch()
    host.dockerd.broken.add("/events")
    host.dockerd.break_streams()

    (problem,) = wait.until("problem", watch.problems, timeout_s=SOON_S)
    assert problem.startswith("Docker's events cannot be followed")

    host.dockerd.broken.clear()
    wait.until("no problem", lambda: not watch.problems(), timeout_s=SOON_S)


@pytest.mark.parametrize("path", ["/containers/json", f"/networks/{NETWORK_ID}"])
def test_a_question_that_fails_is_asked_again(host: Host, path: str) -> None:
    watch = host.watch()
    host.settled()
    host.dockerd.broken.add(path)
    ident = host.connect(host.create("web"))
    (problem,) = wait.until("problem", watch.problems, timeout_s=SOON_S)
    assert problem.startswith("labels of containers cannot be read")
    assert IDENTITY_INIT == host.world.endpoints.get(ident).identity

    host.dockerd.broken.clear()

    host.wait_labelled(ident, "web")
    wait.until("no problem", lambda: not watch.problems(), timeout_s=SOON_S)


def test_while_the_store_is_away_an_endpoint_stays_init(host: Host) -> None:
    watch = host.watch()
    host.settled()
    web = host.create("web")
    host._number += 1
    ident = EndpointId(f"{host._number:02x}" * 32)
    host.world.ok("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=ident))
    host.world.faults.before["MemoryStore.txn"] = StoreUnavailable("etcd is away")

    host.dockerd.connect(web, NETWORK_ID, ident)

    (problem,) = wait.until("problem", watch.problems, timeout_s=SOON_S)
    assert "container web: its endpoint stays without labels: etcd is away" == problem
    assert IDENTITY_INIT == host.world.endpoints.get(ident).identity

    host.world.faults.before.clear()

    host.wait_labelled(ident, "web")
    wait.until("no problem", lambda: not watch.problems(), timeout_s=SOON_S)


def test_labels_that_make_no_identity_are_a_problem_of_that_container_only(host: Host) -> None:
    watch = host.watch()
    bad = host.create("bad", {f"l{number}": "" for number in range(200)})
    ident = host.connect(bad)
    host.settled()

    (problem,) = watch.problems()
    assert problem.startswith("container bad: its endpoint stays without labels: 200 labels would make one identity")
    assert host.world.endpoints.get(ident).labels is None

    host.world.ok("NetworkDriver.DeleteEndpoint", endpoint(ident))
    host.dockerd.remove(bad)
    wait.until("no problem", lambda: not watch.problems(), timeout_s=SOON_S)


def test_everything_is_compared_from_time_to_time(host: Host) -> None:
    host.watch(resync_s=0.05)
    web = host.create("web")
    host.dockerd.run(web)
    ident = EndpointId("ab" * 32)
    web.endpoints[NETWORK_ID] = ident

    host.world.ok("NetworkDriver.CreateEndpoint", create_endpoint(endpoint_id=ident))

    host.wait_labelled(ident, "web")


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(lambda host: None, id="idle"),
        pytest.param(lambda host: host.dockerd.broken.add("/events"), id="without-events"),
    ],
)
def test_it_stops_at_once(host: Host, state: Callable[[Host], None]) -> None:
    watch = host.watch()
    state(host)

    watch.stop()
    watch.stop()

    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"engine events", "container labels"}


SERVES = {"app": "web", "hawse.service": "web:80"}


def await_unhealthy(host: Host, ident: EndpointId, *, unhealthy: bool) -> None:
    wait.until(
        f"unhealthy is {unhealthy}",
        lambda: host.world.endpoints.get(ident).unhealthy is unhealthy,
        timeout_s=SOON_S,
        interval_s=0.005,
    )


def test_a_container_of_a_service_is_not_ready_before_it_runs(host: Host) -> None:
    host.watch()
    web = host.create("web", SERVES)
    ident = host.connect(web)
    host.wait_labelled(ident, "web", SERVES)
    assert host.world.endpoints.get(ident).unhealthy

    host.dockerd.run(web)

    await_unhealthy(host, ident, unhealthy=False)


def test_a_container_that_serves_nothing_and_has_no_health_check_is_never_unhealthy(host: Host) -> None:
    host.watch()
    web = host.create("web")
    ident = host.connect(web)
    host.wait_labelled(ident, "web")
    assert not host.world.endpoints.get(ident).unhealthy
    revision = host.world.store.list("").revision

    host.dockerd.run(web)
    host.dockerd.pause(web)
    host.settled()

    assert not host.world.endpoints.get(ident).unhealthy
    mine = [item for item in host.world.store.list("").items if item.key.endswith(ident)]
    assert [True] == [item.mod_revision <= revision for item in mine]


def test_the_health_check_is_followed(host: Host) -> None:
    host.watch()
    web = host.create("web", SERVES)
    web.health = "starting"
    ident = host.connect(web)
    host.dockerd.run(web)
    host.settled()
    assert host.world.endpoints.get(ident).unhealthy

    host.dockerd.change_health(web, "healthy")
    await_unhealthy(host, ident, unhealthy=False)

    host.dockerd.change_health(web, "unhealthy")
    await_unhealthy(host, ident, unhealthy=True)


def test_the_health_of_a_container_without_the_label_is_followed_too(host: Host) -> None:
    host.watch()
    web = host.create("web")
    web.health = "starting"
    ident = host.connect(web)
    host.dockerd.run(web)
    await_unhealthy(host, ident, unhealthy=True)

    host.dockerd.change_health(web, "healthy")

    await_unhealthy(host, ident, unhealthy=False)


def test_a_paused_container_of_a_service_is_not_ready(host: Host) -> None:
    host.watch()
    web = host.create("web", SERVES)
    ident = host.connect(web)
    host.dockerd.run(web)
    await_unhealthy(host, ident, unhealthy=False)

    host.dockerd.pause(web)
    await_unhealthy(host, ident, unhealthy=True)

    host.dockerd.pause(web, paused=False)
    await_unhealthy(host, ident, unhealthy=False)


def test_health_that_changed_unnoticed_is_found_when_everything_is_compared(host: Host) -> None:
    host.watch()
    web = host.create("web", SERVES)
    ident = host.connect(web)
    host.dockerd.run(web)
    await_unhealthy(host, ident, unhealthy=False)
    web.health = "unhealthy"

    host.dockerd.break_streams()

    await_unhealthy(host, ident, unhealthy=True)


def test_a_service_named_by_the_attachment_waits_for_the_container_too(host: Host) -> None:
    host.watch()
    web = host.create("web", {})
    ident = host.connect(web, options={"label.hawse.service": "web:80"})
    host.settled()
    assert host.world.endpoints.get(ident).unhealthy

    host.dockerd.run(web)

    await_unhealthy(host, ident, unhealthy=False)
