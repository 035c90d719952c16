from __future__ import annotations

import random

import pytest

from model.ids import IDENTITY_HOST, IDENTITY_INIT, IDENTITY_WORLD, IdentityId
from model.labels import COMPOSE_PROJECT_LABEL, STACK_LABEL, Labels
from model.policies import NAMESPACE_NAME_LABEL, Operator, Requirement, Selector
from policy.selection import EVERY_LABEL_SET, SelectorIndex, selects_labels, selects_reserved
from tests.support.policy_samples import API, DB, EVERYONE, SHOP, WEB, in_namespace, requires, reserved, selects
from tests.support.policy_worlds import random_world

NOT_WEB = Selector((Requirement("app", Operator.NOT_IN, frozenset({"web"})),))


@pytest.mark.parametrize(
    ("labels", "namespace"),
    [
        ({STACK_LABEL: "shop", COMPOSE_PROJECT_LABEL: "other"}, "shop"),
        ({COMPOSE_PROJECT_LABEL: "shop"}, "shop"),
        ({}, "default"),
    ],
)
def test_namespace_is_the_stack_else_the_project_else_default(labels: dict[str, str], namespace: str) -> None:
    assert selects_labels(in_namespace(namespace), Labels.of(labels))
    assert not selects_labels(in_namespace("elsewhere"), Labels.of(labels))


def test_namespace_has_one_label_only() -> None:
    other = Selector(namespace=(Requirement("team", Operator.EXISTS),))
    none = Selector(namespace=(Requirement("team", Operator.DOES_NOT_EXIST),))

    assert not selects_labels(other, SHOP[WEB])
    assert selects_labels(none, SHOP[WEB])


def test_a_container_that_calls_itself_reserved_is_not_selected_as_such() -> None:
    liar = Labels.of({"reserved:host": "", "app": "web"})

    assert not selects_labels(reserved("host"), liar)
    assert selects_labels(selects(app="web"), liar)


@pytest.mark.parametrize(
    "selector",
    [
        EVERYONE,
        NOT_WEB,
        Selector((Requirement("reserved:host", Operator.DOES_NOT_EXIST),)),
        Selector((Requirement("reserved:host", Operator.EXISTS), requires("app", "web"))),
        Selector((Requirement("reserved:host", Operator.EXISTS),), (requires(NAMESPACE_NAME_LABEL, "default"),)),
    ],
)
def test_host_is_selected_only_by_name(selector: Selector) -> None:
    assert selects_reserved(reserved("host"), IDENTITY_HOST, deny=False)
    assert not selects_reserved(selector, IDENTITY_HOST, deny=False)
    assert not selects_reserved(selector, IDENTITY_HOST, deny=True)
    assert not selects_reserved(reserved("host"), IDENTITY_WORLD, deny=True)


@pytest.mark.parametrize(
    ("selector", "allowed"),
    [
        (EVERYONE, True),
        (reserved("init"), True),
        (NOT_WEB, False),
        (selects(app="web"), False),
        (in_namespace("default"), False),
        (reserved("host"), False),
        (Selector((Requirement("reserved:init", Operator.DOES_NOT_EXIST),)), False),
    ],
)
def test_unknown_labels_are_denied_by_any_selector_and_allowed_by_few(selector: Selector, allowed: bool) -> None:  # noqa: FBT001
    assert selects_reserved(selector, IDENTITY_INIT, deny=True)
    assert allowed == selects_reserved(selector, IDENTITY_INIT, deny=False)


def test_index_knows_who_is_selected() -> None:
    index = SelectorIndex()

    index.update(SHOP, [EVERYONE, NOT_WEB, selects(app="db")])

    assert index.matching(EVERYONE) == {WEB, API, DB}
    assert index.matching(NOT_WEB) == {API, DB}
    assert index.matching(selects(app="db")) == {DB}
    assert all(mask & EVERY_LABEL_SET for mask in index.masks.values())


def test_number_that_is_used_again_is_another_identity() -> None:
    index = SelectorIndex()
    index.update(SHOP, [NOT_WEB])

    index.update({**SHOP, WEB: Labels.of({"app": "cache"}), API: Labels.of({"app": "web"})}, [NOT_WEB])

    assert index.matching(NOT_WEB) == {WEB, DB}


def test_reserved_numbers_and_those_of_prefixes_are_not_indexed() -> None:
    index = SelectorIndex()

    index.update({IDENTITY_HOST: Labels(), IdentityId(255): Labels(), IdentityId(0x01000000): Labels()}, [EVERYONE])

    assert {} == index.masks


def test_one_more_identity_costs_one_evaluation_for_each_distinct_selector() -> None:
    index = SelectorIndex()
    selectors = [EVERYONE, NOT_WEB, selects(app="db"), selects(app="db"), Selector((requires("app", "db"),))]
    index.update(SHOP, selectors)
    before = index.evaluations

    index.update({**SHOP, IdentityId(2000): Labels()}, selectors)
    index.update({**SHOP, IdentityId(2000): Labels()}, [*selectors, selects(app="new")])

    assert index.evaluations - before == 3


def test_index_agrees_with_the_selector_itself_through_changes() -> None:
    choice = random.Random(7)
    index = SelectorIndex()
    for seed in range(300):
        world, other = random_world(seed), random_world(choice.randrange(seed + 1))
        identities = {**world.identities, **{IdentityId(n + 1): labels for n, labels in other.identities.items()}}
        selectors = {policy.subject for policy in (*world.policies, *other.policies)}

        index.update(identities, selectors)

        for selector in selectors:
            expected = {number for number, labels in identities.items() if selects_labels(selector, labels)}
            assert expected == index.matching(selector)


def test_a_thousand_selectors_are_not_held_against_5000_identities() -> None:
    choice = random.Random(3)
    identities = {
        IdentityId(256 + at): Labels.of({"app": f"app{at % 200}", "tier": f"t{at % 7}", "id": str(at)})
        for at in range(5000)
    }
    selectors = {
        Selector((requires("app", f"app{choice.randrange(200)}"), requires("tier", *(f"t{n}" for n in range(at % 7)))))
        for at in range(1000)
    }
    selectors |= {Selector((Requirement("id", Operator.NOT_IN, frozenset({str(at)})),)) for at in range(50)}
    index = SelectorIndex()

    index.update(identities, selectors)
    index.update({**identities, IdentityId(60000): Labels.of({"app": "app1"})}, selectors)

    # Sets answered the selectors; only the identity that came later was held against each.
    assert index.evaluations == len(selectors)
