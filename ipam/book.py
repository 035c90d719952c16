"""Which addresses are taken, as far as this node knows: a hint for choosing, never a proof.

The store decides (an address key is created by compare-and-swap), so this may lag behind or be wrong: a stale entry
costs one lost transaction or, when the pool seems full, one fresh listing. Kept per pool, because choosing must not
walk through the addresses of all pools. Costs about 150 bytes per address in use in the cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipam import rules
from kvstore import keys
from model.addresses import AddressRecord, IPAddress, IPNetwork

if TYPE_CHECKING:
    from kvstore.watcher import Change


@dataclass(slots=True)
class _Page:
    """One pool."""

    taken: set[int] = field(default_factory=set)
    choosing: set[int] = field(default_factory=set)
    """Chosen by a thread of this agent whose transaction is under way."""
    released_at_s: dict[int, float] = field(default_factory=dict)
    cursor: int = 0


class AddressBook:
    """Taken, chosen and recently released addresses of every pool. Safe from any thread."""

    def __init__(self, *, quarantine_s: float, monotonic_s: Callable[[], float]) -> None:
        self._quarantine_s = quarantine_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._pages: dict[IPNetwork, _Page] = {}

    def choose(self, pool: IPNetwork, sub_pool: IPNetwork | None, *, skip: int = 0) -> IPAddress | None:
        """Choose the next address after the one granted last and keep it from this agent's other threads.

        Recently released addresses come last, the one released first before the others. ``skip`` passes over that many
        free addresses, so that two nodes that compete do not meet again at the next one.

        Returns:
            None when every address is taken. Otherwise the caller owes a call of :meth:`done`.
        """
        candidates = rules.selectable(pool, sub_pool)
        with self._lock:
            page = self._page(pool)
            self._forget_old_releases(page)
            number = _next_free(candidates, page, skip)
            if number is None:
                number = _longest_released(candidates, page)
            if number is None:
                return None
            page.choosing.add(number)
        return rules.to_address(pool, number)

    def done(self, pool: IPNetwork, address: IPAddress, *, taken: bool) -> None:
        """Say how the transaction about a chosen address ended."""
        with self._lock:
            page = self._page(pool)
            page.choosing.discard(int(address))
            if taken:
                _take(page, int(address))

    def granted(self, pool: IPNetwork, address: IPAddress) -> None:
        """Note where the next search starts."""
        with self._lock:
            self._page(pool).cursor = int(address)

    def take(self, pool: IPNetwork, address: IPAddress) -> None:
        """Note an address that is in use."""
        with self._lock:
            _take(self._page(pool), int(address))

    def release(self, pool: IPNetwork, address: IPAddress) -> None:
        """Note an address that has become free; it goes into quarantine."""
        with self._lock:
            self._release(self._page(pool), int(address))

    def replace(self, pool: IPNetwork, taken: Iterable[IPAddress]) -> None:
        """Correct one pool after a fresh listing."""
        with self._lock:
            page = self._page(pool)
            fresh = {int(address) for address in taken}
            for number in page.taken - fresh:
                self._release(page, number)
            page.taken = fresh

    def forget(self, pool: IPNetwork) -> None:
        """Drop a pool that does not exist any more."""
        with self._lock:
            self._pages.pop(pool, None)

    def on_addresses(self, changes: Sequence[Change[AddressRecord]]) -> None:
        """Follow the view of addresses."""
        with self._lock:
            for change in changes:
                pool, address = keys.parse_address(change.key)
                if change.new is not None:
                    _take(self._page(pool), int(address))
                elif pool in self._pages:
                    self._release(self._pages[pool], int(address))

    def on_cursors(self, changes: Sequence[Change[IPAddress]]) -> None:
        """Follow the view of cursors: what other nodes granted last. A cursor goes together with its pool."""
        with self._lock:
            for change in changes:
                pool = keys.parse_pool_segment(change.key.removeprefix(keys.CURSORS))
                if change.new is None:
                    self._pages.pop(pool, None)
                else:
                    self._page(pool).cursor = int(change.new)

    def _page(self, pool: IPNetwork) -> _Page:
        return self._pages.setdefault(pool, _Page())

    def _release(self, page: _Page, number: int) -> None:
        page.taken.discard(number)
        page.released_at_s.setdefault(number, self._monotonic_s())

    def _forget_old_releases(self, page: _Page) -> None:
        oldest_s = self._monotonic_s() - self._quarantine_s
        for number in [n for n, at_s in page.released_at_s.items() if at_s <= oldest_s]:
            del page.released_at_s[number]


def _take(page: _Page, number: int) -> None:
    page.taken.add(number)
    page.released_at_s.pop(number, None)


def _next_free(candidates: range, page: _Page, skip: int) -> int | None:
    """Walk from the cursor once around; of ``skip`` free ones too many the last is as good."""
    size = candidates.stop - candidates.start  # len() cannot count an IPv6 network
    start = candidates.index(page.cursor) + 1 if page.cursor in candidates else 0
    # Among this many addresses plus one there is a free one if there is any: no walk through a whole IPv6 network.
    steps = min(size, len(page.taken) + len(page.choosing) + len(page.released_at_s) + skip + 1)
    found = None
    for step in range(steps):
        number = candidates[(start + step) % size]
        if number in page.taken or number in page.choosing or number in page.released_at_s:
            continue
        found = number
        if skip == 0:
            break
        skip -= 1
    return found


def _longest_released(candidates: range, page: _Page) -> int | None:
    free = [
        (at_s, number)
        for number, at_s in page.released_at_s.items()
        if number in candidates and number not in page.taken and number not in page.choosing
    ]
    return min(free)[1] if free else None
