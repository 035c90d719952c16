"""The kernel's memo of decisions, as tests look at it and hold it still."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from datapath import abi, maps
from datapath.maps import TypedMap
from datapath.pins import Pins
from tests.support.wait import until

FOR_EVER: Final = 2**62
"""A moment in jiffies that does not come."""

_OF_LANES: Final = (abi.MemoHook.FROM_NODE, abi.MemoHook.TO_NODE)

Memo = tuple[abi.MemoKey, abi.MemoValue]


class Memos:
    """``hawse_memo`` of one host.

    A memo holds for a second, which on a busy machine is over before a test has looked. :meth:`hold` lets it hold for
    ever: what then still makes a packet go the whole way is what the test is about.
    """

    def __init__(self, opened: TypedMap[abi.MemoKey, abi.MemoValue]) -> None:
        self.map = opened

    def all(self) -> list[Memo]:
        """Every entry that is about a flow."""
        return [(key, value) for key, value in self.map.items() if key.protocol_and_hook >> 8 not in _OF_LANES]

    def count(self) -> int:
        """How many there are."""
        return len(self.all())

    def lanes(self, hook: abi.MemoHook) -> list[Memo]:
        """Every entry that is about another host: whose packets are taken, or how those to it leave."""
        return [(key, value) for key, value in self.map.items() if key.protocol_and_hook >> 8 == hook]

    def hold_lanes(self, until_jiffies: int = FOR_EVER) -> None:
        """Set the moment that they end at."""
        for hook in _OF_LANES:
            for key, value in self.lanes(hook):
                value.until = until_jiffies
                self.map.update(key, value)

    def hold(self, until_jiffies: int = FOR_EVER) -> None:
        """Set the moment that all of them end at."""
        for key, value in self.all():
            value.until = until_jiffies
            self.map.update(key, value)

    def become(self, number: int, talk: Callable[[], object]) -> None:
        """Talk until there are so many, and hold them."""

        def held() -> bool:
            talk()
            self.hold()
            return self.count() >= number

        until(f"there are {number} memos", held, timeout_s=20, interval_s=0)

    def become_packed(self, talk: Callable[[], object]) -> abi.MemoValue:
        """Talk until a container's flow to another host is known up to the wire, and hold all; what is known of it."""

        def held() -> abi.MemoValue | None:
            talk()
            self.hold()
            for key, value in self.all():
                if key.protocol_and_hook >> 8 == abi.MemoHook.FROM_CONTAINER:
                    if value.underlay:
                        return value
                    self.map.delete(key)  # it may have been held just before that was noted
            return None

        return until("a packet of the flow is seen to leave", held, timeout_s=20, interval_s=0)


@contextlib.contextmanager
def memos(root: Path) -> Iterator[Memos]:
    """Of the host whose maps are pinned below this folder."""
    with contextlib.closing(TypedMap(Pins(root).maps, "hawse_memo", maps.MEMO)) as opened:
        yield Memos(opened)


def hide_the_way(root: Path) -> None:
    """Take away all that the whole way needs, without telling the programs: what passes then goes by a memo."""
    for name in ("hawse_ipcache", "hawse_conntrack", "hawse_endpoints", "hawse_nodes"):
        with contextlib.closing(TypedMap(Pins(root).maps, name, maps.LAYOUTS[name])) as opened:
            opened.delete_many([key for key, _ in opened.items()])
