"""Brings a policy table into the maps, step by step as :mod:`datapath.policy_change` finds them.

What is in the maps is read once and then known; nobody else writes them. When a table does not fit, what was written is
taken back and the kernel judges as before.

IPv4 addresses stand in the trie of prefixes as IPv4-mapped IPv6 ones, and a rule about ``::/0`` must not be about them:
there always is a prefix for all of IPv4, that of the world unless a policy names it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from datapath import abi
from datapath.addresses import address, words
from datapath.api import Direction
from datapath.maps import TypedMap
from datapath.policy_change import PolicyChange, policy_change
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
from model.errors import Exhausted, HawseError, InvalidInput
from model.ids import IDENTITY_WORLD

_DIRECTIONS: Final = {Direction.INGRESS: abi.Direction.INGRESS, Direction.EGRESS: abi.Direction.EGRESS}
_DIRECTIONS_BACK: Final[Mapping[int, Direction]] = {raw: direction for direction, raw in _DIRECTIONS.items()}
_MAPPED_BITS: Final = 96
"""Of an IPv4-mapped IPv6 address, before the IPv4 address."""
_PREFIX_PORT_START: Final = abi.POLICY_BITS_PROTO
_ALL_IPV4: Final = ipaddress.IPv4Network((0, 0))
_REMOTES: Final = 1 << 32
_PROTOCOLS: Final = 1 << 8
_PORTS: Final = 1 << 16


class PolicyMaps:
    """The three maps that policies are in. Not thread-safe; the datapath's lock is around it.

    Attributes:
        unsettled: connections may have been judged by what is no longer so: the epoch has to be raised, and this set to
            False. True at first: the agent before this one may have died between a change and the epoch.
    """

    def __init__(
        self,
        policy: TypedMap[abi.PolicyKey, abi.PolicyValue],
        identities: TypedMap[abi.ArrayKey, abi.IdentityValue],
        prefixes: TypedMap[abi.PrefixKey, abi.PrefixValue],
    ) -> None:
        self._policy = policy
        self._identities = identities
        self._prefixes = prefixes
        self._known: PolicyTable | None = None
        self._applied: PolicyTable | None = None
        """What was asked for last; while :attr:`_known` is known, the maps say that."""
        self.unsettled = True

    def apply(self, table: PolicyTable) -> None:
        """Make the maps say what the table says.

        Raises:
            InvalidInput: the table says what no map can hold; nothing changed.
            Exhausted: it does not fit; nothing changed.
            DatapathError: the kernel refused. What was begun has been undone, or it is read from the maps the next
                time.
        """
        if self._known is not None and table is self._applied:
            return
        wanted = _storable(table)
        if self._known is None:
            self._known, self._applied = self._read(), None
        change = policy_change(self._known, wanted)
        for key in (*change.denials, *change.allowances):
            policy_key(key)  # refuses what is wrong before anything is written
        self._require_room(change)
        try:
            self._begin(change)
        except HawseError:
            self._take_back(change)
            raise
        self.unsettled |= bool(change)
        self._known = None
        self._finish(change)
        self._known, self._applied = wanted, table

    def entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """Read all entries from the kernel."""
        return {_key(raw): PolicyVerdict(deny=bool(value.deny), rule=value.rule) for raw, value in self._policy.items()}

    def prefixes(self) -> Mapping[IPNetwork, int]:
        """Read from the kernel all prefixes that have an identity of their own."""
        return {prefix: number for prefix, number in self._all_prefixes().items() if number != IDENTITY_WORLD}

    def _all_prefixes(self) -> Mapping[IPNetwork, int]:
        return {_prefix(raw): value.identity for raw, value in self._prefixes.items()}

    def _read(self) -> PolicyTable:
        flags = {key.index: IdentityFlags(value.flags) for key, value in self._identities.items() if value.flags}
        return PolicyTable(entries=self.entries(), identities=flags, prefixes=self._all_prefixes())

    def _require_room(self, change: PolicyChange) -> None:
        for what, needed, room in (
            ("policy entries", change.most_entries, self._policy.max_entries),
            ("address prefixes", change.most_prefixes, self._prefixes.max_entries),
        ):
            if needed > room:
                raise Exhausted(f"{needed} {what} do not fit into the {room} that the kernel's map holds")

    def _begin(self, change: PolicyChange) -> None:
        """All that needs room, and what has to come before it."""
        self._write(change.copies)
        self._write_prefixes(change.new_prefixes)
        self._write_flags(change.opened)
        self._write_flags(change.forgotten)
        self._write(change.denials)
        self._write(change.allowances)

    def _finish(self, change: PolicyChange) -> None:
        self._delete(change.gone_allowances)
        self._write_flags(change.known)
        self._write_flags(change.flags)
        self._write_prefixes(change.moved_prefixes)
        self._prefixes.delete_many(map(prefix_key, change.gone_prefixes))
        self._delete(change.gone)

    def _take_back(self, change: PolicyChange) -> None:
        """Undo whatever part of :meth:`_begin` was done; what closes and makes room comes first."""
        known, self._known = self._known or PolicyTable(), None
        self.unsettled = True
        written = {**change.copies, **change.denials, **change.allowances}
        new = {key: verdict for key, verdict in written.items() if key not in known.entries}
        before = {key: known.entries[key] for key in written if key in known.entries}
        self._delete(key for key, verdict in new.items() if not verdict.deny)
        flags = {**change.opened, **change.forgotten}
        self._write_flags({one: known.identities.get(one, IdentityFlags(0)) for one in flags})
        self._write({key: verdict for key, verdict in before.items() if verdict.deny})
        self._write({key: verdict for key, verdict in before.items() if not verdict.deny})
        self._write_prefixes({one: known.prefixes[one] for one in change.new_prefixes if one in known.prefixes})
        self._prefixes.delete_many(prefix_key(one) for one in change.new_prefixes if one not in known.prefixes)
        self._delete(key for key, verdict in new.items() if verdict.deny)
        self._known = known

    def _write(self, entries: Mapping[PolicyKey, PolicyVerdict]) -> None:
        self._policy.update_many((policy_key(key), _value(verdict)) for key, verdict in entries.items())

    def _write_flags(self, flags: Mapping[int, IdentityFlags]) -> None:
        self._identities.update_many(
            (abi.ArrayKey(index=identity), abi.IdentityValue(flags=int(one))) for identity, one in flags.items()
        )

    def _write_prefixes(self, prefixes: Mapping[IPNetwork, int]) -> None:
        self._prefixes.update_many(
            (prefix_key(prefix), abi.PrefixValue(identity=number)) for prefix, number in prefixes.items()
        )

    def _delete(self, keys: Iterable[PolicyKey]) -> None:
        self._policy.delete_many(map(policy_key, keys))


def _storable(table: PolicyTable) -> PolicyTable:
    """The table as it stands in the maps; raises InvalidInput for what they cannot hold: ctypes would cut it off."""
    for identity in table.identities:
        if not 0 < identity < abi.IDENTITIES_MAX:
            raise InvalidInput(f"identity {identity} has no flags: there are those of 1 to {abi.IDENTITIES_MAX - 1}")
    for prefix in table.prefixes:
        mapped = isinstance(prefix, ipaddress.IPv6Network) and prefix.network_address.ipv4_mapped is not None
        if mapped and prefix.prefixlen >= _MAPPED_BITS:
            raise InvalidInput(f"{prefix} would be a prefix of IPv4")
    return PolicyTable(
        entries=dict(table.entries),
        identities={identity: flags for identity, flags in table.identities.items() if flags},
        prefixes={_ALL_IPV4: IDENTITY_WORLD, **table.prefixes},
    )


def policy_key(key: PolicyKey) -> abi.PolicyKey:
    """Key of hawse_policy.

    Raises:
        InvalidInput: a number that is out of range, port bits without a protocol, or bits of the port below the prefix.
    """
    if not (
        0 < key.local < abi.IDENTITIES_MAX
        and 0 <= key.remote < _REMOTES
        and 0 <= key.protocol < _PROTOCOLS
        and 0 <= key.port < _PORTS
    ):
        raise InvalidInput(f"a number of {key} is out of range")
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
