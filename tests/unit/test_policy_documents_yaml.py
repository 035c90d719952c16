"""YAML and JSON as policies are written in: what is read, and what is refused before it can mean something else."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InvalidDocument
from policy.limits import DEPTH_MAX, DOCUMENTS_MAX, TEXT_MAX_BYTES
from policy.yaml_reader import read_plain


def refusal(text: str) -> str:
    with pytest.raises(InvalidDocument) as caught:
        read_plain(text)
    (fault,) = caught.value.faults
    return str(fault)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("80", 80),
        ("-1", -1),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("0080", "0080"),
        ("0o17", "0o17"),
        ("0x50", "0x50"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("=", "="),
        ('"80"', "80"),
        ("'true'", "true"),
        ('""', ""),
        ("!!str 80", "80"),
        ('!!int "80"', 80),
        ("!!seq [a]", ["a"]),
        ("!!map {a: b}", {"a": "b"}),
        ("|\n    line\n", "line\n"),
        ("ключ", "ключ"),
    ],
)
def test_a_scalar_is_what_it_looks_like_and_nothing_else(written: str, read: object) -> None:
    assert ({"a": read},) == read_plain(f"a: {written}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: &x 1\nb: *x\n", "line 1: the anchor &x is not taken", id="anchor"),
        pytest.param("b: {c: &list [1]}\n", "line 1: the anchor &list is not taken", id="anchor-of-a-list"),
        pytest.param("a: 1\nb: *x\n", "line 2: the alias *x is not taken", id="alias"),
        pytest.param("a:\n  <<: {b: 1}\n", "line 2: the merge key << is not taken", id="merge"),
        pytest.param("a: 1\nb: 2\na: 3\n", 'line 3: the key "a" stands twice', id="twice"),
        pytest.param('{"a": 1, "a": 1}', 'the key "a" stands twice', id="twice-in-json"),
        pytest.param("a:\n  80: b\n", "line 2: the key 80 is not text: put it into quotes", id="number-as-key"),
        pytest.param("true: b\n", "line 1: the key true is not text", id="truth-as-key"),
        pytest.param("~: b\n", "line 1: the key null is not text", id="null-as-key"),
        pytest.param("? [a]\n: b\n", "line 1: a key is not text", id="list-as-key"),
        pytest.param("a: !!python/object/apply:os.system [x]\n", 'the tag "!!python/object/apply:os.system"', id="py"),
        pytest.param("a: !mine x\n", 'line 1: the tag "!mine" is not taken', id="own-tag"),
        pytest.param("a: !!binary aGk=\n", 'the tag "!!binary" is not taken', id="binary"),
        pytest.param("a: !!timestamp 2024-01-01\n", 'the tag "!!timestamp" is not taken', id="timestamp"),
        pytest.param("a: !!set {b}\n", 'the tag "!!set" is not taken', id="set"),
        pytest.param("a: !!int x\n", 'line 1: "x" is not what its tag "!!int" says', id="wrong-tag"),
        pytest.param("a: [\n", "line 2: this is not YAML", id="open-list"),
        pytest.param("a: b: c\n", "line 1: this is not YAML", id="two-colons"),
        pytest.param("a:\n\tb: c\n", "line 2: this is not YAML", id="tab"),
        pytest.param("a: \x00", "this is not YAML", id="nul"),
        pytest.param('{"a": NaN}', "NaN is no number", id="nan"),
        pytest.param('{"a": -Infinity}', "-Infinity is no number", id="infinity"),
        pytest.param('{"a": 1e999}', "is no number that a computer can keep", id="too-large-a-float"),
        pytest.param("a: " + "9" * 5000, "is too large a number", id="too-large-a-number"),
        pytest.param('{"a": "\\ud800"}', "half of a surrogate pair", id="surrogate-in-json"),
        pytest.param('{"\\ud800": 1}', "half of a surrogate pair", id="surrogate-in-a-key"),
        pytest.param("a: \ud800", "half of a surrogate pair", id="surrogate"),
        pytest.param("{]", "line 1: this is not YAML", id="neither-json-nor-yaml"),
    ],
)
def test_what_could_hide_something_is_refused_by_name(text: str, said: str) -> None:
    assert said in refusal(text)


def test_documents_are_told_apart_and_empty_ones_left_out() -> None:
    assert ({"a": 1}, {"b": 2}) == read_plain("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n")


def test_json_is_read_with_what_yaml_has_no_place_for() -> None:
    assert ({"a/b": ["\U0001f600", 1]},) == read_plain('\ufeff{\n\t"a\\/b":\t["\\ud83d\\ude00", 1]\n}')


def test_yaml_in_flow_style_is_no_json_and_read_as_well() -> None:
    assert ({"a": ["b", 1]}, {"c": "d"}) == read_plain("{a: [b, 1]}\n---\n{c: d}\n")


@pytest.mark.parametrize("opening", ["[", '{"a":', "- ", "? "], ids=["list", "mapping", "block", "key"])
def test_nesting_has_an_end(opening: str) -> None:
    assert f"nested more than {DEPTH_MAX} deep" in refusal(opening * 100_000)


def test_nesting_up_to_the_end_is_read_in_either_notation() -> None:
    text = "[" * DEPTH_MAX + "1" + "]" * DEPTH_MAX

    assert read_plain(text) == read_plain("--- " + text)
    assert f"nested more than {DEPTH_MAX} deep" in refusal(f"[{text}]")
    assert f"nested more than {DEPTH_MAX} deep" in refusal(f"--- [{text}]")


def test_a_text_that_is_too_long_is_refused_by_its_bytes() -> None:
    assert f"has {TEXT_MAX_BYTES + 2} bytes; at most {TEXT_MAX_BYTES}" in refusal("é" * (TEXT_MAX_BYTES // 2 + 1))


def test_too_many_documents_are_refused() -> None:
    assert f"more than {DOCUMENTS_MAX} documents" in refusal("--- a\n" * (DOCUMENTS_MAX + 1))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON_VALUES))
def test_json_comes_back_as_it_was(value: dict[str, object]) -> None:
    assert (value,) == read_plain(json.dumps(value))


@given(st.text() | st.text(st.sampled_from("{}[]:,-#&*!|>'\"%@`?<~ \n\tab1\\")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidDocument):
        read_plain(text)
