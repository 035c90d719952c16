"""Reads the counters of what became of packets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from datapath import abi
from datapath.api import Direction, PacketCounter
from datapath.maps import TypedMap

_DIRECTIONS: Final = {abi.Direction.INGRESS: Direction.INGRESS, abi.Direction.EGRESS: Direction.EGRESS}


def counters(metrics: TypedMap[abi.ArrayKey, abi.MetricsValue]) -> Iterator[PacketCounter]:
    """Those that are not zero, summed over CPUs."""
    for reason in abi.DropReason:
        for raw, direction in _DIRECTIONS.items():
            values = metrics.lookup_per_cpu(abi.ArrayKey(index=reason * 2 + raw))
            packets = sum(value.packets for value in values)
            if packets:
                yield PacketCounter(
                    reason=int(reason),
                    text=reason.text,
                    direction=direction,
                    packets=packets,
                    bytes=sum(value.bytes for value in values),
                )
