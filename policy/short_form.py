"""Policy in short form: the labels ``hawse.ingress`` and ``hawse.egress`` of a container.

::

    short form = "none" | item { ";" item }
    item       = [ "!" ] peer [ ports ]            "!" denies
    peer       = "*"                               anyone
               | entity                            all, cluster, world, host, remote-node, init
               | prefix | address                  10.0.0.0/8, 192.0.2.7
               | term { "," term }                 all of them hold
    term       = key "=" value | key               the label has this value; the label is there
               | "namespace=" name | "namespace=*" another namespace than the container's own; any
               | "service=" name                   a service of the stack or Compose project
    ports      = port { "," port }
    port       = number [ "-" number ] [ "/" protocol ] | name [ "/" protocol ] | protocol | "icmp" [ "/" type ]
    protocol   = "tcp" | "udp" | "sctp"            without it: any of them

A label closes its direction, whatever it says. One that cannot be read allows nothing, and is reported: what a typing
error opens would not be noticed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from model.errors import InvalidDocument
from model.ids import IdentityId
from model.labels import (
    COMPOSE_SERVICE_LABEL,
    EGRESS_LABEL,
    INGRESS_LABEL,
    RESERVED_PREFIX,
    SWARM_SERVICE_LABEL,
    Labels,
)
from model.policies import (
    NAMESPACE_NAME_LABEL,
    PORT_MAX,
    CidrPeer,
    Entity,
    Operator,
    Peer,
    Policy,
    PortMatch,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from policy.cidr_fields import prefix_or_address
from policy.faults import QUOTED_MAX, Faults, Part, quoted
from policy.limits import ITEMS_MAX, SHORT_FORM_MAX
from policy.named_ports import PROTOCOL_WORDS, port_problems
from policy.port_fields import ICMP_TYPE_MAX, is_port_name
from policy.selector_fields import hawse_key

NAME_PREFIX: Final = "labels:"

_NONE: Final = "none"
_ANYONE: Final = "*"
_ENTITIES: Final = frozenset({Entity.ALL, Entity.CLUSTER, Entity.WORLD, Entity.HOST, Entity.REMOTE_NODE, Entity.INIT})
_NAMESPACE: Final = "namespace"
_SERVICE: Final = "service"

_COMMA: Final = re.compile(r"\s*,\s*")
_NO_PEER: Final = re.compile(r"[0-9]+(-[0-9]+)?(/[A-Za-z]*)?|.*/(tcp|udp|sctp)|icmp(/.*)?|tcp|udp|sctp", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[0-9.]+(/.*)?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(/.*)?|.*/[0-9]+")
_KEY: Final = re.compile(r"[^\s,;=!*()<>\"'`|&]+")
_NUMBERS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_ICMP_TYPE: Final = re.compile(r"0|[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class ShortForm:
    """What the labels of one identity say."""

    policy: Policy | None
    """None: it has no such label."""
    problems: tuple[str, ...] = ()
    """Sentences about labels that cannot be read, those that name ports as well."""


def short_form(identity: IdentityId, labels: Labels) -> ShortForm:
    """Read the short form of an identity; it applies to endpoints with the same two labels in the same namespace."""
    said = {label: labels[label] for label in (INGRESS_LABEL, EGRESS_LABEL) if label in labels}
    if not said:
        return ShortForm(None, _of(identity, port_problems(labels)))
    read = {label: _read(label, text, labels.namespace) for label, text in said.items()}
    ingress, egress = (read.get(label, _Read()) for label in (INGRESS_LABEL, EGRESS_LABEL))
    policy = Policy(
        name=f"{NAME_PREFIX}{identity}",
        subject=Selector(
            tuple(
                _is(label, said[label]) if label in said else Requirement(label, Operator.DOES_NOT_EXIST)
                for label in (INGRESS_LABEL, EGRESS_LABEL)
            ),
            _namespace(labels.namespace),
        ),
        ingress=ingress.rules,
        egress=egress.rules,
        enforce_ingress=INGRESS_LABEL in said,
        enforce_egress=EGRESS_LABEL in said,
    )
    return ShortForm(policy, _of(identity, ingress.problems + egress.problems + port_problems(labels)))


def _of(identity: IdentityId, problems: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"identity {identity}: {problem}" for problem in problems)


@dataclass(frozen=True, slots=True)
class _Read:
    rules: tuple[Rule, ...] = ()
    problems: tuple[str, ...] = ()


class _BadItem(Exception):
    """Why an item cannot be read; for the problem's sentence."""


@functools.lru_cache(maxsize=4096)
def _read(label: str, text: str, namespace: str) -> _Read:
    items = [item for item in (" ".join(item.split()) for item in text.split(";")) if item]
    try:
        _check_text(text, items)
    except _BadItem as err:
        return _Read(problems=(_problem(label, text, err),))
    if items == [_NONE]:
        return _Read()
    rules, problems = [], []
    for index, item in enumerate(items):
        try:
            rules.append(_rule(item, namespace, path=f"{label}[{index}]: {item[:QUOTED_MAX]}"))
        except _BadItem as err:
            problems.append(_problem(label, item, err))
    # What it denies stays denied; what it allows may be another thing than was meant.
    return _Read(tuple(rule for rule in rules if rule.deny or not problems), tuple(problems))


def _problem(label: str, item: str, why: _BadItem) -> str:
    return f"label {label}: {quoted(item)}: {why}; the label allows nothing until it is corrected"


def _check_text(text: str, items: Sequence[str]) -> None:
    if len(text) > SHORT_FORM_MAX:
        raise _BadItem(f"has {len(text)} characters, and at most {SHORT_FORM_MAX} are read")
    if not "".join(items).isprintable():
        raise _BadItem("has characters that cannot be printed")
    if len(items) > ITEMS_MAX:
        raise _BadItem(f"has {len(items)} items, and at most {ITEMS_MAX} are read")
    if not items:
        raise _BadItem(f"says nothing: write {_NONE} to allow nothing")


def _rule(item: str, namespace: str, *, path: str) -> Rule:
    deny = item.startswith("!")
    words = _COMMA.sub(",", item.removeprefix("!")).split()
    match words:
        case [peer]:
            ports = None
        case [peer, port_list]:
            ports = tuple(dict.fromkeys(_port(port) for port in port_list.split(",")))
        case []:
            raise _BadItem("names no peer after «!»")
        case _:
            raise _BadItem("has more than a peer and ports: labels and ports are joined by commas, items end with «;»")
    return Rule(peers=_peers(peer, namespace), ports=ports, deny=deny, path=path)


def _peers(peer: str, namespace: str) -> tuple[Peer, ...] | None:
    if peer == _ANYONE:
        return None
    if peer == _NONE:
        raise _BadItem(f"{_NONE} can only stand alone")
    if peer in _ENTITIES:
        return (Entity(peer),)
    if "=" not in peer and "," not in peer:
        if _NO_PEER.fullmatch(peer):
            raise _BadItem(f"names no peer: write {_ANYONE} before the ports for anyone")
        if _ADDRESS.fullmatch(peer):
            return (_cidr(peer),)
    return _selectors(peer.split(","), namespace)


def _cidr(text: str) -> CidrPeer:
    try:
        return CidrPeer(prefix_or_address(text))
    except ValueError as err:
        raise _BadItem(str(err)) from None


def _selectors(terms: Sequence[str], own_namespace: str) -> tuple[Selector, ...]:
    """One selector, or two that differ in how Compose and Swarm name a service."""
    found: list[Requirement] = []
    namespace: str | None = None
    service: str | None = None
    for term in terms:
        key, equals, value = term.partition("=")
        _check_term(term, key, value, alone=not equals)
        if key == _NAMESPACE and namespace is None:
            namespace = value
        elif key == _SERVICE and service is None:
            service = value
        elif key in {_NAMESPACE, _SERVICE}:
            raise _BadItem(f"says {key} twice")
        elif equals:
            found.append(_is(_label_key(key), value))
        else:
            found.append(Requirement(_label_key(key), Operator.EXISTS))
    place = own_namespace if namespace is None else namespace
    where = () if place == _ANYONE else _namespace(place)
    if service is None:
        return (Selector(tuple(found), where),)
    if place == _ANYONE:
        raise _BadItem("a service has its stack in its name: write the namespace beside it, or select another label")
    swarm = Requirement(SWARM_SERVICE_LABEL, Operator.IN, frozenset({service, f"{place}_{service}"}))
    return (
        Selector((*found, _is(COMPOSE_SERVICE_LABEL, service)), where),
        Selector((*found, swarm), where),
    )


def _check_term(term: str, key: str, value: str, *, alone: bool) -> None:
    if not _KEY.fullmatch(key):
        raise _BadItem(f"{quoted(term)} is no label: write key=value, or key alone for any value")
    if key.startswith(RESERVED_PREFIX):
        raise _BadItem(f"{quoted(key)} cannot be selected: write an entity ({', '.join(sorted(_ENTITIES))})")
    if alone and key.lower() in set(Entity):
        raise _BadItem(f"{quoted(term)} is no label; entities stand alone: {', '.join(sorted(_ENTITIES))}")
    if alone and (_NO_PEER.fullmatch(key) or _ADDRESS.fullmatch(key)):
        raise _BadItem(f"{quoted(term)} is no label: addresses and ports are not joined with labels by a comma")
    if key in {_NAMESPACE, _SERVICE} and not value:
        raise _BadItem(f"{key} has no value: write {key}=<name>")
    if "*" in value and (key, value) != (_NAMESPACE, _ANYONE):
        raise _BadItem(f"{quoted(term)}: there are no patterns; write the key alone for any value")


def _label_key(key: str) -> str:
    """Read a key as a document's selector does."""
    faults = Faults()
    read = hawse_key(Part(key, "", faults), key)
    try:
        faults.raise_if_any()
    except InvalidDocument as err:
        raise _BadItem(str(err)) from None
    return read or key


def _port(text: str) -> PortMatch:
    start, slash, end = text.partition("/")
    if start.lower() in PROTOCOL_WORDS:
        return _protocol(text, PROTOCOL_WORDS[start.lower()], end if slash else None)
    protocol = PROTOCOL_WORDS.get(end.lower())
    if slash and (protocol is None or protocol is Protocol.ICMP):
        raise _BadItem(f"{quoted(text)} is not a port: after «/» comes tcp, udp or sctp")
    numbers = _NUMBERS.fullmatch(start)
    if numbers is None:
        if not is_port_name(start):
            raise _BadItem(f"{quoted(text)} is not a port: write one like 80/tcp, 8000-8100/udp, 53, http or icmp")
        return PortMatch(protocol, name=start)
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if not 1 <= first <= last <= PORT_MAX:
        raise _BadItem(f"{quoted(text)} is not a port or range within 1 to {PORT_MAX}")
    return PortMatch(protocol, first, last)


def _protocol(text: str, protocol: Protocol, detail: str | None) -> PortMatch:
    if detail is None:
        return PortMatch(protocol)
    if protocol is not Protocol.ICMP:
        raise _BadItem(f"{quoted(text)} is not a port: the number comes before the protocol, as in 80/tcp")
    if not _ICMP_TYPE.fullmatch(detail) or int(detail) > ICMP_TYPE_MAX:
        raise _BadItem(f"{quoted(text)} is not an ICMP type from 0 to {ICMP_TYPE_MAX}, as in icmp/8")
    return PortMatch(Protocol.ICMP, int(detail), int(detail))


def _is(key: str, value: str) -> Requirement:
    return Requirement(key, Operator.IN, frozenset({value}))


def _namespace(name: str) -> tuple[Requirement, ...]:
    return (_is(NAMESPACE_NAME_LABEL, name),)
