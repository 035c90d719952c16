"""Ranges of ports as the prefixes that the kernel's longest-prefix match knows.

A range costs at most 30 entries (``1-65534``), one port 1, all ports 1.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

from datapath.policy_table import ANY_PROTOCOL, PORT_BITS

PortPrefix: TypeAlias = tuple[int, int]
"""First port, and how many of its leading bits count."""

PortKey: TypeAlias = tuple[int, int, int]
"""Protocol, first port and leading bits: the part of a :class:`datapath.policy_table.PolicyKey` after the direction."""

ANY_PORT_KEY: PortKey = (ANY_PROTOCOL, 0, 0)


@functools.lru_cache(maxsize=4096)
def range_prefixes(first: int, last: int) -> tuple[PortPrefix, ...]:
    """Cut the range, both ends included, into the fewest prefixes, in order."""
    found: list[PortPrefix] = []
    while first <= last:
        # The largest block that begins here: as large as the alignment of `first` allows and as fits.
        size = min(first & -first or 1 << PORT_BITS, 1 << ((last - first + 1).bit_length() - 1))
        found.append((first, PORT_BITS - size.bit_length() + 1))
        first += size
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def covering(key: PortKey) -> tuple[PortKey, ...]:
    """Every key that covers this one, without itself, the widest first."""
    protocol, port, bits = key
    if protocol == ANY_PROTOCOL:
        return ()
    wider = [(protocol, port >> (PORT_BITS - n) << (PORT_BITS - n), n) for n in range(bits)]
    return (ANY_PORT_KEY, *wider)


def last_port(key: PortKey) -> int:
    """The last port that the key covers."""
    _, port, bits = key
    return port + (1 << (PORT_BITS - bits)) - 1
