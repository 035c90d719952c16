"""One node: which labels an endpoint has, and when, with real engines."""

from __future__ import annotations

import concurrent.futures
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from kvstore import keys
from model.ids import IDENTITY_INIT
from tests.support import leaks, wait
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.record_watch import RecordWatch, Seen, watching_records

AT_ONCE: Final = 8
ROUNDS: Final = 5
SOON_S: Final = 20
# The shell's redirection makes the file: it is the first thing that the container's process does.
_FIRST_INSTRUCTION: Final = ("/bin/sh", "-c", ": >/started/$0; trap 'exit 0' TERM; sleep 2147483 & wait")


@pytest.fixture
def node(one_node: Node) -> Iterator[Node]:
    """A node on which every container and network of the test is removed, and nothing of them may stay."""
    yield one_node
    one_node.remove_everything()
    leaks.check_addresses(one_node)
    leaks.check([one_node])


@pytest.fixture
def network(node: Node) -> str:
    node.create_network("net", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.1")
    return "net"


@pytest.fixture
def records(node: Node) -> Iterator[RecordWatch]:
    with watching_records(node.machine) as watch:
        yield watch


@pytest.fixture
def started(node: Node) -> Path:
    """Where containers leave a file with their first instruction."""
    folder = node.machine.data / "started"
    folder.mkdir(exist_ok=True)
    return folder


def labelled(**labels: str) -> list[str]:
    return [part for name, value in labels.items() for part in ("--label", f"{name}={value}")]


def endpoint_of(node: Node, container: str, network: str) -> str:
    """The id of a running container's endpoint, as Docker says."""
    networks = node.engine.inspect("container", container)["NetworkSettings"]["Networks"]
    return str(networks[network]["EndpointID"])


def start_timed(node: Node, started: Path, name: str, network: str) -> None:
    options = (*labelled(app=name), "--volume", f"{started}:/started")
    node.start(name, network, *options, command=(*_FIRST_INSTRUCTION, name))


def lead_ms(seen: Seen, started: Path, name: str) -> float:
    """How long before the container's first instruction the labels were in its record; negative: after it."""
    marker = started / name
    wait.until(f"{name} has run", marker.exists, timeout_s=SOON_S)
    return (marker.stat().st_mtime - seen.time_s) * 1000


def wait_container(records: RecordWatch, ident: str, name: str) -> Seen:
    return wait.until(
        f"endpoint of container {name}",
        lambda: seen if (seen := records.latest(ident)).container == name else None,
        timeout_s=SOON_S,
    )


def identity_labels(node: Node, number: int) -> Mapping[str, str]:
    key = f"{keys.IDENTITY_IDS}{number}"
    labels: Mapping[str, str] = json.loads(node.etcd.entries(key)[key])["labels"]
    return labels


def describe(leads_ms: Sequence[float]) -> str:
    early = sum(lead >= 0 for lead in leads_ms)
    return (
        f"labels before the first instruction in {early} of {len(leads_ms)} starts; "
        f"median {statistics.median(leads_ms):.0f} ms before, worst {min(leads_ms):.0f} ms"
    )


def test_labels_are_there_when_the_process_begins(
    node: Node, network: str, records: RecordWatch, started: Path, figures: list[str]
) -> None:
    leads = []
    for number in range(10):
        name = f"one{number}"
        start_timed(node, started, name, network)
        ident = endpoint_of(node, name, network)

        seen = records.labelled(ident)
        leads.append(lead_ms(seen, started, name))

        assert (seen.labels, seen.container) == ({"app": name}, name)
        assert seen.identity != IDENTITY_INIT

    figures.append(f"engine {node.engine.version()}, one at a time: {describe(leads)}")


@pytest.mark.timeout(600)
def test_eight_at_a_time_never_get_the_labels_of_another(
    node: Node, network: str, records: RecordWatch, started: Path, figures: list[str]
) -> None:
    leads = []
    for round_number in range(ROUNDS):
        names = [f"r{round_number}n{number}" for number in range(AT_ONCE)]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: start_timed(node, started, name, network), names))
        for name in names:
            ident = endpoint_of(node, name, network)
            leads.append(lead_ms(records.labelled(ident), started, name))

            wrong = [seen for seen in records.states(ident) if seen.labels not in (None, {"app": name})]
            assert wrong == []
            assert records.latest(ident).container == name
        node.remove(*names)

    figures.append(f"engine {node.engine.version()}, {AT_ONCE} at a time: {describe(leads)}")


def test_labels_of_the_attachment_are_there_from_the_beginning(node: Node, network: str, records: RecordWatch) -> None:
    options = f"name={network},driver-opt=label.app=db,driver-opt=label.tier=back"
    node.engine("run", "-d", "--name", "own", "--network", options, *labelled(app="web", tier="front"), IMAGE)
    ident = endpoint_of(node, "own", network)

    wait_container(records, ident, "own")

    states = records.states(ident)
    assert {tuple(sorted((seen.labels or {}).items())) for seen in states} == {(("app", "db"), ("tier", "back"))}
    assert IDENTITY_INIT not in {seen.identity for seen in states}
    assert len({seen.identity for seen in states}) == 1


def test_a_reserved_label_of_the_attachment_is_refused(node: Node, network: str) -> None:
    options = f"name={network},driver-opt=label.reserved:host="

    result = node.engine.run("run", "-d", "--name", "bad", "--network", options, IMAGE)

    assert result.rc != 0
    assert "labels that begin with 'reserved:' are hawse's own" in result.err


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param({"reserved:host": "", "app": "web"}, {"app": "web"}, id="reserved"),
        pytest.param(
            {"name": "db", "image": "other", "container": "x", "exitCode": "0"},
            {"name": "db", "image": "other", "container": "x", "exitCode": "0"},
            id="names-of-event-attributes",
        ),
        pytest.param({"app": "wéb ✓", "größe": "=,\"'"}, {"app": "wéb ✓", "größe": "=,\"'"}, id="unicode"),
        pytest.param({}, {}, id="none"),
        pytest.param(
            {
                "com.docker.compose.project": "shop",
                "com.docker.compose.service": "web",
                "com.docker.compose.container-number": "2",
                "com.docker.compose.config-hash": "0" * 64,
                "com.docker.compose.project.working_dir": "/srv/shop",
            },
            {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
            id="compose",
        ),
        pytest.param(
            {
                "com.docker.stack.namespace": "shop",
                "com.docker.swarm.service.name": "shop_web",
                "com.docker.swarm.service.id": "s" * 25,
                "com.docker.swarm.task.id": "t" * 25,
                "com.docker.swarm.task.name": "shop_web.1.x",
                "com.docker.swarm.node.id": "n" * 25,
            },
            {"com.docker.stack.namespace": "shop", "com.docker.swarm.service.name": "shop_web"},
            id="stack",
        ),
    ],
)
def test_labels_that_count(
    node: Node, network: str, records: RecordWatch, given: Mapping[str, str], kept: Mapping[str, str]
) -> None:
    node.start("web", network, *labelled(**given))

    seen = records.labelled(endpoint_of(node, "web", network))

    assert seen.labels == kept
    assert identity_labels(node, seen.identity) == kept


def test_containers_with_the_same_labels_have_one_identity(node: Node, network: str, records: RecordWatch) -> None:
    for number in range(3):
        node.start(
            f"web{number}", network, *labelled(**{"app": "web", "com.docker.compose.container-number": str(number)})
        )

    seen = [records.labelled(endpoint_of(node, f"web{number}", network)) for number in range(3)]

    assert len({one.identity for one in seen}) == 1
    assert [one.container for one in seen] == ["web0", "web1", "web2"]


def test_a_container_has_its_labels_in_every_network(node: Node, network: str, records: RecordWatch) -> None:
    for number in (2, 3):
        node.create_network(f"net{number}", "--subnet", f"10.{number}.0.0/24")
    node.engine("create", "--name", "web", "--network", network, *labelled(app="web"), IMAGE)
    node.engine("network", "connect", "net2", "web")
    node.engine("start", "web")
    node.engine("network", "connect", "net3", "web")

    seen = [records.labelled(endpoint_of(node, "web", name)) for name in (network, "net2", "net3")]

    assert [(one.labels, one.container) for one in seen] == [({"app": "web"}, "web")] * 3
    assert len({one.identity for one in seen}) == 1


def test_a_renamed_container_keeps_its_labels(node: Node, network: str, records: RecordWatch) -> None:
    node.start("web", network, *labelled(app="web"))
    ident = endpoint_of(node, "web", network)
    before = records.labelled(ident)

    node.engine("rename", "web", "front")

    after = wait_container(records, ident, "front")
    assert (after.labels, after.identity) == (before.labels, before.identity)


def test_a_restarted_container_has_its_labels_again(node: Node, network: str, records: RecordWatch) -> None:
    node.start("web", network, *labelled(app="web"))
    before = records.labelled(endpoint_of(node, "web", network))

    node.engine("restart", "web")

    after = records.labelled(endpoint_of(node, "web", network))
    assert after.endpoint_id != before.endpoint_id
    assert (after.labels, after.identity) == (before.labels, before.identity)


def test_a_restarted_agent_keeps_labels_and_learns_what_it_missed(
    node: Node, network: str, records: RecordWatch
) -> None:
    node.start("web", network, *labelled(app="web"))
    node.engine("run", "-d", "--name", "own", "--network", f"name={network},driver-opt=label.app=db", IMAGE)
    idents = {name: endpoint_of(node, name, network) for name in ("web", "own")}
    before = {name: wait_container(records, ident, name) for name, ident in idents.items()}

    node.plugin.disable(force=True)
    node.engine("rename", "web", "front")
    node.engine("rename", "own", "back")
    node.plugin.enable()
    node.wait_healthy()

    with watching_records(node.machine) as again:
        node.start("late", network, *labelled(app="late"))
        assert again.labelled(endpoint_of(node, "late", network)).labels == {"app": "late"}
    entries = {one["endpoint_id"]: one for one in endpoints(node)}
    for name, new_name in (("web", "front"), ("own", "back")):
        entry = entries[idents[name]]
        assert entry["container"] == new_name
        assert (entry["labels"], entry["identity"]) == (before[name].labels, before[name].identity)


def test_an_endpoint_without_an_identity_stays_init_and_is_reported(node: Node, network: str) -> None:
    labels = {f"l{number}": "x" for number in range(10_000)}
    node.start("many", network, *labelled(**labels))
    ident = endpoint_of(node, "many", network)

    def problems() -> list[str]:
        return list(json.loads(node.hawse("status", "-o", "json").out)["problems"])

    (problem,) = wait.until("problem", problems, timeout_s=SOON_S)
    assert problem.startswith("container many: its endpoint stays without labels: 10000 labels would make one identity")
    (entry,) = [one for one in endpoints(node) if one["endpoint_id"] == ident]
    assert entry["identity"] == IDENTITY_INIT

    node.remove("many")

    node.wait_healthy()


def endpoints(node: Node) -> list[dict[str, Any]]:
    return [json.loads(value) for value in node.etcd.entries(keys.ENDPOINTS).values()]
