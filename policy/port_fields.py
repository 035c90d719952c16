"""Ports and message types: ``ports`` of a NetworkPolicy, ``toPorts`` and ``icmps`` of a hawse/v1 Policy."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from model.policies import PORT_MAX, PORT_PROTOCOLS, PortMatch, Protocol
from policy.faults import Part, choices, quoted
from policy.limits import PORTS_MAX

_PORT_FIELDS: Final = ("port", "endPort", "protocol")
_PROTOCOLS: Final = MappingProxyType({protocol.name: protocol for protocol in PORT_PROTOCOLS})
_ANY: Final = "ANY"

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")

ICMP_TYPE_MAX: Final = 255
ICMP_TYPES: Final = MappingProxyType({
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
})  # fmt: skip
"""Cilium's names of ICMPv4 messages (IANA's, in one word)."""

_TO_PORTS_REFUSED: Final = MappingProxyType({
    "rules": "not supported yet: hawse judges addresses and ports, not requests (HTTP, DNS, Kafka)",
    "terminatingTLS": "not supported yet: hawse does not look into TLS",
    "originatingTLS": "not supported yet: hawse does not look into TLS",
    "serverNames": "not supported yet: hawse does not look into TLS",
    "listener": "not supported: hawse has no Envoy to send connections to",
})  # fmt: skip


def is_port_name(text: str) -> bool:
    """Whether a port may have this name (Kubernetes and IANA: 15 characters, at least one letter)."""
    return _PORT_NAME.fullmatch(text) is not None


def network_policy_ports(part: Part) -> tuple[PortMatch, ...]:
    """Read ``ports`` of a NetworkPolicy: the protocol is TCP if not said, a port in quotes is a name."""
    found = []
    for element in part.elements(most=PORTS_MAX) or []:
        fields = element.fields(_PORT_FIELDS, null_is_absent=True)
        if fields is None:
            continue
        protocol = Protocol.TCP
        if "protocol" in fields:
            text = fields["protocol"].text()
            if text is not None and text not in _PROTOCOLS:
                fields["protocol"].fault(f"{quoted(text)} is not a protocol: write {choices(_PROTOCOLS)}")
            protocol = _PROTOCOLS.get(text or "", Protocol.TCP)
        found.append(_match(element, protocol, fields.get("port"), fields.get("endPort"), digits_in_text=False))
    return tuple(one for one in found if one is not None)


def to_ports(part: Part) -> tuple[PortMatch, ...]:
    """Read ``toPorts``: the protocol is any of those with ports if not said, numbers may be text."""
    found: list[PortMatch | None] = []
    for element in _at_least_one(part):
        fields = element.fields(
            ("ports",),
            null_is_absent=False,
            required={"ports": "name at least one port"},
            refused=_TO_PORTS_REFUSED,
        )
        if fields is not None and "ports" in fields:
            found += [_to_port(one) for one in _at_least_one(fields["ports"])]
    return tuple(one for one in found if one is not None)


def _to_port(part: Part) -> PortMatch | None:
    fields = part.fields(_PORT_FIELDS, null_is_absent=False)
    if fields is None:
        return None
    if not part.value:
        part.member("port", None).fault("is missing: write a number or a name, or a protocol for all its ports")
        return None
    protocol = None
    if "protocol" in fields:
        text = fields["protocol"].text()
        protocol = _PROTOCOLS.get((text or "").upper())
        if text is not None and protocol is None and text.upper() != _ANY:
            hint = "; for ICMP there is icmps" if text.upper().startswith("ICMP") else ""
            fields["protocol"].fault(f"{quoted(text)} is not a protocol: write {choices([*_PROTOCOLS, _ANY])}{hint}")
    return _match(part, protocol, fields.get("port"), fields.get("endPort"), digits_in_text=True)


def _match(
    entry: Part, protocol: Protocol | None, port: Part | None, end_port: Part | None, *, digits_in_text: bool
) -> PortMatch | None:
    if port is None:
        if end_port is not None:
            end_port.fault("has no port to begin at: write port too")
        return PortMatch(protocol)
    if isinstance(port.value, str) and not (digits_in_text and _DECIMAL.fullmatch(port.value)):
        if not is_port_name(port.value):
            port.fault(_no_port(port.value, digits_in_text=digits_in_text))
        elif end_port is not None:
            end_port.fault(f"a range begins at a number, not at the name {quoted(port.value)}")
        return PortMatch(protocol, name=port.value)
    first = _number(port)
    last = first if end_port is None else _number(end_port)
    if first is None or last is None:
        return None
    if last < first:
        entry.member("endPort", None).fault(f"{last} is less than port {first}")
        return None
    return PortMatch(protocol, first, last)


def _no_port(text: str, *, digits_in_text: bool) -> str:
    if _DECIMAL.fullmatch(text) and not digits_in_text:
        return f"{quoted(text)} in quotes would be the name of a port: write the number without quotes"
    return (
        f"{quoted(text)} is not a port: 1 to {PORT_MAX}, or a name of up to 15 lower-case letters, digits and single "
        "'-' with at least one letter"
    )


def _number(part: Part) -> int | None:
    value = part.value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        shown = quoted(value) if isinstance(value, str) else str(value) if isinstance(value, float) else ""
        part.fault(f"{shown} is not a port" if shown else "has to be the number of a port")
        return None
    if not 1 <= value <= PORT_MAX:
        hint = ": leave port out for all ports" if value == 0 else ""
        part.fault(f"{value} is not a port{hint}")
        return None
    return value


def icmps(part: Part) -> tuple[PortMatch, ...]:
    """Read ``icmps``: message types by number or name; a field without a type is every message."""
    found: list[PortMatch | None] = []
    for element in _at_least_one(part):
        fields = element.fields(
            ("fields",), null_is_absent=False, required={"fields": "name at least one type of message"}
        )
        if fields is not None and "fields" in fields:
            found += [_icmp(one) for one in _at_least_one(fields["fields"])]
    return tuple(one for one in found if one is not None)


def _icmp(part: Part) -> PortMatch | None:
    fields = part.fields(("family", "type"), null_is_absent=False)
    if fields is None:
        return None
    if "family" in fields and fields["family"].value != "IPv4":
        family = fields["family"].text()
        if family is not None:
            known = "not supported yet" if family == "IPv6" else f"{quoted(family)} is not a family"
            fields["family"].fault(f"{known}: write IPv4")
    if "type" not in fields:
        return PortMatch(Protocol.ICMP)
    kind = fields["type"].value
    if isinstance(kind, str):
        kind = int(kind) if _DECIMAL.fullmatch(kind) else ICMP_TYPES.get(kind)
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind <= ICMP_TYPE_MAX:
        fields["type"].fault(f"is not an ICMP type: 0 to {ICMP_TYPE_MAX}, or {choices(ICMP_TYPES)}")
        return None
    return PortMatch(Protocol.ICMP, kind, kind)


def _at_least_one(part: Part) -> list[Part]:
    elements = part.elements(most=PORTS_MAX)
    if elements is not None and not elements:
        part.fault("is empty, which could mean none as well as all: leave it out for all, name some otherwise")
    return elements or []
