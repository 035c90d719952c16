"""Label selectors: ``matchLabels`` and ``matchExpressions`` into requirements.

Three kinds, which differ in what a key and a value may be: of endpoints in a hawse/v1 Policy, of containers in a
NetworkPolicy (``podSelector``), of namespaces in a NetworkPolicy. Labels of containers are freer than Kubernetes': any
printable text. Text is compared as it is, character by character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from model.identities import RESERVED_NAMES
from model.labels import RESERVED_PREFIX
from model.policies import Operator, Requirement
from policy.faults import Part, choices, quoted
from policy.limits import KEY_MAX, REQUIREMENTS_MAX, VALUE_MAX, VALUES_MAX

_SELECTOR_FIELDS: Final = ("matchLabels", "matchExpressions")
_EXPRESSION_FIELDS: Final = ("key", "operator", "values")
_EXPRESSION_REQUIRED: Final = {"key": "name the label", "operator": f"write {choices(list(Operator))}"}
_WITH_VALUES: Final = frozenset({Operator.IN, Operator.NOT_IN})

_SOURCES_TAKEN: Final = ("any:", "container:")
_KUBERNETES_SOURCE: Final = "k8s:"
_KUBERNETES_NAMESPACE_KEYS: Final = ("io.kubernetes.pod.namespace", "io.cilium.k8s.")

_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_KUBERNETES_PREFIX: Final = re.compile(rf"(?=.{{1,253}}$){_DNS_LABEL}(\.{_DNS_LABEL})*")
_KUBERNETES_NAME: Final = re.compile(_NAME)


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What may be selected, and how."""

    key: Callable[[Part, str], str | None]
    """Reads a key; None, and a fault at the part, when it may not be used."""
    value: Callable[[Part, str], bool]
    """Whether a value may be used; a fault at the part when not."""
    null_is_absent: bool


def requirements(part: Part, rules: LabelRules) -> tuple[Requirement, ...]:
    """Read a selector; without requirements it selects everything."""
    fields = part.fields(_SELECTOR_FIELDS, null_is_absent=rules.null_is_absent)
    if fields is None:
        return ()
    found = []
    if "matchLabels" in fields:
        found += _match_labels(fields["matchLabels"], rules)
    if "matchExpressions" in fields:
        elements = fields["matchExpressions"].elements(most=REQUIREMENTS_MAX) or []
        found += [one for element in elements if (one := _expression(element, rules)) is not None]
    if len(found) > REQUIREMENTS_MAX:
        part.fault(f"has {len(found)} requirements; at most {REQUIREMENTS_MAX} are taken")
    return tuple(found)


def _match_labels(part: Part, rules: LabelRules) -> list[Requirement]:
    entries = part.entries() or []
    if len(entries) > REQUIREMENTS_MAX:
        part.fault(f"has {len(entries)} labels; at most {REQUIREMENTS_MAX} are taken")
        return []
    found = []
    for name, entry in entries:
        key, value = rules.key(entry, name), entry.text()
        if key is not None and value is not None and rules.value(entry, value):
            found.append(_checked(entry, Requirement(key, Operator.IN, frozenset({value}))))
    return found


def _expression(part: Part, rules: LabelRules) -> Requirement | None:
    fields = part.fields(_EXPRESSION_FIELDS, null_is_absent=rules.null_is_absent, required=_EXPRESSION_REQUIRED)
    if fields is None:
        return None
    key, operator = _key(fields.get("key"), rules), _operator(fields.get("operator"))
    values = _values(fields["values"], rules) if "values" in fields else []
    if key is None or operator is None or values is None:
        return None
    if operator in _WITH_VALUES and not values:
        part.member("values", None).fault(f"is missing: {operator} compares with at least one value")
        return None
    if operator not in _WITH_VALUES and values:
        part.member("values", None).fault(f"cannot stand beside {operator}: leave it out")
        return None
    return _checked(part, Requirement(key, operator, frozenset(values)))


def _key(part: Part | None, rules: LabelRules) -> str | None:
    text = None if part is None else part.text()
    return None if part is None or text is None else rules.key(part, text)


def _operator(part: Part | None) -> Operator | None:
    text = None if part is None else part.text()
    if part is None or text is None:
        return None
    if text not in set(Operator):
        part.fault(f"{quoted(text)} is not an operator: write {choices(list(Operator))}")
        return None
    return Operator(text)


def _values(part: Part, rules: LabelRules) -> list[str] | None:
    elements = part.elements(most=VALUES_MAX)
    if elements is None:
        return None
    values = [(element, element.text()) for element in elements]
    good = [value for element, value in values if value is not None and rules.value(element, value)]
    return good if len(good) == len(values) else None


def _checked(part: Part, requirement: Requirement) -> Requirement:
    # The label of a reserved identity is there or not; with a value it would select nothing, and deny nothing.
    if requirement.key.startswith(RESERVED_PREFIX) and not requirement.values <= {""}:
        part.fault(f'{requirement.key} has no value: write {requirement.key}: "" or the operator {Operator.EXISTS}')
    return requirement


def free_key(part: Part, key: str) -> str | None:
    """Read the key of a container's label; None, and a fault, when it can be none."""
    if not key:
        part.fault("a label has a key")
    elif len(key) > KEY_MAX:
        part.fault(f"the key {quoted(key)} has {len(key)} characters; at most {KEY_MAX} are taken")
    elif not key.isprintable():
        part.fault(f"the key {quoted(key)} has characters that cannot be printed")
    else:
        return key
    return None


def free_value(part: Part, value: str) -> bool:
    """Whether a container's label may have the value; a fault when not."""
    if len(value) > VALUE_MAX:
        part.fault(f"the value {quoted(value)} has {len(value)} characters; at most {VALUE_MAX} are taken")
    elif not value.isprintable():
        part.fault(f"the value {quoted(value)} has characters that cannot be printed")
    else:
        return True
    return False


def hawse_key(part: Part, key: str) -> str | None:
    """Read a key with Cilium's label source before it: ``any:`` and ``container:`` are dropped, ``reserved:`` stays."""
    for source in _SOURCES_TAKEN:
        if key.startswith(source):
            return hawse_key(part, key.removeprefix(source))
    if key.startswith(_KUBERNETES_SOURCE):
        plain = key.removeprefix(_KUBERNETES_SOURCE)
        part.fault(f"containers have no Kubernetes labels: write {quoted(plain)} for a label of the container")
        return None
    if key.startswith(_KUBERNETES_NAMESPACE_KEYS):
        part.fault(
            f"there are no Kubernetes namespaces, so {quoted(key)} would select nothing: "
            "select com.docker.stack.namespace (a Swarm stack) or com.docker.compose.project"
        )
        return None
    if key.startswith(RESERVED_PREFIX):
        return _reserved_key(part, key)
    return free_key(part, key)


def _reserved_key(part: Part, key: str) -> str | None:
    names = [RESERVED_PREFIX + name for name in RESERVED_NAMES.values()]
    if key not in names:
        part.fault(
            f"{quoted(key)} is no reserved label: there are {choices(names)}; for other entities use fromEntities"
        )
        return None
    return key


def pod_key(part: Part, key: str) -> str | None:
    """Read a key of a podSelector: any label of a container, but none of a reserved identity."""
    if key.startswith(RESERVED_PREFIX):
        part.fault(
            f"{quoted(key)}: a podSelector selects containers only; an apiVersion hawse/v1 Policy can name entities"
        )
        return None
    return free_key(part, key)


def kubernetes_key(part: Part, key: str) -> str | None:
    """Read a key by Kubernetes' rules: ``[<DNS name>/]<name>``."""
    prefix, slash, name = key.rpartition("/")
    if not _KUBERNETES_NAME.fullmatch(name) or (slash and not _KUBERNETES_PREFIX.fullmatch(prefix)):
        part.fault(
            f"{quoted(key)} is no label key: up to 63 letters, digits, '-', '_' and '.', "
            "which may follow a DNS name and a '/'"
        )
        return None
    return key


def kubernetes_value(part: Part, value: str) -> bool:
    """Whether a value keeps Kubernetes' rules; a fault when not."""
    if value and not _KUBERNETES_NAME.fullmatch(value):
        part.fault(f"{quoted(value)} is no label value: up to 63 letters, digits, '-', '_' and '.'")
        return False
    return True


ENDPOINT_LABELS: Final = LabelRules(key=hawse_key, value=free_value, null_is_absent=False)
POD_LABELS: Final = LabelRules(key=pod_key, value=free_value, null_is_absent=True)
NAMESPACE_LABELS: Final = LabelRules(key=kubernetes_key, value=kubernetes_value, null_is_absent=True)
