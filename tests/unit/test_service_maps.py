"""What is to stand in the kernel's maps of services, as far as it is worked out without a kernel."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import overload

import pytest

from datapath import abi
from datapath.api import Backend, Balancing, Frontend
from datapath.service_maps import ServiceMaps, WantedEntries
from model.errors import Exhausted, InvalidInput
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


@dataclass
class FullMap:
    """A map in memory that has room for so many entries, as :class:`datapath.maps.TypedMap`."""

    max_entries: int
    layout: type[ctypes.Structure]
    entries: dict[bytes, object] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[ctypes.Structure, object]]:
        return ((self.layout.from_buffer_copy(key), value) for key, value in self.entries.items())

    def lookup(self, key: ctypes.Structure) -> object | None:
        return self.entries.get(bytes(key))

    def all_keys(self) -> Iterator[ctypes.Structure]:
        return (key for key, _ in self.items())

    def update(self, key: ctypes.Structure, value: object) -> None:
        if bytes(key) not in self.entries and len(self.entries) == self.max_entries:
            raise Exhausted("map has no room left")
        self.entries[bytes(key)] = value

    def update_many(self, entries: Iterable[tuple[ctypes.Structure, object]]) -> None:
        for key, value in entries:
            self.update(key, value)

    def delete(self, key: ctypes.Structure) -> None:
        self.entries.pop(bytes(key), None)

    def delete_many(self, keys: Iterable[ctypes.Structure]) -> None:
        for key in keys:
            self.delete(key)


@pytest.mark.parametrize(("services", "tables"), [(2, 9), (9, 2)])
def test_what_does_not_fit_keeps_no_service_from_being_changed(
    monkeypatch: pytest.MonkeyPatch, services: int, tables: int
) -> None:
    monkeypatch.setattr("datapath.maps.new_inner_array", lambda _, content: contextlib.nullcontext(content))
    monkeypatch.setattr("datapath.maps.read_inner_array", lambda content: content)
    full, inner = FullMap(services, abi.ServiceKey), FullMap(tables, abi.TableKey)
    maps = ServiceMaps(full, inner)  # type: ignore[arg-type]  # the same methods
    new, db = (replace(WEB, address=IPv4Address(f"10.9.0.{last}")) for last in (2, 3))
    before = Balancing(backends=BACKENDS, table=(0, 1))
    maps.replace({WEB: before, db: before})
    drained = Balancing(backends=BACKENDS[:1], table=(0, 0))

    for _ in range(2):
        with pytest.raises(Exhausted):
            maps.replace({new: before, WEB: drained, db: replace(before, affinity=True)})

        assert {WEB: drained, db: replace(before, affinity=True)} == maps.read()

    # One that has no backend any more makes room for a table.
    made = {new: before, WEB: drained, db: Balancing()}
    if services > 2:
        maps.replace(made)
        assert made == maps.read()
