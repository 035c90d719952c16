"""Brings a policy table into the maps, in an order that never opens what should be closed.

1. new and changed entries and prefixes; nothing that is already judged loses a permission by that, and a new denial
   counts at once;
2. flags of identities: from here on a direction is closed, open, or an identity known;
3. entries and prefixes that are no longer wanted;
4. the epoch: connections are judged again.

When 1 does not fit, what it wrote is taken back and the kernel judges as before. What is in the maps is read once and
then known; nobody else writes them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from datapath import abi
from datapath.addresses import address, words
from datapath.api import Direction
from datapath.maps import TypedMap
from datapath.policy_table import (
    ANY_PROTOCOL,
    ANY_REMOTE,
    PORT_BITS,
    IdentityFlags,
    PolicyKey,
    PolicyTable,
    PolicyVerdict,
)
from model.addresses import IPNetwork
from model.errors import Exhausted, InvalidInput

_DIRECTIONS: Final = {Direction.INGRESS: abi.Direction.INGRESS, Direction.EGRESS: abi.Direction.EGRESS}
_DIRECTIONS_BACK: Final[Mapping[int, Direction]] = {raw: direction for direction, raw in _DIRECTIONS.items()}
_MAPPED_BITS: Final = 96
"""Of an IPv4-mapped IPv6 address, before the IPv4 address."""
_PREFIX_PORT_START: Final = abi.POLICY_BITS_PROTO


class PolicyMaps:
    """The three maps that policies are in. Not thread-safe; the datapath's lock is around it."""

    def __init__(
        self,
        policy: TypedMap[abi.PolicyKey, abi.PolicyValue],
        identities: TypedMap[abi.ArrayKey, abi.IdentityValue],
        prefixes: TypedMap[abi.PrefixKey, abi.PrefixValue],
    ) -> None:
        self._policy = policy
        self._identities = identities
        self._prefixes = prefixes
        self._known_entries: dict[PolicyKey, PolicyVerdict] | None = None
        self._known_flags: dict[int, IdentityFlags] | None = None
        self._known_prefixes: dict[IPNetwork, int] | None = None

    def apply(self, table: PolicyTable) -> bool:
        """Make the maps say what the table says; whether anything changed.

        Raises:
            Exhausted: it does not fit; nothing changed.
        """
        entries, prefixes = self._entries(), self._prefix_identities()
        added = {key: verdict for key, verdict in table.entries.items() if entries.get(key) != verdict}
        gone = [key for key in entries if key not in table.entries]
        new_prefixes = {prefix: one for prefix, one in table.prefixes.items() if prefixes.get(prefix) != one}
        gone_prefixes = [prefix for prefix in prefixes if prefix not in table.prefixes]
        self._require_room(len(entries.keys() | table.entries.keys()), len(prefixes.keys() | table.prefixes.keys()))
        self._add(added, new_prefixes)
        flags_changed = self._set_flags(table.identities)
        self._policy.delete_many(map(policy_key, gone))
        self._prefixes.delete_many(map(prefix_key, gone_prefixes))
        for key in gone:
            del entries[key]
        for prefix in gone_prefixes:
            del prefixes[prefix]
        return bool(added or gone or new_prefixes or gone_prefixes or flags_changed)

    def entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """Read all entries from the kernel."""
        return {_key(raw): PolicyVerdict(deny=bool(value.deny), rule=value.rule) for raw, value in self._policy.items()}

    def prefixes(self) -> Mapping[IPNetwork, int]:
        """Read all prefixes from the kernel."""
        return {_prefix(raw): value.identity for raw, value in self._prefixes.items()}

    def _require_room(self, entries: int, prefixes: int) -> None:
        for what, needed, room in (
            ("policy entries", entries, self._policy.max_entries),
            ("address prefixes", prefixes, self._prefixes.max_entries),
        ):
            if needed > room:
                raise Exhausted(f"{needed} {what} do not fit into the {room} that the kernel's map holds")

    def _add(self, added: Mapping[PolicyKey, PolicyVerdict], new_prefixes: Mapping[IPNetwork, int]) -> None:
        entries, prefixes = self._entries(), self._prefix_identities()
        try:
            self._policy.update_many((policy_key(key), _value(verdict)) for key, verdict in added.items())
            self._prefixes.update_many(
                (prefix_key(prefix), abi.PrefixValue(identity=one)) for prefix, one in new_prefixes.items()
            )
        except Exhausted:
            before = [(key, entries[key]) for key in added if key in entries]
            self._policy.update_many((policy_key(key), _value(verdict)) for key, verdict in before)
            self._policy.delete_many(policy_key(key) for key in added if key not in entries)
            self._prefixes.update_many(
                (prefix_key(one), abi.PrefixValue(identity=prefixes[one])) for one in new_prefixes if one in prefixes
            )
            self._prefixes.delete_many(prefix_key(one) for one in new_prefixes if one not in prefixes)
            raise
        entries.update(added)
        prefixes.update(new_prefixes)

    def _set_flags(self, wanted: Mapping[int, IdentityFlags]) -> bool:
        if self._known_flags is None:
            self._known_flags = {
                key.index: IdentityFlags(value.flags) for key, value in self._identities.items() if value.flags
            }
        known = self._known_flags
        changed = {one: flags for one, flags in wanted.items() if known.get(one, IdentityFlags(0)) != flags}
        changed |= {one: IdentityFlags(0) for one in known if one not in wanted}
        self._identities.update_many(
            (abi.ArrayKey(index=one), abi.IdentityValue(flags=int(flags))) for one, flags in changed.items()
        )
        known.update(changed)
        for one in [one for one, flags in changed.items() if not flags]:
            del known[one]
        return bool(changed)

    def _entries(self) -> dict[PolicyKey, PolicyVerdict]:
        if self._known_entries is None:
            self._known_entries = dict(self.entries())
        return self._known_entries

    def _prefix_identities(self) -> dict[IPNetwork, int]:
        if self._known_prefixes is None:
            self._known_prefixes = dict(self.prefixes())
        return self._known_prefixes


def policy_key(key: PolicyKey) -> abi.PolicyKey:
    """Key of hawse_policy.

    Raises:
        InvalidInput: port bits without a protocol, or bits of the port below the prefix.
    """
    if not 0 <= key.port_bits <= PORT_BITS or (key.protocol == ANY_PROTOCOL and (key.port_bits or key.port)):
        raise InvalidInput(f"no policy entry can be about {key}")
    if key.port & ((1 << PORT_BITS - key.port_bits) - 1):
        raise InvalidInput(f"port {key.port} has bits below its prefix of {key.port_bits}")
    bits = abi.POLICY_BITS_ALL if key.protocol == ANY_PROTOCOL else _PREFIX_PORT_START + key.port_bits
    return abi.PolicyKey(
        prefix_bits=bits,
        remote=key.remote,
        local=key.local,
        direction=_DIRECTIONS[key.direction],
        protocol=key.protocol,
        port=key.port,
    )


def prefix_key(prefix: IPNetwork) -> abi.PrefixKey:
    """Key of hawse_prefixes."""
    more = _MAPPED_BITS if isinstance(prefix, ipaddress.IPv4Network) else 0
    return abi.PrefixKey(prefix_bits=prefix.prefixlen + more, address=words(prefix.network_address))


def _value(verdict: PolicyVerdict) -> abi.PolicyValue:
    return abi.PolicyValue(rule=verdict.rule, deny=int(verdict.deny))


def _key(raw: abi.PolicyKey) -> PolicyKey:
    bits = max(0, raw.prefix_bits - _PREFIX_PORT_START)
    return PolicyKey(
        local=raw.local,
        remote=raw.remote or ANY_REMOTE,
        direction=_DIRECTIONS_BACK[raw.direction],
        protocol=raw.protocol if raw.prefix_bits > abi.POLICY_BITS_ALL else ANY_PROTOCOL,
        port=raw.port if bits else 0,
        port_bits=bits,
    )


def _prefix(raw: abi.PrefixKey) -> IPNetwork:
    found = address(raw.address)
    if isinstance(found, ipaddress.IPv4Address):
        return ipaddress.IPv4Network((found, raw.prefix_bits - _MAPPED_BITS))
    return ipaddress.IPv6Network((found or ipaddress.IPv6Address(0), raw.prefix_bits))
