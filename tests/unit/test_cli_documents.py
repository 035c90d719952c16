from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any, Literal

import pytest

from cli import documents
from cli.documents import Mismatch, conform
from observe import document

ANSWER: dict[str, Any] = {
    "networks": [
        {
            "pool": "10.1.0.0/24",
            "vni": 1,
            "gateway": None,
            "internal": False,
            "mtu_bytes": None,
            "endpoints": 0,
            "docker_networks": [{"holder": "@swarm", "id": "x"}],
        }
    ],
    "warning": None,
}


def _shape(kind: Any) -> Any:
    """What JSON a type stands for, so that a dataclass and a TypedDict compare."""
    if typing.get_origin(kind) is Annotated:
        return _shape(typing.get_args(kind)[0])
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return {name: _shape(field) for name, field in typing.get_type_hints(kind).items()}
    if typing.get_origin(kind) is Literal:
        return ("literal", *typing.get_args(kind))
    if arguments := typing.get_args(kind):
        return ("list" if typing.get_origin(kind) is list else "choice", *(_shape(each) for each in arguments))
    return kind.__name__


@pytest.mark.parametrize(
    "name", ["Status", "Nodes", "Networks", "Endpoints", "Addresses", "Check", "Counters"], ids=str.lower
)
def test_command_reads_what_the_agent_writes(name: str) -> None:
    assert _shape(getattr(documents, name)) == _shape(getattr(document, f"{name}Document"))


def test_right_answer_passes_unchanged() -> None:
    assert conform(ANSWER, documents.Networks) == ANSWER


def test_field_of_a_newer_agent_passes() -> None:
    assert conform({**ANSWER, "colour": "blue"}, documents.Networks)["warning"] is None


def _broken(**changes: object) -> dict[str, Any]:
    return {**ANSWER, "networks": [{**ANSWER["networks"][0], **changes}]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "the answer is not an object"),
        ({}, "the answer has no 'networks'"),
        ({"networks": {}, "warning": None}, "the answer.networks is not a list"),
        (_broken(vni=None), "the answer.networks[0].vni is not a whole number"),
        (_broken(vni=True), "the answer.networks[0].vni is not a whole number"),
        (_broken(internal=0), "the answer.networks[0].internal is not true or false"),
        (_broken(gateway=5), "the answer.networks[0].gateway is not a text"),
        (_broken(docker_networks=[{"id": "x"}]), "the answer.networks[0].docker_networks[0] has no 'holder'"),
    ],
)
def test_wrong_answer_names_the_field(answer: object, message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        conform(answer, documents.Networks)

    assert str(caught.value) == message
