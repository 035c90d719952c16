"""Brings services and their tables of backends into the kernel.

Every service that has backends has a table of its own: an inner array with one backend for each slot, which
``hawse_tables`` names by a number. A table is filled before the number leads to it, and the number leads to it before
the service names the number, so a program that reads in between finds one whole table or the other. A table of another
length gets another number: length and number of a service are read together.

Cost of a table: a system call to make it, one to fill it, one to name it. The last waits until no program on any CPU
uses the table before it (milliseconds, an RCU grace period), so many tables are written side by side.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeVar

from datapath import abi, maps
from datapath.api import Backend, Balancing, Frontend
from datapath.maps import MapReference, TypedMap
from model.errors import InvalidInput
from model.ids import Vni

_SIDE_BY_SIDE: Final = 32
_NO_TABLE: Final = 0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry as it is to stand in the kernel, without the number of its table."""

    slots: int
    vni: int
    flags: int
    balancing: Balancing
    digest: bytes
    """Of the values of the table."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An entry as it stands in the kernel."""

    table: int
    slots: int
    vni: int
    flags: int
    digest: bytes

    def holds(self, wanted: Wanted) -> bool:
        """Whether the table is the wanted one."""
        return self.slots == wanted.slots and self.digest == wanted.digest

    def value(self) -> abi.ServiceValue:
        """As it is written."""
        return abi.ServiceValue(table=self.table, slots=self.slots, vni=self.vni, flags=self.flags)


class ServiceMaps:
    """The maps of services. Not thread-safe; the datapath's lock is around it.

    What is in the maps is read once and then known; nobody else writes them.
    """

    def __init__(
        self,
        services: TypedMap[abi.ServiceKey, abi.ServiceValue],
        tables: TypedMap[abi.TableKey, MapReference],
    ) -> None:
        self._services = services
        self._tables = tables
        self._known: dict[bytes, _Known] | None = None
        self._wanted = WantedEntries()

    def replace(self, services: Mapping[Frontend, Balancing]) -> None:
        """Make the maps say what the services say: add and change first, delete last; what is equal is not written.

        Raises:
            InvalidInput: a table and its backends do not fit together; nothing changed.
            Exhausted: they do not fit; nothing of what did not fit is served.
            DatapathError: the kernel refused; the maps are read again the next time.
        """
        wanted = self._wanted.of(services)
        if self._known is None:
            known = self._read()
            named = {key.table for key in self._tables.all_keys()}
        else:
            known, self._known = self._known, None
            named = _tables(known)
        gone = [key for key in known if key not in wanted]
        if len(known.keys() | wanted.keys()) > self._services.max_entries:
            self._delete(known, gone)
        self._write(known, wanted, named)
        self._delete(known, gone)
        self._drop_tables(named - _tables(known))
        self._known = known

    def read(self) -> Mapping[Frontend, Balancing]:
        """The services as the kernel has them, backends in the order of their addresses.

        An address that serves some ports only has an entry for all others, without a table: that one is not listed.
        """
        found: dict[Frontend, Balancing] = {}
        for key, value in self._services.items():
            frontend = Frontend(
                address=IPv4Address(key.address), vni=Vni(value.vni), port=key.port, protocol=key.protocol
            )
            found[frontend] = _balancing(self._content(value), affinity=bool(value.flags & abi.ServiceFlags.AFFINITY))
        with_ports = {frontend.address for frontend in found if frontend.port}
        return {
            frontend: balancing
            for frontend, balancing in found.items()
            if frontend.port or balancing.table or frontend.address not in with_ports
        }

    def _read(self) -> dict[bytes, _Known]:
        return {
            bytes(key): _Known(
                table=value.table,
                slots=value.slots,
                vni=value.vni,
                flags=value.flags,
                digest=_digest(self._content(value)),
            )
            for key, value in self._services.items()
        }

    def _content(self, value: abi.ServiceValue) -> bytes:
        """The table of a service; empty when it has none."""
        reference = self._tables.lookup(abi.TableKey(table=value.table)) if value.slots else None
        return b"" if reference is None else maps.read_inner_array(reference)

    def _write(self, known: dict[bytes, _Known], wanted: Mapping[bytes, Wanted], named: set[int]) -> None:
        """Write what has changed and then what is new, and note it in ``known``; new numbers are none of ``named``.

        When a map is full, what is new does not keep services that are served from being changed. Tables that these
        need no more make room.
        """
        free = (number for number in itertools.count(_NO_TABLE + 1) if number not in named)
        new = {key: one for key, one in wanted.items() if key not in known}
        self._write_entries(known, {key: one for key, one in wanted.items() if key in known}, free)
        unused = named - _tables(known)
        self._drop_tables(unused)
        named -= unused
        self._write_entries(known, new, free)

    def _write_entries(self, known: dict[bytes, _Known], wanted: Mapping[bytes, Wanted], free: Iterator[int]) -> None:
        filled: list[tuple[int, Balancing]] = []
        entries: dict[bytes, _Known] = {}
        for key, one in wanted.items():
            before = known.get(key)
            number = before.table if before is not None and before.slots == one.slots else _NO_TABLE
            if one.slots and (before is None or not before.holds(one)):
                number = number or next(free)
                filled.append((number, one.balancing))
            after = _Known(number, one.slots, one.vni, one.flags, one.digest)
            if after != before:
                entries[key] = after
        _side_by_side(self._put_table, filled)
        self._services.update_many(
            (abi.ServiceKey.from_buffer_copy(key), after.value())
            for key, after in entries.items()
            if key not in known or bytes(after.value()) != bytes(known[key].value())
        )
        known.update(entries)

    def _put_table(self, table: tuple[int, Balancing]) -> None:
        """Make a table, fill it and have its number lead to it."""
        number, balancing = table
        with maps.new_inner_array(maps.TABLE, _content(balancing)) as reference:
            self._tables.update(abi.TableKey(table=number), reference)

    def _delete(self, known: dict[bytes, _Known], gone: Iterable[bytes]) -> None:
        present = [key for key in gone if key in known]
        self._services.delete_many(abi.ServiceKey.from_buffer_copy(key) for key in present)
        for key in present:
            del known[key]

    def _drop_tables(self, numbers: Iterable[int]) -> None:
        numbers = [number for number in numbers if number != _NO_TABLE]
        _side_by_side(lambda number: self._tables.delete(abi.TableKey(table=number)), numbers)


def _side_by_side(action: Callable[[T], object], items: Sequence[T]) -> None:
    """Do something for each, in several threads; raises the first error when all are done."""
    if items:
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(items))) as threads:
            list(threads.map(action, items))


class WantedEntries:
    """Works out what is to stand in the maps.

    A balancing that is the same object as the last time is not read again: 500 services of 20 backends have a million
    slots, of which a change concerns few, and the datapath's lock is held meanwhile.
    """

    def __init__(self) -> None:
        self._last: dict[Frontend, Wanted] = {}

    def of(self, services: Mapping[Frontend, Balancing]) -> dict[bytes, Wanted]:
        """The entries by key; every address has one for all its ports.

        Raises:
            InvalidInput: a table and its backends do not fit together.
        """
        made = {}
        for frontend, balancing in services.items():
            known = self._last.get(frontend)
            if known is None or known.balancing is not balancing:
                known = _wanted(frontend, balancing)
            made[frontend] = known
        self._last = made
        found = {_key(frontend): one for frontend, one in made.items()}
        for frontend in services:
            every_port = Frontend(address=frontend.address, vni=frontend.vni)
            if (key := _key(every_port)) not in found:
                found[key] = _wanted(every_port, Balancing())
        return found


def _wanted(frontend: Frontend, balancing: Balancing) -> Wanted:
    require_fitting(frontend, balancing)
    flags = abi.ServiceFlags.AFFINITY if balancing.affinity else 0
    return Wanted(len(balancing.table), frontend.vni, flags, balancing, _digest(_content(balancing)))


def _key(frontend: Frontend) -> bytes:
    return bytes(abi.ServiceKey(address=int(frontend.address), port=frontend.port, protocol=frontend.protocol))


def require_fitting(frontend: Frontend, balancing: Balancing) -> None:
    """Check that a table can be written.

    Raises:
        InvalidInput: a slot names no backend, or there are backends and no slots.
    """
    count = len(balancing.backends)
    places = set(balancing.table)
    if bool(count) != bool(places) or not all(0 <= place < count for place in places):
        raise InvalidInput(f"the table of {frontend} does not fit its {count} backends")


def _content(balancing: Balancing) -> bytes:
    """Values of the table, one behind the other."""
    backends = [bytes(abi.BackendValue(address=int(one.address), port=one.port)) for one in balancing.backends]
    return b"".join([backends[place] for place in balancing.table])


def _balancing(content: bytes, *, affinity: bool) -> Balancing:
    size = ctypes.sizeof(abi.BackendValue)
    slots = [content[at : at + size] for at in range(0, len(content), size)]
    raw = sorted(set(slots))  # address and port come first, in wire order
    places = {one: place for place, one in enumerate(raw)}
    values = [abi.BackendValue.from_buffer_copy(one) for one in raw]
    return Balancing(
        backends=tuple(Backend(IPv4Address(value.address), value.port) for value in values),
        table=tuple([places[slot] for slot in slots]),
        affinity=affinity,
    )


def _tables(known: Mapping[bytes, _Known]) -> set[int]:
    return {one.table for one in known.values()}


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
