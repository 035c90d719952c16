"""What the operator sees, as it stands on the screen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from textwrap import dedent, indent
from typing import TypeVar

import msgspec
import pytest

from cli import documents, endpoint_text, render, words
from cli.conform import conform
from cli.endpoint_documents import Endpoints
from cli.table import Column, printable, table
from datapath.api import Feature, TranslationMode
from datapath.policy_table import IdentityFlags
from kvstore.store import StoreStatus
from model.errors import StoreUnavailable
from model.labels import Labels
from model.policies import PolicyMode
from model.policy_answers import Enforcement, NodeRollout, Rollout
from model.service_answers import ServiceHealth
from observe import describe, endpoint_describe
from observe.state import Finding, Scope
from tests.support.agent_state import ENDPOINT_HERE, FixedAgentState, an_endpoint
from tests.support.policy_state import DB, HERE, THERE, a_rollout

Document = TypeVar("Document")


@pytest.fixture
def state() -> FixedAgentState:
    return FixedAgentState()


def _received(document: object, kind: type[Document]) -> Document:
    """The document as it arrives on the other side of the socket."""
    return conform(msgspec.json.decode(msgspec.json.encode(document)), kind)


def _endpoints(state: FixedAgentState) -> Endpoints:
    return _received(endpoint_describe.endpoints(state), Endpoints)


def _status(state: FixedAgentState) -> str:
    return render.status(_received(describe.status(state), documents.Status))


def test_status_when_all_is_well(state: FixedAgentState) -> None:
    assert _status(state) == dedent("""\
        OK

        agent
          0.1.0 on alpha (192.0.2.1), up 1h 2m, global scope
          2 networks, 2 endpoints (1 here), 3 addresses in use

        store
          http://127.0.0.1:2379, etcd 3.4.23, revision 4711, 20.0 KiB on disk

        datapath
          hawse0, UDP port 8472, MTU 1450, programs adopted, nothing loaded
          available: vxlan-gbp, redirect-peer
          not available: netkit: kernel too old; veth is used instead

        policy
          mode default, 2 policies
          revision 123, enforced by every node whose agent runs

        services
          translated at sockets
          3 services with 3 backends in the kernel, 2 ports of this host published

        nodes
          2 nodes, 1 with a running agent
          NODE     ADDRESS    AGENT    VERSION  PORT   MTU  SINCE
          alpha *  192.0.2.1  running  0.1.0    8472  1450  2026-03-01T10:00:00Z
          beta     192.0.2.2  down     0.1.0    8472  1450  2026-03-01T10:00:00Z
        """)


def test_documentation_shows_what_the_command_shows(state: FixedAgentState) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

    assert indent(_status(state), "    ") in documentation


def test_status_starts_with_what_is_wrong(state: FixedAgentState) -> None:
    state.store_error = StoreUnavailable("etcd cannot be reached")
    state.balancing.known_health = ServiceHealth()
    state.change_status(
        address=None,
        problems=("UNDERLAY_IF names eth7, which this host does not have",),
        store=StoreStatus(healthy=False, detail="127.0.0.1:2379: connection refused", endpoints=("127.0.0.1:2379",)),
        datapath=dataclasses.replace(
            state.now.datapath,
            translation=None,
            features=(Feature(name="redirect-peer", available=False, required=True, detail="Linux 5.10 is needed"),),
        ),
    )

    assert _status(state) == dedent("""\
        NOT OK: UNDERLAY_IF names eth7, which this host does not have
        NOT OK: the store (etcd) is not healthy: 127.0.0.1:2379: connection refused
        NOT OK: this kernel lacks redirect-peer, which hawse needs: Linux 5.10 is needed

        agent
          0.1.0 on alpha (address not known yet), up 1h 2m, global scope

        store
          NOT OK: 127.0.0.1:2379: connection refused

        datapath
          hawse0, UDP port 8472, MTU 1450, programs adopted, nothing loaded
          available: -
          NEEDED: redirect-peer: Linux 5.10 is needed

        policy
          not known: the store has not been reached since the agent started

        services
          not translated yet: the datapath has not been started
          0 services with 0 backends in the kernel

        nodes
          not known: the store has not been reached since the agent started
        """)


def test_status_shows_that_the_engine_left_the_swarm(state: FixedAgentState) -> None:
    state.change_status(
        scope=Scope.LOCAL,
        scope_warning="the engine is in a Swarm now: docker plugin disable -f hawse; docker plugin enable hawse",
    )

    assert _status(state).splitlines()[:2] == [
        "OK, with a warning",
        "warning: the engine is in a Swarm now: docker plugin disable -f hawse; docker plugin enable hawse",
    ]


def test_status_shows_what_an_operator_should_correct(state: FixedAgentState) -> None:
    state.policies.known_warnings = ("identity 300: label hawse.ingress: one", "identity 301: label hawse.ingress: two")

    assert _status(state).splitlines()[:4] == [
        "OK, with a warning",
        "warning: identity 300: label hawse.ingress: one",
        "warning: identity 301: label hawse.ingress: two",
        "",
    ]

    state.policies.known_problems = ("the policy map is full",)

    assert _status(state).splitlines()[:2] == [
        "NOT OK: the policy map is full",
        "warning: identity 300: label hawse.ingress: one",
    ]


def test_status_shows_how_far_policy_is(state: FixedAgentState) -> None:
    audited = Enforcement(revision=120, mode=PolicyMode.ALWAYS, audit=True)
    here = NodeRollout(node=HERE, alive=True, enforcement=audited)
    state.policies.rollouts = [Rollout(revision=123, nodes=(here, a_rollout(THERE, None)))]
    state.policies.known_problems = ("the policy map is full: 16384 of 16384 entries",)
    state.known_endpoints = (an_endpoint(ENDPOINT_HERE, HERE, "10.1.0.9"),)

    text = _status(state)

    assert text.startswith("NOT OK: the policy map is full: 16384 of 16384 entries\n")
    assert (
        indent(
            dedent("""\
        mode always, AUDIT: denials are only reported, 2 policies
        revision 123, this node enforces 120
        not enforced yet on alpha, beta
        1 endpoint here without labels yet (identity init)
        """),
            "  ",
        )
        in text
    )


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("SERVICE_TRANSLATION=packet says so", "translated in packets, because SERVICE_TRANSLATION=packet says so"),
        ("", "translated in packets"),
    ],
)
def test_status_shows_where_services_are_translated(state: FixedAgentState, reason: str, line: str) -> None:
    state.change_status(
        datapath=dataclasses.replace(state.now.datapath, translation=TranslationMode.PACKET, translation_reason=reason)
    )

    assert f"\nservices\n  {line}\n  3 services" in _status(state)


def test_status_shows_what_is_wrong_with_services(state: FixedAgentState) -> None:
    state.balancing.known_problems = ("services are not in the kernel: it has no room",)
    state.balancing.known_warnings = ("label hawse.service of web says nothing",)

    assert _status(state).splitlines()[:3] == [
        "NOT OK: services are not in the kernel: it has no room",
        "warning: label hawse.service of web says nothing",
        "",
    ]


def test_status_before_anything_was_enforced(state: FixedAgentState) -> None:
    state.policies.rollouts = [Rollout(revision=0, nodes=(a_rollout(HERE, None),))]

    assert "\n  nothing enforced yet, 2 policies\n  revision 0, this node enforces none\n" in _status(state)


def test_node_list(state: FixedAgentState) -> None:
    assert render.nodes(_received(describe.nodes(state), documents.Nodes)) == dedent("""\
        NODE     ADDRESS    AGENT    VERSION  PORT   MTU  SINCE
        alpha *  192.0.2.1  running  0.1.0    8472  1450  2026-03-01T10:00:00Z
        beta     192.0.2.2  down     0.1.0    8472  1450  2026-03-01T10:00:00Z
        """)


def test_network_list(state: FixedAgentState) -> None:
    assert render.networks(_received(describe.networks(state), documents.Networks)) == dedent("""\
        NETWORK       VNI  GATEWAY   INTERNAL   MTU  ENDPOINTS  DOCKER NETWORK
        10.1.0.0/24  4097  10.1.0.1  no        auto          2  c0ffeec0ffee
        10.9.0.0/16  4098  -         yes       1400          0  -
        """)


def test_endpoint_list(state: FixedAgentState) -> None:
    state.policies.known_flags[DB] = IdentityFlags.READY | IdentityFlags.INGRESS

    assert endpoint_text.endpoints(_endpoints(state)) == dedent("""\
        ENDPOINT      NODE   CONTAINER  ADDRESS    IDENTITY  INGRESS  EGRESS  PORTS             LABELS
        1f1f1f1f1f1f  alpha  shop_db.1  10.1.0.9       1002  closed   open    8080->80/tcp, +1  app=db, com.docker.stack.namespace=shop
        2e2e2e2e2e2e  beta   -          10.1.0.10         5  -        -       -                 init (labels not known yet)
        """)  # noqa: E501


def test_wide_endpoint_list_has_everything(state: FixedAgentState) -> None:
    titles, here, there = endpoint_text.wide_endpoints(_endpoints(state)).splitlines()

    expected = "ENDPOINT NODE CONTAINER NETWORK ADDRESS MAC INTERFACE IDENTITY INGRESS EGRESS PORTS LABELS"
    assert " ".join(titles.split()) == expected
    assert here.split()[:7] == [
        ENDPOINT_HERE,
        "alpha",
        "shop_db.1",
        "10.1.0.0/24",
        "10.1.0.9",
        "0a:00:00:00:00:09",
        "hw1f1f1f1f1f1f",
    ]
    assert there.split()[6] == "-"
    assert "  0.0.0.0:8080->80/tcp, 0.0.0.0:53->5353/udp  " in here


def test_endpoint_of_this_host_without_an_interface_stands_out(state: FixedAgentState) -> None:
    state.kernel_interfaces = ()

    document = _endpoints(state)

    assert endpoint_text.endpoints(document).splitlines()[1].endswith("namespace=shop; no interface on this host")
    assert endpoint_text.wide_endpoints(document).splitlines()[1].split()[6] == "missing"


def test_endpoint_with_many_labels_does_not_widen_the_table(state: FixedAgentState) -> None:
    labels = Labels.of({f"label-{number}": "x" for number in range(50)} | {"com.docker.compose.project": "p", "z": ""})
    state.known_endpoints = (an_endpoint(ENDPOINT_HERE, HERE, "10.1.0.9", identity=DB, labels=labels),)

    document = _endpoints(state)

    assert endpoint_text.endpoints(document).endswith("  label-0=x, label-1=x, label-10=x, +49\n")
    assert endpoint_text.wide_endpoints(document).endswith(", z, com.docker.compose.project=p\n")


def test_address_list(state: FixedAgentState) -> None:
    assert render.addresses(_received(describe.addresses(state), documents.Addresses)) == dedent("""\
        POOL         GATEWAY   IN USE  CAPACITY  HOLDERS
        10.1.0.0/24  10.1.0.1       3       254  @swarm

        ADDRESS    POOL         KIND      ENDPOINT      NODE   HOLDERS
        10.1.0.1   10.1.0.0/24  gateway   -             -      @swarm
        10.1.0.9   10.1.0.0/24  endpoint  1f1f1f1f1f1f  alpha  @swarm, alpha
        10.1.0.10  10.1.0.0/24  endpoint  2e2e2e2e2e2e  beta   @swarm, beta
        """)


def test_check_that_found_something(state: FixedAgentState) -> None:
    state.found = (
        Finding(kind="leaked-address", subject="10.1.0.9", detail="held by alpha, but no endpoint has it"),
        Finding(kind="doubled-address", subject="10.1.0.10", detail="endpoints 2e2e of beta and 3d3d of gamma have it"),
    )

    assert render.check(_received(describe.check(state), documents.Check)) == dedent("""\
        2 findings:
        FINDING          ABOUT      WHAT IT IS
        doubled-address  10.1.0.10  endpoints 2e2e of beta and 3d3d of gamma have it
        leaked-address   10.1.0.9   held by alpha, but no endpoint has it
        """)


def test_clean_check(state: FixedAgentState) -> None:
    text = render.check(_received(describe.check(state), documents.Check))

    assert text == "Clean: addresses, endpoints and Docker's networks agree.\n"


def test_counters(state: FixedAgentState) -> None:
    assert render.counters(_received(describe.counters(state), documents.Counters)) == dedent("""\
        OUTCOME    REASON                     DIRECTION  PACKETS  BYTES
        forwarded  -                          egress         100  10000
        forwarded  -                          ingress         90   9000
        dropped    invalid source (132)       egress          12   1200
        dropped    destination unknown (181)  egress           3    300
        """)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        (render.nodes({"nodes": [], "warning": None}), "No node"),
        (render.networks({"networks": [], "warning": None}), "There is no network yet"),
        (endpoint_text.endpoints({"endpoints": [], "warning": None}), "There is no endpoint"),
        (render.addresses({"pools": [], "addresses": [], "warning": None}), "There is no address pool"),
        (render.counters({"counters": []}), "No packet"),
    ],
    ids=["nodes", "networks", "endpoints", "addresses", "counters"],
)
def test_empty_list_is_a_sentence(text: str, beginning: str) -> None:
    assert text.startswith(beginning)
    assert text.count("\n") == 1
    assert text.endswith("\n")


def test_pool_without_addresses(state: FixedAgentState) -> None:
    state.held_addresses = ()

    text = render.addresses(_received(describe.addresses(state), documents.Addresses))

    assert text.endswith("\nNo address is in use.\n")


def test_many_holders_do_not_widen_the_table() -> None:
    network: documents.Network = {
        "pool": "10.1.0.0/24",
        "vni": 1,
        "gateway": None,
        "internal": False,
        "mtu_bytes": None,
        "endpoints": 0,
        "docker_networks": [{"holder": f"node{number}", "id": f"{number:064}"} for number in range(50)],
    }

    text = render.networks({"networks": [network], "warning": None})

    assert text.rstrip().endswith("000000000000, 000000000000, 000000000000, +47")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3600, "1h"), (3605, "1h 5s"), (90061, "1d 1h"), (864000, "10d")],
)
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB"), (3 * 2**40, "3072.0 GiB")],
)
def test_byte_size(size: int, text: str) -> None:
    assert words.byte_size(size) == text


def test_table_aligns_by_its_widest_cell_and_leaves_no_blank_at_the_end() -> None:
    text = table((Column("A"), Column("N", right=True), Column("B")), [("long cell", "1", ""), ("x", "1000", "y")])

    assert text == "A             N  B\nlong cell     1\nx          1000  y\n"


def test_name_from_another_host_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\x7fé") == "a\\x1b[2Jb\\nc\\x7fé"
