"""May this peer open a connection to that one, and why?

1) Both ends become identities: of the same labels, of the address's prefix, or a temporary one for labels that no
   endpoint has.
2) The compiler that fills the kernel's maps makes a table for just these two, and the table is asked as the kernel
   asks it: egress at the source, ingress at the destination. An end that is no container judges nothing.
3) The rules that match are named beside, whether or not they decided.

Without a port the question is whether any is open. A table answers the same for all ports between two edges of its
entries, so it is asked once for each of these; at the destination only for those that the source lets out.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from datapath.api import Direction
from datapath.policy_table import ANY_PROTOCOL, ANY_REMOTE, FIRST_RULE
from model.addresses import IPAddress
from model.errors import InvalidInput, NotFound
from model.identities import CIDR_IDENTITY_BASE, IDENTITY_MAX, RESERVED_NAMES
from model.ids import IDENTITY_INIT, IDENTITY_WORLD, IdentityId
from model.labels import Labels
from model.policies import PORT_MAX, PORT_PROTOCOLS, Policy, PolicyMode, Protocol
from model.policy_answers import Trace, TraceQuestion, TraceStep
from policy.compiler import Compiled, PolicyCompiler, prefixes_of
from policy.endpoint_rules import OPEN_PATH
from policy.named_ports import named_ports
from policy.policy_inputs import PolicyInputs
from policy.port_prefixes import PortKey, last_port
from policy.short_form import NAME_PREFIX, short_form
from policy.table_lookup import Judgement, TableQuestion, enforced

ICMP_TYPE_MAX: Final = 255
NEW_LABELS: Final = NAME_PREFIX + "new"
"""How the names of short forms begin whose labels no endpoint has yet: ``labels:new1`` and ``labels:new2``."""

_PORT: Final = "port"
_NO_LABELS: Final = "no labels"
_NAMED_MAX: Final = 5
_Packet: TypeAlias = tuple[int, int]
"""Protocol and destination port."""


def trace(inputs: PolicyInputs, question: TraceQuestion) -> Trace:
    """Answer a question as the kernel of a node with these inputs would judge.

    Raises:
        NotFound: an end is the number of no identity.
        InvalidInput: no such port: out of range, or a name that the destination does not give to any.
    """
    inputs = _with_new_labels(inputs, question)
    source = _end(inputs, question.source)
    destination = _end(inputs, question.destination)
    only = {IdentityId(end.number): end.labels for end in (source, destination) if end.labels is not None}
    inputs = dataclasses.replace(inputs, identities=only, local=frozenset(only))
    compiler = PolicyCompiler()
    compiled = compiler.compile_table(inputs)
    judging = [(source, destination, Direction.EGRESS), (destination, source, Direction.INGRESS)]
    asked = [
        TableQuestion(local=own.number, remote=other.number, direction=direction)
        for own, other, direction in judging
        if own.judges
    ]
    packets = _packets(question, destination, compiled, asked)
    kinds = _PORT if question.port is None and question.port_name is None else "protocol"
    steps: list[TraceStep] = []
    for one in asked:
        step = _Step(inputs, compiler, compiled, one)
        end = source if one.direction is Direction.EGRESS else destination
        steps.append(step.answer(packets, end, kinds=kinds))
        packets = step.passing(packets) or packets
    return Trace(allowed=all(step.allowed for step in steps), steps=tuple(steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    number: int
    text: str
    """For people."""
    labels: Labels | None = None
    """None of what is no identity of the cluster."""

    @property
    def judges(self) -> bool:
        """Whether it is an endpoint, with policies of its own."""
        return self.labels is not None or self.number == IDENTITY_INIT


def _with_new_labels(inputs: PolicyInputs, question: TraceQuestion) -> PolicyInputs:
    """Add what an endpoint would bring along: an identity, its short form, and the prefixes in that."""
    identities = dict(inputs.identities)
    policies: list[Policy] = list(inputs.policies)
    unused = itertools.count(IDENTITY_MAX + 1)
    for end in (question.source, question.destination):
        if isinstance(end, Labels) and end not in identities.values():
            number = IdentityId(next(unused))
            identities[number] = end
            short = short_form(number, end).policy
            if short is not None:
                policies.append(dataclasses.replace(short, name=f"{NEW_LABELS}{number - IDENTITY_MAX}"))
    prefixes = dict(inputs.prefix_identities)
    numbers = itertools.count(max(prefixes.values(), default=CIDR_IDENTITY_BASE - 1) + 1)
    prefixes.update(zip(prefixes_of(policies) - prefixes.keys(), numbers, strict=False))
    return dataclasses.replace(inputs, identities=identities, policies=policies, prefix_identities=prefixes)


def _end(inputs: PolicyInputs, end: Labels | IdentityId | IPAddress) -> _End:
    if isinstance(end, Labels):
        number = min(number for number, labels in inputs.identities.items() if labels == end)
        return _End(number=number, text=str(end) or _NO_LABELS, labels=end)
    if not isinstance(end, int):
        around = [prefix for prefix in inputs.prefix_identities if end in prefix]
        longest = max(around, key=lambda prefix: prefix.prefixlen, default=None)
        return _End(number=IDENTITY_WORLD if longest is None else inputs.prefix_identities[longest], text=str(end))
    if end in RESERVED_NAMES:
        return _End(number=end, text=RESERVED_NAMES[end])
    if end in inputs.identities:
        labels = inputs.identities[end]
        return _End(number=end, text=str(labels) or _NO_LABELS, labels=labels)
    for prefix, its_number in inputs.prefix_identities.items():
        if its_number == end:
            return _End(number=end, text=str(prefix))
    raise NotFound(f"there is no identity {end}")


def _packets(
    question: TraceQuestion, destination: _End, compiled: Compiled, asked: Sequence[TableQuestion]
) -> Sequence[_Packet]:
    """What is asked about, one packet of each kind that a table may judge differently."""
    protocol, port = question.protocol, question.port
    if question.port_name is not None:
        protocol, port = _named(question.port_name, protocol, destination)
    if port is not None:
        if not 0 <= port <= (ICMP_TYPE_MAX if protocol is Protocol.ICMP else PORT_MAX):
            raise InvalidInput(f"{port} is not a port" if protocol is not Protocol.ICMP else f"{port} is no ICMP type")
        return [(int(one), port) for one in (PORT_PROTOCOLS if protocol is None else (protocol,))]
    pairs = {(one.local, remote, one.direction) for one in asked for remote in (one.remote, ANY_REMOTE)}
    found: set[_Packet] = set()
    for one in tuple(Protocol) if protocol is None else (protocol,):
        edges = {0}
        for key in compiled.table.entries:
            if key.protocol == one and (key.local, key.remote, key.direction) in pairs:
                edges |= {key.port, last_port((key.protocol, key.port, key.port_bits)) + 1}
        last = ICMP_TYPE_MAX if one is Protocol.ICMP else PORT_MAX
        found |= {(int(one), edge) for edge in edges if edge <= last}
    return sorted(found)


def _named(name: str, protocol: Protocol | None, destination: _End) -> tuple[Protocol, int]:
    found = named_ports(destination.labels or Labels()).get(name)
    if found is None or protocol not in {None, found[0]}:
        kind = "port" if protocol is None else f"{protocol.name} port"
        raise InvalidInput(f"{destination.text} has no label that names a {kind} {name!r}")
    return found


class _Step:
    """One direction, at the end that judges it."""

    def __init__(
        self, inputs: PolicyInputs, compiler: PolicyCompiler, compiled: Compiled, question: TableQuestion
    ) -> None:
        self._inputs = inputs
        self._compiled = compiled
        self._question = question
        self._selecting = compiled.selecting[question.local, question.direction]
        self._enforced = enforced(compiled.table, question.local, question.direction)
        self._rules = compiler.rules_between(question.local, question.remote, question.direction)

    def passing(self, packets: Sequence[_Packet]) -> list[_Packet]:
        """Those of the packets that are allowed."""
        return [packet for packet in packets if self._judge(packet).allowed]

    def answer(self, packets: Sequence[_Packet], end: _End, *, kinds: str) -> TraceStep:
        """What becomes of the packets, which are of several ``kinds``; it is enough that one passes."""
        # A rule says more than that there is none.
        best = max(map(self._judge, packets), key=lambda one: (one.allowed, one.rule >= FIRST_RULE))
        matched = dict.fromkeys(
            rule.verdict.rule
            for rule, keys in self._rules
            if any(_covers(key, packet, any_port=kinds == _PORT) for key in keys for packet in packets)
        )
        return TraceStep(
            direction=self._question.direction.value,
            endpoint=end.text,
            enforced=self._enforced,
            selecting=self._selecting,
            matched=tuple(self._compiled.rules[number] for number in matched),
            allowed=best.allowed,
            reason=self._reason(best, kinds if len(packets) > 1 else ""),
        )

    def _judge(self, packet: _Packet) -> Judgement:
        return self._question.judge(self._compiled.table, *packet)

    def _reason(self, judgement: Judgement, several: str) -> str:
        if not self._enforced:
            return self._why_open()
        rule = self._compiled.rules.get(judgement.rule)
        if judgement.allowed:
            if rule is None or rule.path == OPEN_PATH:
                why = "no rule denies it, and no policy closes this direction"
            else:
                why = f"allowed by {rule.policy} {rule.path}"
            return f"some {several} is open: {why}" if several else why
        if rule is not None:
            why = f"denied by {rule.policy} {rule.path}"
        elif self._selecting:
            why = f"no rule of {_listed(self._selecting)} allows it"
        else:
            why = f"the mode is {self._inputs.mode.value}, and no policy allows it"
        audited = " (audit mode: it is reported and passes)" if self._inputs.audit else ""
        return (f"no {several} is open: {why}" if several else why) + audited

    def _why_open(self) -> str:
        if self._inputs.mode is PolicyMode.NEVER:
            return f"the mode is {PolicyMode.NEVER.value}: no policy is enforced"
        if self._question.local == IDENTITY_INIT:
            return "its labels are not known yet, and no policy closes this direction for anybody"
        return "not selected by any policy in this direction"


def _covers(key: PortKey, packet: _Packet, *, any_port: bool) -> bool:
    protocol, port = packet
    if key[0] == ANY_PROTOCOL:
        return True
    return key[0] == protocol and (any_port or key[1] <= port <= last_port(key))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_MAX])
    return shown if len(names) <= _NAMED_MAX else f"{shown} and {len(names) - _NAMED_MAX} more"
