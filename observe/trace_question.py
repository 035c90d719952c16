"""From the words of a trace request to the questions that the policy compiler answers.

One question, but for services: policy judges the containers behind a service, at the port where they listen, so there
is a question for each identity and port of them.

An end is one of:

1. ``host``, ``world``, ``remote-node``, ``init``, ``unmanaged``, ``health``: the reserved identity;
2. digits only: an identity;
3. an address: of a container or of a host of the cluster, whose identity is taken; a virtual address of a service; else
   an address outside;
4. ``service:name`` or ``service:id``: the containers that answer for it;
5. ``key=value,key=value``: labels that a container has or could have.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.addresses import IPAddress
from model.errors import InvalidInput, NotFound
from model.identities import RESERVED_NAMES, is_cluster_identity
from model.ids import IDENTITY_HOST, IDENTITY_REMOTE_NODE, IdentityId
from model.labels import RESERVED_PREFIX, Labels
from model.policies import PORT_MAX, Protocol
from model.policy_answers import TraceQuestion
from model.service_answers import BackendAnswer, BackendState, ServiceAnswer
from observe.service_question import find_service, service_at
from observe.state import AgentState
from observe.trace_document import TraceQuestionDocument

End: TypeAlias = Labels | IdentityId | IPAddress

_SERVICE: Final = "service:"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEnd:
    """The containers that answer for a service."""

    name: str
    """Of the service."""
    answers: Sequence[ServiceAnswer]
    """In all its networks, or in the one of the virtual address that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """A request as it was understood."""

    source: End | ServiceEnd
    destination: End | ServiceEnd
    port: PortQuestion
    each: Sequence[TraceQuestion]
    """One, or one for each identity and port behind a service; at least one."""


def read_questions(state: AgentState, asked: TraceQuestionDocument) -> Questions:
    """Understand a request.

    Raises:
        InvalidInput: a word is none of those above; or the service is not asked at this port.
        NotFound: there is no such identity or service, or nobody answers for it.
        StoreUnavailable: an address cannot be looked up, because the store has not been reached yet.
    """
    port = read_port(asked.dport)
    source = read_end(state, asked.source, "from")
    destination = read_end(state, asked.destination, "to")
    each = [
        TraceQuestion(source=one, destination=other, protocol=target.protocol, port=target.port, port_name=target.name)
        for one in _sources(state, source)
        for other, target in _targets(state, destination, port)
    ]
    return Questions(source=source, destination=destination, port=port, each=each)


def read_end(state: AgentState, text: str, name: str) -> End | ServiceEnd:
    """Understand one end; ``name`` is how the request calls it.

    Raises:
        InvalidInput, NotFound, StoreUnavailable: as :func:`read_questions`.
    """
    word = text.strip()
    reserved = _RESERVED.get(word.removeprefix(RESERVED_PREFIX))
    if reserved is not None:
        return reserved
    if _NUMBER.fullmatch(word):
        return _identity(state, int(word), name)
    if word.startswith(_SERVICE) and "=" not in word:
        return _service(state, word.removeprefix(_SERVICE), name)
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


def _service(state: AgentState, word: str, name: str) -> ServiceEnd:
    try:
        answers = find_service(state.balancing.services(), word)
    except NotFound as err:
        raise NotFound(f"{name}: {err}") from err
    except InvalidInput as err:
        raise InvalidInput(f"{name}: {err}") from err
    return ServiceEnd(name=answers[0].name, answers=answers)


def _sources(state: AgentState, end: End | ServiceEnd) -> Sequence[End]:
    if not isinstance(end, ServiceEnd):
        return [end]
    return sorted({identity for identity, _ in _behind(state, end, "from")})


def _targets(state: AgentState, end: End | ServiceEnd, asked: PortQuestion) -> Sequence[tuple[End, PortQuestion]]:
    if not isinstance(end, ServiceEnd):
        return [(end, asked)]
    ports = _target_ports(end, asked)
    found = {
        (identity, port)
        for identity, backend in _behind(state, end, "to")
        for port, target_port in ports
        if target_port is None or backend.port in {0, target_port}
    }
    if not found:
        raise NotFound(f"to: nobody answers for the service {end.name} there: «hawse service get {end.name}»")
    return sorted(found, key=lambda target: (target[0], target[1].port or 0, target[1].protocol or 0))


def _target_ports(service: ServiceEnd, asked: PortQuestion) -> Sequence[tuple[PortQuestion, int | None]]:
    """Find where the containers are asked for a port of the service; without one for each of its ports.

    With each question goes the port that only the containers it concerns listen at; None: all of them.
    """
    ports = {port for answer in service.answers for port in answer.ports}
    if not ports or asked.name is not None or asked.protocol is Protocol.ICMP:
        return [(asked, None)]
    found = [
        (PortQuestion(protocol=Protocol[port.protocol.upper()], port=port.target_port), port.target_port)
        for port in ports
        if asked.port in {None, port.port} and asked.protocol in {None, Protocol[port.protocol.upper()]}
    ]
    if not found:
        known = ", ".join(sorted(f"{port.port}/{port.protocol}" for port in ports))
        raise InvalidInput(f"dport: the service {service.name} is not asked there, but at {known}")
    return found


def _behind(state: AgentState, service: ServiceEnd, name: str) -> Sequence[tuple[IdentityId, BackendAnswer]]:
    """Find the containers that get connections, or if none does those that are there all the same."""
    identities = {
        (endpoint.network, address): endpoint.identity
        for endpoint in state.endpoints()
        for address in endpoint.addresses
    }
    there = [
        (identities[answer.network, backend.address], backend)
        for answer in service.answers
        for backend in answer.backends
        if backend.state is not BackendState.GONE and (answer.network, backend.address) in identities
    ]
    if not there:
        raise NotFound(f"{name}: nobody answers for the service {service.name}: «hawse service get {service.name}»")
    return [one for one in there if one[1].state is BackendState.ACTIVE] or there


def _at_address(state: AgentState, address: IPAddress) -> End | ServiceEnd:
    for endpoint in state.endpoints():
        if address in endpoint.addresses:
            return endpoint.identity
    for node in state.nodes():
        if address == node.address:
            return IDENTITY_HOST if node.name == state.node() else IDENTITY_REMOTE_NODE
    service = service_at(state.balancing.services(), address)
    if service is not None:
        return ServiceEnd(name=service.name, answers=[service])
    return address


def _labels(text: str, name: str) -> Labels:
    labels: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not key or not equals:
            raise InvalidInput(
                f"{name}: {item.strip()[:_SHOWN]!r} is no label (app=web), identity (a number), address, "
                f"service (service:web), nor one of {', '.join(_RESERVED)}"
            )
        if key.startswith(RESERVED_PREFIX):
            raise InvalidInput(
                f"{name}: no container can have the label {key[:_SHOWN]!r}: {RESERVED_PREFIX} is reserved"
            )
        if key in labels:
            raise InvalidInput(f"{name}: the label {key[:_SHOWN]!r} is there twice")
        labels[key] = value
    return Labels.of(labels)
