"""The pinned maps, typed: keys and values are structs of :mod:`datapath.abi` and nothing else.

bcc and the system call take any bytes as key; a key of the wrong size would make the kernel read past it. Here the size
is checked once, when the map is opened, and the type checker does the rest.

Cost of a bulk change: one system call per ``_BATCH`` entries.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import errno
import functools
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from datapath import abi, bpf_syscalls
from model.errors import AbiMismatch, DatapathError, Exhausted

_BATCH: Final = 4096
_ARRAY: Final = 2
_ANY_LENGTH: Final = 1 << 12
"""``BPF_F_INNER_MAP``: arrays of any length fit into one map of maps."""

_INNER_NAME: Final = "hawse_table"
_INDEX: Final = struct.Struct("=I")

K = TypeVar("K", bound=ctypes.Structure)
V = TypeVar("V", bound=ctypes.Structure)


@dataclass(frozen=True, slots=True)
class Layout(Generic[K, V]):
    """Key and value of a map."""

    key: type[K]
    value: type[V]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPart:
    """Some entries of a map."""

    keys: bytes
    """One behind the other."""
    values: bytes
    """In the same order."""
    count: int


class MapReference(ctypes.Structure):
    """Value of a map of maps: a file descriptor when it is written, an id when it is read."""

    _fields_: ClassVar = [("number", ctypes.c_uint32)]


ENDPOINTS: Final = Layout(abi.EndpointKey, abi.EndpointValue)
IPCACHE: Final = Layout(abi.IpcacheKey, abi.IpcacheValue)
NODES: Final = Layout(abi.NodeKey, abi.NodeValue)
CONFIG: Final = Layout(abi.ArrayKey, abi.ConfigValue)
METRICS: Final = Layout(abi.ArrayKey, abi.MetricsValue)
IDENTITIES: Final = Layout(abi.ArrayKey, abi.IdentityValue)
POLICY: Final = Layout(abi.PolicyKey, abi.PolicyValue)
NETWORKS: Final = Layout(abi.PrefixKey, abi.NetworkValue)
PREFIXES: Final = Layout(abi.PrefixKey, abi.PrefixValue)
CONNTRACK: Final = Layout(abi.ConntrackKey, abi.ConntrackValue)
MEMO: Final = Layout(abi.MemoKey, abi.MemoValue)
FRAGMENTS: Final = Layout(abi.FragmentKey, abi.FragmentValue)
EVENT_LIMITS: Final = Layout(abi.ArrayKey, abi.EventLimitValue)
SERVICES: Final = Layout(abi.ServiceKey, abi.ServiceValue)
TABLES: Final = Layout(abi.TableKey, MapReference)
TABLE: Final = Layout(abi.ArrayKey, abi.BackendValue)
SERVICE_SOCKETS: Final = Layout(abi.ServiceSocketKey, abi.ServiceSocketValue)
PUBLISHED: Final = Layout(abi.PublishedKey, abi.PublishedValue)
PUBLISHED_PORTS: Final = Layout(abi.ArrayKey, abi.PublishedPortsValue)
NAT: Final = Layout(abi.NatKey, abi.NatValue)
DEVICES: Final = Layout(abi.DeviceKey, abi.DeviceValue)
ROUTED: Final = Layout(abi.PrefixKey, abi.RoutedValue)

LAYOUTS: Final[Mapping[str, Layout[Any, Any]]] = MappingProxyType({
    "hawse_endpoints": ENDPOINTS,
    "hawse_ipcache": IPCACHE,
    "hawse_nodes": NODES,
    "hawse_config": CONFIG,
    "hawse_metrics": METRICS,
    "hawse_identities": IDENTITIES,
    "hawse_policy": POLICY,
    "hawse_networks": NETWORKS,
    "hawse_prefixes": PREFIXES,
    "hawse_conntrack": CONNTRACK,
    "hawse_memo": MEMO,
    "hawse_fragments": FRAGMENTS,
    "hawse_event_limits": EVENT_LIMITS,
    "hawse_services": SERVICES,
    "hawse_tables": TABLES,
    "hawse_table": TABLE,
    "hawse_service_sockets": SERVICE_SOCKETS,
    "hawse_published": PUBLISHED,
    "hawse_published_ports": PUBLISHED_PORTS,
    "hawse_nat": NAT,
    "hawse_devices": DEVICES,
    "hawse_routed": ROUTED,
})  # fmt: skip
TEMPLATES: Final[Mapping[str, str]] = MappingProxyType({"hawse_tables": "hawse_table"})
"""Maps of maps, and what those in them look like."""


def field_layout(struct: type[ctypes.Structure]) -> tuple[tuple[str, int, int], ...]:
    """Name, offset and size of every field."""
    return tuple((name, getattr(struct, name).offset, getattr(struct, name).size) for name, *_ in struct._fields_)


@contextlib.contextmanager
def _kernel_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.E2BIG, errno.ENOMEM, errno.ENOSPC}:
            raise Exhausted(f"map {name} has no room left") from error
        raise DatapathError(f"map {name}: {error.strerror}") from error


class TypedMap(Generic[K, V]):
    """One pinned hash or array map. Safe to use from several threads; a sequence of calls is not atomic.

    Raises:
        DatapathError: from every method, when the kernel refused.
        Exhausted: from a method that adds, when the map is full.
    """

    def __init__(self, folder: Path, name: str, layout: Layout[K, V]) -> None:
        """Open the map.

        Raises:
            AbiMismatch: the pinned map has other sizes.
        """
        self._name = name
        self._layout = layout
        with _kernel_errors(name):
            self._fd = bpf_syscalls.open_pinned(folder / name)
            self._info = bpf_syscalls.map_info(self._fd)
        wanted = (ctypes.sizeof(layout.key), ctypes.sizeof(layout.value))
        if wanted != (self._info.key_bytes, self._info.value_bytes):
            self.close()
            raise AbiMismatch(
                f"map {folder / name} was made by another build of the same ABI version: its keys and values have "
                f"{self._info.key_bytes} and {self._info.value_bytes} bytes, not {wanted[0]} and {wanted[1]}"
            )

    @property
    def max_entries(self) -> int:
        """How many entries it can hold."""
        return self._info.max_entries

    def close(self) -> None:
        """Release the file descriptor; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def duplicate(self) -> Self:
        """The same map with a file descriptor of its own, which stays open whoever closes the other."""
        made = copy.copy(self)
        with _kernel_errors(self._name):
            made._fd = os.dup(self._fd)  # noqa: SLF001  # of this class
        return made

    def lookup(self, key: K) -> V | None:
        """The value, or None."""
        with _kernel_errors(self._name):
            value = bpf_syscalls.map_lookup(self._fd, bytes(key), self._info.value_bytes)
        return None if value is None else self._layout.value.from_buffer_copy(value)

    def lookup_per_cpu(self, key: K) -> list[V]:
        """The values of all CPUs of a map that has one for each; empty when there is no such key."""
        stride = -(-self._info.value_bytes // 8) * 8
        cpus = bpf_syscalls.possible_cpus()
        with _kernel_errors(self._name):
            values = bpf_syscalls.map_lookup(self._fd, bytes(key), stride * cpus)
        if values is None:
            return []
        return [self._layout.value.from_buffer_copy(values, cpu * stride) for cpu in range(cpus)]

    def update(self, key: K, value: V) -> None:
        """Add or replace one entry."""
        with _kernel_errors(self._name):
            bpf_syscalls.map_update(self._fd, bytes(key), bytes(value))

    def delete(self, key: K) -> bool:
        """Delete one entry; False when there was none."""
        with _kernel_errors(self._name):
            return bpf_syscalls.map_delete(self._fd, bytes(key))

    def all_keys(self) -> Iterator[K]:
        """Every key of a hash map; for those whose values cannot be read in batches on every kernel."""
        key: bytes | None = None
        while True:
            with _kernel_errors(self._name):
                key = bpf_syscalls.map_next_key(self._fd, key, self._info.key_bytes)
            if key is None:
                return
            yield self._layout.key.from_buffer_copy(key)

    def items(self) -> Iterator[tuple[K, V]]:
        """Every entry of a hash map; one that is added or deleted meanwhile may or may not be among them."""
        for key, value in self._raw_items():
            yield self._layout.key.from_buffer_copy(key), self._layout.value.from_buffer_copy(value)

    def batches(self) -> Iterator[MapPart]:
        """The entries of a hash map in parts, as bytes; what :meth:`items` says of changes is so here."""
        token: bytes | None = None
        while True:
            with _kernel_errors(self._name):
                keys, values, count, token = bpf_syscalls.map_lookup_batch(self._fd, token, _BATCH, self._info)
            yield MapPart(keys=keys, values=values, count=count)
            if token is None:
                return

    def update_many(self, entries: Iterable[tuple[K, V]]) -> None:
        """Add or replace entries."""
        self._update_raw([(bytes(key), bytes(value)) for key, value in entries])

    def delete_many(self, keys: Iterable[K]) -> None:
        """Delete entries; those that do not exist are no error."""
        self._delete_raw([bytes(key) for key in keys])

    def sync(self, wanted: Iterable[tuple[K, V]], *, untouched: Iterable[K] = ()) -> Sequence[K]:
        """Make the map hold exactly the wanted entries: add and replace first, delete last; equal ones are not written.

        Entries with an ``untouched`` key stay as they are. Returns the keys of those that were deleted.
        """
        target = {bytes(key): bytes(value) for key, value in wanted}
        kept = {bytes(key) for key in untouched}
        present = {key: value for key, value in self._raw_items() if key not in kept}
        self._update_raw([entry for entry in target.items() if present.get(entry[0]) != entry[1]])
        others = [key for key in present if key not in target]
        self._delete_raw(others)
        return [self._layout.key.from_buffer_copy(key) for key in others]

    def _raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        key_bytes, value_bytes = self._info.key_bytes, self._info.value_bytes
        for part in self.batches():
            for at in range(part.count):
                yield (
                    part.keys[at * key_bytes : (at + 1) * key_bytes],
                    part.values[at * value_bytes : (at + 1) * value_bytes],
                )

    def _update_raw(self, entries: list[tuple[bytes, bytes]]) -> None:
        for start in range(0, len(entries), _BATCH):
            part = entries[start : start + _BATCH]
            keys, values = b"".join(key for key, _ in part), b"".join(value for _, value in part)
            with _kernel_errors(self._name):
                bpf_syscalls.map_update_batch(self._fd, keys, values, len(part))

    def _delete_raw(self, keys: list[bytes]) -> None:
        start = 0
        while start < len(keys):
            part = keys[start : start + _BATCH]
            with _kernel_errors(self._name):
                deleted = bpf_syscalls.map_delete_batch(self._fd, b"".join(part), len(part))
            start += len(part) if deleted == len(part) else deleted + 1


@contextlib.contextmanager
def new_inner_array(layout: Layout[abi.ArrayKey, V], content: bytes) -> Iterator[MapReference]:
    """Make an array with these values; it lives on when a map of maps names it by the end of the block.

    Raises:
        DatapathError: the kernel refused.
    """
    value_bytes = ctypes.sizeof(layout.value)
    count = len(content) // value_bytes
    with _kernel_errors(_INNER_NAME):
        fd = bpf_syscalls.create_map(
            _ARRAY, key_bytes=_INDEX.size, value_bytes=value_bytes, max_entries=count, name=_INNER_NAME,
            flags=_ANY_LENGTH,
        )  # fmt: skip
    try:
        with _kernel_errors(_INNER_NAME):
            bpf_syscalls.map_update_batch(fd, _indexes(count), content, count)
        yield MapReference(number=fd)
    finally:
        os.close(fd)


@functools.lru_cache(maxsize=8)
def _indexes(count: int) -> bytes:
    """Keys of an array; almost all have the same length."""
    return b"".join(map(_INDEX.pack, range(count)))


def read_inner_array(reference: MapReference) -> bytes:
    """The values of an array that a map of maps names, one behind the other; empty when it has gone meanwhile.

    Raises:
        DatapathError: the kernel refused.
    """
    try:
        fd = bpf_syscalls.open_map_by_id(reference.number)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DatapathError(f"map {_INNER_NAME}: {error.strerror}") from error
    try:
        with _kernel_errors(_INNER_NAME):
            info = bpf_syscalls.map_info(fd)
            _, values, _, _ = bpf_syscalls.map_lookup_batch(fd, None, info.max_entries, info)
    finally:
        os.close(fd)
    return values
