"""From the kernel's maps to the documents of ``/v1/bpf``: numbers become what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from datapath.api import IpcacheKey, Place
from datapath.flow_event import TrackedConnection
from datapath.policy_table import ANY_PROTOCOL, ANY_REMOTE, PORT_BITS, PolicyKey, PolicyVerdict
from model.addresses import IPNetwork
from model.policies import PORT_MAX, Protocol
from observe.map_document import (
    ConnectionDocument,
    ConnectionsDocument,
    IpcacheDocument,
    IpcacheEntryDocument,
    MapIdentityDocument,
    MapRuleDocument,
    PolicyEntryDocument,
    PolicyMapDocument,
)
from observe.order import address_order
from observe.state import AgentState

LIMIT: Final = 10_000
"""Entries of connections, unless more are asked for: some seconds of this agent's time."""
LIMIT_MAX: Final = 200_000
"""The command takes no answer that is much larger."""

_PROTOCOL_NAMES: Final[Mapping[int, str]] = {protocol.value: protocol.name for protocol in Protocol}


class NewestQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of ``/v1/bpf/ct`` and ``/v1/bpf/nat``."""

    limit: Annotated[
        int, Meta(ge=1, le=LIMIT_MAX, description="No more entries than these; those that were used last stay.")
    ] = LIMIT


def policy_map(state: AgentState) -> PolicyMapDocument:
    """Describe the policy map, by identity, direction, peer and port."""
    names = _Names(state, state.policy_prefixes())

    def order(item: tuple[PolicyKey, PolicyVerdict]) -> tuple[int, str, int, int, int, int]:
        key, _ = item
        return (key.local, key.direction, key.remote, key.protocol, key.port, -key.port_bits)

    return PolicyMapDocument(
        entries=[_entry(names, key, verdict) for key, verdict in sorted(state.policy_entries().items(), key=order)]
    )


def connections(state: AgentState, question: NewestQuestion) -> ConnectionsDocument:
    """Describe the tracked connections, those that were used last first."""
    names = _Names(state, state.policy_prefixes())
    found = state.connections(question.limit)
    return ConnectionsDocument(
        connections=[_connection(names, connection) for connection in found], left_out=found.left_out
    )


def ipcache(state: AgentState) -> IpcacheDocument:
    """Describe where every address is, by network and address."""
    names = _Names(state, {})

    def order(item: tuple[IpcacheKey, Place]) -> tuple[int, tuple[int, int]]:
        key, _ = item
        return (key.vni, address_order(key.address))

    return IpcacheDocument(
        entries=[
            IpcacheEntryDocument(
                vni=key.vni,
                address=str(key.address),
                identity=names.identity(place.identity),
                tunnel_endpoint=None if place.tunnel_endpoint is None else str(place.tunnel_endpoint),
                ifindex=place.ifindex,
            )
            for key, place in sorted(state.ipcache().items(), key=order)
        ]
    )


def protocol_name(number: int) -> str:
    """Name a protocol of IP as policies do; a number for what they do not know."""
    return _PROTOCOL_NAMES.get(number, str(number))


class _Names:
    """What numbers of identities and rules stand for, each looked up once."""

    def __init__(self, state: AgentState, prefixes: Mapping[IPNetwork, int]) -> None:
        self._policies = state.policies
        self._identities = {
            number: MapIdentityDocument(number=number, text=str(prefix)) for prefix, number in prefixes.items()
        }
        self._rules: dict[int, MapRuleDocument] = {}

    def identity(self, number: int) -> MapIdentityDocument:
        if number not in self._identities:
            text = str(self._policies.labels_of(number))
            self._identities[number] = MapIdentityDocument(number=number, text=text)
        return self._identities[number]

    def rule(self, number: int) -> MapRuleDocument:
        if number not in self._rules:
            found = self._policies.rule(number)
            self._rules[number] = MapRuleDocument(
                number=number,
                policy=None if found is None else found.policy,
                path=None if found is None else found.path,
            )
        return self._rules[number]


def _entry(names: _Names, key: PolicyKey, verdict: PolicyVerdict) -> PolicyEntryDocument:
    covered = PORT_MAX >> key.port_bits
    first = key.port & ~covered & PORT_MAX
    return PolicyEntryDocument(
        local=names.identity(key.local),
        direction=key.direction.value,
        deny=verdict.deny,
        remote=None if key.remote == ANY_REMOTE else names.identity(key.remote),
        protocol=None if key.protocol == ANY_PROTOCOL else protocol_name(key.protocol),
        first_port=first,
        last_port=first if key.port_bits >= PORT_BITS else first | covered,
        rule=names.rule(verdict.rule),
    )


def _connection(names: _Names, connection: TrackedConnection) -> ConnectionDocument:
    return ConnectionDocument(
        vni=connection.vni,
        protocol=protocol_name(connection.protocol),
        source=str(connection.source),
        source_port=connection.source_port,
        source_identity=names.identity(connection.source_identity),
        destination=str(connection.destination),
        destination_port=connection.destination_port,
        destination_identity=names.identity(connection.destination_identity),
        state=connection.state,
        idle_s=connection.idle_s,
        epoch=connection.epoch,
        egress_rule=names.rule(connection.egress_rule),
        ingress_rule=names.rule(connection.ingress_rule),
    )
