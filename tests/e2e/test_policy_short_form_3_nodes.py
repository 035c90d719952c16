"""Three nodes: policy said in labels of the containers themselves, in every form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from tests.support import wait
from tests.support.cast import NETWORK, Cast, playing
from tests.support.node import Node
from tests.support.policy_matrix import OPEN, Denied, Expected, Matrix, Row
from tests.support.testbed import Testbed

SOON_S: Final = 20
COMPOSE_PROJECT: Final = "com.docker.compose.project"
COMPOSE_SERVICE: Final = "com.docker.compose.service"
STACK: Final = "shop_"
"""Roles of a stack of the same name as the Compose project: to hawse that is one namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A container with labels, and who reaches it or whom it reaches: as in a row, with ``it`` for the container."""

    role: str
    attached: bool = False
    """Whether the labels are given with the attachment, and not with the container."""
    labels: Mapping[str, str]
    expected: Mapping[str, str]
    """``open``, ``ingress`` or ``egress`` (no rule allows it), or place and text of the item that denies it."""


FORMS: Final = [
    Form(
        role="nobody",
        labels={"hawse.ingress": "none"},
        expected={"web > it any": "ingress", "host > it any": "ingress", "it > web any": "open"},
    ),
    Form(
        role="mute",
        labels={"hawse.egress": "none"},
        expected={"it > web any": "egress", "it > host any": "egress", "web > it any": "open"},
    ),
    Form(
        role="ported",
        labels={"hawse.ingress": "app=web 7001/tcp; app=api 7001/tcp,7002/udp"},
        expected={
            "web > it 7001/tcp": "open",
            "web > it 7001/udp 7002 icmp": "ingress",
            "api > it 7001/tcp 7002/udp": "open",
            "api > it 7001/udp 7002/tcp": "ingress",
            "shop > it 7001": "ingress",
        },
    ),
    Form(
        role="anyone",
        labels={"hawse.ingress": "* 7001/tcp,7010-7019"},
        expected={
            "web > it 7001/tcp 7010 7019": "open",
            "host > it 7001/tcp": "open",
            "world > it 7015": "open",
            "web > it 7001/udp 7020 icmp": "ingress",
        },
    ),
    Form(
        role="worldless",
        labels={"hawse.ingress": "*; !world"},
        expected={"web > it any": "open", "remote-node > it any": "open", "world > it any": "hawse.ingress[1]: !world"},
    ),
    Form(
        role="hosted",
        labels={"hawse.ingress": "host; world 7001/tcp"},
        expected={
            "host > it any": "open",
            "remote-node > it any": "ingress",
            "world > it 7001/tcp": "open",
            "world > it 7001/udp": "ingress",
            "web > it any": "ingress",
        },
    ),
    Form(
        role="prefixed",
        labels={"hawse.ingress": "192.0.2.0/24 7001; !192.0.2.200", "hawse.egress": "192.0.2.10"},
        expected={
            "world > it 7001": "open",
            "world > it 7002": "ingress",
            "world-far > it 7001": "hawse.ingress[1]: !192.0.2.200",
            "it > world any": "open",
            "it > world-far any": "egress",
            "it > web any": "egress",
        },
    ),
    Form(
        role="named",
        labels={"hawse.ingress": "app http", "hawse.port.http": "7002/tcp"},
        expected={"web > it 7002/tcp": "open", "web > it 7002/udp 7001": "ingress", "world > it 7002/tcp": "ingress"},
    ),
    Form(
        role="icmped",
        labels={"hawse.ingress": "app=web icmp/8; app=api udp"},
        expected={
            "web > it icmp": "open",
            "web > it 7001": "ingress",
            "api > it 7001/udp": "open",
            "api > it icmp": "ingress",
        },
    ),
    Form(
        role="out",
        labels={"hawse.egress": "app=api 7001; !app=api,tier=back 7001/udp"},
        expected={
            "it > api 7001/tcp": "open",
            "it > api 7001/udp": "hawse.egress[1]: !app=api,tier=back 7001/udp",
            "it > web 7001": "egress",
        },
    ),
    Form(
        role="project",
        labels={COMPOSE_PROJECT: "shop", "hawse.ingress": "service=front 7001; namespace=default,app=web 7002"},
        expected={
            "shop > it 7001": "open",
            "shop > it 7002": "ingress",
            "web > it 7002": "open",
            "web > it 7001": "ingress",
            "api > it 7002": "ingress",
        },
    ),
    Form(
        role="own",
        labels={"hawse.ingress": "namespace=shop 7001; namespace=*,tier=back"},
        expected={
            "shop > it 7001": "open",
            "shop > it 7002": "ingress",
            "api > it any": "open",
            "web > it any": "ingress",
        },
    ),
    Form(
        role="attached",
        attached=True,
        labels={"app": "db", "hawse.ingress": "app=web 7001/tcp;app=api 7002", "hawse.egress": "none"},
        expected={
            "web > it 7001/tcp": "open",
            "web > it 7001/udp 7002": "ingress",
            "api > it 7002": "open",
            "it > web any": "egress",
        },
    ),
    Form(
        role="shop_db",
        labels={"hawse.ingress": "service=web 7001/tcp,icmp; service=front 7002"},
        expected={
            "shop_web > it 7001/tcp icmp": "open",
            "shop_web > it 7001/udp 7002": "ingress",
            "shop > it 7002": "open",
            "shop > it 7001": "ingress",
            "web > it any": "ingress",
            "it > shop_web any": "open",
        },
    ),
    Form(
        role="broken",
        labels={"hawse.ingress": "app=web 70000/tcp; !app=api"},
        expected={"web > it any": "ingress", "api > it any": "hawse.ingress[1]: !app=api", "it > web any": "open"},
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def cast(testbed: Testbed, swarm_of_three: list[Node]) -> Iterator[Cast]:
    with playing(testbed, swarm_of_three) as cast:
        for node in (0, 1):
            cast.container("web", node, app="web", tier="front")
            cast.container("api", node, app="api", tier="back")
        cast.container("shop", 0, **{"app": "web", COMPOSE_PROJECT: "shop", COMPOSE_SERVICE: "front"})
        for number, form in enumerate(FORMS):
            if form.role.startswith(STACK):
                cast.stack("shop", {"db": form.labels, "web": {"app": "web"}})
            else:
                start = cast.attached if form.attached else cast.container
                start(form.role, number % 2, **form.labels)
        cast.hosts()
        cast.world()
        cast.wait_ready()
        yield cast


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.role)
def test_form(cast: Cast, form: Form) -> None:
    (endpoint,) = [
        one
        for one in cast.nodes[0].hawse_json("endpoint", "ls")["endpoints"]
        if one["container"] == cast.spots[form.role][0].container
    ]
    name = f"labels:{endpoint['identity']}"

    def meant(word: str) -> Expected:
        if word == "open":
            return OPEN
        if word in {"ingress", "egress"}:
            return Denied(direction=word, selected_by=(name,))
        return Denied(direction=word.removeprefix("hawse.").partition("[")[0], rule=f"{name} {word}")

    rows = {
        " ".join(form.role if part == "it" else part for part in text.split()): meant(word)
        for text, word in form.expected.items()
    }
    Matrix(cast).check(Row(form.role, "", rows))


def test_a_form_that_cannot_be_read_is_a_warning_on_every_node_while_somebody_has_it(cast: Cast) -> None:
    there = cast.nodes[2]
    there.start("mistaken", NETWORK, "--label", "hawse.ingress=app=web 70001/tcp")

    def told() -> None:
        for node in cast.nodes:
            said = node.hawse("status")
            assert said.rc == 0, said.out
            assert said.out.startswith("OK, with a warning\n")
            assert '"app=web 70000/tcp": "70000/tcp" is not a port' in said.out
            assert '"app=web 70001/tcp": "70001/tcp" is not a port' in said.out
            assert any("70001/tcp" in warning for warning in node.hawse_json("status")["warnings"])

    def told_no_more() -> None:
        for node in cast.nodes:
            said = node.hawse("status")
            assert said.rc == 0, said.out
            assert "70000/tcp" in said.out
            assert "70001/tcp" not in said.out

    wait.until_passes(told, timeout_s=SOON_S)
    there.remove("mistaken")
    wait.until_passes(told_no_more, timeout_s=SOON_S)
    labels = [one["labels"] for one in there.hawse_json("identity", "ls")["identities"]]
    assert any("70001/tcp" in str(one) for one in labels), "the identity itself stays until it is collected"
