"""``kind: NetworkPolicy``: Kubernetes' semantics to the letter, its validation, and the recipes everybody knows."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from model.policies import (
    NAMESPACE_NAME_LABEL,
    CidrPeer,
    Entity,
    Operator,
    Policy,
    PortMatch,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from policy.documents import read
from policy.network_policy import HOST_PATH
from tests.support.policy_texts import (
    faults_of,
    in_namespace,
    network_document,
    network_faults,
    network_policy,
    one_of,
    policy_of,
)

HOST = Rule(peers=(Entity.HOST,), path=HOST_PATH)
OWN = in_namespace("shop")


def ingress(**rule: Any) -> Rule:
    """The one rule of an ingress policy, behind that of the host."""
    host, found = network_policy(ingress=[rule]).ingress
    assert host == HOST
    return found


def egress(**rule: Any) -> Rule:
    host, found = network_policy(egress=[rule]).egress
    assert host == HOST
    return found


@pytest.mark.parametrize(
    ("spec", "closes"),
    [
        pytest.param({}, (True, False), id="nothing"),
        pytest.param({"ingress": []}, (True, False), id="empty-ingress"),
        pytest.param({"ingress": [{}]}, (True, False), id="ingress"),
        pytest.param({"egress": [{}]}, (True, True), id="egress"),
        pytest.param({"egress": []}, (True, False), id="empty-egress-is-no-egress"),
        pytest.param({"egress": None}, (True, False), id="null-egress"),
        pytest.param({"policyTypes": []}, (True, False), id="no-types"),
        pytest.param({"policyTypes": None, "egress": [{}]}, (True, True), id="null-types"),
        pytest.param({"policyTypes": ["Egress"]}, (False, True), id="egress-only"),
        pytest.param({"policyTypes": ["Ingress"], "egress": [{}]}, (True, False), id="ingress-only"),
        pytest.param({"policyTypes": ["Egress", "Ingress"]}, (True, True), id="both"),
        pytest.param({"policyTypes": ["Ingress", "Ingress"]}, (True, False), id="twice"),
    ],
)
def test_which_directions_it_closes(spec: dict[str, Any], closes: tuple[bool, bool]) -> None:
    policy = network_policy(**spec)

    assert closes == (policy.enforce_ingress, policy.enforce_egress)


def test_rules_of_a_direction_that_it_is_not_about_do_not_count() -> None:
    policy = network_policy(policyTypes=["Egress"], ingress=[{}], egress=[{}])

    assert policy.ingress == ()
    assert policy.egress == (HOST, Rule(path="spec.egress[0]"))


def test_rules_that_do_not_count_are_checked_all_the_same() -> None:
    faults = network_faults(policyTypes=["Egress"], ingress=[{"ports": [{"port": 0}]}])

    assert faults == ["spec.ingress[0].ports[0].port: 0 is not a port: leave port out for all ports"]


@pytest.mark.parametrize(
    "rule",
    [{}, {"from": []}, {"from": None}, {"ports": []}, {"ports": None}, {"from": [], "ports": []}],
    ids=["nothing", "no-from", "null-from", "no-ports", "null-ports", "neither"],
)
def test_nothing_said_is_everybody_on_all_ports(rule: dict[str, Any]) -> None:
    assert Rule(path="spec.ingress[0]") == ingress(**rule)
    assert Rule(path="spec.egress[0]") == egress(**{"to" if key == "from" else key: rule[key] for key in rule})


PEERS = [
    pytest.param({"podSelector": {}}, Selector((), OWN), id="pods-of-the-own-namespace"),
    pytest.param({"podSelector": {"matchLabels": {}}}, Selector((), OWN), id="pods-by-no-label"),
    pytest.param({"podSelector": {"matchLabels": None}}, Selector((), OWN), id="pods-by-null"),
    pytest.param({"podSelector": {"matchLabels": {"app": "web"}}}, Selector((one_of("app", "web"),), OWN), id="pods"),
    pytest.param({"namespaceSelector": {}}, Selector(), id="every-namespace"),
    pytest.param({"namespaceSelector": {}, "podSelector": None}, Selector(), id="every-namespace-and-null"),
    pytest.param({"namespaceSelector": {}, "podSelector": {}}, Selector(), id="every-pod"),
    pytest.param(
        {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: "ops"}}},
        Selector((), in_namespace("ops")),
        id="namespace",
    ),
    pytest.param(
        {
            "namespaceSelector": {
                "matchExpressions": [{"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["a", "b"]}]
            },
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        },
        Selector(
            (Requirement("app", Operator.EXISTS),),
            (Requirement(NAMESPACE_NAME_LABEL, Operator.NOT_IN, frozenset({"a", "b"})),),
        ),
        id="both-hold",
    ),
    pytest.param(
        {"namespaceSelector": {"matchLabels": {"team": "a"}}}, Selector((), (one_of("team", "a"),)), id="no-such-label"
    ),
    pytest.param({"ipBlock": {"cidr": "10.0.0.0/8"}}, CidrPeer(ipaddress.ip_network("10.0.0.0/8")), id="block"),
    pytest.param(
        {"ipBlock": {"cidr": "2001:db8::/64"}}, CidrPeer(ipaddress.ip_network("2001:db8::/64")), id="block-of-6"
    ),
    pytest.param(
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        CidrPeer(ipaddress.ip_network("10.0.0.0/8"), (ipaddress.ip_network("10.1.0.0/16"),)),
        id="except",
    ),
]


@pytest.mark.parametrize(("peer", "expected"), PEERS)
def test_peers(peer: dict[str, Any], expected: object) -> None:
    assert (expected,) == ingress(**{"from": [peer]}).peers
    assert (expected,) == egress(to=[peer]).peers


def test_two_peers_are_one_or_the_other() -> None:
    rule = ingress(**{"from": [{"podSelector": {}}, {"namespaceSelector": {}}]})

    assert rule.peers == (Selector((), OWN), Selector())


@pytest.mark.parametrize(
    ("port", "match"),
    [
        pytest.param({}, PortMatch(Protocol.TCP), id="nothing-said-is-tcp"),
        pytest.param({"port": None, "protocol": None}, PortMatch(Protocol.TCP), id="null-is-tcp"),
        pytest.param({"protocol": "UDP"}, PortMatch(Protocol.UDP), id="protocol"),
        pytest.param({"port": 80}, PortMatch(Protocol.TCP, 80, 80), id="number"),
        pytest.param({"port": 53, "protocol": "UDP"}, PortMatch(Protocol.UDP, 53, 53), id="udp"),
        pytest.param({"port": 9, "protocol": "SCTP"}, PortMatch(Protocol.SCTP, 9, 9), id="sctp"),
        pytest.param({"port": "http"}, PortMatch(Protocol.TCP, name="http"), id="name"),
        pytest.param({"port": 32000, "endPort": 32768}, PortMatch(Protocol.TCP, 32000, 32768), id="range"),
        pytest.param({"port": 1, "endPort": 1}, PortMatch(Protocol.TCP, 1, 1), id="range-of-one"),
    ],
)
def test_ports(port: dict[str, Any], match: PortMatch) -> None:
    assert (match,) == ingress(ports=[port]).ports
    assert (match,) == egress(ports=[port]).ports


def test_the_subject_is_of_the_policys_namespace() -> None:
    subject = network_policy(podSelector={"matchLabels": {"app": "web"}}).subject

    assert Selector((one_of("app", "web"),), OWN) == subject
    assert Selector((), in_namespace("default")) == network_policy(namespace=None).subject


def test_a_pod_selector_that_is_left_out_selects_every_pod_of_the_namespace() -> None:
    document = network_document({})

    assert Selector((), OWN) == policy_of(json.dumps(document)).subject


def test_labels_of_containers_are_freer_than_those_of_pods() -> None:
    labels = {"Org.Example/Größe": "sehr groß", "com.docker.compose.service": "a/b", "any:x": "y"}
    subject = network_policy(podSelector={"matchLabels": labels}).subject

    assert Selector(tuple(one_of(key, value) for key, value in labels.items()), OWN) == subject


def test_the_name_has_its_namespace_before_it() -> None:
    (document,) = read(json.dumps(network_document({}, name="a.b-c", namespace="my_shop")))

    assert (document.name, document.kind) == ("my_shop/a.b-c", "NetworkPolicy")
    assert document.policy.name == "my_shop/a.b-c"


REFUSED = [
    ({"endpointSelector": {}}, "spec.endpointSelector: unknown field; did you mean podSelector?"),
    ({"ingressDeny": []}, "spec.ingressDeny: unknown field; did you mean ingress?"),
    ({"podSelector": "app=web"}, "spec.podSelector: has to be a mapping, not text"),
    ({"podSelector": {"app": "web"}}, "spec.podSelector.app: unknown field"),
    ({"podSelector": {"matchLabels": {"app": None}}}, "spec.podSelector.matchLabels.app: has to be text, not nothing"),
    ({"podSelector": {"matchLabels": {"reserved:host": ""}}}, "a podSelector selects containers only"),
    ({"ingress": {}}, "spec.ingress: has to be a list, not a mapping"),
    ({"ingress": [None]}, "spec.ingress[0]: has to be a mapping, not nothing"),
    ({"ingress": [{"to": []}]}, "spec.ingress[0].to: unknown field"),
    ({"egress": [{"from": []}]}, "spec.egress[0].from: unknown field"),
    (
        {"ingress": [{"from": [{}]}]},
        "spec.ingress[0].from[0]: selects no peer: write podSelector, namespaceSelector or ipBlock",
    ),
    ({"ingress": [{"from": [{"podSelector": None}]}]}, "spec.ingress[0].from[0]: selects no peer"),
    ({"ingress": [{"from": {"podSelector": {}}}]}, "spec.ingress[0].from: has to be a list, not a mapping"),
    (
        {"ingress": [{"from": [{"podselector": {}}]}]},
        "spec.ingress[0].from[0].podselector: unknown field; did you mean podSelector?",
    ),
    (
        {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]},
        "spec.egress[0].to[0]: ipBlock cannot stand beside another selector",
    ),
    (
        {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}}]}]},
        "spec.egress[0].to[0]: ipBlock cannot stand beside another selector",
    ),
    ({"egress": [{"to": [{"ipBlock": {}}]}]}, "spec.egress[0].to[0].ipBlock.cidr: is missing"),
    ({"egress": [{"to": [{"ipBlock": {"cidr": None}}]}]}, "spec.egress[0].to[0].ipBlock.cidr: is missing"),
    ({"egress": [{"to": [{"ipBlock": {"cidr": ""}}]}]}, 'ipBlock.cidr: "" is not a prefix'),
    ({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1"}}]}]}, 'ipBlock.cidr: "10.0.0.1" is not a prefix'),
    ({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}, "ipBlock.cidr: "),
    (
        {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]},
        "spec.egress[0].to[0].ipBlock.except[0]: 10.0.0.0/8 is not a smaller part of 10.0.0.0/8",
    ),
    ({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}, "except[0]: 11.0.0.0/16"),
    ({"ingress": [{"ports": [{"port": "80"}]}]}, 'ports[0].port: "80" in quotes would be the name of a port'),
    ({"ingress": [{"ports": [{"port": 0}]}]}, "spec.ingress[0].ports[0].port: 0 is not a port"),
    ({"ingress": [{"ports": [{"port": 65536}]}]}, "spec.ingress[0].ports[0].port: 65536 is not a port"),
    ({"ingress": [{"ports": [{"port": "Http"}]}]}, 'spec.ingress[0].ports[0].port: "Http" is not a port'),
    ({"ingress": [{"ports": [{"port": "a-name-of-16-let"}]}]}, "spec.ingress[0].ports[0].port: "),
    ({"ingress": [{"ports": [{"port": 1.5}]}]}, "spec.ingress[0].ports[0].port: 1.5 is not a port"),
    ({"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}, "ports[0].endPort: 79 is less than port 80"),
    ({"ingress": [{"ports": [{"port": "http", "endPort": 79}]}]}, "ports[0].endPort: a range begins at a number"),
    ({"ingress": [{"ports": [{"endPort": 79}]}]}, "ports[0].endPort: has no port to begin at"),
    ({"ingress": [{"ports": [{"port": 80, "endPort": 65536}]}]}, "ports[0].endPort: 65536 is not a port"),
    (
        {"ingress": [{"ports": [{"protocol": "tcp"}]}]},
        'ports[0].protocol: "tcp" is not a protocol: write TCP, UDP or SCTP',
    ),
    ({"ingress": [{"ports": [{"protocol": "ANY"}]}]}, 'ports[0].protocol: "ANY" is not a protocol'),
    ({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}, 'ports[0].protocol: "ICMP" is not a protocol'),
    ({"ingress": [{"ports": [80]}]}, "spec.ingress[0].ports[0]: has to be a mapping, not a number"),
    ({"policyTypes": ["ingress"]}, 'spec.policyTypes[0]: "ingress" is not a policy type: write Ingress or Egress'),
    ({"policyTypes": ["Ingress", "Egress", "Ingress"]}, "spec.policyTypes: has 3 elements; at most 2"),
    ({"policyTypes": "Ingress"}, "spec.policyTypes: has to be a list, not text"),
    ({"policyTypes": [None]}, "spec.policyTypes[0]: has to be text, not nothing"),
]


@pytest.mark.parametrize(("spec", "said"), REFUSED, ids=[f"{index}" for index in range(len(REFUSED))])
def test_a_fault_is_named_with_its_path(spec: dict[str, Any], said: str) -> None:
    faults = network_faults(**spec)

    assert any(said in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("kubernetes.io/metadata.name", "shop", True),
        ("team", "A.b_c-d", True),
        ("team", "", True),
        ("a" * 63, "b" * 63, True),
        ("example.org/" + "a" * 63, "b", True),
        ("a" * 64, "b", False),
        ("team", "b" * 64, False),
        ("-team", "b", False),
        ("team-", "b", False),
        ("team", "-b", False),
        ("te am", "b", False),
        ("größe", "b", False),
        ("team", "größe", False),
        ("Example.org/team", "b", False),
        ("/team", "b", False),
        ("a/b/c", "b", False),
        ("a." * 127 + "org/team", "b", False),
        ("team\n", "b", False),
        ("team", "b\n", False),
    ],
)
def test_labels_of_namespaces_keep_kubernetes_rules(key: str, value: str, good: bool) -> None:  # noqa: FBT001
    rule = {"from": [{"namespaceSelector": {"matchLabels": {key: value}}}]}
    if good:
        assert (Selector((), (one_of(key, value),)),) == ingress(**rule).peers
    else:
        assert "spec.ingress[0].from[0].namespaceSelector.matchLabels" in network_faults(ingress=[rule])[0]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"name": "a_b"}, 'metadata.name: "a_b" is no policy name'),
        ({"name": "a..b"}, 'metadata.name: "a..b" is no policy name'),
        ({"name": "a\n"}, "is no policy name"),
        ({"name": "a/b"}, "is no policy name"),
        ({"name": "p", "namespace": "Shop"}, 'metadata.namespace: "Shop" is no namespace'),
        ({"name": "p", "namespace": "a/b"}, "metadata.namespace: "),
        ({"name": "p", "namespace": 5}, "metadata.namespace: has to be text"),
    ],
)
def test_metadata_is_checked(metadata: dict[str, Any], said: str) -> None:
    (fault,) = faults_of(json.dumps({**network_document({}), "metadata": metadata}))

    assert said in fault


# Recipes: what people know NetworkPolicies by.


def recipe(text: str) -> Policy:
    return policy_of(f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n{text}")


def test_recipe_deny_all_traffic_to_an_app() -> None:
    policy = recipe("""
metadata: {name: web-closed, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: web}
  ingress: []
""")

    assert policy.subject == Selector((one_of("app", "web"),), OWN)
    assert (policy.ingress, policy.enforce_ingress, policy.enforce_egress) == ((HOST,), True, False)


def test_recipe_allow_from_one_app_on_one_port() -> None:
    policy = recipe("""
metadata: {name: db-from-app}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - podSelector:
        matchLabels: {app: api}
    ports:
    - {protocol: TCP, port: 5432}
""")

    assert policy.ingress == (
        HOST,
        Rule(
            peers=(Selector((one_of("app", "api"),), in_namespace("default")),),
            ports=(PortMatch(Protocol.TCP, 5432, 5432),),
            path="spec.ingress[0]",
        ),
    )


def test_recipe_allow_all_beside_another_that_denies() -> None:
    policy = recipe("""
metadata: {name: web-open}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - {}
""")

    assert policy.ingress == (HOST, Rule(path="spec.ingress[0]"))


def test_recipe_deny_all_of_a_namespace_both_ways() -> None:
    policy = recipe("""
metadata: {name: default-deny-all, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
""")

    assert policy == Policy(
        name="shop/default-deny-all",
        subject=Selector((), OWN),
        ingress=(HOST,),
        egress=(HOST,),
        enforce_ingress=True,
        enforce_egress=True,
    )


def test_recipe_limit_to_the_own_namespace() -> None:
    policy = recipe("""
metadata: {name: shop-only, namespace: shop}
spec:
  podSelector:
    matchLabels:
  ingress:
  - from:
    - podSelector: {}
""")

    assert policy.ingress[1].peers == (Selector((), OWN),)


def test_recipe_allow_from_another_namespace() -> None:
    policy = recipe("""
metadata: {name: metrics, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: monitoring}
      podSelector:
        matchLabels: {app: prometheus}
    ports: [{port: metrics}]
""")

    assert policy.ingress[1].peers == (Selector((one_of("app", "prometheus"),), in_namespace("monitoring")),)
    assert policy.ingress[1].ports == (PortMatch(Protocol.TCP, name="metrics"),)


def test_recipe_deny_egress_but_names() -> None:
    policy = recipe("""
metadata: {name: no-way-out, namespace: shop}
spec:
  podSelector: {matchLabels: {app: batch}}
  policyTypes: [Egress]
  egress:
  - ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
""")

    assert (policy.enforce_ingress, policy.enforce_egress) == (False, True)
    assert policy.ingress == ()
    assert policy.egress[1] == Rule(
        ports=(PortMatch(Protocol.UDP, 53, 53), PortMatch(Protocol.TCP, 53, 53)), path="spec.egress[0]"
    )


def test_recipe_port_range_to_a_block_outside() -> None:
    policy = recipe("""
metadata: {name: passive-ftp}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}
    ports:
    - {protocol: TCP, port: 32000, endPort: 32768}
""")

    assert policy.egress[1] == Rule(
        peers=(CidrPeer(ipaddress.ip_network("192.0.2.0/24"), (ipaddress.ip_network("192.0.2.128/25"),)),),
        ports=(PortMatch(Protocol.TCP, 32000, 32768),),
        path="spec.egress[0]",
    )
