from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any, Literal

import pytest

from cli import (
    documents,
    endpoint_documents,
    identity_documents,
    map_documents,
    policy_documents,
    service_documents,
    translation_documents,
)
from cli.conform import Mismatch, conform
from observe import (
    document,
    endpoint_document,
    identity_document,
    map_document,
    policy_document,
    service_document,
    trace_document,
    translation_document,
)

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
        origin = typing.get_origin(kind)
        name = origin.__name__ if origin in {list, dict} else "choice"
        return (name, *(_shape(each) for each in arguments))
    return kind.__name__


PAIRS = [
    (documents.Status, document.StatusDocument),
    (documents.Nodes, document.NodesDocument),
    (documents.Networks, document.NetworksDocument),
    (documents.Addresses, document.AddressesDocument),
    (documents.Check, document.CheckDocument),
    (documents.Counters, document.CountersDocument),
    (endpoint_documents.Endpoints, endpoint_document.EndpointsDocument),
    (policy_documents.Applied, policy_document.AppliedDocument),
    (policy_documents.Valid, policy_document.ValidDocument),
    (policy_documents.Fault, policy_document.FaultDocument),
    (policy_documents.Policies, policy_document.PoliciesDocument),
    (policy_documents.Policy, policy_document.PolicyDocument),
    (policy_documents.Rollout, policy_document.RolloutDocument),
    (policy_documents.Trace, trace_document.TraceDocument),
    (identity_documents.Identities, identity_document.IdentitiesDocument),
    (service_documents.Services, service_document.ServicesDocument),
    (map_documents.PolicyMap, map_document.PolicyMapDocument),
    (map_documents.Connections, map_document.ConnectionsDocument),
    (map_documents.Ipcache, map_document.IpcacheDocument),
    (translation_documents.Frontends, translation_document.FrontendsDocument),
    (translation_documents.Translations, translation_document.TranslationsDocument),
    (translation_documents.PublishedPorts, translation_document.PublishedPortsDocument),
]


@pytest.mark.parametrize(("received", "written"), PAIRS, ids=lambda kind: kind.__name__)
def test_command_reads_what_the_agent_writes(received: Any, written: Any) -> None:
    assert _shape(received) == _shape(written)


def test_right_answer_passes_unchanged() -> None:
    assert conform(ANSWER, documents.Networks) == ANSWER


def test_field_of_a_newer_agent_passes() -> None:
    assert conform({**ANSWER, "colour": "blue"}, documents.Networks)["warning"] is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"a": 1, "b": 2}, None),
        ([], "the answer is not an object"),
        ({"a": 1, "b": "2"}, "the answer.b is not a whole number"),
    ],
)
def test_object_of_any_names_is_checked_by_its_values(answer: object, message: str | None) -> None:
    if message is None:
        assert conform(answer, dict[str, int]) == answer
        return
    with pytest.raises(Mismatch) as caught:
        conform(answer, dict[str, int])
    assert str(caught.value) == message


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
