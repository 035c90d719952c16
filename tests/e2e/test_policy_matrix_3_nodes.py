"""Three nodes: who reaches whom by labels and ports, on the same host and on others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.cast import playing
from tests.support.node import Node
from tests.support.policy_matrix import OPEN, Matrix, Row, denied_by, documents, labelled, no_rule, policy, ports
from tests.support.testbed import Testbed

DB: Final = labelled(app="db")
WEB: Final = labelled(app="web")


@pytest.fixture(scope="module")
def matrix(testbed: Testbed, swarm_of_three: list[Node]) -> Iterator[Matrix]:
    with playing(testbed, swarm_of_three) as cast:
        cast.service("api", app="api")
        cast.service("cache", attachment={"app": "cache", "tier": "back"}, app="another")
        for node in (0, 2):
            cast.container("web", node, app="web", tier="front")
        names = {"hawse.port.pg": "7001/tcp", "hawse.port.dns": "7002/udp"}
        for node in (0, 1):
            cast.container("db", node, app="db", tier="back", **names)
        cast.wait_ready()
        yield Matrix(cast)


ROWS: Final = [
    Row(
        "no policy",
        "",
        {
            "web > db any": OPEN,
            "web > api any": OPEN,
            "api > db any": OPEN,
            "api > api any": OPEN,
            "cache > db any": OPEN,
            "cache > api any": OPEN,
        },
    ),
    Row(
        "L3 allow",
        policy("l3", DB, ingress=[{"fromEndpoints": [WEB]}]),
        {
            "web > db 7001 7002 icmp": OPEN,
            "api > db any": no_rule("ingress", "l3"),
            "cache > db any": no_rule("ingress", "l3"),
            "db > db any": no_rule("ingress", "l3"),
            "db > web any": OPEN,
            "db > api 7001": OPEN,
            "api > web any": OPEN,
        },
    ),
    Row(
        "L3 deny",
        policy(
            "l3",
            DB,
            ingressDeny=[{"fromEndpoints": [WEB, labelled(app="cache")]}],
            enableDefaultDeny={"ingress": False},
        ),
        {
            "web > db any": denied_by("ingress", "l3", "spec.ingressDeny[0]"),
            "cache > db any": denied_by("ingress", "l3", "spec.ingressDeny[0]"),
            "api > db any": OPEN,
            "db > web any": OPEN,
        },
    ),
    Row(
        "L3 deny alone closes",
        policy("l3", DB, ingressDeny=[{"fromEndpoints": [WEB]}]),
        {
            "web > db any": denied_by("ingress", "l3", "spec.ingressDeny[0]"),
            "api > db any": no_rule("ingress", "l3"),
        },
    ),
    Row(
        "L3 and L4",
        policy("l4", DB, ingress=[{"fromEndpoints": [WEB], "toPorts": ports("7001/tcp", "7002/udp")}]),
        {
            "web > db 7001/tcp 7002/udp": OPEN,
            "web > db 7001/udp 7002/tcp 7003 icmp": no_rule("ingress", "l4"),
            "api > db 7001 7002": no_rule("ingress", "l4"),
        },
    ),
    Row(
        "L4 only",
        policy("l4", DB, ingress=[{"toPorts": ports("7001")}]),
        {
            "web > db 7001": OPEN,
            "api > db 7001": OPEN,
            "cache > db 7001": OPEN,
            "web > db 7002 icmp": no_rule("ingress", "l4"),
            "api > db 7002": no_rule("ingress", "l4"),
        },
    ),
    Row(
        "port range",
        policy("range", DB, ingress=[{"toPorts": ports("7010-7019")}]),
        {
            "web > db 7010 7015 7019": OPEN,
            "api > db 7010 7019": OPEN,
            "web > db 7003 7020": no_rule("ingress", "range"),
        },
    ),
    Row(
        "port range of one protocol, denied",
        policy(
            "range",
            DB,
            ingressDeny=[{"fromEntities": ["all"], "toPorts": ports("7010-7019/udp")}],
            enableDefaultDeny={"ingress": False},
        ),
        {
            "web > db 7010/udp 7015/udp 7019/udp": denied_by("ingress", "range", "spec.ingressDeny[0]"),
            "web > db 7010/tcp 7019/tcp 7003/udp 7020/udp": OPEN,
        },
    ),
    Row(
        "named port, ingress",
        policy("named", DB, ingress=[{"toPorts": ports("pg", "dns")}]),
        {
            "web > db 7001/tcp 7002/udp": OPEN,
            "web > db 7001/udp 7002/tcp 7003": no_rule("ingress", "named"),
        },
    ),
    Row(
        "named port, egress",
        policy("named", WEB, egress=[{"toEndpoints": [{}], "toPorts": ports("pg", "dns")}]),
        {
            "web > db 7001/tcp 7002/udp": OPEN,
            "web > db 7001/udp 7002/tcp": no_rule("egress", "named"),
            "web > cache 7001 7002": no_rule("egress", "named"),
        },
    ),
    Row(
        "ICMP allow",
        policy("icmp", DB, ingress=[{"fromEndpoints": [WEB], "icmps": [{"fields": [{"type": "EchoRequest"}]}]}]),
        {
            "web > db icmp": OPEN,
            "web > db 7001": no_rule("ingress", "icmp"),
            "api > db icmp": no_rule("ingress", "icmp"),
            "db > api icmp": OPEN,
        },
    ),
    Row(
        "ICMP deny",
        policy(
            "icmp",
            WEB,
            egressDeny=[{"toEntities": ["all"], "icmps": [{"fields": [{"type": 8}]}]}],
            enableDefaultDeny={"egress": False},
        ),
        {
            "web > db icmp": denied_by("egress", "icmp", "spec.egressDeny[0]"),
            "web > db 7001": OPEN,
            "db > web icmp": OPEN,
        },
    ),
    Row(
        "deny above allow",
        documents(
            policy("open", DB, ingress=[{"fromEntities": ["all"]}]),
            policy("shut", DB, ingressDeny=[{"fromEndpoints": [WEB], "toPorts": ports("7001")}]),
        ),
        {
            "web > db 7001": denied_by("ingress", "shut", "spec.ingressDeny[0]"),
            "web > db 7002 icmp": OPEN,
            "api > db any": OPEN,
        },
    ),
    Row(
        "deny above allow, the deny wider than the allow",
        policy(
            "both",
            WEB,
            egress=[{"toEndpoints": [DB], "toPorts": ports("7001/tcp")}],
            egressDeny=[{"toEndpoints": [labelled(tier="back")]}],
        ),
        {
            "web > db any": denied_by("egress", "both", "spec.egressDeny[0]"),
            "web > cache any": denied_by("egress", "both", "spec.egressDeny[0]"),
            "web > api any": no_rule("egress", "both"),
        },
    ),
    Row(
        "egress only",
        policy("out", WEB, egress=[{"toEndpoints": [DB], "toPorts": ports("7001")}]),
        {
            "web > db 7001": OPEN,
            "web > db 7002 icmp": no_rule("egress", "out"),
            "web > api any": no_rule("egress", "out"),
            "api > web any": OPEN,
            "db > web any": OPEN,
        },
    ),
    Row(
        "both directions",
        documents(
            policy("out", WEB, egress=[{"toEndpoints": [DB]}]),
            policy("in", DB, ingress=[{"fromEndpoints": [WEB]}]),
        ),
        {
            "web > db any": OPEN,
            "web > api any": no_rule("egress", "out"),
            "api > db any": no_rule("ingress", "in"),
            "api > web any": OPEN,
            "db > api any": OPEN,
        },
    ),
    Row(
        "both ends must allow",
        documents(
            policy("out", WEB, egress=[{"toEndpoints": [DB, labelled(app="cache")]}]),
            policy("in", DB, ingress=[{"fromEndpoints": [labelled(app="api")]}]),
        ),
        {
            "web > db any": no_rule("ingress", "in"),
            "web > cache any": OPEN,
            "api > db any": OPEN,
        },
    ),
    Row(
        "default deny of ingress leaves egress open",
        policy("closed", DB, ingress=[]),
        {
            "web > db any": no_rule("ingress", "closed"),
            "db > web any": OPEN,
            "db > cache any": OPEN,
        },
    ),
    Row(
        "default deny of egress leaves ingress open",
        policy("closed", DB, egress=[{}]),
        {
            "db > web any": no_rule("egress", "closed"),
            "web > db any": OPEN,
            "cache > db any": OPEN,
        },
    ),
    Row(
        "default deny without rules",
        policy("closed", DB, enableDefaultDeny={"ingress": True, "egress": True}),
        {
            "web > db any": no_rule("ingress", "closed"),
            "db > web any": no_rule("egress", "closed"),
        },
    ),
    Row(
        "allow without default deny",
        policy("open", DB, ingress=[{"fromEndpoints": [WEB]}], enableDefaultDeny={"ingress": False}),
        {
            "web > db any": OPEN,
            "api > db any": OPEN,
        },
    ),
    Row(
        "In",
        policy(
            "in",
            DB,
            ingress=[
                {
                    "fromEndpoints": [
                        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "cache"]}]}
                    ]
                }
            ],
        ),
        {
            "web > db any": OPEN,
            "cache > db any": OPEN,
            "api > db any": no_rule("ingress", "in"),
        },
    ),
    Row(
        "NotIn",
        policy(
            "notin",
            DB,
            ingress=[
                {"fromEndpoints": [{"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}]}
            ],
        ),
        {
            "web > db any": no_rule("ingress", "notin"),
            "cache > db any": OPEN,
            "api > db any": OPEN,
        },
    ),
    Row(
        "Exists",
        policy(
            "exists", DB, ingress=[{"fromEndpoints": [{"matchExpressions": [{"key": "tier", "operator": "Exists"}]}]}]
        ),
        {
            "web > db any": OPEN,
            "cache > db any": OPEN,
            "api > db any": no_rule("ingress", "exists"),
        },
    ),
    Row(
        "DoesNotExist",
        policy(
            "without",
            DB,
            ingress=[{"fromEndpoints": [{"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}]}],
        ),
        {
            "web > db any": no_rule("ingress", "without"),
            "cache > db any": no_rule("ingress", "without"),
            "api > db any": OPEN,
        },
    ),
    Row(
        "expressions select the endpoints, too",
        policy(
            "back",
            {
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["back"]},
                    {"key": "app", "operator": "NotIn", "values": ["db"]},
                ]
            },
            ingress=[{"fromEndpoints": [{"matchLabels": {"any:app": "web"}}]}],
        ),
        {
            "web > cache any": OPEN,
            "api > cache any": no_rule("ingress", "back"),
            "api > db any": OPEN,
        },
    ),
    Row(
        "labels of a service",
        policy(
            "service", {"matchLabels": {"com.docker.swarm.service.name": "api"}}, ingress=[{"fromEndpoints": [WEB]}]
        ),
        {
            "web > api any": OPEN,
            "db > api any": no_rule("ingress", "service"),
            "db > cache any": OPEN,
        },
    ),
    Row(
        "labels of the container do not count where the attachment has some",
        policy("another", labelled(app="another"), ingress=[]),
        {
            "web > cache any": OPEN,
        },
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(matrix: Matrix, row: Row) -> None:
    matrix.check(row)
