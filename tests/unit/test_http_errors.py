"""Status, body and log of every way a request can go wrong."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driver.http import CONTENT_TYPE, MAX_BODY_BYTES
from model.deadline import remaining_s
from model.errors import (
    CasFailed,
    Conflict,
    DeadlineExceeded,
    EndpointNotFound,
    Exhausted,
    HawseError,
    InvalidInput,
    LinkError,
    NetworkNotFound,
    ProtocolError,
    StoreUnavailable,
)
from tests.support.driver_world import World, create_endpoint, create_network, endpoint, join

CONSTANT = (
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
)
WITH_BODY = (
    *(
        f"NetworkDriver.{name}"
        for name in (
            "AllocateNetwork",
            "FreeNetwork",
            "CreateNetwork",
            "DeleteNetwork",
            "CreateEndpoint",
            "DeleteEndpoint",
            "EndpointOperInfo",
            "Join",
            "Leave",
            "ProgramExternalConnectivity",
            "RevokeExternalConnectivity",
            "DiscoverNew",
            "DiscoverDelete",
        )
    ),
    *(f"IpamDriver.{name}" for name in ("RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress")),
)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def busy(world: World) -> World:
    return world.with_endpoint()


def test_the_routes_are_these_and_no_others(world: World) -> None:
    served = {rule.rule for rule in world.client.application.url_map.iter_rules()}

    assert {f"/{method}" for method in (*CONSTANT, *WITH_BODY)} == served


@pytest.mark.parametrize("body", [b"", b"{}", b"not json"])
@pytest.mark.parametrize("method", CONSTANT)
def test_calls_without_argument_touch_nothing(world: World, method: str, body: bytes) -> None:
    assert world.ok(method, body)

    assert [] == world.faults.calls


def test_constants_are_what_libnetwork_expects(world: World) -> None:
    assert {"Implements": ["NetworkDriver", "IpamDriver"]} == world.ok("Plugin.Activate")
    assert {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": False} == world.ok(
        "NetworkDriver.GetCapabilities"
    )
    assert {"RequiresMACAddress": False, "RequiresRequestReplay": False} == world.ok("IpamDriver.GetCapabilities")
    assert {"LocalDefaultAddressSpace": "hawse-local", "GlobalDefaultAddressSpace": "hawse-global"} == world.ok(
        "IpamDriver.GetDefaultAddressSpaces"
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"NetworkID": 1, "PoolID": 1, "DiscoveryType": "x"}'])
@pytest.mark.parametrize("method", WITH_BODY)
def test_a_body_that_cannot_be_read_is_400_and_changes_nothing(world: World, method: str, body: bytes) -> None:
    assert world.refused(method, body, status=400)

    assert [] == world.faults.calls


@pytest.mark.parametrize("path", ["/", "/NetworkDriver.GwAllocCheck", "/NetworkDriver.CreateNetwork/", "/static/x"])
def test_an_unknown_url_is_404(world: World, path: str) -> None:
    message = world.refused(path.removeprefix("/"), b"{}", status=404)

    assert path in message


@pytest.mark.parametrize("verb", ["get", "put", "delete", "options", "patch"])
def test_another_method_than_post_is_405(world: World, verb: str) -> None:
    response = getattr(world.client, verb)("/NetworkDriver.Join")

    assert 405 == response.status_code
    assert "called with POST" in json.loads(response.data)["Err"]


def test_a_large_body_is_413(world: World) -> None:
    body = b'{"NetworkID": "' + b"a" * MAX_BODY_BYTES + b'"}'

    assert str(MAX_BODY_BYTES) in world.refused("NetworkDriver.DeleteNetwork", body, status=413)
    assert [] == world.faults.calls


def test_a_large_body_is_read_to_its_end_before_the_answer(world: World) -> None:
    """Otherwise a client that is still sending gets a broken pipe and no message."""
    body = io.BytesIO(b"a" * 3 * MAX_BODY_BYTES)

    response = world.client.post("/NetworkDriver.Join", input_stream=body, content_length=3 * MAX_BODY_BYTES)

    assert 413 == response.status_code
    assert b"" == body.read()


def test_the_largest_body_is_read(world: World) -> None:
    body = json.dumps({"NetworkID": "a"}).encode()

    world.ok("NetworkDriver.DeleteNetwork", body + b" " * (MAX_BODY_BYTES - len(body)))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ProtocolError("m"), 400),
        (InvalidInput("m"), 500),
        (NetworkNotFound("m"), 500),
        (EndpointNotFound("m"), 500),
        (Conflict("m"), 500),
        (CasFailed("m"), 500),
        (Exhausted("m"), 500),
        (DeadlineExceeded("m"), 500),
        (StoreUnavailable("m"), 500),
        (LinkError("m", errno=16), 500),
        (HawseError("m"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_error_has_its_status_and_its_message(
    world: World, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.with_network()
    world.faults.before["FakeDatapath.ensure_endpoint"] = error
    caplog.set_level(logging.INFO)
    caplog.clear()

    assert "m" == world.refused("NetworkDriver.CreateEndpoint", create_endpoint(), status=status)

    assert ["request refused"] == [record.message for record in caplog.records if record.name == "driver.http"]


def test_a_bug_is_a_plain_sentence_and_one_traceback_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.with_network()
    world.faults.before["FakeDatapath.ensure_endpoint"] = ZeroDivisionError("secret detail")
    caplog.clear()

    message = world.refused("NetworkDriver.CreateEndpoint", create_endpoint())

    assert "secret detail" not in message
    assert "/NetworkDriver.CreateEndpoint" in message
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert ZeroDivisionError is record.exc_info[0]


def test_answers_have_the_content_type_of_plugins(world: World) -> None:
    for path in ("/Plugin.Activate", "/nowhere", "/NetworkDriver.Join"):
        assert CONTENT_TYPE == world.client.post(path).content_type


def test_every_handler_has_a_deadline(world: World) -> None:
    seen = []

    class Clocked:
        def remove_endpoint(self, _endpoint_id: str) -> None:
            seen.append(remaining_s(3600))

    world.service._datapath = Clocked()  # type: ignore[assignment]
    world.ok("NetworkDriver.DeleteEndpoint", endpoint())

    assert 0 < seen[0] <= 10


# What follows sends anything at all: an answer is JSON, never a 404, and never the sentence for a bug.

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FORMS = (
    create_network(),
    create_endpoint(),
    join(),
    endpoint(),
    {"AddressSpace": "hawse-global", "Pool": "10.1.0.0/16", "SubPool": "10.1.2.0/24", "Options": None, "V6": True},
    {"PoolID": "hawse-local:10.1.0.0/16", "Address": "10.1.0.7", "Options": {"RequestAddressType": "x"}},
)


@st.composite
def nearly_right(draw: st.DrawFn) -> object:
    """A real request with one field, at any depth, replaced by anything."""
    form = json.loads(json.dumps(draw(st.sampled_from(FORMS))))
    place = form
    while True:
        key = draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        inner = place[key]
        if isinstance(inner, (dict, list)) and inner and draw(st.booleans()):
            place = inner
            continue
        place[key] = draw(ANYTHING)
        return form


@settings(
    max_examples=300,
    deadline=None,
    # The one world is meant to live through all of it.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(method=st.sampled_from(WITH_BODY), body=nearly_right() | ANYTHING | st.binary(max_size=64))
def test_no_body_makes_a_handler_fail_unexpectedly(busy: World, method: str, body: object) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    status, answer = busy.post(method, data)

    assert status in {200, 400, 500}
    if status != 200:
        assert {"Err", "Error"} == answer.keys()
        assert "in a way that it should not" not in answer["Err"]
