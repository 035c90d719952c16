"""``apiVersion: hawse/v1, kind: Policy``: what each field means, and every refusal with its path."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from model.policies import CidrPeer, Entity, Operator, Policy, PortMatch, Protocol, Requirement, Rule, Selector
from policy.documents import read
from tests.support.policy_texts import (
    egress_rule,
    faults_of,
    hawse_document,
    hawse_faults,
    hawse_policy,
    ingress_rule,
    labels_are,
    one_of,
    policy_of,
)

TCP_80 = PortMatch(Protocol.TCP, 80, 80)
WEB = {"matchLabels": {"app": "web"}}


def cidr(text: str, *excluded: str) -> CidrPeer:
    return CidrPeer(ipaddress.ip_network(text), tuple(map(ipaddress.ip_network, excluded)))


def test_a_whole_document() -> None:
    text = """
        apiVersion: hawse/v1
        kind: Policy
        metadata:
          name: db-from-app
          labels: {team: shop}
          annotations: {"why": "only the app may reach the database"}
        spec:
          description: the database
          endpointSelector:
            matchLabels: {com.docker.compose.service: db}
          ingress:
          - fromEndpoints:
            - matchLabels: {app: web}
              matchExpressions:
              - {key: tier, operator: NotIn, values: [test, dev]}
            fromCIDRSet:
            - {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
            toPorts:
            - ports:
              - {port: "5432", protocol: TCP}
          egressDeny:
          - toEntities: [world]
        status: {}
    """

    (document,) = read(text)

    assert document.name == "db-from-app"
    assert document.kind == "Policy"
    assert "status" not in document.plain
    assert document.policy == Policy(
        name="db-from-app",
        subject=labels_are(**{"com.docker.compose.service": "db"}),
        ingress=(
            Rule(
                peers=(
                    Selector((one_of("app", "web"), Requirement("tier", Operator.NOT_IN, frozenset({"test", "dev"})))),
                    cidr("10.0.0.0/8", "10.1.0.0/16"),
                ),
                ports=(PortMatch(Protocol.TCP, 5432, 5432),),
                path="spec.ingress[0]",
            ),
        ),
        egress=(Rule(peers=(Entity.WORLD,), deny=True, path="spec.egressDeny[0]"),),
        enforce_ingress=True,
        enforce_egress=True,
    )


@pytest.mark.parametrize(
    ("spec", "closes"),
    [
        pytest.param({"ingress": [{"fromEndpoints": [{}]}]}, (True, False), id="ingress"),
        pytest.param({"egress": [{"toEndpoints": [{}]}]}, (False, True), id="egress"),
        pytest.param({"ingress": []}, (True, False), id="empty-ingress"),
        pytest.param({"egress": []}, (False, True), id="empty-egress"),
        pytest.param({"ingress": [{}], "egress": [{}]}, (True, True), id="empty-rules"),
        pytest.param({"ingressDeny": [{"fromEntities": ["all"]}]}, (True, False), id="ingress-deny"),
        pytest.param({"egressDeny": [{"toEntities": ["all"]}]}, (False, True), id="egress-deny"),
        pytest.param({"enableDefaultDeny": {"ingress": True}}, (True, False), id="told-to"),
        pytest.param({"ingress": [{}], "enableDefaultDeny": {"ingress": False}}, (False, False), id="told-not-to"),
        pytest.param({"ingress": [{}], "enableDefaultDeny": {"egress": True}}, (True, True), id="told-of-the-other"),
        pytest.param({"ingress": [{}], "enableDefaultDeny": {}}, (True, False), id="told-nothing"),
        pytest.param({"enableDefaultDeny": {"ingress": False, "egress": False}}, (False, False), id="told-neither"),
    ],
)
def test_a_direction_is_closed_by_its_section(spec: dict[str, Any], closes: tuple[bool, bool]) -> None:
    policy = hawse_policy(**spec)

    assert closes == (policy.enforce_ingress, policy.enforce_egress)


def test_denies_stay_where_nothing_is_closed() -> None:
    policy = hawse_policy(ingressDeny=[{"fromEntities": ["world"]}], enableDefaultDeny={"ingress": False})

    assert (Rule(peers=(Entity.WORLD,), deny=True, path="spec.ingressDeny[0]"),) == policy.ingress


def test_an_empty_rule_allows_nothing() -> None:
    assert hawse_policy(ingress=[{}], egress=[{}, {}]).ingress == ()
    assert hawse_policy(ingress=[{}], egress=[{}, {}]).egress == ()


ANYONE = None

PEERS = [
    pytest.param({"toPorts": [{"ports": [{"port": 80}]}]}, ANYONE, id="missing"),
    pytest.param({"fromEndpoints": []}, (), id="no-endpoints"),
    pytest.param({"fromCIDR": []}, (), id="no-prefixes"),
    pytest.param({"fromCIDRSet": []}, (), id="no-prefix-sets"),
    pytest.param({"fromEntities": []}, (), id="no-entities"),
    pytest.param({"fromEndpoints": [{}]}, (Selector(),), id="every-endpoint"),
    pytest.param({"fromEndpoints": [{"matchLabels": {}}]}, (Selector(),), id="every-endpoint-by-no-label"),
    pytest.param({"fromEndpoints": [{"matchExpressions": []}]}, (Selector(),), id="every-endpoint-by-no-expression"),
    pytest.param({"fromEndpoints": [WEB, {}]}, (labels_are(app="web"), Selector()), id="two"),
    pytest.param({"fromEntities": ["none"]}, (Entity.NONE,), id="none"),
    pytest.param({"fromEntities": [str(one) for one in Entity]}, tuple(Entity), id="every-entity"),
    pytest.param({"fromCIDR": ["10.0.0.0/8", "192.0.2.7"]}, (cidr("10.0.0.0/8"), cidr("192.0.2.7/32")), id="prefixes"),
    pytest.param({"fromCIDR": ["2001:db8::/32", "::1"]}, (cidr("2001:db8::/32"), cidr("::1/128")), id="prefixes-of-6"),
    pytest.param({"fromCIDRSet": [{"cidr": "0.0.0.0/0"}]}, (cidr("0.0.0.0/0"),), id="prefix-set"),
    pytest.param({"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": []}]}, (cidr("10.0.0.0/8"),), id="nothing-excepted"),
    pytest.param(
        {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.1/32"]}]},
        (cidr("10.0.0.0/8", "10.1.0.0/16", "10.2.0.1/32"),),
        id="excepted",
    ),
    pytest.param(
        {"fromEndpoints": [WEB], "fromCIDR": ["10.0.0.0/8"], "fromEntities": ["host"]},
        (labels_are(app="web"), cidr("10.0.0.0/8"), Entity.HOST),
        id="fields-add-up",
    ),
    pytest.param({"fromEndpoints": [], "fromEntities": ["host"]}, (Entity.HOST,), id="nobody-and-somebody"),
]


@pytest.mark.parametrize(("rule", "peers"), PEERS)
def test_peers(rule: dict[str, Any], peers: tuple[Any, ...] | None) -> None:
    assert peers == ingress_rule(**rule).peers
    assert peers == egress_rule(**{name.replace("from", "to"): value for name, value in rule.items()}).peers


SELECTORS = [
    pytest.param({"matchLabels": {"app": "web", "tier": ""}}, (one_of("app", "web"), one_of("tier", "")), id="labels"),
    pytest.param(
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api", "web"]}]},
        (one_of("app", "web", "api"),),
        id="in",
    ),
    pytest.param(
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
        (Requirement("app", Operator.NOT_IN, frozenset({"web"})),),
        id="not-in",
    ),
    pytest.param(
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        (Requirement("app", Operator.EXISTS),),
        id="exists",
    ),
    pytest.param(
        {"matchExpressions": [{"key": "app", "operator": "DoesNotExist", "values": []}]},
        (Requirement("app", Operator.DOES_NOT_EXIST),),
        id="does-not-exist",
    ),
    pytest.param({"matchLabels": {"any:app": "web"}}, (one_of("app", "web"),), id="any-source"),
    pytest.param({"matchLabels": {"container:app": "web"}}, (one_of("app", "web"),), id="container-source"),
    pytest.param({"matchLabels": {"other:app": "web"}}, (one_of("other:app", "web"),), id="a-key-with-a-colon"),
    pytest.param({"matchLabels": {"reserved:init": ""}}, (one_of("reserved:init", ""),), id="reserved"),
    pytest.param(
        {"matchExpressions": [{"key": "any:reserved:init", "operator": "Exists"}]},
        (Requirement("reserved:init", Operator.EXISTS),),
        id="reserved-behind-a-source",
    ),
    pytest.param(
        {"matchLabels": {"Org.Example/Größe": "sehr groß ☃", "com.docker.compose.service": "UPPER_case/slash"}},
        (one_of("Org.Example/Größe", "sehr groß ☃"), one_of("com.docker.compose.service", "UPPER_case/slash")),
        id="free-text",
    ),
    pytest.param({"matchLabels": {"é": "e\u0301"}}, (one_of("é", "e\u0301"),), id="not-normalised"),
]


@pytest.mark.parametrize(("selector", "requirements"), SELECTORS)
def test_selectors(selector: dict[str, Any], requirements: tuple[Requirement, ...]) -> None:
    assert Selector(requirements) == hawse_policy(endpointSelector=selector, ingress=[{}]).subject
    assert (Selector(requirements),) == ingress_rule(fromEndpoints=[selector]).peers


def test_a_reserved_identity_can_be_a_peer_by_its_label() -> None:
    assert (labels_are(**{"reserved:host": ""}),) == ingress_rule(
        fromEndpoints=[{"matchLabels": {"reserved:host": ""}}]
    ).peers


PORTS = [
    pytest.param({"port": 80, "protocol": "TCP"}, TCP_80, id="number"),
    pytest.param({"port": "80", "protocol": "TCP"}, TCP_80, id="number-as-text"),
    pytest.param({"port": 80, "protocol": "tcp"}, TCP_80, id="lower-case"),
    pytest.param({"port": 80}, PortMatch(None, 80, 80), id="no-protocol"),
    pytest.param({"port": 80, "protocol": "ANY"}, PortMatch(None, 80, 80), id="any"),
    pytest.param({"port": 53, "protocol": "UDP"}, PortMatch(Protocol.UDP, 53, 53), id="udp"),
    pytest.param({"port": 53, "protocol": "SCTP"}, PortMatch(Protocol.SCTP, 53, 53), id="sctp"),
    pytest.param({"port": 8000, "endPort": 8100, "protocol": "TCP"}, PortMatch(Protocol.TCP, 8000, 8100), id="range"),
    pytest.param({"port": "1", "endPort": "65535"}, PortMatch(None, 1, 65535), id="range-as-text"),
    pytest.param({"port": 80, "endPort": 80}, PortMatch(None, 80, 80), id="range-of-one"),
    pytest.param({"port": "http", "protocol": "TCP"}, PortMatch(Protocol.TCP, name="http"), id="name"),
    pytest.param({"port": "http-8080"}, PortMatch(None, name="http-8080"), id="name-of-any-protocol"),
    pytest.param({"protocol": "UDP"}, PortMatch(Protocol.UDP), id="every-port-of-a-protocol"),
    pytest.param({"protocol": "ANY"}, PortMatch(None), id="every-port"),
]


@pytest.mark.parametrize(("port", "match"), PORTS)
def test_ports(port: dict[str, Any], match: PortMatch) -> None:
    assert (match,) == ingress_rule(toPorts=[{"ports": [port]}]).ports
    assert (match,) == egress_rule(toPorts=[{"ports": [port]}]).ports


@pytest.mark.parametrize(
    ("field", "match"),
    [
        pytest.param({"type": 8}, PortMatch(Protocol.ICMP, 8, 8), id="number"),
        pytest.param({"type": "8", "family": "IPv4"}, PortMatch(Protocol.ICMP, 8, 8), id="number-as-text"),
        pytest.param({"type": 0}, PortMatch(Protocol.ICMP, 0, 0), id="zero"),
        pytest.param({"type": 255}, PortMatch(Protocol.ICMP, 255, 255), id="last"),
        pytest.param({"type": "EchoRequest"}, PortMatch(Protocol.ICMP, 8, 8), id="name"),
        pytest.param({"type": "TimeExceeded"}, PortMatch(Protocol.ICMP, 11, 11), id="another-name"),
        pytest.param({"family": "IPv4"}, PortMatch(Protocol.ICMP), id="every-type"),
        pytest.param({}, PortMatch(Protocol.ICMP), id="nothing-said"),
    ],
)
def test_icmps(field: dict[str, Any], match: PortMatch) -> None:
    assert (match,) == ingress_rule(icmps=[{"fields": [field]}]).ports


def test_ports_and_messages_add_up_each_once() -> None:
    rule = ingress_rule(
        toPorts=[
            {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53}]},
            {"ports": [{"port": "80", "protocol": "TCP"}]},
        ],
        icmps=[{"fields": [{"type": 8}, {"type": 0}]}],
    )

    assert rule.peers is None
    assert rule.ports == (
        TCP_80,
        PortMatch(None, 53, 53),
        PortMatch(Protocol.ICMP, 8, 8),
        PortMatch(Protocol.ICMP, 0, 0),
    )


def ports(*entries: Any) -> dict[str, Any]:
    return {"ingress": [{"toPorts": [{"ports": list(entries)}]}]}


def peer(**rule: Any) -> dict[str, Any]:
    return {"egress": [{}, rule]}


def selector(**selector: Any) -> dict[str, Any]:
    return {"endpointSelector": selector, "ingress": []}


REFUSED = [
    # The issue's own example.
    (
        {"ingress": [{}, {"toPorts": [{"ports": [{"port": 70000}]}]}]},
        "spec.ingress[1].toPorts[0].ports[0].port: 70000 is not a port",
    ),
    # spec
    ({"endpointSelector": {}}, "spec: says nothing"),
    ({"endpointSelector": None, "ingress": []}, "spec.endpointSelector: has no value"),
    ({"ingress": None}, "spec.ingress: has no value: give it one or leave the field out"),
    ({"ingress": {}}, "spec.ingress: has to be a list, not a mapping"),
    ({"ingress": ["all"]}, "spec.ingress[0]: has to be a mapping, not text"),
    ({"ingress": [None]}, "spec.ingress[0]: has to be a mapping, not nothing"),
    ({"ingres": []}, "spec.ingres: unknown field; did you mean ingress?"),
    ({"Ingress": []}, "spec.Ingress: unknown field; did you mean ingress?"),
    ({"x" * 500: []}, 'spec["' + "x" * 80 + '…"]: unknown field; known here: endpointSelector'),
    ({"podSelector": {}, "ingress": []}, "spec.podSelector: unknown field; did you mean endpointSelector?"),
    ({"ingress": [], "description": 5}, "spec.description: has to be text, not a number"),
    ({"ingress": [], "nodeSelector": {}}, "spec.nodeSelector: not supported yet"),
    ({"ingress": [], "labels": []}, "spec.labels: not supported"),
    ({"ingress": [], "log": {}}, "spec.log: not supported"),
    ({"enableDefaultDeny": True}, "spec.enableDefaultDeny: has to be a mapping, not true"),
    ({"enableDefaultDeny": {"ingress": "yes"}}, "spec.enableDefaultDeny.ingress: has to be true or false, not text"),
    ({"enableDefaultDeny": {"in": True}}, "spec.enableDefaultDeny.in: unknown field"),
    ({"ingress": [{}] * 1025}, "spec.ingress: has 1025 elements; at most 1024"),
    # rules
    ({"ingressDeny": [{}]}, "spec.ingressDeny[0]: denies nothing: write fromEntities: [all]"),
    ({"egressDeny": [{}]}, "spec.egressDeny[0]: denies nothing: write toEntities: [all]"),
    ({"ingress": [{"fromEndpoint": []}]}, "spec.ingress[0].fromEndpoint: unknown field; did you mean fromEndpoints?"),
    ({"ingress": [{"toEndpoints": []}]}, "spec.ingress[0].toEndpoints: unknown field; did you mean fromEndpoints?"),
    ({"egress": [{"fromCIDR": []}]}, "spec.egress[0].fromCIDR: unknown field; did you mean toCIDR?"),
    ({"ingress": [{"from": []}]}, "spec.ingress[0].from: unknown field"),
    ({"ingress": [{"fromEndpoints": None}]}, "spec.ingress[0].fromEndpoints: has no value"),
    ({"ingress": [{"fromEndpoints": {}}]}, "spec.ingress[0].fromEndpoints: has to be a list, not a mapping"),
    ({"ingress": [{"fromGroups": []}]}, "spec.ingress[0].fromGroups: not supported: "),
    ({"ingress": [{"fromNodes": []}]}, "spec.ingress[0].fromNodes: not supported yet: "),
    ({"ingress": [{"fromRequires": []}]}, "spec.ingress[0].fromRequires: not supported: "),
    ({"ingressDeny": [{"fromRequires": []}]}, "spec.ingressDeny[0].fromRequires: not supported: "),
    ({"ingress": [{"authentication": {}}]}, "spec.ingress[0].authentication: not supported yet: "),
    ({"egress": [{"toFQDNs": [{"matchName": "a.b"}]}]}, "spec.egress[0].toFQDNs: not supported yet: "),
    ({"egress": [{"toServices": []}]}, "spec.egress[0].toServices: not supported: "),
    ({"egress": [{"toGroups": []}]}, "spec.egress[0].toGroups: not supported: "),
    ({"egress": [{"toNodes": []}]}, "spec.egress[0].toNodes: not supported yet: "),
    ({"egress": [{"toRequires": []}]}, "spec.egress[0].toRequires: not supported: "),
    ({"egress": [{"authentication": {}}]}, "spec.egress[0].authentication: not supported yet: "),
    # prefixes
    (peer(toCIDR=["10.0.0.0/33"]), 'spec.egress[1].toCIDR[0]: "10.0.0.0/33" is not a prefix'),
    (peer(toCIDR=["10.0.0.0/255.0.0.0"]), "spec.egress[1].toCIDR[0]: "),
    (peer(toCIDR=["10.0.0.1/8"]), "has bits beyond its prefix: write 10.0.0.0/8, or 10.0.0.1/32 for one address"),
    (peer(toCIDR=["fe80::%eth0/64"]), "spec.egress[1].toCIDR[0]: "),
    (peer(toCIDR=["fe80::1%eth0"]), "spec.egress[1].toCIDR[0]: "),
    (peer(toCIDR=["::ffff:10.0.0.0/104"]), "is an IPv4 prefix written as IPv6"),
    (peer(toCIDR=["010.0.0.0/8"]), "spec.egress[1].toCIDR[0]: "),
    (peer(toCIDR=["\u0661\u0660.0.0.0/8"]), "spec.egress[1].toCIDR[0]: "),
    (peer(toCIDR=["example.org"]), "spec.egress[1].toCIDR[0]: "),
    (peer(toCIDR=[167772160]), "spec.egress[1].toCIDR[0]: has to be text, not a number"),
    (peer(toCIDR=[{"cidr": "10.0.0.0/8"}]), "spec.egress[1].toCIDR[0]: has to be text, not a mapping"),
    (peer(toCIDRSet=["10.0.0.0/8"]), "spec.egress[1].toCIDRSet[0]: has to be a mapping, not text"),
    (peer(toCIDRSet=[{}]), "spec.egress[1].toCIDRSet[0].cidr: is missing"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.1"}]), "spec.egress[1].toCIDRSet[0].cidr: "),
    (peer(toCIDRSet=[{"cidrGroupRef": "a"}]), "spec.egress[1].toCIDRSet[0].cidrGroupRef: not supported yet"),
    (peer(toCIDRSet=[{"cidrGroupSelector": {}}]), "spec.egress[1].toCIDRSet[0].cidrGroupSelector: not supported yet"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}]), "except[0]: 11.0.0.0/8 is not a smaller part"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}]), "except[0]: 10.0.0.0/8 is not a smaller part"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.0/8", "except": ["0.0.0.0/0"]}]), "except[0]: 0.0.0.0/0 is not a smaller part"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.0/8", "except": ["::/0"]}]), "except[0]: ::/0 is not a smaller part"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}]), "except: has to be a list, not text"),
    (peer(toCIDRSet=[{"cidr": "10.0.0.0/8", "execpt": []}]), "execpt: unknown field; did you mean except?"),
    # entities
    (peer(toEntities=["wolrd"]), 'spec.egress[1].toEntities[0]: "wolrd" is not an entity: write all, cluster'),
    (peer(toEntities=["kube-apiserver"]), "spec.egress[1].toEntities[0]: "),
    (peer(toEntities=["World"]), "spec.egress[1].toEntities[0]: "),
    (peer(toEntities="world"), "spec.egress[1].toEntities: has to be a list, not text"),
    (peer(toEntities=[True]), "spec.egress[1].toEntities[0]: has to be text, not true"),
    # ports
    ({"ingress": [{"toPorts": []}]}, "spec.ingress[0].toPorts: is empty"),
    ({"ingress": [{"toPorts": [{}]}]}, "spec.ingress[0].toPorts[0].ports: is missing"),
    (ports(), "spec.ingress[0].toPorts[0].ports: is empty"),
    (ports({}), "spec.ingress[0].toPorts[0].ports[0].port: is missing"),
    (ports(80), "spec.ingress[0].toPorts[0].ports[0]: has to be a mapping, not a number"),
    (ports({"port": 0}), "ports[0].port: 0 is not a port: leave port out for all ports"),
    (ports({"port": -1}), "ports[0].port: -1 is not a port"),
    (ports({"port": 65536}), "ports[0].port: 65536 is not a port"),
    (ports({"port": "65536"}), "ports[0].port: 65536 is not a port"),
    (ports({"port": 80.0}), "ports[0].port: 80.0 is not a port"),
    (ports({"port": True}), "ports[0].port: has to be the number of a port"),
    (ports({"port": None}), "ports[0].port: has no value"),
    (ports({"port": [80]}), "ports[0].port: has to be the number of a port"),
    (ports({"port": "0080"}), 'ports[0].port: "0080" is not a port'),
    (ports({"port": "80-90"}), 'ports[0].port: "80-90" is not a port'),
    (ports({"port": "٨٠"}), "is not a port"),
    (ports({"port": "HTTP"}), 'ports[0].port: "HTTP" is not a port'),
    (ports({"port": "a--b"}), 'ports[0].port: "a--b" is not a port'),
    (ports({"port": "a" * 16}), "ports[0].port: "),
    (ports({"port": ""}), 'ports[0].port: "" is not a port'),
    (ports({"port": 80, "endPort": 79}), "ports[0].endPort: 79 is less than port 80"),
    (ports({"port": 80, "endPort": 0}), "ports[0].endPort: 0 is not a port"),
    (ports({"port": 80, "endPort": 70000}), "ports[0].endPort: 70000 is not a port"),
    (ports({"port": "http", "endPort": 90}), 'ports[0].endPort: a range begins at a number, not at the name "http"'),
    (ports({"endPort": 90, "protocol": "TCP"}), "ports[0].endPort: has no port to begin at"),
    (
        ports({"port": 80, "protocol": "HTTP"}),
        'ports[0].protocol: "HTTP" is not a protocol: write TCP, UDP, SCTP or ANY',
    ),
    (ports({"port": 8, "protocol": "ICMP"}), "for ICMP there is icmps"),
    (ports({"port": 80, "protocol": 6}), "ports[0].protocol: has to be text, not a number"),
    (ports({"port": 80, "proto": "TCP"}), "ports[0].proto: unknown field; did you mean protocol?"),
    (ports(*[{"port": 1}] * 257), "spec.ingress[0].toPorts[0].ports: has 257 elements; at most 256"),
    *[
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": 80}], name: {}}]}]},
            f"spec.ingress[0].toPorts[0].{name}: not supported",
        )
        for name in ("rules", "terminatingTLS", "originatingTLS", "serverNames", "listener")
    ],
    # messages
    ({"ingress": [{"icmps": []}]}, "spec.ingress[0].icmps: is empty"),
    ({"ingress": [{"icmps": [{}]}]}, "spec.ingress[0].icmps[0].fields: is missing"),
    ({"ingress": [{"icmps": [{"fields": []}]}]}, "spec.ingress[0].icmps[0].fields: is empty"),
    ({"ingress": [{"icmps": [{"type": 8}]}]}, "spec.ingress[0].icmps[0].type: unknown field"),
    ({"ingress": [{"icmps": [{"fields": [{"type": 256}]}]}]}, "icmps[0].fields[0].type: is not an ICMP type"),
    ({"ingress": [{"icmps": [{"fields": [{"type": -1}]}]}]}, "icmps[0].fields[0].type: is not an ICMP type"),
    ({"ingress": [{"icmps": [{"fields": [{"type": "Ping"}]}]}]}, "icmps[0].fields[0].type: is not an ICMP type"),
    ({"ingress": [{"icmps": [{"fields": [{"type": True}]}]}]}, "icmps[0].fields[0].type: is not an ICMP type"),
    ({"ingress": [{"icmps": [{"fields": [{"type": []}]}]}]}, "icmps[0].fields[0].type: is not an ICMP type"),
    ({"ingress": [{"icmps": [{"fields": [{"family": "IPv6"}]}]}]}, "icmps[0].fields[0].family: not supported yet"),
    (
        {"ingress": [{"icmps": [{"fields": [{"family": "ipv4"}]}]}]},
        'fields[0].family: "ipv4" is not a family: write IPv4',
    ),
    ({"ingress": [{"icmps": [{"fields": [{"family": 4}]}]}]}, "icmps[0].fields[0].family: has to be text"),
    # selectors
    (selector(app="web"), "spec.endpointSelector.app: unknown field; known here: matchLabels, matchExpressions"),
    (selector(matchLabels=None), "spec.endpointSelector.matchLabels: has no value"),
    (selector(matchLabels=["app"]), "spec.endpointSelector.matchLabels: has to be a mapping, not a list"),
    (selector(matchLabels={"app": 1}), "spec.endpointSelector.matchLabels.app: has to be text, not a number: put it"),
    (selector(matchLabels={"app": True}), "spec.endpointSelector.matchLabels.app: has to be text, not true: put it"),
    (selector(matchLabels={"app": None}), "spec.endpointSelector.matchLabels.app: has to be text, not nothing"),
    (selector(matchLabels={"a.b/c": ["d"]}), 'spec.endpointSelector.matchLabels["a.b/c"]: has to be text, not a list'),
    (selector(matchLabels={"": "x"}), 'spec.endpointSelector.matchLabels[""]: a label has a key'),
    (selector(matchLabels={"any:": "x"}), "a label has a key"),
    (
        selector(matchLabels={"a\nb": "x"}),
        'matchLabels["a\\nb"]: the key "a\\nb" has characters that cannot be printed',
    ),
    (selector(matchLabels={"app": "a\u202eb"}), "has characters that cannot be printed"),
    (selector(matchLabels={"k" * 513: "x"}), "has 513 characters; at most 512"),
    (selector(matchLabels={"app": "v" * 4097}), "has 4097 characters; at most 4096"),
    (selector(matchLabels={"k8s:app": "web"}), 'containers have no Kubernetes labels: write "app"'),
    (selector(matchLabels={"io.kubernetes.pod.namespace": "a"}), "there are no Kubernetes namespaces"),
    (selector(matchLabels={"reserved:host": ""}), "spec.endpointSelector: reserved:host is no endpoint"),
    (selector(matchLabels={"reserved:all": ""}), '"reserved:all" is no reserved label: there are reserved:host'),
    (selector(matchLabels={"reserved:init": "x"}), "reserved:init has no value"),
    (selector(matchLabels={f"k{i}": "v" for i in range(257)}), "matchLabels: has 257 labels; at most 256"),
    (selector(matchExpressions={}), "spec.endpointSelector.matchExpressions: has to be a list, not a mapping"),
    (selector(matchExpressions=[{}]), "spec.endpointSelector.matchExpressions[0].key: is missing"),
    (selector(matchExpressions=[{"key": "a"}]), "matchExpressions[0].operator: is missing: write In, NotIn"),
    (
        selector(matchExpressions=[{"key": "a", "operator": "in", "values": ["b"]}]),
        '[0].operator: "in" is not an operator',
    ),
    (selector(matchExpressions=[{"key": "a", "operator": "In"}]), "matchExpressions[0].values: is missing"),
    (
        selector(matchExpressions=[{"key": "a", "operator": "NotIn", "values": []}]),
        "matchExpressions[0].values: is missing",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "In", "values": "b"}]),
        "[0].values: has to be a list, not text",
    ),
    (selector(matchExpressions=[{"key": "a", "operator": "In", "values": [1]}]), "[0].values[0]: has to be text"),
    (selector(matchExpressions=[{"key": "a", "operator": "Exists", "values": ["b"]}]), "cannot stand beside Exists"),
    (selector(matchExpressions=[{"key": 1, "operator": "Exists"}]), "matchExpressions[0].key: has to be text"),
    (
        selector(matchExpressions=[{"key": "a", "operator": "Exists", "value": "b"}]),
        "value: unknown field; did you mean values?",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "In", "values": [str(i) for i in range(1025)]}]),
        "matchExpressions[0].values: has 1025 elements; at most 1024",
    ),
]


@pytest.mark.parametrize(("spec", "said"), REFUSED, ids=[f"{index}" for index in range(len(REFUSED))])
def test_a_fault_is_named_with_its_path(spec: dict[str, Any], said: str) -> None:
    faults = hawse_faults(**spec)

    assert any(said in fault for fault in faults), faults
    assert all(len(fault) < 1000 for fault in faults)


def test_a_selector_that_is_missing_is_not_every_endpoint() -> None:
    assert faults_of(json.dumps(hawse_document({"ingress": []}))) == [
        "spec.endpointSelector: is missing: write {} to select every endpoint"
    ]


def test_all_faults_are_told_at_once() -> None:
    faults = hawse_faults(
        endpointSelector={"matchLabels": {"k8s:app": "web"}},
        ingress=[{"toPorts": [{"ports": [{"port": 70000}, {"port": 80, "protocol": "X"}]}]}],
        egress=[{"toFQDNs": []}, {"toCIDR": ["x"]}],
        typo=1,
    )

    assert [fault.partition(": ")[0] for fault in faults] == [
        "spec.typo",
        'spec.endpointSelector.matchLabels["k8s:app"]',
        "spec.ingress[0].toPorts[0].ports[0].port",
        "spec.ingress[0].toPorts[0].ports[1].protocol",
        "spec.egress[0].toFQDNs",
        "spec.egress[1].toCIDR[0]",
    ]


METADATA = [
    ({}, "metadata.name: is missing"),
    ({"name": None}, "metadata.name: is missing"),
    ({"name": 5}, "metadata.name: has to be text, not a number"),
    ({"name": "Upper"}, 'metadata.name: "Upper" is no policy name'),
    ({"name": "a/b"}, 'metadata.name: "a/b" is no policy name'),
    ({"name": ""}, 'metadata.name: "" is no policy name'),
    ({"name": "a" * 254}, "is no policy name: up to 253"),
    ({"name": "../../x"}, "is no policy name"),
    ({"name": "labels:300"}, "is no policy name"),
    ({"name": "p", "namespace": "shop"}, "metadata.namespace: a Policy holds for the whole cluster"),
    ({"name": "p", "generateName": "p-"}, "metadata.generateName: not supported"),
    ({"name": "p", "lables": {}}, "metadata.lables: unknown field; did you mean labels?"),
    ({"name": "p", "labels": ["a"]}, "metadata.labels: has to be a mapping, not a list"),
    ({"name": "p", "annotations": {"a": 1}}, "metadata.annotations.a: has to be text, not a number"),
]


@pytest.mark.parametrize(("metadata", "said"), METADATA)
def test_metadata_is_checked(metadata: dict[str, Any], said: str) -> None:
    document = {**hawse_document({"endpointSelector": {}, "ingress": []}), "metadata": metadata}
    (fault,) = faults_of(json.dumps(document))

    assert said in fault


@pytest.mark.parametrize("name", ["a", "db-from-app", "a.b_c", "0", "a" * 253])
def test_names(name: str) -> None:
    document = hawse_document({"endpointSelector": {}, "ingress": []}, name=name)

    assert name == policy_of(json.dumps(document)).name


def test_what_a_server_added_is_kept_and_means_nothing() -> None:
    added = {"uid": "1-2", "resourceVersion": "5", "creationTimestamp": None, "managedFields": [{"manager": "kubectl"}]}
    (document,) = read(json.dumps(hawse_document({"endpointSelector": {}, "ingress": []}, **added)))

    assert {"name": "p", **added} == document.plain["metadata"]
