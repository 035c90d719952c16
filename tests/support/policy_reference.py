"""What policies mean, one connection at a time: slow, and written to be read beside ``model/policies.py``.

Knows nothing of tables, numbers of prefixes or bits of ports, and shares no code with the compiler.

An end is the labels of an endpoint, a reserved identity, or an address outside of the cluster.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from datapath.api import Direction
from model.addresses import IPAddress
from model.ids import IDENTITY_INIT, IDENTITY_WORLD, IdentityId
from model.labels import Labels
from model.policies import CidrPeer, Entity, Peer, Policy, PolicyMode, PortMatch, Rule, Selector

End: TypeAlias = Labels | IdentityId | IPAddress

NAMES = {1: "host", 2: "world", 3: "unmanaged", 4: "health", 5: "init", 6: "remote-node"}
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132, "tcp": 6, "udp": 17, "sctp": 132}


def verdict(  # noqa: PLR0917  # a sentence in this order
    policies: Sequence[Policy],
    source: End,
    destination: End,
    protocol: int,
    port: int,
    direction: Direction,
    mode: PolicyMode = PolicyMode.DEFAULT,
) -> bool:
    """Whether the end that judges this direction lets a new connection pass."""
    local, remote = (source, destination) if direction is Direction.EGRESS else (destination, source)
    if mode is PolicyMode.NEVER:
        return True
    concerned = [policy for policy in policies if _may_apply(policy, local)]
    denies = [rule for policy in concerned for rule in _rules(policy, direction) if rule.deny]
    if any(_matches(rule, remote, destination, protocol, port) for rule in denies):
        return False
    if mode is PolicyMode.DEFAULT and not any(_closes(policy, direction) for policy in concerned):
        return True
    applied = [policy for policy in policies if _selects(policy.subject, local)]
    allows = [rule for policy in applied for rule in _rules(policy, direction) if not rule.deny]
    return any(_matches(rule, remote, destination, protocol, port) for rule in allows)


def _rules(policy: Policy, direction: Direction) -> Sequence[Rule]:
    return policy.ingress if direction is Direction.INGRESS else policy.egress


def _closes(policy: Policy, direction: Direction) -> bool:
    return policy.enforce_ingress if direction is Direction.INGRESS else policy.enforce_egress


def _may_apply(policy: Policy, local: End) -> bool:
    """As it applies; to an endpoint whose labels are not known any policy may."""
    return local == IDENTITY_INIT or _selects(policy.subject, local)


def _selects(selector: Selector, end: End) -> bool:
    if isinstance(end, Labels):
        namespace = {"kubernetes.io/metadata.name": end.namespace}
        return all(one.holds(end) for one in selector.labels) and all(
            one.holds(namespace) for one in selector.namespace
        )
    if end == IDENTITY_INIT and selector == Selector():
        return True
    label = "reserved:" + NAMES[_reserved(end)]
    return (
        any(one.key == label for one in selector.labels)
        and all(one.holds({label: ""}) for one in selector.labels)
        and all(one.holds({}) for one in selector.namespace)
    )


def _matches(rule: Rule, remote: End, destination: End, protocol: int, port: int) -> bool:
    peer = rule.peers is None or any(_is_peer(one, remote, deny=rule.deny) for one in rule.peers)
    return peer and (
        rule.ports is None or any(_is_port(one, destination, protocol, port, deny=rule.deny) for one in rule.ports)
    )


def _is_peer(peer: Peer, remote: End, *, deny: bool) -> bool:
    if isinstance(peer, Selector):
        return (deny and remote == IDENTITY_INIT) or _selects(peer, remote)
    if isinstance(peer, CidrPeer):
        return (
            isinstance(remote, ipaddress.IPv4Address | ipaddress.IPv6Address)
            and remote in peer.cidr
            and not any(remote in one for one in peer.excluded)
        )
    if peer is Entity.ALL:
        return True
    if peer is Entity.NONE:
        return False
    if isinstance(remote, Labels):
        return peer is Entity.CLUSTER
    name = NAMES[_reserved(remote)]
    return name != "world" if peer is Entity.CLUSTER else peer.value == name


def _is_port(match: PortMatch, destination: End, protocol: int, port: int, *, deny: bool) -> bool:
    protocols = {6, 17, 132} if match.protocol is None else {int(match.protocol)}
    if protocol not in protocols:
        return False
    if match.name is None:
        return match.first <= port <= match.last
    if isinstance(destination, Labels):
        number, slash, name = destination.get(f"hawse.port.{match.name}", "").partition("/")
        return bool(slash) and NUMBERS[name] == protocol and int(number) == port
    return deny and destination == IDENTITY_INIT


def _reserved(end: IdentityId | IPAddress) -> int:
    return IDENTITY_WORLD if isinstance(end, ipaddress.IPv4Address | ipaddress.IPv6Address) else int(end)
