"""From one policy table to another in steps, none of which lets pass what neither table allows.

Nor is anything stopped on the way that both allow: a connection that a change does not concern does not notice it.

The maps are written entry by entry while packets are judged, so a step is safe only when every part of it is:

1. An address changes its identity only while both identities mean the same. One whose prefix is new gets the entries of
   the identity it had (:attr:`PolicyChange.copies`) before its prefix is written; one whose prefix goes is judged as
   what is around it, by entries of its own, before its prefix is deleted.
2. Denials come first and go last; allowances in between, the new ones before the old ones go.
3. A direction that is opened is opened at once. An identity is forgotten before allowances come that are for anyone,
   and made known after those have gone; a direction is closed last, when everything that it is to allow is there.

Rejected: two generations of entries and one switch. They would need twice the room in the map for every change.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from datapath.policy_table import ANY_REMOTE, IdentityFlags, PolicyKey, PolicyTable, PolicyVerdict
from model.addresses import IPNetwork
from model.ids import IDENTITY_WORLD

_CLOSED: Final = IdentityFlags.INGRESS | IdentityFlags.EGRESS

Entries = Mapping[PolicyKey, PolicyVerdict]
Flags = Mapping[int, IdentityFlags]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """What is to be written and deleted, in this order."""

    copies: Entries
    """Of identities that no address has yet."""
    new_prefixes: Mapping[IPNetwork, int]
    opened: Flags
    forgotten: Flags
    denials: Entries
    allowances: Entries
    gone_allowances: tuple[PolicyKey, ...]
    known: Flags
    flags: Flags
    moved_prefixes: Mapping[IPNetwork, int]
    gone_prefixes: tuple[IPNetwork, ...]
    gone: tuple[PolicyKey, ...]
    """Denials, and all entries of identities that no address has any more."""
    most_entries: int
    """How many there are at the worst moment."""
    most_prefixes: int

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self.new_prefixes
            or self.denials
            or self.allowances
            or self.gone_allowances
            or self.opened
            or self.forgotten
            or self.known
            or self.flags
            or self.moved_prefixes
            or self.gone_prefixes
            or self.gone
        )


def policy_change(old: PolicyTable, new: PolicyTable) -> PolicyChange:
    """Find the steps from what is in the maps to what shall be."""
    parting = _new_numbers(old, new)
    joining = _old_numbers(old, new)
    copies = _copied(old, parting)
    stand_ins = _copied(new, joining)
    present = {**old.entries, **copies} if copies else old.entries
    # What is in the maps when everything has its new meaning, but for prefixes that are to go.
    target = {**new.entries, **stand_ins} if stand_ins else new.entries
    changed = {key: verdict for key, verdict in target.items() if present.get(key) != verdict}
    gone = [key for key in present if key not in target]
    moved = {
        prefix: number
        for prefix, number in new.prefixes.items()
        if old.prefixes.get(prefix, number) != number and number not in parting
    }
    steps = _FlagSteps(old.identities, new.identities)
    return PolicyChange(
        copies=copies,
        new_prefixes={
            prefix: number
            for prefix, number in new.prefixes.items()
            if old.prefixes.get(prefix) != number and prefix not in moved
        },
        opened=steps.opened,
        forgotten=steps.forgotten,
        denials={key: verdict for key, verdict in changed.items() if verdict.deny},
        allowances={key: verdict for key, verdict in changed.items() if not verdict.deny},
        gone_allowances=tuple(key for key in gone if not present[key].deny),
        known=steps.known,
        flags=steps.rest,
        moved_prefixes=moved,
        gone_prefixes=tuple(prefix for prefix in old.prefixes if prefix not in new.prefixes),
        gone=(*(key for key in gone if present[key].deny), *stand_ins),
        most_entries=len(present.keys() | target.keys()) if changed or gone else len(present),
        most_prefixes=len(old.prefixes.keys() | new.prefixes.keys()),
    )


def _new_numbers(old: PolicyTable, new: PolicyTable) -> Mapping[int, int]:
    """Identities of prefixes that begin to be used, and the identity that their addresses have before."""
    used = {*old.prefixes.values(), IDENTITY_WORLD}
    return {
        number: old.prefixes.get(prefix, identity_around(prefix, old.prefixes))
        for prefix, number in new.prefixes.items()
        if number not in used
    }


def _old_numbers(old: PolicyTable, new: PolicyTable) -> Mapping[int, int]:
    """Identities of prefixes that are no longer used, and the identity that their addresses have afterwards."""
    used = {*new.prefixes.values(), IDENTITY_WORLD}
    return {
        number: new.prefixes.get(prefix, identity_around(prefix, new.prefixes))
        for prefix, number in old.prefixes.items()
        if number not in used
    }


def identity_around(prefix: IPNetwork, prefixes: Mapping[IPNetwork, int]) -> int:
    """Find the identity of the smallest prefix around this one; ``world`` when there is none."""
    lengths = {one.prefixlen for one in prefixes if one.version == prefix.version}
    kind = ipaddress.IPv4Network if isinstance(prefix, ipaddress.IPv4Network) else ipaddress.IPv6Network
    first = int(prefix.network_address)
    for length in sorted((one for one in lengths if one < prefix.prefixlen), reverse=True):
        rest = prefix.max_prefixlen - length
        found = prefixes.get(kind((first >> rest << rest, length)))
        if found is not None:
            return found
    return IDENTITY_WORLD


def _copied(table: PolicyTable, sources: Mapping[int, int]) -> dict[PolicyKey, PolicyVerdict]:
    """Entries that make each identity mean what its source means in the table."""
    if not sources:
        return {}
    wanted = set(sources.values())
    by_remote: dict[int, list[tuple[PolicyKey, PolicyVerdict]]] = defaultdict(list)
    for key, verdict in table.entries.items():
        if key.remote in wanted and key.remote != ANY_REMOTE:
            by_remote[key.remote].append((key, verdict))
    return {
        PolicyKey(key.local, number, key.direction, key.protocol, key.port, key.port_bits): verdict
        for number, source in sources.items()
        for key, verdict in by_remote[source]
    }


class _FlagSteps:
    """The flags that identities have after each step, of those that it changes."""

    def __init__(self, old: Flags, new: Flags) -> None:
        none = IdentityFlags(0)
        known, ready = IdentityFlags.KNOWN, IdentityFlags.READY
        differing = sorted(one for one in old.keys() | new.keys() if old.get(one, none) != new.get(one, none))
        self._now = {one: old.get(one, none) for one in differing}
        self._after = {one: new.get(one, none) for one in differing}
        self.opened = self._step(lambda now, after: now & (after | ~_CLOSED) if ready in after else now)
        self.forgotten = self._step(lambda now, after: now & (after | ~known))
        self.known = self._step(lambda now, after: now | (after & known))
        self.rest = self._step(lambda _, after: after)

    def _step(self, flags: Callable[[IdentityFlags, IdentityFlags], IdentityFlags]) -> Flags:
        wanted = {one: flags(now, self._after[one]) for one, now in self._now.items()}
        changed = {one: flags for one, flags in wanted.items() if flags != self._now[one]}
        self._now.update(changed)
        return changed
