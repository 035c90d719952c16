"""The border between the agent's JSON and this command: behind it, an answer has the fields and types it should."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, Final, Literal, TypeVar

Document = TypeVar("Document")

_PLAIN_NAMES: Final = {bool: "true or false", float: "a number", int: "a whole number", str: "a text"}


class Mismatch(Exception):
    """An answer is not of the type that was expected; the message names the field."""


def conform(answer: object, kind: type[Document]) -> Document:
    """Check an answer, field by field; fields that are not known here are let through (a newer agent).

    Raises:
        Mismatch: a field is missing or of another type.
    """
    _conform(answer, kind, "the answer")
    return typing.cast("Document", answer)


def _conform(value: object, kind: Any, where: str) -> None:
    if kind is Any:
        return
    origin = typing.get_origin(kind)
    if typing.is_typeddict(kind):
        _conform_fields(value, kind, where)
    elif origin in {list, dict}:
        _conform_items(value, kind, where)
    elif origin is Literal:
        # A newer agent may have a further word; it is only shown.
        _conform(value, str, where)
    elif origin in {types.UnionType, typing.Union}:
        if value is not None:
            (present,) = (choice for choice in typing.get_args(kind) if choice is not types.NoneType)
            _conform(value, present, where)
    elif not _is_plain(value, kind):
        raise Mismatch(f"{where} is not {_PLAIN_NAMES[kind]}")


def _conform_items(value: object, kind: Any, where: str) -> None:
    item_kind = typing.get_args(kind)[-1]
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise Mismatch(f"{where} is not a list")
        for number, item in enumerate(value):
            _conform(item, item_kind, f"{where}[{number}]")
    else:
        if not isinstance(value, dict):
            raise Mismatch(f"{where} is not an object")
        for name, item in value.items():
            _conform(item, item_kind, f"{where}.{name}")


def _conform_fields(value: object, kind: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise Mismatch(f"{where} is not an object")
    for name, field_kind in _fields(kind).items():
        if name in value:
            _conform(value[name], field_kind, f"{where}.{name}")
        elif name in kind.__required_keys__:
            raise Mismatch(f"{where} has no {name!r}")


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_plain(value: object, kind: type[object]) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
