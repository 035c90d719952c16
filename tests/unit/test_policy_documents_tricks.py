"""Documents that try to trick, documents of any shape, and documents that come back from the store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import InvalidDocument
from model.policies import Entity, Selector
from policy.documents import from_record, read
from policy.limits import DOCUMENTS_MAX, FAULTS_MAX
from tests.support.policy_texts import (
    faults_of,
    hawse_document,
    hawse_faults,
    hawse_policy,
    network_document,
    network_policy,
)

GOOD = hawse_document({"endpointSelector": {}, "ingress": []})


# Which kind it is


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param("text", "a policy document is a mapping, not text", id="text"),
        pytest.param(["x"], "a policy document is a mapping, not a list", id="list"),
        pytest.param({}, "apiVersion: is missing: write apiVersion hawse/v1 with kind Policy", id="empty"),
        pytest.param({**GOOD, "kind": None}, "kind: is missing", id="no-kind"),
        pytest.param({**GOOD, "kind": ["Policy"]}, "kind: has to be text, not a list", id="kind-of-another-type"),
        pytest.param(
            {**GOOD, "apiVersion": 1}, "apiVersion: has to be text, not a number", id="version-of-another-type"
        ),
        pytest.param(
            {**GOOD, "kind": "policy"}, 'kind: "policy" of apiVersion "hawse/v1" is not known', id="lower-case"
        ),
        pytest.param({**GOOD, "kind": "NetworkPolicy"}, "is not known: write apiVersion hawse/v1", id="mixed"),
        pytest.param({**GOOD, "apiVersion": "hawse/v2"}, 'of apiVersion "hawse/v2" is not known', id="newer"),
        pytest.param(
            {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"},
            "write apiVersion: hawse/v1 and kind: Policy, leave metadata.namespace out",
            id="cilium",
        ),
        pytest.param(
            {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy"},
            "write apiVersion: hawse/v1 and kind: Policy",
            id="cilium-of-the-cluster",
        ),
        pytest.param({**GOOD, "specs": []}, "specs: not supported", id="specs"),
        pytest.param({**GOOD, "sepc": {}}, "sepc: unknown field; did you mean spec?", id="typo"),
        pytest.param({**GOOD, "spec": None}, "spec: is missing", id="null-spec"),
        pytest.param({**GOOD, "spec": []}, "spec: has to be a mapping, not a list", id="list-spec"),
        pytest.param({**GOOD, "metadata": "p"}, "metadata: has to be a mapping, not text", id="text-metadata"),
        pytest.param({**network_document({}), "spec": None}, "spec: is missing", id="null-spec-of-the-other-kind"),
    ],
)
def test_what_is_no_policy_is_told_what_is(document: Any, said: str) -> None:
    faults = faults_of(json.dumps(document))

    assert any(said in fault for fault in faults), faults


# Several documents


def test_several_documents_of_both_kinds_keep_their_order() -> None:
    text = "\n---\n".join(json.dumps(one) for one in (GOOD, network_document({}), {**GOOD, "metadata": {"name": "q"}}))

    assert ["p", "shop/p", "q"] == [document.name for document in read(text)]


def test_a_list_is_its_items() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [network_document({}), GOOD]}

    assert ["shop/p", "p"] == [document.name for document in read(json.dumps(listed))]


def test_a_fault_says_in_which_document_it_is() -> None:
    bad = hawse_document({"endpointSelector": {}, "ingress": [5]}, name="q")
    listed = {"apiVersion": "v1", "kind": "List", "items": [GOOD, bad]}

    assert faults_of(json.dumps(listed)) == ["items[1].spec.ingress[0]: has to be a mapping, not a number"]
    assert faults_of(f"{json.dumps(hawse_document({}, name='r'))}\n---\n{json.dumps(listed)}") == [
        "document 1: spec.endpointSelector: is missing: write {} to select every endpoint",
        "document 1: spec: says nothing: write at least one of ingress, ingressDeny, egress, egressDeny",
        "document 2: items[1].spec.ingress[0]: has to be a mapping, not a number",
    ]
    assert faults_of(f"{json.dumps(GOOD)}\n---\n5\n")[0].startswith("document 2: a policy document is a mapping")


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"kind": "List", "items": []}, "apiVersion: is missing: write v1"),
        ({"apiVersion": "v2", "kind": "List", "items": []}, "apiVersion: a List has apiVersion v1"),
        ({"apiVersion": "v1", "kind": "List"}, "items: is missing"),
        ({"apiVersion": "v1", "kind": "List", "items": {}}, "items: has to be a list, not a mapping"),
        ({"apiVersion": "v1", "kind": "List", "items": []}, "there is no document in the text"),
        (
            {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "List", "items": []}]},
            'items[0].kind: "List" of apiVersion "v1" is not known',
        ),
        (
            {"apiVersion": "v1", "kind": "List", "items": [GOOD] * (DOCUMENTS_MAX + 1)},
            f"items: has {DOCUMENTS_MAX + 1} elements",
        ),
    ],
)
def test_a_list_is_checked(listed: dict[str, Any], said: str) -> None:
    faults = faults_of(json.dumps(listed))

    assert any(said in fault for fault in faults), faults


def test_many_lists_together_have_too_many_documents_as_well() -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [1] * DOCUMENTS_MAX})

    assert f"{2 * DOCUMENTS_MAX} documents; at most {DOCUMENTS_MAX}" in faults_of(f"{listed}\n---\n{listed}")[0]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n---\n", "null", "~"])
def test_a_text_without_a_document_is_refused(text: str) -> None:
    assert faults_of(text) == ["there is no document in the text"]


def test_a_name_stands_for_one_document() -> None:
    text = f"{json.dumps(GOOD)}\n---\n{json.dumps(GOOD)}"

    assert faults_of(text) == ["document 2: metadata.name: two documents have the name p"]


def test_one_bad_document_refuses_all() -> None:
    faults = faults_of(f"{json.dumps(GOOD)}\n---\n{json.dumps({**GOOD, 'metadata': {}})}")

    assert faults == ["document 2: metadata.name: is missing: give the policy a name"]


# Tricks


def test_nobody_and_everybody_are_told_apart() -> None:
    """What is left out, empty and null means what each kind's own documentation says."""
    ports = {"toPorts": [{"ports": [{"port": 80}]}]}

    assert hawse_policy(ingress=[{"fromEndpoints": []}]).ingress[0].peers == ()
    assert hawse_policy(ingress=[{"fromEndpoints": [{}]}]).ingress[0].peers == (Selector(),)
    assert hawse_policy(ingress=[ports]).ingress[0].peers is None
    assert hawse_policy(ingress=[{"fromEndpoints": [], **ports}]).ingress[0].peers == ()
    assert hawse_policy(ingress=[{}]).ingress == ()
    assert "has no value" in hawse_faults(ingress=[{"fromEndpoints": None}])[0]
    assert network_policy(ingress=[{"from": []}]).ingress[1].peers is None
    assert network_policy(ingress=[{"from": None}]).ingress[1].peers is None
    assert network_policy(ingress=[{}]).ingress[1].peers is None


def test_a_selector_of_no_conditions_is_the_empty_one_however_it_is_written() -> None:
    written: list[dict[str, Any]] = [
        {},
        {"matchLabels": {}},
        {"matchExpressions": []},
        {"matchLabels": {}, "matchExpressions": []},
    ]

    assert {Selector()} == {hawse_policy(endpointSelector=one, ingress=[]).subject for one in written}


def test_ten_thousand_labels_are_refused_in_one_sentence() -> None:
    labels = {f"key-{number}": "value" for number in range(10_000)}

    assert hawse_faults(endpointSelector={"matchLabels": labels}, ingress=[]) == [
        "spec.endpointSelector.matchLabels: has 10000 labels; at most 256 are taken"
    ]


def test_a_document_of_a_megabyte_is_refused() -> None:
    document = hawse_document({"endpointSelector": {}, "ingress": [], "description": "x" * 2**20})

    assert "bytes; at most 524288 are taken" in faults_of(json.dumps(document))[0]


def test_a_bomb_of_aliases_does_not_go_off() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))

    assert faults_of(bomb) == ["line 1: the anchor &a is not taken: write each part where it belongs"]


def test_a_bomb_of_faults_is_cut() -> None:
    faults = hawse_faults(ingress=[], **{f"field{number}": 1 for number in range(20_000)})

    assert len(faults) == FAULTS_MAX


def test_a_message_is_one_short_line_whatever_the_document_says() -> None:
    faults = hawse_faults(
        ingress=[{"fromEntities": ["\x1b[2J" + "x" * 10_000]}], **{"a\nb": 1, "c" * 10_000: 2, 'd"e': 3}
    )

    assert len(faults) == 4
    assert all(len(fault) < 400 and fault.isprintable() for fault in faults)


# Back from the store


STORED = [
    GOOD,
    network_document({"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}], "egress": None}),
    hawse_document(
        {
            "endpointSelector": {"matchLabels": {"größe": "☃"}},
            "egress": [
                {
                    "toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}],
                    "toPorts": [{"ports": [{"port": 80}]}],
                }
            ],
            "enableDefaultDeny": {"egress": False},
        }
    ),
]


@pytest.mark.parametrize("document", STORED, ids=["hawse", "kubernetes", "free-text"])
def test_what_was_stored_is_read_as_it_was(document: dict[str, Any]) -> None:
    (applied,) = read(json.dumps({**document, "status": {"x": 1}}))

    assert document == applied.plain
    assert applied == from_record(applied.name, json.loads(json.dumps(applied.plain)))


def test_a_document_under_another_key_is_refused() -> None:
    with pytest.raises(InvalidDocument, match=r'metadata\.name: is not "q", its key in the store'):
        from_record("q", GOOD)


def test_a_document_of_a_newer_version_is_refused_when_it_comes_from_the_store() -> None:
    with pytest.raises(InvalidDocument, match=r"spec\.egress\[0\]\.toServices2: unknown field"):
        from_record("p", hawse_document({"endpointSelector": {}, "egress": [{"toServices2": []}]}))


# Any shape


# fmt: off
NAMES = [
    "apiVersion", "kind", "metadata", "spec", "name", "namespace", "labels", "items", "status",
    "endpointSelector", "podSelector", "namespaceSelector", "matchLabels", "matchExpressions",
    "key", "operator", "values", "ingress", "egress", "ingressDeny", "egressDeny",
    "enableDefaultDeny", "policyTypes", "from", "to", "ports", "ipBlock", "fromEndpoints",
    "toEndpoints", "fromCIDR", "toCIDRSet", "toEntities", "cidr", "except", "toPorts", "icmps",
    "fields", "port", "endPort", "protocol", "type", "family", "any:a", "k8s:a", "reserved:init",
    "reserved:host",
]
TEXTS = [
    "hawse/v1", "networking.k8s.io/v1", "v1", "Policy", "NetworkPolicy", "List", "In", "Exists",
    "Ingress", "Egress", "80", "http", "TCP", "ANY", "10.0.0.0/8", "10.1.0.0/16", "::/0", "world",
    "all", "EchoRequest", "IPv4", "web", "\ud800",
]
# fmt: on
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(TEXTS + NAMES)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=30,
)
SPECS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)


def is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidDocument):
        for document in read(text):
            assert document == from_record(document.name, json.loads(json.dumps(document.plain)))


@given(VALUES)
def test_any_json_is_read_or_refused(value: object) -> None:
    is_read_or_refused(json.dumps(value))


@settings(max_examples=300)
@given(st.sampled_from([hawse_document, network_document]), SPECS)
def test_any_spec_is_read_or_refused(document: Any, spec: Mapping[str, object]) -> None:
    is_read_or_refused(json.dumps(document(spec)))
    with contextlib.suppress(InvalidDocument):
        from_record("p", document(spec))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    is_read_or_refused(text)


@given(st.lists(st.sampled_from(list(Entity)), min_size=1), st.booleans())
def test_what_is_said_of_entities_is_what_is_read(entities: list[Entity], deny: bool) -> None:  # noqa: FBT001
    section = "ingressDeny" if deny else "ingress"
    (rule,) = hawse_policy(**{section: [{"fromEntities": [str(one) for one in entities]}]}).ingress

    assert (tuple(entities), deny) == (rule.peers, rule.deny)
