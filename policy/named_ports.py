"""Ports that a container names: ``hawse.port.<name>=<port>/<protocol>``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from model.labels import PORT_PREFIX, Labels
from model.policies import PORT_MAX, PORT_PROTOCOLS, Protocol
from policy.faults import quoted
from policy.port_fields import is_port_name

PROTOCOL_WORDS: Final[Mapping[str, Protocol]] = {protocol.name.lower(): protocol for protocol in Protocol}
"""``icmp``, ``tcp``, ``udp``, ``sctp``; no port can have such a name, because the short form means the protocol."""

_PORT: Final = re.compile(r"([1-9][0-9]{0,4})/([A-Za-z]+)")


def named_ports(labels: Labels) -> Mapping[str, tuple[Protocol, int]]:
    """The ports that an endpoint names; labels that are wrong name none (:func:`port_problems` tells)."""
    return {name: port for name, port, _ in _read(labels) if port is not None}


def port_problems(labels: Labels) -> tuple[str, ...]:
    """What is wrong with an endpoint's port labels, a sentence for each."""
    return tuple(problem for _, _, problem in _read(labels) if problem)


def _read(labels: Labels) -> Iterator[tuple[str, tuple[Protocol, int] | None, str]]:
    for key, value in labels.items():
        if not key.startswith(PORT_PREFIX):
            continue
        name = key.removeprefix(PORT_PREFIX)
        port = _port(value)
        problem = ""
        if not is_port_name(name) or name in PROTOCOL_WORDS:
            port = None
            problem = (
                f"label {quoted(key)}: {quoted(name)} is no name of a port: up to 15 lower-case letters, digits and "
                f"single '-', at least one letter, and not {', '.join(PROTOCOL_WORDS)}"
            )
        elif port is None:
            problem = f"label {quoted(key)}: {quoted(value)} is no port: write one like 8080/tcp"
        yield name, port, problem


def _port(text: str) -> tuple[Protocol, int] | None:
    match = _PORT.fullmatch(text)
    if match is None or int(match[1]) > PORT_MAX:
        return None
    protocol = PROTOCOL_WORDS.get(match[2].lower())
    return (protocol, int(match[1])) if protocol in PORT_PROTOCOLS else None
