"""What policy knows of endpoints follows their changes."""

from __future__ import annotations

import dataclasses
import random

from kvstore.watcher import Change
from model.endpoints import Endpoint
from model.ids import IDENTITY_INIT, IdentityId, NodeName
from model.labels import Labels
from policy.endpoint_index import EndpointIndex
from tests.support.policy_node import an_endpoint

NODE = NodeName("node-a")
HERE, THERE = "/hawse/v1/endpoints/node-a/", "/hawse/v1/endpoints/node-b/"
WEB, DB = Labels.of({"app": "web"}), Labels.of({"app": "db"})


def one(identity: int, labels: Labels | None = None, name: str = "w") -> Endpoint:
    return dataclasses.replace(an_endpoint(name, identity), labels=labels)


def test_endpoints_of_the_node_are_counted_one_by_one() -> None:
    index = EndpointIndex(NODE)
    here, there = one(300, WEB), one(301, DB)

    index.on_endpoints([Change(HERE + "w", None, here), Change(THERE + "d", None, there)])
    assert {here.endpoint_id: 300} == index.here()

    index.on_endpoints([Change(HERE + "w", here, one(IDENTITY_INIT))])
    assert {here.endpoint_id: IDENTITY_INIT} == index.here()

    index.on_endpoints([Change(HERE + "w", one(IDENTITY_INIT), None)])
    assert {} == index.here()


def test_labels_stay_until_the_last_endpoint_of_the_identity_goes() -> None:
    index = EndpointIndex(NODE)
    web = one(300, WEB)
    index.on_endpoints([Change(HERE + "w", None, web), Change(THERE + "w", None, web)])
    assert {300: WEB} == index.labels()

    index.on_endpoints([Change(HERE + "w", web, None)])
    assert {300: WEB} == index.labels()

    index.on_endpoints([Change(THERE + "w", web, None)])
    assert {} == index.labels()


def test_labels_that_are_not_known_and_reserved_identities_say_nothing() -> None:
    index = EndpointIndex.of(NODE, {HERE + "w": one(300), HERE + "x": one(IDENTITY_INIT, WEB, "x")})

    assert {} == index.labels()


def test_version_tells_whether_labels_may_differ() -> None:
    index = EndpointIndex(NODE)
    web = one(300, WEB)
    index.on_endpoints([Change(HERE + "w", None, web)])
    version = index.labels_version

    index.on_endpoints([Change(THERE + "w", None, web)])
    index.on_endpoints([Change(THERE + "w", web, dataclasses.replace(web, container="web"))])
    index.on_endpoints([Change(THERE + "w", web, None)])
    assert version == index.labels_version

    index.on_endpoints([Change(HERE + "w", web, one(300, DB))])
    assert version != index.labels_version
    assert {300: DB} == index.labels()


def test_endpoints_that_differ_say_the_same_to_all() -> None:
    changes = [Change(f"{THERE}{name}", None, one(300, labels)) for name, labels in (("a", WEB), ("b", DB))]
    forth, back = EndpointIndex(NODE), EndpointIndex(NODE)
    forth.on_endpoints(changes)
    back.on_endpoints(changes[::-1])

    assert {300: DB} == forth.labels() == back.labels()


def test_many_changes_come_to_the_same_as_a_fresh_look() -> None:
    chance = random.Random(5)
    index = EndpointIndex(NODE)
    known: dict[str, Endpoint] = {}
    for _ in range(2000):
        key = chance.choice((HERE, THERE)) + str(chance.randrange(20))
        new = None if chance.random() < 0.3 else one(chance.choice((300, 301, IDENTITY_INIT)), chance.choice((WEB, DB)))
        if new is not None:
            new = dataclasses.replace(new, endpoint_id=key.rpartition("/")[2])
        before = index.labels(), index.labels_version
        index.on_endpoints([Change(key, known.pop(key, None), new)])
        if new is not None:
            known[key] = new
        assert before[0] == index.labels() or before[1] != index.labels_version

    fresh = EndpointIndex.of(NODE, known)
    assert fresh.here() == index.here()
    assert fresh.labels() == index.labels()
    assert IdentityId(300) in fresh.labels()
