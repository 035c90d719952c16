"""Policy documents of both kinds: from the text that a user applies, and from what the store has kept of it.

Everything that is wrong is found in one go and refused together, each with its path; nothing is half taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kvstore import keys
from model.errors import Fault, InvalidDocument, InvalidInput
from model.labels import DEFAULT_NAMESPACE
from model.policies import Policy
from policy.faults import Faults, Part, kind_of, quoted
from policy.hawse_policy import read_policy
from policy.limits import DOCUMENTS_MAX
from policy.network_policy import read_network_policy
from policy.yaml_reader import read_plain

POLICY_VERSION: Final = "hawse/v1"
POLICY_KIND: Final = "Policy"
NETWORK_POLICY_VERSION: Final = "networking.k8s.io/v1"
NETWORK_POLICY_KIND: Final = "NetworkPolicy"

_LIST_VERSION: Final = "v1"
_LIST_KIND: Final = "List"

_KINDS: Final = (
    f"apiVersion {POLICY_VERSION} with kind {POLICY_KIND}, or {NETWORK_POLICY_VERSION} with {NETWORK_POLICY_KIND}"
)
_FIELDS: Final = ("apiVersion", "kind", "metadata", "spec", "status")
_FIELDS_REFUSED: Final = MappingProxyType(
    {"specs": "not supported: write one document with a spec for each, --- between them"}
)
_IGNORED: Final = "status"

_METADATA_FIELDS: Final = ("name", "namespace", "labels", "annotations")
_METADATA_KEPT: Final = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
)
"""What a Kubernetes server adds; it has no meaning here."""
_METADATA_REFUSED: Final = MappingProxyType({"generateName": "not supported: give the policy a name"})

_DNS_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

_CILIUM_HELP: Final = (
    f"write apiVersion: {POLICY_VERSION} and kind: {POLICY_KIND}, leave metadata.namespace out, and select labels of "
    "containers; the rest of the spec may stay"
)
_HELP_BY_KIND: Final = MappingProxyType(
    {"CiliumNetworkPolicy": _CILIUM_HELP, "CiliumClusterwideNetworkPolicy": _CILIUM_HELP}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy document that keeps all rules."""

    name: str
    """``<name>``, or ``<namespace>/<name>`` of a NetworkPolicy: its key in the store."""
    kind: str
    plain: Mapping[str, object]
    """As it was written, for the store: JSON's types, without ``status``."""
    policy: Policy


def read(text: str) -> tuple[Document, ...]:
    """Read the documents of a YAML or JSON text: several with ``---`` between them, and lists (``kind: List``).

    Raises:
        InvalidDocument: anything is wrong with any of them; names every fault. With several documents a path begins
            with the number of its document.
    """
    values = read_plain(text)
    faults = Faults()
    documents: dict[str, Document] = {}
    for where, value in _listed(values, faults):
        own = Faults()
        document = _read_one(Part(value, "", own))
        faults.take(where, own)
        if document is not None and document.name in documents:
            faults.add(f"{where}metadata.name", f"two documents have the name {document.name}")
        elif document is not None:
            documents[document.name] = document
    faults.raise_if_any()
    return tuple(documents.values())


def from_record(name: str, plain: Mapping[str, object]) -> Document:
    """Read a document that the store has kept under a name.

    Raises:
        InvalidDocument: a newer version wrote it, or a hand; names every fault.
    """
    faults = Faults()
    document = _read_one(Part(plain, "", faults))
    faults.raise_if_any()
    if document is None or document.name != name:
        raise InvalidDocument([Fault("metadata.name", f"is not {quoted(name)}, its key in the store")])
    return document


def _listed(values: Sequence[object], faults: Faults) -> list[tuple[str, object]]:
    """The documents, those of lists one by one, each with what stands before its paths."""
    found: list[tuple[str, object]] = []
    for number, value in enumerate(values, 1):
        where = f"document {number}: " if len(values) > 1 else ""
        if not (isinstance(value, Mapping) and value.get("kind") == _LIST_KIND):
            found.append((where, value))
            continue
        part = Part(value, "", Faults())
        fields = part.fields(
            ("apiVersion", "kind", "metadata", "items"),
            null_is_absent=False,
            required={"apiVersion": f"write {_LIST_VERSION}", "items": "write the documents under it"},
        )
        if fields is not None and "apiVersion" in fields and fields["apiVersion"].value != _LIST_VERSION:
            fields["apiVersion"].fault(f"a {_LIST_KIND} has apiVersion {_LIST_VERSION}")
        if fields is not None and "items" in fields:
            items = fields["items"].elements(most=DOCUMENTS_MAX) or []
            found += [(f"{where}{item.path}.", item.value) for item in items]
        faults.take(where, part.faults)
    if not found:
        faults.add("", "there is no document in the text")
    if len(found) > DOCUMENTS_MAX:
        faults.add("", f"{len(found)} documents; at most {DOCUMENTS_MAX} are taken at once")
        return []
    return found


def _read_one(part: Part) -> Document | None:
    """Read one document; None, and faults, when it cannot have a name."""
    if not isinstance(part.value, Mapping):
        part.fault(f"a policy document is a mapping, not {kind_of(part.value)}; {_KINDS}")
        return None
    kind = _kind(part)
    if kind is None:
        return None
    fields = part.fields(
        _FIELDS,
        null_is_absent=True,
        required={"metadata": "write the policy's name under it", "spec": "write what the policy says under it"},
        refused=_FIELDS_REFUSED,
    )
    if fields is None:
        return None
    name = _name(fields["metadata"], kind) if "metadata" in fields else None
    policy = _policy(name or ("", ""), kind, fields["spec"]) if "spec" in fields else None
    if name is None or policy is None:
        return None
    plain = {field: value for field, value in part.value.items() if field != _IGNORED}
    return Document(name=policy.name, kind=kind, plain=plain, policy=policy)


def _policy(name: tuple[str, str], kind: str, spec: Part) -> Policy | None:
    if kind == POLICY_KIND:
        return read_policy(name[1], spec)
    return read_network_policy("/".join(name), name[0], spec)


def _kind(part: Part) -> str | None:
    """Which of the two kinds a document is; None, and a fault that says what to change, when it is neither."""
    value = part.value if isinstance(part.value, Mapping) else {}
    version, kind = value.get("apiVersion"), value.get("kind")
    if (version, kind) in ((POLICY_VERSION, POLICY_KIND), (NETWORK_POLICY_VERSION, NETWORK_POLICY_KIND)):
        return str(kind)
    for name in ("apiVersion", "kind"):
        if not isinstance(value.get(name), str):
            given = "is missing" if value.get(name) is None else f"has to be text, not {kind_of(value[name])}"
            part.member(name, None).fault(f"{given}: write {_KINDS}")
    if isinstance(version, str) and isinstance(kind, str):
        help_text = _HELP_BY_KIND.get(kind, f"write {_KINDS}")
        part.member("kind", None).fault(f"{quoted(kind)} of apiVersion {quoted(version)} is not known: {help_text}")
    return None


def _name(part: Part, kind: str) -> tuple[str, str] | None:
    """Namespace and name from the metadata; None, and a fault, when one of them cannot be."""
    fields = part.fields(
        (*_METADATA_FIELDS, *_METADATA_KEPT),
        null_is_absent=True,
        required={"name": "give the policy a name"},
        refused=_METADATA_REFUSED,
    )
    if fields is None:
        return None
    for group in ("labels", "annotations"):
        for _, entry in (fields[group].entries() or []) if group in fields else []:
            entry.text()
    namespace = DEFAULT_NAMESPACE
    if "namespace" in fields and kind == POLICY_KIND:
        fields["namespace"].fault(
            "a Policy holds for the whole cluster: leave it out, and select the label com.docker.stack.namespace or "
            "com.docker.compose.project under spec"
        )
    elif "namespace" in fields:
        namespace = _segment(fields["namespace"], "namespace") or ""
    name = _segment(fields["name"], "policy name", strict=kind == NETWORK_POLICY_KIND) if "name" in fields else None
    return (namespace, name) if namespace and name else None


def _segment(part: Part, what: str, *, strict: bool = False) -> str | None:
    text = part.text()
    if text is None:
        return None
    if strict and not _DNS_NAME.fullmatch(text):
        part.fault(f"{quoted(text)} is no {what}: up to 253 lower-case letters, digits, '-' and '.', as in a DNS name")
        return None
    try:
        keys.policy(text.replace("/", " "))
    except InvalidInput:
        part.fault(f"{quoted(text)} is no {what}: up to 253 lower-case letters, digits, '-', '_' and '.'")
        return None
    return text
