"""Selectors, rules and policies in few words, for tests that write them down."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from model.addresses import IPNetwork
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IdentityId
from model.labels import Labels
from model.policies import (
    NAMESPACE_NAME_LABEL,
    CidrPeer,
    Operator,
    Peer,
    Policy,
    PolicyMode,
    PortMatch,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from policy.compiler import Compiled, PolicyInputs, compile_table, prefixes_of

EVERYONE: Final = Selector()
WEB: Final = IdentityId(1001)
API: Final = IdentityId(1002)
DB: Final = IdentityId(1003)
SHOP: Final[Mapping[IdentityId, Labels]] = {
    WEB: Labels.of({"app": "web"}),
    API: Labels.of({"app": "api"}),
    DB: Labels.of({"app": "db", "hawse.port.sql": "5432/tcp"}),
}
"""Three identities, each with its own ``app``; the database names its port."""


def selects(**values: str) -> Selector:
    """Labels that have to be there with these values."""
    return Selector(tuple(requires(key, value) for key, value in values.items()))


def requires(key: str, *values: str) -> Requirement:
    return Requirement(key, Operator.IN, frozenset(values))


def reserved(name: str) -> Selector:
    return Selector((Requirement(f"reserved:{name}", Operator.EXISTS),))


def in_namespace(name: str) -> Selector:
    return Selector(namespace=(requires(NAMESPACE_NAME_LABEL, name),))


def cidr(text: str, *excluded: str) -> CidrPeer:
    return CidrPeer(ipaddress.ip_network(text), tuple(ipaddress.ip_network(one) for one in excluded))


def tcp(first: int, last: int | None = None) -> PortMatch:
    return PortMatch(Protocol.TCP, first, first if last is None else last)


def allow(*peers: Peer, ports: Sequence[PortMatch] | None = None, path: str = "allow") -> Rule:
    """Anyone, when no peer is given."""
    return Rule(peers=peers or None, ports=None if ports is None else tuple(ports), path=path)


def deny(*peers: Peer, ports: Sequence[PortMatch] | None = None, path: str = "deny") -> Rule:
    return Rule(peers=peers or None, ports=None if ports is None else tuple(ports), deny=True, path=path)


def ingress(name: str, subject: Selector, *rules: Rule, closes: bool = True) -> Policy:
    return Policy(name=name, subject=subject, ingress=rules, enforce_ingress=closes)


def egress(name: str, subject: Selector, *rules: Rule, closes: bool = True) -> Policy:
    return Policy(name=name, subject=subject, egress=rules, enforce_egress=closes)


def shop(
    *policies: Policy, identities: Mapping[IdentityId, Labels] = SHOP, mode: PolicyMode = PolicyMode.DEFAULT
) -> PolicyInputs:
    """A cluster that is all on this host."""
    return PolicyInputs(
        policies=policies,
        identities=identities,
        local=frozenset(identities),
        mode=mode,
        prefix_identities=numbered(policies),
    )


def compiled(*policies: Policy, mode: PolicyMode = PolicyMode.DEFAULT) -> Compiled:
    """:data:`SHOP` under these policies."""
    return compile_table(shop(*policies, mode=mode))


def numbered(policies: Sequence[Policy]) -> Mapping[IPNetwork, int]:
    """Identities of the prefixes in policies, in order of their text."""
    return {prefix: CIDR_IDENTITY_BASE + at for at, prefix in enumerate(sorted(prefixes_of(policies), key=str))}
