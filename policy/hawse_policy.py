"""``apiVersion: hawse/v1, kind: Policy``: the fields of a CiliumNetworkPolicy, for the whole cluster.

Meaning of what is left out or empty: no peer field = anyone, if ports or icmps are said; an empty list of peers =
nobody; ``{}`` as a rule = nobody (it only closes the direction); ``{}`` as a selector = every endpoint. Several peer
fields of a rule add up, as do ``toPorts`` and ``icmps``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from model.identities import RESERVED_NAMES
from model.ids import IDENTITY_INIT
from model.labels import RESERVED_PREFIX
from model.policies import Entity, Operator, Peer, Policy, PortMatch, Rule, Selector
from policy.cidr_fields import cidr_peer, cidr_set_peer
from policy.faults import Part, choices, quoted
from policy.limits import PEERS_MAX, RULES_MAX
from policy.port_fields import icmps, to_ports
from policy.selector_fields import ENDPOINT_LABELS, requirements

_INGRESS: Final = ("ingress", "ingressDeny")
_EGRESS: Final = ("egress", "egressDeny")
_SECTIONS: Final = (*_INGRESS, *_EGRESS)
_SPEC_FIELDS: Final = ("endpointSelector", *_SECTIONS, "enableDefaultDeny", "description")

_SPEC_REFUSED: Final = MappingProxyType({
    "nodeSelector": "not supported yet: policies apply to containers, not to hosts",
    "labels": "not supported: write labels under metadata",
    "log": "not supported: hawse observe shows every denial with its policy",
})  # fmt: skip

_NO_GROUPS: Final = "not supported: hawse knows no groups of a cloud; write the prefixes"
_NO_NODES: Final = "not supported yet: hosts have no labels; write the entities host or remote-node"
_NO_SIGN_IN: Final = "not supported yet: hawse does not authenticate peers beyond their identity"
_REMOVED: Final = "not supported: Cilium has removed it; write what is required into each rule's selector"

_INGRESS_REFUSED: Final = MappingProxyType({
    "fromGroups": _NO_GROUPS,
    "fromNodes": _NO_NODES,
    "fromRequires": _REMOVED,
    "authentication": _NO_SIGN_IN,
})  # fmt: skip
_EGRESS_REFUSED: Final = MappingProxyType({
    "toFQDNs": "not supported yet: hawse does not follow names; write the addresses under toCIDR",
    "toServices": "not supported: there are no Kubernetes services; select the containers under toEndpoints",
    "toGroups": _NO_GROUPS,
    "toNodes": _NO_NODES,
    "toRequires": _REMOVED,
    "authentication": _NO_SIGN_IN,
})  # fmt: skip
_CIDR_REFUSED: Final = {
    "cidrGroupRef": "not supported yet: there are no CIDR groups; write the prefixes",
    "cidrGroupSelector": "not supported yet: there are no CIDR groups; write the prefixes",
}

_PORT_READERS: Final = MappingProxyType({"toPorts": to_ports, "icmps": icmps})


def read_policy(name: str, spec: Part) -> Policy | None:
    """Read the ``spec`` of a Policy; None when it is no mapping. Faults are collected in the part."""
    fields = spec.fields(
        _SPEC_FIELDS,
        null_is_absent=False,
        required={"endpointSelector": "write {} to select every endpoint"},
        refused=_SPEC_REFUSED,
    )
    if fields is None:
        return None
    if "description" in fields:
        fields["description"].text()
    if isinstance(spec.value, Mapping) and not spec.value.keys() & {*_SECTIONS, "enableDefaultDeny"}:
        spec.fault(f"says nothing: write at least one of {', '.join(_SECTIONS)}")
    closes = _default_deny(fields)
    return Policy(
        name=name,
        subject=_subject(fields["endpointSelector"]) if "endpointSelector" in fields else Selector(),
        ingress=_rules(fields, _INGRESS, _INGRESS_REFUSED),
        egress=_rules(fields, _EGRESS, _EGRESS_REFUSED),
        enforce_ingress=closes.get("ingress", bool(fields.keys() & _INGRESS)),
        enforce_egress=closes.get("egress", bool(fields.keys() & _EGRESS)),
    )


def _subject(part: Part) -> Selector:
    found = requirements(part, ENDPOINT_LABELS)
    init = RESERVED_PREFIX + RESERVED_NAMES[IDENTITY_INIT]
    for one in found:
        if one.key.startswith(RESERVED_PREFIX) and one.key != init and one.operator in {Operator.IN, Operator.EXISTS}:
            part.fault(
                f"{one.key} is no endpoint: policies apply to containers, and to {init} while labels are unknown"
            )
    return Selector(found)


def _default_deny(fields: Mapping[str, Part]) -> Mapping[str, bool]:
    """What ``enableDefaultDeny`` says of each direction; a direction it does not name is absent."""
    if "enableDefaultDeny" not in fields:
        return {}
    flags = fields["enableDefaultDeny"].fields(("ingress", "egress"), null_is_absent=False) or {}
    return {direction: flag for direction, part in flags.items() if (flag := part.flag()) is not None}


def _rules(fields: Mapping[str, Part], sections: tuple[str, str], refused: Mapping[str, str]) -> tuple[Rule, ...]:
    found: list[Rule | None] = []
    for section in sections:
        if section in fields:
            elements = fields[section].elements(most=RULES_MAX) or []
            found += [_rule(element, section, refused) for element in elements]
    return tuple(one for one in found if one is not None)


def _rule(part: Part, section: str, refused: Mapping[str, str]) -> Rule | None:
    """Read one rule; None when it is wrong, or says nothing and so only closes the direction."""
    side = "from" if section in _INGRESS else "to"
    peer_fields = tuple(side + what for what in ("Endpoints", "CIDR", "CIDRSet", "Entities"))
    fields = part.fields((*peer_fields, *_PORT_READERS), refused=refused, null_is_absent=False)
    if fields is None:
        return None
    deny = section.endswith("Deny")
    if deny and not part.value:
        part.fault(f"denies nothing: write {side}Entities: [all] to deny everyone")
    peers: list[Peer] | None = None
    for name in peer_fields:
        if name in fields:
            peers = (peers or []) + _peers(fields[name], name.removeprefix(side))
    ports: list[PortMatch] | None = None
    for name, reader in _PORT_READERS.items():
        if name in fields:
            ports = (ports or []) + list(reader(fields[name]))
    if peers is None and ports is None:
        return None
    return Rule(
        peers=None if peers is None else tuple(peers),
        ports=None if ports is None else tuple(dict.fromkeys(ports)),
        deny=deny,
        path=part.path,
    )


def _peers(part: Part, what: str) -> list[Peer]:
    found: list[Peer] = []
    for element in part.elements(most=PEERS_MAX) or []:
        match what:
            case "Endpoints":
                peer: Peer | None = Selector(requirements(element, ENDPOINT_LABELS))
            case "CIDR":
                peer = cidr_peer(element)
            case "CIDRSet":
                peer = cidr_set_peer(element, refused=_CIDR_REFUSED, null_is_absent=False)
            case _:
                peer = _entity(element)
        if peer is not None:
            found.append(peer)
    return found


def _entity(part: Part) -> Entity | None:
    text = part.text()
    if text is None:
        return None
    if text not in set(Entity):
        part.fault(f"{quoted(text)} is not an entity: write {choices(list(Entity))}")
        return None
    return Entity(text)
