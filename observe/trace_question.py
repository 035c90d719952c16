"""From the words of a trace request to the question that the policy compiler answers.

An end is one of:

1. ``host``, ``world``, ``remote-node``, ``init``, ``unmanaged``, ``health``: the reserved identity;
2. digits only: an identity;
3. an address: of a container or of a host of the cluster, whose identity is taken; else an address outside;
4. ``key=value,key=value``: labels that a container has or could have.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.addresses import IPAddress
from model.errors import InvalidInput, NotFound
from model.identities import RESERVED_NAMES, is_cluster_identity
from model.ids import IDENTITY_HOST, IDENTITY_REMOTE_NODE, IdentityId
from model.labels import RESERVED_PREFIX, Labels
from model.policies import PORT_MAX, Protocol
from model.policy_answers import TraceQuestion
from observe.state import AgentState
from observe.trace_document import TraceQuestionDocument

End: TypeAlias = Labels | IdentityId | IPAddress

_RESERVED: Final = {name: number for number, name in RESERVED_NAMES.items()}
_MAX_ICMP_TYPE: Final = 255
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_PORT_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SHOWN: Final = 80
"""Characters of a wrong word that are repeated in an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortQuestion:
    """What a destination port is asked as."""

    protocol: Protocol | None = None
    port: int | None = None
    name: str | None = None


def read_question(state: AgentState, asked: TraceQuestionDocument) -> TraceQuestion:
    """Understand a request.

    Raises:
        InvalidInput: a word is none of those above.
        NotFound: there is no such identity.
        StoreUnavailable: an address cannot be looked up, because the store has not been reached yet.
    """
    port = read_port(asked.dport)
    return TraceQuestion(
        source=read_end(state, asked.source, "from"),
        destination=read_end(state, asked.destination, "to"),
        protocol=port.protocol,
        port=port.port,
        port_name=port.name,
    )


def read_end(state: AgentState, text: str, name: str) -> End:
    """Understand one end; ``name`` is how the request calls it.

    Raises:
        InvalidInput, NotFound, StoreUnavailable: as :func:`read_question`.
    """
    word = text.strip()
    reserved = _RESERVED.get(word.removeprefix(RESERVED_PREFIX))
    if reserved is not None:
        return reserved
    if _NUMBER.fullmatch(word):
        return _identity(state, int(word), name)
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        return _labels(word, name)
    return _at_address(state, address)


def read_port(text: str) -> PortQuestion:
    """Understand a destination port: ``5432/tcp``, ``53``, ``http``, ``http/tcp``, ``tcp``, ``icmp/8``, ``icmp``.

    Raises:
        InvalidInput: it is none of these.
    """
    word = text.strip()
    if not word:
        return PortQuestion()
    first, slash, second = word.partition("/")
    protocol = _protocol(first)
    # Both orders are usual: 5432/tcp and icmp/8.
    port = second if protocol is not None else first
    if slash and protocol is None:
        protocol = _protocol(second)
        if protocol is None:
            raise InvalidInput(f"dport: {second[:_SHOWN]!r} is no protocol: tcp, udp, sctp or icmp")
    if protocol is not None and not slash:
        return PortQuestion(protocol=protocol)
    if _NUMBER.fullmatch(port):
        return PortQuestion(protocol=protocol, port=_port(int(port), protocol))
    if protocol is not Protocol.ICMP and _PORT_NAME.fullmatch(port):
        return PortQuestion(protocol=protocol, name=port)
    raise InvalidInput(f"dport: {word[:_SHOWN]!r} is no port: 5432/tcp, 53, http, tcp or icmp/8")


def _protocol(word: str) -> Protocol | None:
    return Protocol.__members__.get(word.upper())


def _port(number: int, protocol: Protocol | None) -> int:
    if protocol is Protocol.ICMP:
        if number > _MAX_ICMP_TYPE:
            raise InvalidInput(f"dport: {number} is no ICMP type: 0 to {_MAX_ICMP_TYPE}")
    elif not 1 <= number <= PORT_MAX:
        raise InvalidInput(f"dport: {number} is no port: 1 to {PORT_MAX}")
    return number


def _identity(state: AgentState, number: int, name: str) -> IdentityId:
    identity = IdentityId(number)
    if identity in RESERVED_NAMES:
        return identity
    if not is_cluster_identity(number):
        raise InvalidInput(f"{name}: {number} is no identity of containers; for an address outside, say the address")
    try:
        state.policies.identity(number)
    except NotFound as err:
        raise NotFound(f"{name}: {err}") from err
    return identity


def _at_address(state: AgentState, address: IPAddress) -> End:
    for endpoint in state.endpoints():
        if address in endpoint.addresses:
            return endpoint.identity
    for node in state.nodes():
        if address == node.address:
            return IDENTITY_HOST if node.name == state.node() else IDENTITY_REMOTE_NODE
    return address


def _labels(text: str, name: str) -> Labels:
    labels: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not key or not equals:
            raise InvalidInput(
                f"{name}: {item.strip()[:_SHOWN]!r} is no label (app=web), identity (a number), address, "
                f"nor one of {', '.join(_RESERVED)}"
            )
        if key.startswith(RESERVED_PREFIX):
            raise InvalidInput(
                f"{name}: no container can have the label {key[:_SHOWN]!r}: {RESERVED_PREFIX} is reserved"
            )
        if key in labels:
            raise InvalidInput(f"{name}: the label {key[:_SHOWN]!r} is there twice")
        labels[key] = value
    return Labels.of(labels)
