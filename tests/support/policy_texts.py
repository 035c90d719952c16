"""Policy documents for tests: written as JSON or YAML, read, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model.errors import InvalidDocument
from model.policies import NAMESPACE_NAME_LABEL, Operator, Policy, Requirement, Rule, Selector
from policy.documents import read


def hawse_document(spec: Any, *, name: str = "p", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "hawse/v1", "kind": "Policy", "metadata": {"name": name, **metadata}, "spec": spec}


def network_document(spec: Any, *, name: str = "p", namespace: str | None = "shop") -> dict[str, Any]:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def hawse_policy(**spec: Any) -> Policy:
    """Read a Policy; it selects every endpoint unless the spec says otherwise."""
    return policy_of(json.dumps(hawse_document({"endpointSelector": {}, **spec})))


def network_policy(namespace: str | None = "shop", **spec: Any) -> Policy:
    return policy_of(json.dumps(network_document({"podSelector": {}, **spec}, namespace=namespace)))


def policy_of(text: str) -> Policy:
    (document,) = read(text)
    return document.policy


def ingress_rule(**rule: Any) -> Rule:
    (found,) = hawse_policy(ingress=[rule]).ingress
    return found


def egress_rule(**rule: Any) -> Rule:
    (found,) = hawse_policy(egress=[rule]).egress
    return found


def faults_of(text: str) -> list[str]:
    """What is wrong with a text, a line for each fault."""
    with pytest.raises(InvalidDocument) as caught:
        read(text)
    return [str(fault) for fault in caught.value.faults]


def hawse_faults(**spec: Any) -> list[str]:
    return faults_of(json.dumps(hawse_document({"endpointSelector": {}, **spec})))


def network_faults(**spec: Any) -> list[str]:
    return faults_of(json.dumps(network_document({"podSelector": {}, **spec})))


def labels_are(**labels: str) -> Selector:
    return Selector(tuple(one_of(key, value) for key, value in labels.items()))


def one_of(key: str, *values: str) -> Requirement:
    return Requirement(key, Operator.IN, frozenset(values))


def in_namespace(name: str) -> tuple[Requirement, ...]:
    return (one_of(NAMESPACE_NAME_LABEL, name),)
