"""Three nodes: hosts, the world and its prefixes as peers of containers, and containers without known labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.cast import playing
from tests.support.node import Node
from tests.support.policy_matrix import (
    OPEN,
    Document,
    Expected,
    Matrix,
    Row,
    denied_by,
    documents,
    labelled,
    network_policy,
    no_rule,
    policy,
    ports,
)
from tests.support.testbed import Testbed

DB: Final = labelled(app="db")
WEB: Final = labelled(app="web")
EVERYBODY: Final = ("web", "nameless", "host", "remote-node", "world", "world-far")
MEANS: Final = {
    "all": EVERYBODY,
    "cluster": ("web", "nameless", "host", "remote-node"),
    "host": ("host",),
    "remote-node": ("remote-node",),
    "world": ("world", "world-far"),
    "init": ("nameless",),
    "unmanaged": (),
    "health": (),
    "none": (),
}
"""The entities, and who of the cast they are."""
WORLD: Final = "192.0.2.0/24"
FAR: Final = "192.0.2.128/25"
UNDERLAY: Final = "10.77.0.0/24"
POOL: Final = "10.2.0.0/16"
TOO_MANY: Final = {f"label{number}": "x" for number in range(129)}
"""More than can make an identity: who has them is «init» for ever."""


@pytest.fixture(scope="module")
def matrix(testbed: Testbed, swarm_of_three: list[Node]) -> Iterator[Matrix]:
    with playing(testbed, swarm_of_three) as cast:
        for node in (0, 1):
            cast.container("db", node, app="db")
        for node in (0, 2):
            cast.attached("web", node, app="web")
        cast.container("nameless", 0, unknown=True, **TOO_MANY)
        cast.hosts()
        cast.world()
        cast.wait_ready()
        yield Matrix(cast)


def inbound(who: str, outcome: Expected) -> dict[str, Expected]:
    return {f"{who} > db any": outcome}


def outbound(whom: str, outcome: Expected) -> dict[str, Expected]:
    return {f"web > {whom} any": outcome}


def ingress_row(entity: str) -> Row:
    closed = no_rule("ingress", "in")
    return Row(
        f"from {entity}",
        policy("in", DB, ingress=[{"fromEntities": [entity]}]),
        {f"{who} > db any": OPEN if who in MEANS[entity] else closed for who in EVERYBODY}
        | {"db > web any": OPEN, "db > host any": OPEN},
    )


def egress_row(entity: str) -> Row:
    closed = no_rule("egress", "out")
    whom = ("db", *(who for who in EVERYBODY if who != "web"))
    means = {"db" if who == "web" else who for who in MEANS[entity]}
    return Row(
        f"to {entity}",
        policy("out", WEB, egress=[{"toEntities": [entity]}]),
        {f"web > {who} any": OPEN if who in means else closed for who in whom} | {"db > web any": OPEN},
    )


def deny_row(entity: str) -> Row:
    """From and to an entity is denied, and nothing is closed."""
    into = denied_by("ingress", "shut", "spec.ingressDeny[0]")
    out = denied_by("egress", "shut", "spec.egressDeny[0]")
    means = MEANS[entity]
    return Row(
        f"deny {entity}",
        policy(
            "shut",
            DB,
            ingressDeny=[{"fromEntities": [entity]}],
            egressDeny=[{"toEntities": [entity]}],
            enableDefaultDeny={"ingress": False, "egress": False},
        ),
        {f"{who} > db any": into if who in means else OPEN for who in EVERYBODY if who != "nameless"}
        | {f"db > {who} any": out if who in means else OPEN for who in EVERYBODY if who != "nameless"},
    )


def cidr_set(cidr: str, *excluded: str) -> Document:
    return {"cidr": cidr, "except": list(excluded)} if excluded else {"cidr": cidr}


ROWS: Final = [
    Row(
        "no policy",
        "",
        {f"{who} > db any": OPEN for who in EVERYBODY} | {f"db > {who} any": OPEN for who in EVERYBODY},
    ),
    *(ingress_row(entity) for entity in MEANS),
    *(egress_row(entity) for entity in MEANS),
    *(deny_row(entity) for entity in ("all", "cluster", "host", "remote-node", "world")),
    Row(
        "entities and ports",
        policy("in", DB, ingress=[{"fromEntities": ["world", "host"], "toPorts": ports("7001/tcp", "7002/udp")}]),
        {
            "world > db 7001/tcp 7002/udp": OPEN,
            "host > db 7001/tcp 7002/udp": OPEN,
            "world > db 7001/udp 7002/tcp icmp": no_rule("ingress", "in"),
            "host > db 7001/udp 7002/tcp icmp": no_rule("ingress", "in"),
            "remote-node > db 7001": no_rule("ingress", "in"),
        },
    ),
    Row(
        "from a prefix with an exception",
        policy("in", DB, ingress=[{"fromCIDRSet": [cidr_set(WORLD, FAR)]}]),
        {
            "world > db any": OPEN,
            "world-far > db any": no_rule("ingress", "in"),
            "host > db any": no_rule("ingress", "in"),
            "web > db any": no_rule("ingress", "in"),
        },
    ),
    Row(
        "to a prefix with an exception",
        policy("out", WEB, egress=[{"toCIDRSet": [cidr_set(WORLD, FAR)], "toPorts": ports("7001")}]),
        {
            "web > world 7001": OPEN,
            "web > world 7002 icmp": no_rule("egress", "out"),
            "web > world-far any": no_rule("egress", "out"),
            "web > db any": no_rule("egress", "out"),
            "world > web any": OPEN,
        },
    ),
    Row(
        "a prefix is denied but for its exception",
        policy(
            "shut",
            DB,
            ingressDeny=[{"fromCIDRSet": [cidr_set(WORLD, FAR)]}],
            egressDeny=[{"toCIDRSet": [cidr_set(WORLD, FAR)]}],
            enableDefaultDeny={"ingress": False, "egress": False},
        ),
        {
            "world > db any": denied_by("ingress", "shut", "spec.ingressDeny[0]"),
            "db > world any": denied_by("egress", "shut", "spec.egressDeny[0]"),
            "world-far > db any": OPEN,
            "db > world-far any": OPEN,
            "web > db any": OPEN,
        },
    ),
    Row(
        "prefixes of two policies, one inside of the other",
        documents(
            policy("wide", DB, ingress=[{"fromCIDR": [WORLD]}]),
            policy("narrow", DB, ingressDeny=[{"fromCIDR": ["192.0.2.200"]}]),
        ),
        {
            "world > db any": OPEN,
            "world-far > db any": denied_by("ingress", "narrow", "spec.ingressDeny[0]"),
            "web > db any": no_rule("ingress", "narrow", "wide"),
        },
    ),
    Row(
        "prefixes do not stand for hosts and endpoints",
        policy("in", DB, ingress=[{"fromCIDR": ["10.0.0.0/8", UNDERLAY, POOL]}]),
        {
            "web > db any": no_rule("ingress", "in"),
            "host > db any": no_rule("ingress", "in"),
            "remote-node > db any": no_rule("ingress", "in"),
            "world > db any": no_rule("ingress", "in"),
        },
    ),
    Row(
        "ipBlock with an exception",
        network_policy(
            "default",
            "in",
            DB,
            policyTypes=["Ingress", "Egress"],
            ingress=[{"from": [{"ipBlock": cidr_set(WORLD, FAR)}]}],
            egress=[{"to": [{"ipBlock": cidr_set("0.0.0.0/0", WORLD)}]}],
        ),
        {
            "world > db any": OPEN,
            "world-far > db any": no_rule("ingress", "default/in"),
            "web > db any": no_rule("ingress", "default/in"),
            "remote-node > db any": no_rule("ingress", "default/in"),
            "host > db any": OPEN,
            "db > host any": OPEN,
            "db > world any": no_rule("egress", "default/in"),
            "db > web any": no_rule("egress", "default/in"),
        },
    ),
    Row(
        "hosts by their reserved labels",
        policy("in", DB, ingress=[{"fromEndpoints": [labelled(**{"reserved:host": ""}), WEB]}]),
        {
            "host > db any": OPEN,
            "web > db any": OPEN,
            "remote-node > db any": no_rule("ingress", "in"),
            "world > db any": no_rule("ingress", "in"),
        },
    ),
    Row(
        "every endpoint is neither a host nor the world",
        policy("in", DB, ingress=[{"fromEndpoints": [{}]}]),
        {
            "web > db any": OPEN,
            "nameless > db any": OPEN,
            "host > db any": no_rule("ingress", "in"),
            "remote-node > db any": no_rule("ingress", "in"),
            "world > db any": no_rule("ingress", "in"),
        },
    ),
    Row(
        "without known labels everything is closed that anybody's policy closes",
        policy("other", labelled(app="nobody"), ingress=[{"fromEntities": ["all"]}]),
        {
            "db > nameless any": no_rule("ingress", "other"),
            "host > nameless any": no_rule("ingress", "other"),
            "nameless > db any": OPEN,
            "web > db any": OPEN,
        },
    ),
    Row(
        "without known labels only what every endpoint may",
        documents(
            policy("all", {}, ingress=[{"toPorts": ports("7001")}]),
            policy("db", DB, ingress=[{"fromEntities": ["all"]}]),
        ),
        {
            "web > nameless 7001": OPEN,
            "web > nameless 7002": no_rule("ingress", "all", "db"),
            "web > db 7002": OPEN,
        },
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(matrix: Matrix, row: Row) -> None:
    matrix.check(row)
