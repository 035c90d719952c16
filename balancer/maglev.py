"""Maglev: a table by which every node spreads connections alike, and which changes little when a backend comes or goes.

1. Every backend has an order of preference of all slots, made of its name: a first slot and a step; the number of slots
   is a prime, so that the steps pass through all of them.
2. In turn, sorted by name, every backend takes the first slot of its order that nobody has, until none is left. So
   their shares differ by one slot at most, and who is in the table says everything about it: no node has to know what
   another has, or what was before.
3. At the end few slots are free and a backend would try most of its order for each of them. So the last of them are put
   into each backend's order first: the place of a slot in the order is (slot - first) / step modulo the prime.

With a hundred slots for each backend, one of 100 that leaves moves 1.4 % of the slots of the others
(``tests/unit/test_maglev.py``). A slot costs half a microsecond here and eight bytes in the kernel (``struct
backend_value``). ADR 0016 says why a table at all.

Source: Eisenbud et al., Maglev: A Fast and Reliable Software Network Load Balancer, NSDI 2016, section 3.4.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import Final

SLOTS_PER_BACKEND: Final = 100
SIZES: Final = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)
"""Primes just below powers of two, so that few sizes of tables occur."""

_TAIL: Final = 4
"""One slot in so many turns is left for the end; found by trying."""


def slots_for(backends: int) -> int:
    """Say how many slots a table should have: a hundred for each backend, or the most there are."""
    return next((size for size in SIZES if size >= SLOTS_PER_BACKEND * backends), SIZES[-1])


def table(names: Sequence[str], slots: int) -> array[int]:
    """Give every slot the place in ``names`` of its backend; empty when there is none.

    Names that are given in another order get the same slots.

    Args:
        names: each is there once.
        slots: a prime, no less than there are names.
    """
    if len(names) <= 1:
        return array("H", [0]) * (slots * len(names))
    places = sorted(range(len(names)), key=names.__getitem__)
    orders = [_order(names[place], slots) for place in places]
    owners: list[int | None] = [None] * slots
    turns = [(turn, place, step) for turn, (place, (_, step)) in enumerate(zip(places, orders, strict=True))]
    reached = [first for first, _ in orders]
    left = slots
    while left > len(names) + slots // (_TAIL * len(names)):
        for turn, place, step in turns:
            slot = reached[turn]
            while owners[slot] is not None:
                slot += step
                if slot >= slots:
                    slot -= slots
            owners[slot] = place
            reached[turn] = slot
        left -= len(names)
    _take_rest(owners, places, orders)
    return array("H", [owner for owner in owners if owner is not None])


def _take_rest(owners: list[int | None], places: list[int], orders: list[tuple[int, int]]) -> None:
    slots = len(owners)
    free = [slot for slot, owner in enumerate(owners) if owner is None]
    wishes = []
    for place, (first, step) in zip(places, orders, strict=True):
        inverse = pow(step, -1, slots)
        at = {(slot - first) * inverse % slots: slot for slot in free}
        wishes.append((place, iter([at[number] for number in sorted(at)])))
    left = len(free)
    while left:
        for place, wanted in wishes[:left]:
            # What is left is in every order, so somebody who has a turn finds a slot.
            owners[next(slot for slot in wanted if owners[slot] is None)] = place
        left -= min(left, len(wishes))


def _order(name: str, slots: int) -> tuple[int, int]:
    """Say at which slot a backend begins and how far it steps."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    first, step = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    return first % slots, step % (slots - 1) + 1
