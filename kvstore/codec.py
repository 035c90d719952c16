"""Model values as JSON in the store: compact, human readable, checked on the way in.

Everything read from etcd is checked: a value that another version or a hand has broken is an :class:`InvalidInput` that
names the key and the field, never a half-built object. Fields this version does not know are ignored, so that a newer
agent may add some; a field that is None, and None by default, is left out.

msgspec cannot tell the members of ``IPv4Address | IPv6Address`` apart (one custom type in a union is its limit), so the
types of a record are translated once into types that it can check; see :func:`_wire_type`.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import ipaddress
import operator
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from model.addresses import MacAddress
from model.errors import HawseError, InvalidInput
from model.ids import DockerNetworkId, NodeName
from model.labels import Labels

T = TypeVar("T")


class _Address(abc.ABC):  # noqa: B024  # a virtual base class has nothing to implement
    """An IP address of either family."""


class _Network(abc.ABC):  # noqa: B024
    """An IP network of either family."""


class _Interface(abc.ABC):  # noqa: B024
    """An IP address with its network, of either family."""


class _Mac(abc.ABC):  # noqa: B024
    """A MacAddress; msgspec would take the dataclass for a JSON object."""


class _Labels(abc.ABC):  # noqa: B024
    """Labels, written as one JSON object."""


_Address.register(ipaddress.IPv4Address)
_Address.register(ipaddress.IPv6Address)
_Network.register(ipaddress.IPv4Network)
_Network.register(ipaddress.IPv6Network)
_Interface.register(ipaddress.IPv4Interface)
_Interface.register(ipaddress.IPv6Interface)
_Mac.register(MacAddress)
_Labels.register(Labels)

_CUSTOM_TYPES: Final[Mapping[object, type]] = {
    ipaddress.IPv4Address: _Address,
    ipaddress.IPv6Address: _Address,
    ipaddress.IPv4Network: _Network,
    ipaddress.IPv6Network: _Network,
    ipaddress.IPv4Interface: _Interface,
    ipaddress.IPv6Interface: _Interface,
    MacAddress: _Mac,
    Labels: _Labels,
}
_SHARED: Final = 8192
_share_network: Final = functools.lru_cache(_SHARED)(ipaddress.ip_network)
_TEXT_READERS: Final[Mapping[type, Callable[[str], object]]] = {
    _Address: ipaddress.ip_address,
    _Network: _share_network,
    _Interface: ipaddress.ip_interface,
    _Mac: MacAddress,
}
_REPEATED: Final[frozenset[object]] = frozenset({NodeName, DockerNetworkId, tuple[str, ...]})


def encode(value: object) -> bytes:
    """Write a value as compact JSON, fields in the order of their declaration: equal values give equal bytes.

    Raises:
        InvalidInput: a type that has no form in the store; a mistake of the caller, not of a user.
    """
    return msgspec.json.encode(_plain(value))


def decode(kind: type[T], data: bytes, *, key: str) -> T:
    """Read what :func:`encode` wrote for a ``kind``.

    Raises:
        InvalidInput: the bytes are no such value; the message names ``key`` and the path of the field.
    """
    try:
        value: T = _read(kind, msgspec.json.decode(data))
    except (msgspec.DecodeError, HawseError, RecursionError) as err:
        raise InvalidInput(f"the value of etcd key {key} cannot be read: {err}") from err
    return value


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        plain: object = value  # an enum of text or numbers is one
    elif isinstance(value, Labels):
        plain = dict(value.pairs)
    elif type(value) in _CUSTOM_TYPES:
        plain = str(value)
    elif dataclasses.is_dataclass(value):
        members = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        plain = {
            field.name: _plain(member) for field, member in members if member is not None or field.default is not None
        }
    elif isinstance(value, tuple | list):
        plain = [_plain(member) for member in value]
    elif isinstance(value, frozenset | set):
        plain = sorted((_plain(member) for member in value), key=str)
    elif isinstance(value, Mapping):
        plain = {str(name): _plain(member) for name, member in value.items()}
    else:
        raise InvalidInput(f"a {type(value).__name__} has no form in the store")
    return plain


def _read(kind: Any, raw: object) -> Any:
    if not _is_record(kind):
        return msgspec.convert(raw, _wire_type(kind), dec_hook=_read_custom)
    fields = msgspec.convert(raw, _wire_record(kind), dec_hook=_read_custom)
    values = {name: getattr(fields, name) for name in fields.__struct_fields__}
    for name in _repeated_fields(kind):
        values[name] = _share(values[name])
    return kind(**values)


@functools.lru_cache(_SHARED)
def _share(value: Hashable) -> Hashable:
    """The value that was seen first of all that are equal: the same object in all records that hold it."""
    return value


@functools.cache
def _repeated_fields(kind: type) -> tuple[str, ...]:
    """Fields whose text is the same in a great many records: of a node, of a network, or of a few holders."""
    hints = typing.get_type_hints(kind)
    return tuple(field.name for field in dataclasses.fields(kind) if hints[field.name] in _REPEATED)


def _is_record(kind: object) -> bool:
    return dataclasses.is_dataclass(kind) and kind not in _CUSTOM_TYPES


def _read_custom(kind: Any, raw: object) -> object:
    # msgspec puts the path of the field behind the text of a ValueError, and only of that.
    if kind is _Labels:
        return _share(Labels.of(msgspec.convert(raw, dict[str, str])))
    if kind in _TEXT_READERS:
        if not isinstance(raw, str):
            raise ValueError(f"Expected `str`, got `{type(raw).__name__}`")
        try:
            return _TEXT_READERS[kind](raw)
        except InvalidInput as err:
            raise ValueError(str(err)) from err
    try:
        return _read(kind.record, raw)
    except (msgspec.ValidationError, HawseError) as err:
        raise ValueError(str(err)) from err


@functools.cache
def _wire_record(kind: type) -> type[msgspec.Struct]:
    hints = typing.get_type_hints(kind)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in dataclasses.fields(kind):
        wire = _wire_type(hints[field.name])
        if field.default_factory is not dataclasses.MISSING:
            fields.append((field.name, wire, msgspec.field(default_factory=field.default_factory)))
        elif field.default is not dataclasses.MISSING:
            fields.append((field.name, wire, field.default))
        else:
            fields.append((field.name, wire))
    return msgspec.defstruct(kind.__name__, fields, kw_only=True)


@functools.cache
def _virtual_record(kind: type) -> type:
    virtual = abc.ABCMeta(kind.__name__, (), {"record": kind})
    virtual.register(kind)
    return virtual


def _wire_type(annotation: Any) -> Any:
    """Translate an annotation: every type that msgspec does not check itself becomes one virtual base class."""
    if annotation in _CUSTOM_TYPES:
        return _CUSTOM_TYPES[annotation]
    if annotation is object:
        return Any  # whatever JSON can hold, as it stands
    if _is_record(annotation):
        return _virtual_record(annotation)
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return annotation
    translated = tuple(_wire_type(member) for member in members)
    if origin in {types.UnionType, typing.Union}:
        return functools.reduce(operator.or_, translated)
    return origin[translated]
