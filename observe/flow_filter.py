"""Which flows a reader wants: from the parameters of a request to a condition on a flow.

Values of one parameter, repeated or with commas between them, are alternatives; labels have to hold all, at the same
end. Different parameters have to hold all. ``from_…`` is about the source, ``to_…`` about the destination, without
either it is about any of the two.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from model.addresses import IPNetwork
from model.errors import InvalidInput
from model.identities import CIDR_IDENTITY_BASE, RESERVED_NAMES
from model.ids import IDENTITY_WORLD
from model.policies import PORT_MAX
from observe.drop_reasons import reason_number
from observe.flow import End, Flow
from observe.flow_describe import ICMP_V6, PROTOCOL_NAMES

T = TypeVar("T")
Predicate: TypeAlias = Callable[[Flow], bool]
_EndTest: TypeAlias = Callable[[End], bool]

_MAX_VALUES: Final = 64
_MAX_BYTE: Final = 255
_MAX_IDENTITY: Final = 2**32 - 1
_SHOWN: Final = 80
"""Characters of a wrong word that are repeated in an error."""
_PROTOCOLS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {name: frozenset({number}) for number, name in PROTOCOL_NAMES.items()}
    | {"icmp": frozenset({1, ICMP_V6}), "icmpv4": frozenset({1})}
)
_ENTITIES: Final[Mapping[str, int]] = MappingProxyType({name: number for number, name in RESERVED_NAMES.items()})


def parse_filter(parameters: Mapping[str, Sequence[str]]) -> Predicate | None:
    """Make the condition that the parameters name; None: every flow.

    Raises:
        InvalidInput: there is no such parameter, or its value cannot be read; the message names both.
    """
    conditions: list[Predicate] = []
    for name, repeated in parameters.items():
        make = _CONDITIONS.get(name)
        if make is None:
            raise InvalidInput(f"{name[:_SHOWN]}: there is no such parameter; there are {', '.join(PARAMETERS)}")
        values = [value.strip() for text in repeated for value in text.split(",")]
        if len(values) > _MAX_VALUES:
            raise InvalidInput(f"{name}: more than {_MAX_VALUES} values")
        try:
            conditions.append(make(values))
        except InvalidInput as err:
            raise InvalidInput(f"{name}: {err}") from err
    if not conditions:
        return None
    return lambda flow: all(condition(flow) for condition in conditions)


def _verdict(values: Sequence[str]) -> Predicate:
    known = {verdict.value: verdict for verdict in FlowVerdict}
    wanted = {_one_of(value.lower(), known, "verdict; there are FORWARDED, DROPPED and AUDIT") for value in values}
    return lambda flow: flow.event.verdict in wanted


def _direction(values: Sequence[str]) -> Predicate:
    known = {direction.value: direction for direction in Direction}
    wanted = {_one_of(value.lower(), known, "direction; there are ingress and egress") for value in values}
    return lambda flow: flow.event.direction in wanted


def _drop_reason(values: Sequence[str]) -> Predicate:
    wanted = {_reason(value) for value in values}
    return lambda flow: flow.event.verdict is not FlowVerdict.FORWARDED and flow.event.reason in wanted


def _protocol(values: Sequence[str]) -> Predicate:
    wanted: set[int] = set()
    for value in values:
        if value.isdecimal():
            wanted.add(_number(value, _MAX_BYTE, "number of a protocol, 0 to 255"))
        else:
            wanted |= _one_of(value.lower(), _PROTOCOLS, f"protocol; there are {', '.join(_PROTOCOLS)} and numbers")
    return lambda flow: flow.event.source is not None and flow.event.protocol in wanted


def _since_time(values: Sequence[str]) -> Predicate:
    (value,) = values if len(values) == 1 else ("",)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as err:
        raise InvalidInput(f"{value[:_SHOWN]!r} is not one time in RFC 3339, 2026-01-31T12:00:00Z") from err
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since_us = moment.timestamp() * 1e6
    return lambda flow: flow.time_us >= since_us


def _label(values: Sequence[str]) -> _EndTest:
    pairs: list[tuple[str, str | None]] = []
    for value in values:
        key, equals, wanted = value.partition("=")
        if not key:
            raise InvalidInput(f"{value[:_SHOWN]!r} is no label; write key=value, or key for any value")
        pairs.append((key, wanted if equals else None))

    def holds(end: End) -> bool:
        return all(key in end.labels and (wanted is None or end.labels[key] == wanted) for key, wanted in pairs)

    return holds


def _port(values: Sequence[str]) -> _EndTest:
    ranges: list[tuple[int, int]] = []
    for value in values:
        first_text, dash, last_text = value.partition("-")
        first = _number(first_text, PORT_MAX, "port, 0 to 65535, or a range like 8000-8080")
        last = _number(last_text, PORT_MAX, "port, 0 to 65535, or a range like 8000-8080") if dash else first
        ranges.append((first, last))
    return lambda end: end.port is not None and any(first <= end.port <= last for first, last in ranges)


def _ip(values: Sequence[str]) -> _EndTest:
    wanted: list[IPNetwork] = []
    for value in values:
        try:
            wanted.append(ipaddress.ip_network(value, strict=False))
        except ValueError as err:
            raise InvalidInput(f"{value[:_SHOWN]!r} is neither an address nor a prefix like 10.1.0.0/16") from err
    return lambda end: end.address is not None and any(end.address in network for network in wanted)


def _identity(values: Sequence[str]) -> _EndTest:
    wanted: set[int] = set()
    for value in values:
        known = f"identity: a number, or one of {', '.join(_ENTITIES)}"
        number = _ENTITIES.get(value.lower())
        wanted.add(_number(value, _MAX_IDENTITY, known) if number is None else number)
    # Address prefixes that policies name are parts of the world.
    world = IDENTITY_WORLD in wanted
    return lambda end: end.identity in wanted or (world and end.identity >= CIDR_IDENTITY_BASE)


def _container(values: Sequence[str]) -> _EndTest:
    if not all(values):
        raise InvalidInput("a container's name is missing")

    def holds(end: End) -> bool:
        name = "" if end.endpoint is None else end.endpoint.container
        return bool(name) and any(fnmatch.fnmatchcase(name, pattern) for pattern in values)

    return holds


def _service(values: Sequence[str]) -> _EndTest:
    if not all(values):
        raise InvalidInput("a service's name is missing")
    return lambda end: any(fnmatch.fnmatchcase(name, pattern) for name in end.services for pattern in values)


def _reason(value: str) -> int:
    if value.isdecimal():
        return _number(value, _MAX_BYTE, "number of a drop reason")
    number = reason_number(value)
    if number is None:
        raise InvalidInput(f"{value[:_SHOWN]!r} is no drop reason, such as POLICY_DENIED or POLICY_DENY, or its number")
    return number


def _number(text: str, limit: int, what: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(limit)) or int(text) > limit:
        raise InvalidInput(f"{text[:_SHOWN]!r} is no {what}")
    return int(text)


def _one_of(word: str, known: Mapping[str, T], what: str) -> T:
    if word not in known:
        raise InvalidInput(f"{word[:_SHOWN]!r} is no {what}")
    return known[word]


def _either(make: Callable[[Sequence[str]], _EndTest]) -> Callable[[Sequence[str]], Predicate]:
    def condition(values: Sequence[str]) -> Predicate:
        holds = make(values)
        return lambda flow: holds(flow.source) or holds(flow.destination)

    return condition


def _at_source(make: Callable[[Sequence[str]], _EndTest]) -> Callable[[Sequence[str]], Predicate]:
    def condition(values: Sequence[str]) -> Predicate:
        holds = make(values)
        return lambda flow: holds(flow.source)

    return condition


def _at_destination(make: Callable[[Sequence[str]], _EndTest]) -> Callable[[Sequence[str]], Predicate]:
    def condition(values: Sequence[str]) -> Predicate:
        holds = make(values)
        return lambda flow: holds(flow.destination)

    return condition


_ENDS: Final[Mapping[str, Callable[[Sequence[str]], _EndTest]]] = MappingProxyType({
    "label": _label,
    "port": _port,
    "ip": _ip,
    "identity": _identity,
    "container": _container,
    "service": _service,
})  # fmt: skip
_CONDITIONS: Final[Mapping[str, Callable[[Sequence[str]], Predicate]]] = MappingProxyType(
    {
        "verdict": _verdict,
        "drop_reason": _drop_reason,
        "direction": _direction,
        "protocol": _protocol,
        "since_time": _since_time,
    }
    | {name: _either(make) for name, make in _ENDS.items()}
    | {f"from_{name}": _at_source(make) for name, make in _ENDS.items()}
    | {f"to_{name}": _at_destination(make) for name, make in _ENDS.items()}
)

PARAMETERS: Final = ("since", "epoch", "last", "wait_s", *_CONDITIONS)
"""Names of all parameters; the first ones are no conditions (:mod:`observe.flow_routes`)."""
