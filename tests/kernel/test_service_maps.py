"""Tables of services in the kernel: what is written, and above all what is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from datapath import abi, maps
from datapath.api import Backend, Balancing, Frontend
from datapath.maps import TypedMap
from datapath.pins import Pins
from datapath.programs import open_programs
from datapath.service_maps import ServiceMaps
from model.errors import DatapathError
from model.ids import Vni

pytestmark = pytest.mark.kernel

SLOTS: Final = 31


@pytest.fixture(scope="module")
def folder(bpf_root: Path) -> Path:
    """Where the maps are pinned."""
    where = Pins(bpf_root / "services")
    open_programs(where).close()
    return where.maps


class Opened:
    """The maps, as one agent has them open."""

    def __init__(self, folder: Path) -> None:
        self.services = TypedMap(folder, "hawse_services", maps.SERVICES)
        self.tables = TypedMap(folder, "hawse_tables", maps.TABLES)
        self.made = ServiceMaps(self.services, self.tables)

    def inner_maps(self) -> Mapping[int, int]:
        """Kernel's number of every table, by our number."""
        found = {key.table: self.tables.lookup(key) for key in self.tables.all_keys()}
        return {table: reference.number for table, reference in found.items() if reference is not None}

    def entry(self, frontend: Frontend) -> abi.ServiceValue:
        key = abi.ServiceKey(address=int(frontend.address), port=frontend.port, protocol=frontend.protocol)
        value = self.services.lookup(key)
        assert value is not None
        return value

    def close(self) -> None:
        self.services.close()
        self.tables.close()


@pytest.fixture
def opened(folder: Path) -> Iterator[Opened]:
    with contextlib.closing(Opened(folder)) as made:
        yield made
        Opened(folder).made.replace({})
        assert not made.inner_maps()


def service(number: int, *backends: int, slots: int = SLOTS) -> tuple[Frontend, Balancing]:
    frontend = Frontend(address=IPv4Address("10.9.0.0") + number, vni=Vni(7))
    found = tuple(Backend(IPv4Address("10.9.1.0") + one) for one in backends)
    table = tuple(slot % len(found) for slot in range(slots)) if found else ()
    return frontend, Balancing(backends=found, table=table)


def test_same_services_again_write_nothing(opened: Opened) -> None:
    services = dict(service(number, number, number + 1) for number in range(1, 6))
    opened.made.replace(services)
    before = opened.inner_maps()

    opened.made.replace(services)

    assert len(before) == 5
    assert opened.inner_maps() == before


def test_new_agent_writes_nothing_when_the_kernel_has_it_already(opened: Opened, folder: Path) -> None:
    services = dict(service(number, number, number + 1) for number in range(1, 6))
    opened.made.replace(services)
    before = opened.inner_maps()

    with contextlib.closing(Opened(folder)) as newer:
        newer.made.replace(services)

        assert newer.inner_maps() == before


def test_changed_table_takes_the_place_of_the_old_one_under_the_same_number(opened: Opened) -> None:
    one, other = service(1, 1, 2), service(2, 3, 4)
    opened.made.replace(dict([one, other]))
    before = opened.inner_maps()
    number, kept = opened.entry(one[0]).table, opened.entry(other[0]).table

    opened.made.replace(dict([service(1, 1, 5), other]))

    after = opened.inner_maps()
    assert opened.entry(one[0]).table == number
    assert after[number] != before[number]
    assert after[kept] == before[kept]


def test_table_of_another_length_gets_another_number(opened: Opened) -> None:
    frontend, balancing = service(1, 1, 2)
    opened.made.replace({frontend: balancing})
    before = opened.entry(frontend)

    opened.made.replace(dict([service(1, 1, 2, slots=61)]))

    after = opened.entry(frontend)
    assert (before.slots, after.slots) == (SLOTS, 61)
    assert after.table != before.table
    assert list(opened.inner_maps()) == [after.table]


def test_service_without_backends_has_an_entry_and_no_table(opened: Opened) -> None:
    frontend, _ = service(1)
    opened.made.replace(dict([service(1, 1)]))

    opened.made.replace(dict([service(1)]))

    assert (opened.entry(frontend).slots, opened.entry(frontend).vni) == (0, 7)
    assert not opened.inner_maps()


def test_address_that_serves_some_ports_has_an_entry_for_all_others(opened: Opened) -> None:
    frontend, balancing = service(1, 1)
    web = Frontend(address=frontend.address, vni=frontend.vni, port=80, protocol=6)

    opened.made.replace({web: balancing})

    assert opened.entry(web).slots == SLOTS
    assert opened.entry(frontend).slots == 0
    assert list(opened.made.read()) == [web]


def test_table_that_an_agent_left_behind_is_removed(opened: Opened) -> None:
    with maps.new_inner_array(maps.TABLE, bytes(8)) as reference:
        opened.tables.update(abi.TableKey(table=77), reference)

    opened.made.replace(dict([service(1, 1)]))

    assert 77 not in opened.inner_maps()


def test_what_failed_is_read_from_the_kernel_the_next_time(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.made.replace(dict([service(1, 1)]))
    with monkeypatch.context() as broken:
        broken.setattr(opened.services, "update_many", _refuse)
        with pytest.raises(DatapathError):
            opened.made.replace(dict([service(1, 2), service(2, 3)]))
    assert set(opened.made.read()) == {service(1)[0]}

    wanted = dict([service(1, 1), service(2, 3)])
    opened.made.replace(wanted)

    assert opened.made.read() == wanted


def _refuse(_: object) -> None:
    raise DatapathError("refused")
