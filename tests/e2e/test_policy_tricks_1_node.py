"""One node: labels and selectors that try to trick, with real engines: right, or refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from kvstore import keys
from tests.support import wait
from tests.support.cast import NETWORK, Cast, playing
from tests.support.images import IMAGE
from tests.support.node import Node
from tests.support.policy_matrix import (
    OPEN,
    Document,
    Matrix,
    Row,
    documents,
    labelled,
    network_policy,
    no_rule,
    policy,
    ports,
)
from tests.support.testbed import Testbed

DB: Final = labelled(app="db")
EVERY: Final[Document] = {}
COMPOSED: Final = "w\u00e9b \u2713"
DECOMPOSED: Final = "we\u0301b \u2713"
LOOKALIKE: Final = "d\u044c"
"""No «db»: its second letter is Cyrillic."""
HEAD: Final = "apiVersion: hawse/v1\nkind: Policy\nmetadata: {name: trick}\nspec:\n"
SOON_S: Final = 20


# What is tried here is between containers and hawse: which engine starts them is of no account.
pytestmark = pytest.mark.parametrize("node_of_each_engine", ["20.10"], indirect=True)


@pytest.fixture(scope="module")
def cast(testbed: Testbed, one_node: Node) -> Iterator[Cast]:
    with playing(testbed, [one_node]) as cast:
        cast.container("db", 0, app="db")
        cast.container("web", 0, app="web")
        cast.container("composed", 0, app=COMPOSED)
        cast.container("decomposed", 0, app=DECOMPOSED)
        cast.container("lookalike", 0, app=LOOKALIKE)
        cast.container("empty", 0, app="", tier="")
        cast.container("bare", 0)
        cast.container(
            "pretender", 0, shown={"app": "web2"}, **{"app": "web2", "reserved:host": "", "reserved:init": ""}
        )
        cast.container("crowd", 0, unknown=True, **{f"label{number}": "x" for number in range(10_000)})
        cast.container("ported", 0, **{"app": "ported", "hawse.port.http": "70000/tcp", "hawse.port.dns": "7002/udp"})
        cast.hosts()
        cast.wait_ready()
        yield cast


def ingress(*rules: Document) -> str:
    return policy("in", DB, ingress=list(rules))


def whom(selector: Document, *, opens: tuple[str, ...], name: str) -> Row:
    """Which of the cast a selector of peers selects."""
    roles = ("web", "composed", "decomposed", "lookalike", "empty", "bare", "pretender", "host")
    return Row(
        name,
        ingress({"fromEndpoints": [selector]}),
        {f"{role} > db any": OPEN if role in opens else no_rule("ingress", "in") for role in roles},
    )


CONTAINERS: Final = ("web", "composed", "decomposed", "lookalike", "empty", "bare", "pretender")
CLOSED: Final = {"web > db any": no_rule("ingress", "in"), "host > db any": no_rule("ingress", "in")}

ROWS: Final = [
    Row(
        "an empty selector is every endpoint",
        policy("every", EVERY, ingress=[]),
        {f"db > {role} any": no_rule("ingress", "every") for role in (*CONTAINERS, "crowd")} | {"db > host any": OPEN},
    ),
    Row(
        "matchLabels without labels is every endpoint",
        policy("every", {"matchLabels": {}}, ingress=[]),
        {f"db > {role} any": no_rule("ingress", "every") for role in (*CONTAINERS, "crowd")},
    ),
    Row(
        "matchExpressions without expressions is every endpoint",
        policy("every", {"matchExpressions": [], "matchLabels": {}}, ingress=[]),
        {f"db > {role} any": no_rule("ingress", "every") for role in (*CONTAINERS, "crowd")},
    ),
    Row("no rules: nobody", ingress(), CLOSED),
    Row("a rule without peers and ports: nobody", ingress({}), CLOSED),
    Row("an empty list of peers: nobody", ingress({"fromEndpoints": []}), CLOSED),
    Row(
        "an empty list of peers with ports: nobody",
        ingress({"fromEndpoints": [], "toPorts": ports("7001")}),
        CLOSED,
    ),
    Row(
        "no list of peers, but ports: anyone",
        ingress({"toPorts": ports("7001")}),
        {
            "web > db 7001": OPEN,
            "host > db 7001": OPEN,
            "crowd > db 7001": OPEN,
            "web > db 7002": no_rule("ingress", "in"),
        },
    ),
    whom(EVERY, opens=CONTAINERS, name="an empty selector of peers is every endpoint"),
    whom({"matchLabels": {}}, opens=CONTAINERS, name="so is one with matchLabels without labels"),
    Row(
        "NetworkPolicy: no rule is nobody",
        network_policy("default", "in", DB, ingress=[]),
        {"web > db any": no_rule("ingress", "default/in"), "host > db any": OPEN},
    ),
    Row(
        "NetworkPolicy: a rule without anything is anyone",
        network_policy("default", "in", DB, ingress=[{}]),
        {"web > db any": OPEN, "crowd > db any": OPEN},
    ),
    Row(
        "NetworkPolicy: empty lists are as if left out",
        network_policy("default", "in", DB, ingress=[{"from": [], "ports": []}]),
        {"web > db any": OPEN, "crowd > db any": OPEN},
    ),
    Row(
        "NetworkPolicy: null is as if left out",
        network_policy("default", "in", DB, ingress=[{"from": None, "ports": [{"port": 7001}]}]),
        {"web > db 7001/tcp": OPEN, "web > db 7001/udp 7002": no_rule("ingress", "default/in")},
    ),
    whom(labelled(app=COMPOSED), opens=("composed",), name="one character or two are different labels"),
    whom(labelled(app=DECOMPOSED), opens=("decomposed",), name="and the other way round"),
    whom(labelled(app=""), opens=("empty",), name="an empty value is a value"),
    whom(
        {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
        opens=("bare",),
        name="a label that is empty exists",
    ),
    whom(
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web", ""]}]},
        opens=("composed", "decomposed", "lookalike", "bare", "pretender"),
        name="NotIn holds without the label",
    ),
    whom({"matchExpressions": [{"key": "App", "operator": "Exists"}]}, opens=(), name="keys are compared by letter"),
    whom(labelled(**{"reserved:host": ""}), opens=("host",), name="nobody is the host by a label"),
    whom(labelled(app="web2"), opens=("pretender",), name="other labels beside reserved ones count"),
    Row(
        "who is called almost the same is not protected by another's policy",
        policy("in", DB, ingress=[]),
        {"web > lookalike any": OPEN, "web > db any": no_rule("ingress", "in")},
    ),
    Row(
        "a port that is none has no name, and the other has",
        policy("in", labelled(app="ported"), ingress=[{"toPorts": ports("http", "dns")}]),
        {"web > ported 7002/udp": OPEN, "web > ported 7001 7002/tcp": no_rule("ingress", "in")},
    ),
    Row(
        "too many labels are no labels: closed as anybody is, open as everybody is",
        documents(policy("in", DB, ingress=[]), policy("out", labelled(app="nobody"), egress=[{}])),
        {
            "web > crowd any": no_rule("ingress", "in"),
            "crowd > web any": no_rule("egress", "out"),
            "web > pretender any": OPEN,
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(cast: Cast, row: Row) -> None:
    Matrix(cast).check(row)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            HEAD + "  endpointSelector: &db {matchLabels: {app: db}}\n  ingress: [{fromEndpoints: [*db]}]\n",
            "line 5: the anchor &db is not taken",
            id="alias",
        ),
        pytest.param("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: the anchor &a is not taken", id="laughs"),
        pytest.param(HEAD + "  endpointSelector: {<<: {}}\n", "line 5: the merge key << is not taken", id="merge"),
        pytest.param(HEAD + "  endpointSelector: !!python/name:os.system\n", "line 5: the tag ", id="tag"),
        pytest.param(
            HEAD + f"  endpointSelector: {{}}\n  ingress: []\n  description: {'x' * 1_000_000}\n",
            "at most 524288 are taken",
            id="megabyte",
        ),
        pytest.param(HEAD + f"  endpointSelector: {'[' * 100}{']' * 100}\n", "more than 64 deep", id="deep"),
        pytest.param(HEAD + "  ingress: [{}]\n", "spec.endpointSelector: is missing", id="no-selector"),
        pytest.param(
            HEAD + "  endpointSelector: {}\n  ingress:\n  - fromEndpoints:\n",
            "spec.ingress[0].fromEndpoints: has no value",
            id="nothing-behind-the-colon",
        ),
        pytest.param(
            HEAD + "  endpointSelector:\n    matchLabels:\n  ingress: []\n",
            "spec.endpointSelector.matchLabels: has no value",
            id="labels-without-a-value",
        ),
        pytest.param(
            HEAD + "  endpointSelector: {}\n  ingress: [{fromEndpoints: [{matchLabels: {'reserved:all': ''}}]}]\n",
            '"reserved:all" is no reserved label',
            id="reserved-that-is-none",
        ),
        pytest.param(
            HEAD + "  endpointSelector: {}\n  ingress: [{fromEndpoints: [{matchLabels: {'reserved:host': x}}]}]\n",
            "reserved:host has no value",
            id="reserved-with-a-value",
        ),
        pytest.param(
            HEAD + "  endpointSelector: {matchLabels: {app: db, app: web}}\n  ingress: []\n",
            'line 5: the key "app" stands twice',
            id="twice",
        ),
        pytest.param(
            HEAD + "  endpointSelector: {matchLabels: {app: yes, ok: true}}\n  ingress: []\n",
            "spec.endpointSelector.matchLabels.ok: has to be text, not true",
            id="truth-as-a-label",
        ),
        pytest.param(
            HEAD.replace("trick", "../identities/1") + "  endpointSelector: {}\n  ingress: []\n",
            'metadata.name: "../identities/1" is no policy name',
            id="name-as-a-path",
        ),
        pytest.param(
            HEAD + "  endpointSelector: {}\n  ingressDeny: [{}]\n",
            "spec.ingressDeny[0]: denies nothing",
            id="deny-of-nothing",
        ),
        pytest.param(
            HEAD + "  endpointSelector: {}\n  ingress: [{toPorts: [{ports: [{port: 80}], rules: {http: [{}]}}]}]\n",
            "spec.ingress[0].toPorts[0].rules: not supported yet",
            id="requests",
        ),
        pytest.param(
            documents(
                policy("good", EVERY, ingress=[]),
                policy("bad", EVERY, ingress=[{}, {"toPorts": [{"ports": [{"port": 70000}]}]}]),
            ),
            "document 2: spec.ingress[1].toPorts[0].ports[0].port: 70000 is not a port",
            id="second-of-two",
        ),
    ],
)  # fmt: skip
def test_refused_with_a_reason_and_nothing_is_written(one_node: Node, text: str, reason: str) -> None:
    before = one_node.etcd.entries(keys.ROOT)

    for command in ("validate", "apply"):
        told = one_node.hawse("policy", command, "-f", "-", stdin=text)
        assert (told.rc, reason in told.err) == (1, True), str(told)
    assert policies(one_node) == []
    assert one_node.etcd.entries(keys.POLICIES) == {}
    assert {key for key in one_node.etcd.entries(keys.ROOT) if key not in before} == set()


def test_what_is_larger_than_a_megabyte_is_not_even_sent(one_node: Node) -> None:
    told = one_node.hawse("policy", "apply", "-f", "-", stdin="x" * (2**20 + 1))

    assert told.rc != 0
    assert "larger than 1048576 bytes" in told.err


def policies(node: Node) -> list[object]:
    return list(node.hawse_json("policy", "ls")["policies"])


@pytest.mark.parametrize("key", ["reserved:host", "reserved:", "reserved:init"])
def test_a_reserved_label_of_an_attachment_is_refused(cast: Cast, key: str) -> None:
    (node,) = cast.nodes
    options = f"name={NETWORK},driver-opt=label.{key}=,driver-opt=label.app=db"
    before = len(node.hawse_json("endpoint", "ls")["endpoints"])

    told = node.engine.run("run", "--rm", "--network", options, IMAGE, "true")

    assert told.rc != 0
    assert "labels that begin with 'reserved:' are hawse's own" in told.err
    assert len(node.hawse_json("endpoint", "ls")["endpoints"]) == before


def test_too_many_labels_are_told_with_the_container(cast: Cast) -> None:
    (node,) = cast.nodes
    (crowd,) = cast.spots["crowd"]

    def problems() -> list[str]:
        told = json.loads(node.hawse("status", "-o", "json").out)["problems"]
        return [problem for problem in told if "10000 labels would make one identity" in problem]

    (problem,) = wait.until("the problem", problems, timeout_s=SOON_S)
    assert problem.startswith(f"container {crowd.container}: its endpoint stays without labels")


def test_what_a_label_says_wrong_is_told(cast: Cast) -> None:
    told = cast.nodes[0].hawse("status").out

    assert "hawse.port.http" in told
    assert "70000" in told
