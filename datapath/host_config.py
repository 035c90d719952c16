"""The one entry of hawse_config: what the programs must know of this host.

Several parts of the datapath own a field or a flag of it; each changes its own and keeps those of the others.
"""

from __future__ import annotations

import time
from typing import Final

from datapath import abi
from datapath.addresses import address, words
from datapath.api import DatapathConfig
from datapath.maps import TypedMap
from model.addresses import IPAddress

_INDEX: Final = 0
_COARSE_CLOCK: Final = 6
"""CLOCK_MONOTONIC_COARSE of linux/time.h: it goes on once a tick, and the kernel tells how long that is."""


class HostConfig:
    """Reads and changes it. Not thread-safe; the datapath's lock is around it.

    Raises:
        DatapathError: from every method, when the kernel refused.
    """

    def __init__(self, config: TypedMap[abi.ArrayKey, abi.ConfigValue]) -> None:
        self._config = config

    def read(self) -> abi.ConfigValue:
        """All of it."""
        value = self._config.lookup(abi.ArrayKey(index=_INDEX))
        return abi.ConfigValue() if value is None else value

    @property
    def node_address(self) -> IPAddress | None:
        """Underlay address of this host; None before the first start."""
        return address(self.read().node_address)

    def describe_host(self, config: DatapathConfig, *, tunnel_ifindex: int, host_ifindex: int) -> None:
        """Tell what :meth:`datapath.api.Datapath.start` was told, and the interfaces that it made."""
        value = self.read()
        value.node_address = words(config.node_address)
        value.tunnel_ifindex = tunnel_ifindex
        value.host_ifindex = host_ifindex
        value.abi_version = abi.ABI_VERSION
        value.nat_port_first = config.way_out.first_port if config.way_out else 0
        value.nat_port_last = config.way_out.last_port if config.way_out else 0
        value.tunnel_port = config.tunnel_port
        value.memo_ticks = ticks_a_second()
        # The agent before this one may have died between a change and the epoch.
        value.places_epoch = _next(value.places_epoch)
        self._write(value)

    def set_flag(self, flag: abi.ConfigFlags, *, on: bool) -> bool:
        """Set or clear one flag; returns whether that changed anything."""
        value = self.read()
        flags = value.flags | flag if on else value.flags & ~flag
        if flags == value.flags:
            return False
        value.flags = flags
        self._write(value)
        return True

    def raise_policy_epoch(self) -> None:
        """Have every connection judged again at its next packet."""
        value = self.read()
        value.policy_epoch = _next(value.policy_epoch)
        self._write(value)

    def raise_places_epoch(self) -> None:
        """Have no packet go by what was decided before: who is where, or who it is, has changed by now."""
        value = self.read()
        value.places_epoch = _next(value.places_epoch)
        self._write(value)

    def _write(self, value: abi.ConfigValue) -> None:
        self._config.update(abi.ArrayKey(index=_INDEX), value)


def ticks_a_second() -> int:
    """How many jiffies this kernel counts in a second (``CONFIG_HZ``)."""
    return round(1 / time.clock_getres(_COARSE_CLOCK))


def _next(epoch: int) -> int:
    return (epoch + 1) % 2**32
