"""Requests of IpamDriver as engines and the Swarm's allocator send them."""

from __future__ import annotations

import ipaddress
import json

import pytest

from driver.fields import Fields
from driver.http import Message
from driver.ipam_protocol import (
    ReleaseAddressRequest,
    ReleasePoolRequest,
    RequestAddressAnswer,
    RequestAddressRequest,
    RequestPoolAnswer,
    RequestPoolRequest,
)
from model.errors import ProtocolError

POOL_ID = "hawse-local:10.1.0.0/16"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            {
                "AddressSpace": "hawse-local",
                "Pool": "10.1.0.0/16",
                "SubPool": "10.1.5.0/24",
                "Options": None,
                "V6": False,
            },
            RequestPoolRequest(
                address_space="hawse-local",
                pool=ipaddress.ip_network("10.1.0.0/16"),
                sub_pool=ipaddress.ip_network("10.1.5.0/24"),
                options={},
                v6=False,
            ),
            id="RequestPool",
        ),
        pytest.param(
            {"AddressSpace": "hawse-global", "Pool": "", "SubPool": "", "Options": {}, "V6": False},
            RequestPoolRequest(address_space="hawse-global", pool=None, sub_pool=None, options={}, v6=False),
            id="RequestPool-any",
        ),
        pytest.param({"PoolID": POOL_ID}, ReleasePoolRequest(pool_id=POOL_ID), id="ReleasePool"),
        pytest.param(
            {"PoolID": POOL_ID, "Address": "", "Options": {"RequestAddressType": "com.docker.network.gateway"}},
            RequestAddressRequest(pool_id=POOL_ID, address=None, gateway=True),
            id="RequestAddress-gateway",
        ),
        pytest.param(
            {"PoolID": POOL_ID, "Address": "10.1.0.9", "Options": None},
            RequestAddressRequest(pool_id=POOL_ID, address=ipaddress.ip_address("10.1.0.9"), gateway=False),
            id="RequestAddress-20.10",
        ),
        pytest.param(
            {"PoolID": POOL_ID, "Address": "", "Options": {"com.docker.network.endpoint.name": "web"}},
            RequestAddressRequest(pool_id=POOL_ID, address=None, gateway=False),
            id="RequestAddress-29",
        ),
        pytest.param(
            {"PoolID": POOL_ID, "Address": "", "Options": {"com.docker.network.ipam.serial": "true"}},
            RequestAddressRequest(pool_id=POOL_ID, address=None, gateway=False),
            id="RequestAddress-swarm",
        ),
        pytest.param(
            {"PoolID": POOL_ID, "Address": "10.1.0.9"},
            ReleaseAddressRequest(pool_id=POOL_ID, address=ipaddress.ip_address("10.1.0.9")),
            id="ReleaseAddress",
        ),
    ],
)
def test_requests_are_read(body: object, expected: Message) -> None:
    assert expected == type(expected).read(Fields.of_body(json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        pytest.param(RequestPoolRequest, {"Pool": "10.1.0.0/16"}, "AddressSpace: missing", id="space"),
        pytest.param(RequestPoolRequest, {"AddressSpace": "a", "Pool": "ten"}, "Pool: ", id="pool"),
        pytest.param(RequestPoolRequest, {"AddressSpace": "a", "SubPool": 5}, "SubPool: expected a string", id="sub"),
        pytest.param(
            RequestPoolRequest, {"AddressSpace": "a", "Options": "b"}, "Options: expected an object", id="opt"
        ),
        pytest.param(RequestPoolRequest, {"AddressSpace": "a", "V6": "no"}, "V6: expected true or false", id="v6"),
        pytest.param(RequestAddressRequest, {"PoolID": None}, "PoolID: missing", id="pool-id"),
        pytest.param(
            RequestAddressRequest,
            {"PoolID": POOL_ID, "Address": "10.1.0.9/16"},
            "Address: '10.1.0.9/16' is not an IP address",
            id="address",
        ),
        pytest.param(ReleasePoolRequest, {}, "PoolID: missing", id="release"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(kind: type[Message], body: object, said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        kind.read(Fields.of_body(json.dumps(body).encode()))

    assert said in str(caught.value)


def test_answers_are_written() -> None:
    pool = RequestPoolAnswer(pool_id=POOL_ID, pool=ipaddress.ip_network("10.1.0.0/16"))
    address = RequestAddressAnswer(address=ipaddress.ip_interface("10.1.0.9/16"))

    assert {"PoolID": POOL_ID, "Pool": "10.1.0.0/16", "Data": {}} == pool.as_json()
    assert {"Address": "10.1.0.9/16", "Data": {}} == address.as_json()
