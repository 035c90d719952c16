"""docs/policy.md: every document and every short form in it is what hawse reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from model.ids import IdentityId
from model.labels import Labels
from policy import limits
from policy.documents import read
from policy.named_ports import port_problems
from policy.short_form import short_form
from policy.yaml_reader import read_plain

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHORT_FORMS = re.findall(r"`(hawse\.(?:ingress|egress)): \"?([^`\"]+)\"?`", PAGE)


@pytest.mark.parametrize("text", [text for text in YAML if "apiVersion" in text])
def test_a_document_can_be_applied(text: str) -> None:
    assert len(read(text)) == 1


@pytest.mark.parametrize("text", [text for text in YAML if "services:" in text])
def test_the_labels_of_a_stack_file_are_read(text: str) -> None:
    stack: Any = read_plain(text)[0]
    for service in stack["services"].values():
        labels = Labels.of(service["labels"])

        assert short_form(IdentityId(256), labels).problems == ()
        assert port_problems(labels) == ()


@pytest.mark.parametrize(("label", "text"), SHORT_FORMS)
def test_a_short_form_is_read(label: str, text: str) -> None:
    assert short_form(IdentityId(256), Labels.of({label: text})).problems == ()


def test_examples_of_all_three_ways_were_found() -> None:
    assert len(YAML) >= 4
    assert len(SHORT_FORMS) >= 5


@pytest.mark.parametrize(
    "said",
    [
        f"{limits.TEXT_MAX_BYTES // 1024} KiB, {limits.DOCUMENTS_MAX} documents, {limits.DEPTH_MAX} levels",
        f"rules of a section | {limits.RULES_MAX} ",
        f"peers of a list | {limits.PEERS_MAX}; {limits.EXCEPT_MAX} exceptions",
        f"ports of a list | {limits.PORTS_MAX} ",
        f"requirements of a selector | {limits.REQUIREMENTS_MAX}, with {limits.VALUES_MAX} values",
        f"and {limits.ITEMS_MAX} items",
    ],
)
def test_the_limits_are_those_of_the_code(said: str) -> None:
    assert said in PAGE
