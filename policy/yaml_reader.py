"""YAML or JSON text into plain Python: mappings with text keys, lists, text, whole numbers, floats, truth values, None.

Only what a policy needs of YAML. The parser's events are put together here instead of by a loader, so that what is not
wanted is refused by name, with its line, before it costs anything: anchors and aliases (they can hide what a rule says,
and expand without end), merge keys, tags that make objects, a key that stands twice, keys that are no text, deep
nesting. Plain scalars are read by YAML 1.2's core rules, decimal numbers only: ``on``, ``yes``, ``0080``, ``1:30`` and
``2024-01-01`` stay text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Final, NoReturn

import yaml

from model.errors import Fault, InvalidDocument
from policy.faults import quoted
from policy.limits import DEPTH_MAX, DOCUMENTS_MAX, TEXT_MAX_BYTES

_INTEGER_MAX: Final = 2**63 - 1
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_TAG_PREFIX: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final[dict[str, type | None]] = {
    _TAG_PREFIX + "null": None,
    _TAG_PREFIX + "bool": bool,
    _TAG_PREFIX + "int": int,
    _TAG_PREFIX + "float": float,
}
_TEXT_TAG: Final = _TAG_PREFIX + "str"
_LIST_TAG: Final = _TAG_PREFIX + "seq"
_MAPPING_TAG: Final = _TAG_PREFIX + "map"


def read_plain(text: str) -> tuple[object, ...]:
    """Read the documents of a text, those that are empty left out.

    Raises:
        InvalidDocument: it is not YAML or JSON, or more of it than is taken; the path is the line.
    """
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        _refuse(None, "the text is not Unicode: it has half of a surrogate pair")
    if size_bytes > TEXT_MAX_BYTES:
        _refuse(None, f"the text has {size_bytes} bytes; at most {TEXT_MAX_BYTES} are taken")
    if text.lstrip("\ufeff \t\r\n")[:1] in {"{", "["}:
        try:
            return (_read_json(text.lstrip("\ufeff")),)
        except json.JSONDecodeError:
            pass  # YAML in flow style begins in the same way; if it is not that either, YAML's message has the line
    try:
        return tuple(_documents(yaml.parse(text, Loader=yaml.CSafeLoader)))
    except yaml.MarkedYAMLError as err:
        line = None if err.problem_mark is None else err.problem_mark.line + 1
        _refuse(line, f"this is not YAML: {' '.join(filter(None, (err.context, err.problem)))}")
    except yaml.YAMLError as err:
        _refuse(None, f"this is not YAML: {str(err)[:200]}")


def _refuse(line: int | None, message: str) -> NoReturn:
    raise InvalidDocument([Fault("" if line is None else f"line {line}", message)]) from None


class _Open:
    """A mapping or list whose end has not come yet."""

    def __init__(self, *, mapping: bool) -> None:
        self.value: dict[str, object] | list[object] = {} if mapping else []
        self.key: str | None = None

    def put(self, value: object, line: int) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is None:
            self.key = self._new_key(value, line)
        else:
            self.value[self.key] = value
            self.key = None

    def _new_key(self, key: object, line: int) -> str:
        if not isinstance(key, str):
            shown = f"the key {json.dumps(key)}" if not isinstance(key, dict | list) else "a key"
            _refuse(line, f"{shown} is not text: put it into quotes")
        if key in self.value:
            _refuse(line, f"the key {quoted(key)} stands twice in one mapping")
        return key


def _documents(events: Iterator[yaml.Event]) -> Iterator[object]:
    found = 0
    stack: list[_Open] = []
    for event in events:
        line = 0 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.NodeEvent):
            _check_node(event, line)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= DEPTH_MAX:
                _refuse(line, f"nested more than {DEPTH_MAX} deep")
            stack.append(_Open(mapping=isinstance(event, yaml.MappingStartEvent)))
            continue
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            value = stack.pop().value
        else:
            continue
        if stack:
            stack[-1].put(value, line)
        elif value is not None:
            found += 1
            if found > DOCUMENTS_MAX:
                _refuse(line, f"more than {DOCUMENTS_MAX} documents in one text")
            yield value


def _check_node(event: yaml.NodeEvent, line: int) -> None:
    if isinstance(event, yaml.AliasEvent):
        _refuse(line, f"the alias *{event.anchor} is not taken: write out what it stands for")
    if event.anchor is not None:
        _refuse(line, f"the anchor &{event.anchor} is not taken: write each part where it belongs")
    if isinstance(event, yaml.CollectionStartEvent):
        wanted = _MAPPING_TAG if isinstance(event, yaml.MappingStartEvent) else _LIST_TAG
        if event.tag not in {None, wanted}:
            _refuse(line, f"the tag {_shown(event.tag)} is not taken: leave it out")


def _scalar(event: yaml.ScalarEvent, line: int) -> object:
    if event.tag is None and event.style:
        return event.value
    if event.tag is None:
        if event.value == "<<":
            _refuse(line, "the merge key << is not taken: write the fields out")
        return _plain(event.value, line)
    if event.tag == _TEXT_TAG:
        return event.value
    if event.tag not in _SCALAR_TAGS:
        _refuse(line, f"the tag {_shown(event.tag)} is not taken: leave it out")
    value, wanted = _plain(event.value, line), _SCALAR_TAGS[event.tag]
    if not (value is None if wanted is None else type(value) is wanted):
        _refuse(line, f"{quoted(event.value)} is not what its tag {_shown(event.tag)} says")
    return value


def _shown(tag: str) -> str:
    return quoted(tag.replace(_TAG_PREFIX, "!!"))


def _plain(text: str, line: int | None) -> object:
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INTEGER.fullmatch(text) and abs(int(text)) <= _INTEGER_MAX:
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if "." not in text and "e" not in text.lower():
            _refuse(line, f"{quoted(text)} is too large a number: if it is text, put it into quotes")
        if not math.isfinite(value):
            _refuse(line, f"{quoted(text)} is no number that a computer can keep")
        return value
    return text


def _read_json(text: str) -> object:
    try:
        value = json.loads(
            text,
            object_pairs_hook=_json_mapping,
            parse_int=lambda digits: _plain(digits, None),
            parse_float=lambda digits: _plain(digits, None),
            parse_constant=lambda name: _refuse(None, f"{name} is no number"),
        )
    except RecursionError:
        _refuse(None, f"nested more than {DEPTH_MAX} deep")
    _check_json(value)
    return value


def _json_mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            _refuse(None, f"the key {quoted(key)} stands twice in one mapping")
        found[key] = value
    return found


def _check_json(document: object) -> None:
    """Refuse what JSON can say and YAML cannot: halves of surrogate pairs, and any depth."""
    level = [document]
    for _ in range(DEPTH_MAX + 1):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
                _refuse(None, f"{json.dumps(value[:40])} is not Unicode: it has half of a surrogate pair")
        level = below
    if level:
        _refuse(None, f"nested more than {DEPTH_MAX} deep")
