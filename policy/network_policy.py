"""``apiVersion: networking.k8s.io/v1, kind: NetworkPolicy``: Kubernetes' published semantics, to the letter.

Pods are containers, a namespace is a Swarm stack, else a Compose project, else ``default``. A field with nothing behind
it counts as left out; ``from: []`` and ``ports: []`` mean all, as do ``from`` and ``ports`` that are left out. The host
that a container runs on may always reach it, and be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from model.policies import NAMESPACE_NAME_LABEL, Entity, Operator, Peer, Policy, Requirement, Rule, Selector
from policy.cidr_fields import cidr_set_peer
from policy.faults import Part, choices, quoted
from policy.limits import PEERS_MAX, RULES_MAX
from policy.port_fields import network_policy_ports
from policy.selector_fields import NAMESPACE_LABELS, POD_LABELS, requirements

HOST_PATH: Final = "(the container's own host)"
"""Stands for a path in the rule that every NetworkPolicy has without saying so."""

_SPEC_FIELDS: Final = ("podSelector", "ingress", "egress", "policyTypes")
_PEER_FIELDS: Final = ("podSelector", "namespaceSelector", "ipBlock")
_INGRESS: Final = "Ingress"
_EGRESS: Final = "Egress"
_TYPES: Final = (_INGRESS, _EGRESS)


def read_network_policy(name: str, namespace: str, spec: Part) -> Policy | None:
    """Read the ``spec`` of a NetworkPolicy; None when it is no mapping. Faults are collected in the part."""
    fields = spec.fields(_SPEC_FIELDS, null_is_absent=True)
    if fields is None:
        return None
    labels = requirements(fields["podSelector"], POD_LABELS) if "podSelector" in fields else ()
    ingress = _rules(fields.get("ingress"), "from", namespace)
    egress = _rules(fields.get("egress"), "to", namespace)
    types = _policy_types(fields)
    # Rules of a direction that the policy is not about do not count, also not beside another policy that is.
    return Policy(
        name=name,
        subject=Selector(labels, _own(namespace)),
        ingress=(_host_rule(), *ingress) if _INGRESS in types else (),
        egress=(_host_rule(), *egress) if _EGRESS in types else (),
        enforce_ingress=_INGRESS in types,
        enforce_egress=_EGRESS in types,
    )


def _policy_types(fields: Mapping[str, Part]) -> frozenset[str]:
    part = fields.get("policyTypes")
    elements = [] if part is None else part.elements(most=len(_TYPES)) or []
    if not elements:
        egress = fields.get("egress")
        return frozenset(_TYPES if egress is not None and egress.value else {_INGRESS})
    found = set()
    for element in elements:
        text = element.text()
        if text is not None and text not in _TYPES:
            element.fault(f"{quoted(text)} is not a policy type: write {choices(_TYPES)}")
        elif text is not None:
            found.add(text)
    return frozenset(found)


def _rules(section: Part | None, side: str, namespace: str) -> tuple[Rule, ...]:
    elements = [] if section is None else section.elements(most=RULES_MAX) or []
    found = []
    for element in elements:
        fields = element.fields((side, "ports"), null_is_absent=True)
        if fields is None:
            continue
        peers = _peers(fields[side], namespace) if side in fields else ()
        ports = network_policy_ports(fields["ports"]) if "ports" in fields else ()
        found.append(Rule(peers=peers or None, ports=ports or None, path=element.path))
    return tuple(found)


def _peers(part: Part, namespace: str) -> tuple[Peer, ...]:
    found = [_peer(element, namespace) for element in part.elements(most=PEERS_MAX) or []]
    return tuple(one for one in found if one is not None)


def _peer(part: Part, namespace: str) -> Peer | None:
    fields = part.fields(_PEER_FIELDS, null_is_absent=True)
    if fields is None:
        return None
    if not fields:
        part.fault(f"selects no peer: write {choices(_PEER_FIELDS)}")
        return None
    if "ipBlock" in fields:
        if len(fields) > 1:
            part.fault("ipBlock cannot stand beside another selector: write two peers")
        return cidr_set_peer(fields["ipBlock"], refused={}, null_is_absent=True)
    labels = requirements(fields["podSelector"], POD_LABELS) if "podSelector" in fields else ()
    if "namespaceSelector" not in fields:
        return Selector(labels, _own(namespace))
    return Selector(labels, requirements(fields["namespaceSelector"], NAMESPACE_LABELS))


def _own(namespace: str) -> tuple[Requirement, ...]:
    return (Requirement(NAMESPACE_NAME_LABEL, Operator.IN, frozenset({namespace})),)


def _host_rule() -> Rule:
    return Rule(peers=(Entity.HOST,), path=HOST_PATH)
