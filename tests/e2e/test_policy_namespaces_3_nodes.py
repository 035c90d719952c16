"""Three nodes: namespaces of stacks and Compose projects, and the well-known recipes for NetworkPolicy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.cast import playing
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
)
from tests.support.testbed import Testbed

DB: Final = labelled(app="db")
WEB: Final = labelled(app="web")
EVERY: Final[Document] = {}


@pytest.fixture(scope="module")
def matrix(testbed: Testbed, swarm_of_three: list[Node]) -> Iterator[Matrix]:
    with playing(testbed, swarm_of_three) as cast:
        cast.stack("shop", {"web": {"app": "web"}, "db": {"app": "db", "hawse.port.pg": "7001/tcp"}})
        compose = {"com.docker.compose.project": "ops", "com.docker.compose.service": "probe"}
        for node in (0, 1):
            cast.container("ops", node, app="web", **compose)
        cast.container("stray", 2, app="web")
        cast.hosts()
        cast.wait_ready()
        yield Matrix(cast)


def namespace(name: str) -> Document:
    return {"namespaceSelector": labelled(**{"kubernetes.io/metadata.name": name})}


def pods(selector: Document) -> Document:
    return {"podSelector": selector}


def ingress(name: str, *peers: Document, **rule: object) -> str:
    """The stack's databases are open to these."""
    return network_policy("shop", name, DB, ingress=[{"from": list(peers), **rule}])


SHOP: Final = {"shop_web > shop_db any": OPEN, "shop_db > shop_web any": OPEN}

ROWS: Final = [
    Row(
        "deny all ingress",
        network_policy("shop", "deny-all", EVERY, policyTypes=["Ingress"]),
        {
            "shop_web > shop_db any": no_rule("ingress", "shop/deny-all"),
            "ops > shop_db any": no_rule("ingress", "shop/deny-all"),
            "stray > shop_web any": no_rule("ingress", "shop/deny-all"),
            "remote-node > shop_web any": no_rule("ingress", "shop/deny-all"),
            "host > shop_web any": OPEN,
            "shop_db > ops any": OPEN,
            "ops > stray any": OPEN,
        },
    ),
    Row(
        "deny all egress",
        network_policy("shop", "deny-all", EVERY, policyTypes=["Egress"]),
        {
            "shop_web > shop_db any": no_rule("egress", "shop/deny-all"),
            "shop_db > ops any": no_rule("egress", "shop/deny-all"),
            "shop_web > remote-node any": no_rule("egress", "shop/deny-all"),
            "shop_web > host any": OPEN,
            "ops > shop_db any": OPEN,
        },
    ),
    Row(
        "deny all in both directions",
        network_policy("shop", "deny-all", EVERY, policyTypes=["Ingress", "Egress"]),
        {
            "shop_web > shop_db any": no_rule("egress", "shop/deny-all"),
            "ops > shop_db any": no_rule("ingress", "shop/deny-all"),
            "ops > stray any": OPEN,
        },
    ),
    Row(
        "allow all",
        documents(
            network_policy("shop", "deny-all", EVERY, policyTypes=["Ingress"]),
            network_policy("shop", "allow-all", EVERY, ingress=[{}]),
        ),
        {**SHOP, "ops > shop_db any": OPEN, "remote-node > shop_db any": OPEN},
    ),
    Row(
        "allow from one app",
        ingress("from-web", pods(WEB)),
        {
            **SHOP,
            "shop_db > shop_db any": no_rule("ingress", "shop/from-web"),
            "ops > shop_db any": no_rule("ingress", "shop/from-web"),
            "stray > shop_db any": no_rule("ingress", "shop/from-web"),
            "ops > shop_web any": OPEN,
        },
    ),
    Row(
        "limit to the namespace",
        network_policy("shop", "own", EVERY, ingress=[{"from": [pods(EVERY)]}]),
        {
            **SHOP,
            "ops > shop_db any": no_rule("ingress", "shop/own"),
            "stray > shop_web any": no_rule("ingress", "shop/own"),
            "shop_web > ops any": OPEN,
        },
    ),
    Row(
        "allow from another namespace",
        ingress("from-ops", namespace("ops")),
        {
            "ops > shop_db any": OPEN,
            "shop_web > shop_db any": no_rule("ingress", "shop/from-ops"),
            "stray > shop_db any": no_rule("ingress", "shop/from-ops"),
        },
    ),
    Row(
        "allow from every namespace",
        ingress("from-anywhere", {"namespaceSelector": EVERY}),
        {
            "ops > shop_db any": OPEN,
            "stray > shop_db any": OPEN,
            "shop_web > shop_db any": OPEN,
            "remote-node > shop_db any": no_rule("ingress", "shop/from-anywhere"),
        },
    ),
    Row(
        "allow from an app of another namespace",
        ingress("and", {**namespace("ops"), **pods(WEB)}),
        {
            "ops > shop_db any": OPEN,
            "stray > shop_db any": no_rule("ingress", "shop/and"),
            "shop_web > shop_db any": no_rule("ingress", "shop/and"),
        },
    ),
    Row(
        "allow from another namespace, or from an app of the own one",
        ingress("or", namespace("default"), pods(WEB)),
        {
            "stray > shop_db any": OPEN,
            "shop_web > shop_db any": OPEN,
            "ops > shop_db any": no_rule("ingress", "shop/or"),
            "shop_db > shop_db any": no_rule("ingress", "shop/or"),
        },
    ),
    Row(
        "allow a port",
        ingress("port", pods(WEB), ports=[{"port": 7001}, {"port": 7002, "protocol": "UDP"}]),
        {
            "shop_web > shop_db 7001/tcp 7002/udp": OPEN,
            "shop_web > shop_db 7001/udp 7002/tcp icmp": no_rule("ingress", "shop/port"),
            "ops > shop_db 7001/tcp": no_rule("ingress", "shop/port"),
        },
    ),
    Row(
        "allow a named port",
        ingress("named", ports=[{"port": "pg"}]),
        {
            "shop_web > shop_db 7001/tcp": OPEN,
            "ops > shop_db 7001/tcp": OPEN,
            "ops > shop_db 7001/udp 7002": no_rule("ingress", "shop/named"),
        },
    ),
    Row(
        "allow a range of ports",
        network_policy(
            "shop",
            "range",
            WEB,
            policyTypes=["Egress"],
            egress=[{"to": [pods(DB)], "ports": [{"port": 7010, "endPort": 7019, "protocol": "TCP"}]}],
        ),
        {
            "shop_web > shop_db 7010/tcp 7015/tcp 7019/tcp": OPEN,
            "shop_web > shop_db 7003 7020 7015/udp": no_rule("egress", "shop/range"),
            "shop_web > ops 7015": no_rule("egress", "shop/range"),
            "ops > shop_web any": OPEN,
        },
    ),
    Row(
        "a range of UDP ports",
        ingress("range", ports=[{"port": 7010, "endPort": 7019, "protocol": "UDP"}]),
        {
            "ops > shop_db 7010/udp 7019/udp": OPEN,
            "ops > shop_db 7010/tcp 7003/udp 7020/udp": no_rule("ingress", "shop/range"),
        },
    ),
    Row(
        "a policy of the default namespace",
        network_policy("default", "closed", WEB, policyTypes=["Ingress"]),
        {
            "ops > stray any": no_rule("ingress", "default/closed"),
            "shop_db > stray any": no_rule("ingress", "default/closed"),
            "stray > ops any": OPEN,
            "shop_db > shop_web any": OPEN,
        },
    ),
    Row(
        "a stack by its label",
        policy(
            "stack",
            labelled(**{"com.docker.stack.namespace": "shop", "app": "db"}),
            ingress=[{"fromEndpoints": [labelled(**{"com.docker.stack.namespace": "shop"})]}],
        ),
        {
            **SHOP,
            "ops > shop_db any": no_rule("ingress", "stack"),
            "stray > shop_db any": no_rule("ingress", "stack"),
        },
    ),
    Row(
        "services of Swarm and Compose by their labels",
        policy(
            "service",
            labelled(**{"com.docker.swarm.service.name": "shop_db"}),
            ingress=[
                {
                    "fromEndpoints": [
                        labelled(**{"com.docker.compose.project": "ops", "com.docker.compose.service": "probe"})
                    ]
                }
            ],
        ),
        {
            "ops > shop_db any": OPEN,
            "shop_web > shop_db any": no_rule("ingress", "service"),
            "stray > shop_db any": no_rule("ingress", "service"),
            "shop_db > shop_web any": OPEN,
        },
    ),
    Row(
        "policies of both kinds add up",
        documents(
            ingress("from-web", pods(WEB)),
            policy("ops", DB, ingress=[{"fromEndpoints": [labelled(**{"com.docker.compose.project": "ops"})]}]),
        ),
        {
            "shop_web > shop_db any": OPEN,
            "ops > shop_db any": OPEN,
            "stray > shop_db any": no_rule("ingress", "ops", "shop/from-web"),
        },
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(matrix: Matrix, row: Row) -> None:
    matrix.check(row)
