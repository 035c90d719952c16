"""What is to stand in the kernel's maps of services, as far as it is worked out without a kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import overload

import pytest

from datapath.api import Backend, Balancing, Frontend
from datapath.service_maps import WantedEntries
from model.errors import InvalidInput
from model.ids import Vni

WEB = Frontend(address=IPv4Address("10.9.0.1"), vni=Vni(7))
BACKENDS = (Backend(IPv4Address("10.9.1.1")), Backend(IPv4Address("10.9.1.2")))


@dataclass
class Watched(Sequence[int]):
    """A table that counts how often it is read."""

    slots: tuple[int, ...]
    reads: int = 0

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self.slots[index]

    def __iter__(self) -> Iterator[int]:
        self.reads += 1
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)


def test_a_table_that_is_handed_in_again_is_not_read_again() -> None:
    entries, table = WantedEntries(), Watched((0, 1, 0))
    web = Balancing(backends=BACKENDS, table=table)
    first = entries.of({WEB: web})
    read = table.reads

    second = entries.of({WEB: web, replace(WEB, address=IPv4Address("10.9.0.2")): Balancing()})

    assert read == table.reads > 0
    assert first.items() <= second.items()


def test_another_table_of_the_same_service_counts() -> None:
    entries = WantedEntries()
    (before,) = entries.of({WEB: Balancing(backends=BACKENDS, table=(0, 1, 0))}).values()

    (after,) = entries.of({WEB: Balancing(backends=BACKENDS, table=(0, 1, 1))}).values()

    assert before.digest != after.digest


def test_a_service_of_another_network_at_the_same_address_counts() -> None:
    entries, web = WantedEntries(), Balancing(backends=BACKENDS, table=(0, 1, 0))
    entries.of({WEB: web})

    (after,) = entries.of({replace(WEB, vni=Vni(8)): web}).values()

    assert 8 == after.vni


def test_a_table_that_does_not_fit_its_backends_is_refused_again_and_again() -> None:
    entries = WantedEntries()

    for _ in range(2):
        with pytest.raises(InvalidInput, match="does not fit its 2 backends"):
            entries.of({WEB: Balancing(backends=BACKENDS, table=(0, 2, 1))})
