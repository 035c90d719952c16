"""Which labels make an identity, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InvalidInput
from model.labels import Labels
from policy.label_filter import DEFAULT_PATTERNS, LABELS_MAX, LabelFilter

SWARM_TASK = {
    "app": "web",
    "com.docker.swarm.service.name": "shop_web",
    "com.docker.swarm.service.id": "z5qq3mhz",
    "com.docker.swarm.task.id": "7x0x9",
    "com.docker.swarm.task.name": "shop_web.3.7x0x9",
    "com.docker.swarm.node.id": "n1",
    "com.docker.swarm.task": "",
    "com.docker.stack.namespace": "shop",
    "hawse.port.http": "8080/tcp",
}
COMPOSE_CONTAINER = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
    "com.docker.compose.container-number": "2",
    "com.docker.compose.config-hash": "a9b1",
    "com.docker.compose.image": "sha256:1",
    "com.docker.compose.project.working_dir": "/home/me/shop",
    "com.docker.compose.project.config_files": "/home/me/shop/compose.yaml",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.version": "2.24.0",
    "desktop.docker.io/binds/0/Source": "/home/me",
    "tier": "front",
}
IMAGE = {
    "maintainer": "somebody",
    "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
    "org.opencontainers.image.revision": "4e1f",
    "org.label-schema.build-date": "20260102",
    "org.label-schema.vcs-ref": "4e1f",
    "build-date": "2026-01-02",
    "vcs-ref": "4e1f",
    "io.buildah.version": "1.33",
    "com.redhat.component": "ubi9",
    "description": "x" * 5000,
}


def test_containers_of_one_swarm_service_have_one_identity() -> None:
    assert Labels.of({
        "app": "web",
        "com.docker.swarm.service.name": "shop_web",
        "com.docker.stack.namespace": "shop",
        "hawse.port.http": "8080/tcp",
    }) == LabelFilter.parse().identity_labels(SWARM_TASK)  # fmt: skip


def test_containers_of_one_compose_service_have_one_identity() -> None:
    assert Labels.of({
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "tier": "front",
    }) == LabelFilter.parse().identity_labels(COMPOSE_CONTAINER)  # fmt: skip


def test_what_an_image_says_of_itself_makes_no_identity() -> None:
    assert Labels() == LabelFilter.parse().identity_labels(IMAGE)


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("app", {"app"}),
        ("app,team.*", {"app", "team.name", "team.lead"}),
        ("*,!team.*", {"app", "apple", "team", "x.owner"}),
        ("*,!team.*,team.name", {"app", "apple", "team", "team.name", "x.owner"}),
        ("team.name,!team.*", set()),
        ("*.owner", {"x.owner"}),
        ("*am*", {"team", "team.name", "team.lead"}),
        (" app , ,team", {"app", "team"}),
        ("!*", set()),
        ("app*", {"app", "apple"}),
    ],
)
def test_last_pattern_that_matches_decides(setting: str, kept: set[str]) -> None:
    labels = dict.fromkeys(("app", "apple", "team", "team.name", "team.lead", "x.owner"), "1")

    assert kept == set(LabelFilter.parse(setting).identity_labels(labels))


@pytest.mark.parametrize("setting", ["app", "!*", "!hawse.*", DEFAULT_PATTERNS])
def test_hawses_own_labels_always_count(setting: str) -> None:
    labels = {"hawse.ingress": "from web", "hawse.port.http": "80/tcp"}

    assert Labels.of(labels) == LabelFilter.parse(setting).identity_labels(labels)


@pytest.mark.parametrize("setting", ["*", "reserved:*", "reserved:host", DEFAULT_PATTERNS])
def test_reserved_labels_never_count(setting: str) -> None:
    labels = {"reserved:host": "", "reserved:": "x", "app": "reserved:host"}

    assert "reserved:host" not in LabelFilter.parse(setting).identity_labels(labels)
    assert "reserved:" not in LabelFilter.parse(setting).identity_labels(labels)


def test_namespace_survives_a_setting_that_does_not_name_it() -> None:
    labels = {"com.docker.stack.namespace": "shop", "com.docker.compose.project": "site", "app": "web"}

    assert LabelFilter.parse("app").identity_labels(labels).namespace == "shop"
    assert LabelFilter.parse("app,!com.docker.*").identity_labels(labels) == Labels.of({"app": "web"})


@pytest.mark.parametrize("setting", ["", ",", "!", "a*b", "*a*b*", "!!app", "a b", "app\x00", "\ud800"])
def test_what_is_no_pattern_is_refused(setting: str) -> None:
    with pytest.raises(InvalidInput, match="pattern"):
        LabelFilter.parse(setting)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({f"l{number}": "" for number in range(LABELS_MAX + 1)}, "129 labels would make one identity, at most 128 can"),
        ({f"l{number}": "" for number in range(10_000)}, "10000 labels would make one identity"),
        ({"k" * 254: ""}, "has a name of 254 bytes, more than 253"),
        ({"ä" * 127: ""}, "has a name of 254 bytes, more than 253"),
        ({"app": "v" * 1025}, "label 'app' has a value of 1025 bytes, more than 1024"),
        ({f"l{number:03}": "v" * 1000 for number in range(17)}, "labels of 17068 bytes would make one identity"),
        ({"": "x"}, "label '' has no name"),
        ({"app": "web\n"}, "label 'app' has control characters"),
        ({"app\x1b[2J": "web"}, r"label 'app\\x1b\[2J' has control characters"),
        ({"app": "a\u2028b"}, "label 'app' has control characters"),
        ({"app": "\udc80"}, "label 'app' has control characters"),
    ],
)
def test_what_is_too_much_is_refused_with_advice(labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"{message}.*; let fewer labels count with IDENTITY_LABELS"):
        LabelFilter.parse().identity_labels(labels)


def test_what_does_not_count_may_be_anything() -> None:
    labels = {f"noise.{number}": "\x00" * 2000 for number in range(10_000)} | {
        "app": "web",
        "\udc80": "",
        "k" * 999: "",
    }

    assert Labels.of({"app": "web"}) == LabelFilter.parse("app").identity_labels(labels)


def test_own_label_that_is_too_long_belongs_into_a_document() -> None:
    with pytest.raises(
        InvalidInput, match=r"'hawse.ingress' has a value of 2000 bytes, .*; say it in a policy document"
    ):
        LabelFilter.parse().identity_labels({"hawse.ingress": "x" * 2000})


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=8))
def test_what_is_kept_is_a_part_and_keeping_it_again_changes_nothing(labels: dict[str, str]) -> None:
    label_filter = LabelFilter.parse()
    try:
        kept = label_filter.identity_labels(labels)
    except InvalidInput:
        return

    assert dict(kept).items() <= labels.items()
    assert kept == label_filter.identity_labels(kept)
