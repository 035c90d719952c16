"""The labels ``hawse.ingress`` and ``hawse.egress``: what each item means, and that a bad one opens nothing."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ids import IdentityId
from model.labels import EGRESS_LABEL, INGRESS_LABEL, Labels
from model.policies import CidrPeer, Entity, Operator, PortMatch, Protocol, Requirement, Rule, Selector
from policy.selection import selects_labels
from policy.short_form import short_form
from tests.support.policy_texts import in_namespace, one_of

NUMBER = IdentityId(300)
STACK = {"com.docker.stack.namespace": "shop"}
OWN = in_namespace("shop")
WEB = one_of("app", "web")


def rules(text: str) -> tuple[Rule, ...]:
    read = short_form(NUMBER, Labels.of({INGRESS_LABEL: text, **STACK}))
    assert read.policy is not None
    assert read.problems == ()
    assert (read.policy.enforce_ingress, read.policy.enforce_egress) == (True, False)
    return read.policy.ingress


def rule(text: str) -> Rule:
    (found,) = rules(text)
    return found


def test_without_a_label_there_is_no_policy() -> None:
    assert short_form(NUMBER, Labels.of({"app": "web"})).policy is None


@pytest.mark.parametrize(
    ("labels", "closes"),
    [
        ({INGRESS_LABEL: "*"}, (True, False)),
        ({EGRESS_LABEL: "*"}, (False, True)),
        ({INGRESS_LABEL: "none", EGRESS_LABEL: "none"}, (True, True)),
        ({INGRESS_LABEL: "!world"}, (True, False)),
        ({INGRESS_LABEL: ""}, (True, False)),
        ({EGRESS_LABEL: "nonsense nonsense"}, (False, True)),
    ],
)
def test_a_label_closes_its_direction_whatever_it_says(labels: dict[str, str], closes: tuple[bool, bool]) -> None:
    policy = short_form(NUMBER, Labels.of(labels)).policy

    assert policy is not None
    assert closes == (policy.enforce_ingress, policy.enforce_egress)


def test_it_applies_to_endpoints_that_say_the_same_in_the_same_namespace() -> None:
    said = {INGRESS_LABEL: "app=web", **STACK}
    policy = short_form(NUMBER, Labels.of({**said, "app": "db"})).policy
    assert policy is not None

    assert policy.name == "labels:300"
    assert selects_labels(policy.subject, Labels.of({**said, "app": "other"}))
    assert not selects_labels(policy.subject, Labels.of({**said, EGRESS_LABEL: "none"}))
    assert not selects_labels(policy.subject, Labels.of({**said, INGRESS_LABEL: "app=web "}))
    assert not selects_labels(policy.subject, Labels.of({INGRESS_LABEL: "app=web"}))
    assert not selects_labels(policy.subject, Labels.of({**said, "com.docker.stack.namespace": "other"}))
    assert not selects_labels(policy.subject, Labels.of(STACK))


PEERS = [
    ("*", None),
    ("all", (Entity.ALL,)),
    ("cluster", (Entity.CLUSTER,)),
    ("world", (Entity.WORLD,)),
    ("host", (Entity.HOST,)),
    ("remote-node", (Entity.REMOTE_NODE,)),
    ("init", (Entity.INIT,)),
    ("10.0.0.0/8", (CidrPeer(ipaddress.ip_network("10.0.0.0/8")),)),
    ("192.0.2.7", (CidrPeer(ipaddress.ip_network("192.0.2.7/32")),)),
    ("2001:db8::/32", (CidrPeer(ipaddress.ip_network("2001:db8::/32")),)),
    ("::1", (CidrPeer(ipaddress.ip_network("::1/128")),)),
    ("app=web", (Selector((WEB,), OWN),)),
    ("app=", (Selector((one_of("app", ""),), OWN),)),
    ("app", (Selector((Requirement("app", Operator.EXISTS),), OWN),)),
    ("app=web,tier=front", (Selector((WEB, one_of("tier", "front")), OWN),)),
    ("app=web , tier", (Selector((WEB, Requirement("tier", Operator.EXISTS)), OWN),)),
    ("example.org/app=web", (Selector((one_of("example.org/app", "web"),), OWN),)),
    ("example.org/app", (Selector((Requirement("example.org/app", Operator.EXISTS),), OWN),)),
    ("a=b=c", (Selector((one_of("a", "b=c"),), OWN),)),
    ("größe=☃", (Selector((one_of("größe", "☃"),), OWN),)),
    ("any:app=web", (Selector((WEB,), OWN),)),
    ("host=web", (Selector((one_of("host", "web"),), OWN),)),
    ("namespace=ops", (Selector((), in_namespace("ops")),)),
    ("namespace=*", (Selector(),)),
    ("app=web,namespace=ops", (Selector((WEB,), in_namespace("ops")),)),
    ("namespace=*,app=web", (Selector((WEB,)),)),
    (
        "service=web",
        (
            Selector((one_of("com.docker.compose.service", "web"),), OWN),
            Selector((one_of("com.docker.swarm.service.name", "web", "shop_web"),), OWN),
        ),
    ),
    (
        "service=web,namespace=ops,tier=front",
        (
            Selector((one_of("tier", "front"), one_of("com.docker.compose.service", "web")), in_namespace("ops")),
            Selector(
                (one_of("tier", "front"), one_of("com.docker.swarm.service.name", "web", "ops_web")),
                in_namespace("ops"),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("text", "peers"), PEERS)
def test_peers(text: str, peers: tuple[object, ...] | None) -> None:
    assert Rule(peers=peers, path=f"hawse.ingress[0]: {text}") == rule(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80/tcp", (PortMatch(Protocol.TCP, 80, 80),)),
        ("80/TCP", (PortMatch(Protocol.TCP, 80, 80),)),
        ("53", (PortMatch(None, 53, 53),)),
        ("9/sctp", (PortMatch(Protocol.SCTP, 9, 9),)),
        ("8000-8100/udp", (PortMatch(Protocol.UDP, 8000, 8100),)),
        ("1-65535", (PortMatch(None, 1, 65535),)),
        ("http", (PortMatch(None, name="http"),)),
        ("http/tcp", (PortMatch(Protocol.TCP, name="http"),)),
        ("tcp", (PortMatch(Protocol.TCP),)),
        ("udp", (PortMatch(Protocol.UDP),)),
        ("icmp", (PortMatch(Protocol.ICMP),)),
        ("icmp/8", (PortMatch(Protocol.ICMP, 8, 8),)),
        ("icmp/0", (PortMatch(Protocol.ICMP, 0, 0),)),
        ("80/tcp,53,icmp", (PortMatch(Protocol.TCP, 80, 80), PortMatch(None, 53, 53), PortMatch(Protocol.ICMP))),
        ("80/tcp , 80/tcp", (PortMatch(Protocol.TCP, 80, 80),)),
    ],
)
def test_ports(text: str, ports: tuple[PortMatch, ...]) -> None:
    assert ports == rule(f"app=web {text}").ports
    assert ports == rule(f"* {text}").ports
    assert ports == rule(f"  !  app=web   {text};").ports


def test_items_are_rules_in_their_order_and_a_mark_of_exclamation_denies() -> None:
    found = rules("app=web 5432/tcp; app=api 5432/tcp,9187/tcp ;\n!world;")

    assert found == (
        Rule(
            peers=(Selector((WEB,), OWN),),
            ports=(PortMatch(Protocol.TCP, 5432, 5432),),
            path="hawse.ingress[0]: app=web 5432/tcp",
        ),
        Rule(
            peers=(Selector((one_of("app", "api"),), OWN),),
            ports=(PortMatch(Protocol.TCP, 5432, 5432), PortMatch(Protocol.TCP, 9187, 9187)),
            path="hawse.ingress[1]: app=api 5432/tcp,9187/tcp",
        ),
        Rule(peers=(Entity.WORLD,), deny=True, path="hawse.ingress[2]: !world"),
    )


def test_none_closes_and_allows_nothing() -> None:
    assert rules(" none ") == ()


def test_peers_of_a_container_in_no_stack_are_those_in_none() -> None:
    policy = short_form(NUMBER, Labels.of({EGRESS_LABEL: "app=web"})).policy

    assert policy is not None
    assert policy.egress[0].peers == (Selector((WEB,), in_namespace("default")),)


BAD = [
    ("", "says nothing: write none to allow nothing"),
    (" ; ;", "says nothing"),
    ("none; app=web", '"none": none can only stand alone'),
    ("none 80/tcp", "none can only stand alone"),
    ("!none", "none can only stand alone"),
    ("!", "names no peer after «!»"),
    ("80/tcp", "names no peer: write * before the ports"),
    ("80", "names no peer"),
    ("8000-8100", "names no peer"),
    ("http/tcp", "names no peer"),
    ("tcp", "names no peer"),
    ("icmp/8", "names no peer"),
    ("10.0.0.0/33", '"10.0.0.0/33" is not a prefix'),
    ("10.0.0.1/8", "has bits beyond its prefix"),
    ("10.0.0", '"10.0.0" is not a prefix'),
    ("10.0.0.0/8,172.16.0.0/12", "addresses and ports are not joined with labels"),
    ("app=web,10.0.0.0/8", "addresses and ports are not joined with labels"),
    ("app=web,80/tcp", "addresses and ports are not joined with labels"),
    ("world,app=web", "entities stand alone"),
    ("World", "entities stand alone"),
    ("unmanaged", "entities stand alone"),
    ("host,remote-node", "entities stand alone"),
    ("app!=web", "is no label"),
    ("app in (web)", "has more than a peer and ports"),
    ("(app)", "is no label"),
    ("=web", "is no label"),
    ("app=web,", "is no label"),
    ("app=web*", "there are no patterns"),
    ("app=*", "there are no patterns"),
    ("reserved:host", "cannot be selected: write an entity"),
    ("k8s:app=web", "containers have no Kubernetes labels"),
    ("namespace", "namespace has no value"),
    ("service=", "service has no value"),
    ("service=a,service=b", "says service twice"),
    ("namespace=a,namespace=b", "says namespace twice"),
    ("service=web,namespace=*", "a service has its stack in its name"),
    ("app=web 80/tcp 443/tcp", "has more than a peer and ports"),
    ("app=web 80/icmp", "after «/» comes tcp, udp or sctp"),
    ("app=web 80/http", "after «/» comes tcp, udp or sctp"),
    ("app=web 80/", "after «/» comes tcp, udp or sctp"),
    ("app=web tcp/80", "the number comes before the protocol"),
    ("app=web 0", '"0" is not a port or range within 1 to 65535'),
    ("app=web 70000", "is not a port or range"),
    ("app=web 90-80", "is not a port or range"),
    ("app=web 80-", "is not a port"),
    ("app=web 80,", '"" is not a port'),
    ("app=web HTTP", '"HTTP" is not a port'),
    ("app=web icmp/256", "is not an ICMP type"),
    ("app=web icmp/echo", "is not an ICMP type"),
    ("app=web icmp/", "is not an ICMP type"),
    ("app=web\x00", "has characters that cannot be printed"),
    ("app=web;" * 129, "has 129 items, and at most 128 are read"),
    ("a" * 4097, "has 4097 characters, and at most 4096 are read"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[f"{index}" for index in range(len(BAD))])
def test_a_bad_text_allows_nothing_and_is_reported(text: str, said: str) -> None:
    read = short_form(NUMBER, Labels.of({EGRESS_LABEL: text, INGRESS_LABEL: "app=web"}))

    assert read.policy is not None
    assert (read.policy.enforce_egress, read.policy.egress) == (True, ())
    assert len(read.policy.ingress) == 1
    (problem,) = read.problems
    assert problem.startswith("identity 300: label hawse.egress: ")
    assert said in problem
    assert len(problem) < 500


def test_an_item_that_is_bad_takes_the_allows_with_it_and_leaves_the_denies() -> None:
    read = short_form(NUMBER, Labels.of({INGRESS_LABEL: "*; !world; app=web 0; 10.0.0.0/99"}))

    assert read.policy is not None
    assert read.policy.ingress == (Rule(peers=(Entity.WORLD,), deny=True, path="hawse.ingress[1]: !world"),)
    assert len(read.problems) == 2


def test_a_bad_named_port_is_reported_with_or_without_a_short_form() -> None:
    bad = {"hawse.port.http": "80"}

    for labels in (bad, {**bad, INGRESS_LABEL: "* http"}):
        (problem,) = short_form(NUMBER, Labels.of(labels)).problems
        assert problem.startswith('identity 300: label "hawse.port.http": "80" is no port')


@given(st.text() | st.text(st.sampled_from("*!;,=/-. 018abetpcimn:")))
def test_any_text_is_read_or_closes(text: str) -> None:
    read = short_form(NUMBER, Labels.of({INGRESS_LABEL: text}))

    assert read.policy is not None
    assert read.policy.enforce_ingress
    assert not read.problems or all(rule.deny for rule in read.policy.ingress)
