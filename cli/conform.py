"""The border between the agent's JSON and this command: behind it, an answer has the fields and types it should.

A check is put together once for each type, of a function for each field: who follows the flows of a busy host reads
thousands a second.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

Document = TypeVar("Document")

_Check: TypeAlias = Callable[[object], None]

_PLAIN_NAMES: Final = {bool: "true or false", float: "a number", int: "a whole number", str: "a text"}
_ABSENT: Final = object()


class Mismatch(Exception):
    """An answer is not of the type that was expected; the message names the field."""


class _Fault(Exception):
    """What is wrong with a value; whoever holds it says where it stands."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = ""


def conform(answer: object, kind: type[Document]) -> Document:
    """Check an answer, field by field; fields that are not known here are let through (a newer agent).

    Raises:
        Mismatch: a field is missing or of another type.
    """
    try:
        _check(typing.cast("Any", kind))(answer)
    except _Fault as fault:
        raise Mismatch(f"the answer{fault.where} {fault.what}") from None
    return typing.cast("Document", answer)


@functools.cache
def _check(kind: Any) -> _Check:
    """What raises a fault for a value that is not of a kind."""
    if kind is Any:
        return lambda _: None
    if typing.is_typeddict(kind):
        return _fields_check(kind)
    make = _MAKERS.get(typing.get_origin(kind))
    return _plain_check(kind) if make is None else make(typing.get_args(kind))


def _fields_check(kind: Any) -> _Check:
    fields = [
        (name, _check(field_kind), name in kind.__required_keys__)
        for name, field_kind in typing.get_type_hints(kind).items()
    ]

    def check(value: object) -> None:
        if not isinstance(value, dict):
            raise _Fault("is not an object")
        for name, check_field, required in fields:
            item = value.get(name, _ABSENT)
            if item is not _ABSENT:
                try:
                    check_field(item)
                except _Fault as fault:
                    fault.where = f".{name}{fault.where}"
                    raise
            elif required:
                raise _Fault(f"has no {name!r}")

    return check


def _items_check(
    check_item: _Check,
    container: type,
    *,
    what: str,
    items: Callable[[Any], Iterable[tuple[object, object]]],
    place: str,
) -> _Check:
    """``items`` names every item of a container; ``place`` is how that name stands in a message."""

    def check(value: object) -> None:
        if not isinstance(value, container):
            raise _Fault(f"is not {what}")
        for name, item in items(value):
            try:
                check_item(item)
            except _Fault as fault:
                fault.where = f"{place.format(name)}{fault.where}"
                raise

    return check


def _list_check(arguments: Sequence[Any]) -> _Check:
    return _items_check(_check(arguments[-1]), list, what="a list", items=enumerate, place="[{}]")


def _dict_check(arguments: Sequence[Any]) -> _Check:
    return _items_check(_check(arguments[-1]), dict, what="an object", items=dict.items, place=".{}")


def _optional_check(choices: Sequence[Any]) -> _Check:
    (present,) = (choice for choice in choices if choice is not types.NoneType)
    check_present = _check(present)

    def check(value: object) -> None:
        if value is not None:
            check_present(value)

    return check


def _plain_check(kind: type[object]) -> _Check:
    # JSON has no subclasses, and true is no number.
    allowed = (int, float) if kind is float else (kind,)

    def check(value: object) -> None:
        if type(value) not in allowed:
            raise _Fault(f"is not {_PLAIN_NAMES[kind]}")

    return check


_MAKERS: Final[Mapping[object, Callable[[Sequence[Any]], _Check]]] = {
    list: _list_check,
    dict: _dict_check,
    # A newer agent may have a further word; it is only shown.
    Literal: lambda _: _check(str),
    types.UnionType: _optional_check,
    typing.Union: _optional_check,
}
"""By the origin of a kind, from its arguments."""
