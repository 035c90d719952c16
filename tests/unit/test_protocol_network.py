"""Requests of NetworkDriver as engines send them, and what is refused with which words."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping

import pytest

from driver.fields import Fields
from driver.http import Message
from driver.protocol import (
    AllocateNetworkAnswer,
    AllocateNetworkRequest,
    Answer,
    Capabilities,
    CreateEndpointAnswer,
    CreateEndpointRequest,
    CreateNetworkRequest,
    DiscoveryRequest,
    Done,
    EndpointRequest,
    ExternalConnectivityRequest,
    JoinAnswer,
    JoinRequest,
    NetworkRequest,
    OperInfo,
    Scope,
    Subnet,
)
from model.addresses import MacAddress
from model.endpoints import PortRequest
from model.errors import ProtocolError

NETWORK = "f2" * 32
SWARM_NETWORK = "k2s7n8h0u3f1q5x9b4w6c7d8e"
ENDPOINT = "0a" * 32


def read(kind: type[Message], body: object) -> Message:
    return kind.read(Fields.of_body(json.dumps(body).encode()))


SUBNET = Subnet(
    address_space="hawse-local",
    pool=ipaddress.ip_network("10.1.0.0/16"),
    gateway=ipaddress.ip_interface("10.1.0.1/16"),
)

REQUESTS = [
    pytest.param(
        {
            "NetworkID": NETWORK,
            "Options": {
                "com.docker.network.enable_ipv6": False,
                "com.docker.network.generic": {"com.docker.network.driver.mtu": "1400"},
            },
            "IPv4Data": [{"AddressSpace": "hawse-local", "Gateway": "10.1.0.1/16", "Pool": "10.1.0.0/16"}],
            "IPv6Data": [],
        },
        CreateNetworkRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            options={"com.docker.network.driver.mtu": "1400"},
            internal=False,
            enable_ipv4=True,
            enable_ipv6=False,
            ipv4=(SUBNET,),
            ipv6=(),
        ),
        id="CreateNetwork-20.10",
    ),
    pytest.param(
        {
            "NetworkID": NETWORK,
            "Options": {
                "com.docker.network.enable_ipv4": True,
                "com.docker.network.enable_ipv6": False,
                "com.docker.network.generic": {},
                "com.docker.network.internal": True,
            },
            "IPv4Data": [
                {
                    "AddressSpace": "hawse-local",
                    "AuxAddresses": {"router": "10.1.0.9/16"},
                    "Pool": "10.1.0.0/16",
                }
            ],
            "IPv6Data": [],
        },
        CreateNetworkRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            options={},
            internal=True,
            enable_ipv4=True,
            enable_ipv6=False,
            ipv4=(
                Subnet(
                    address_space="hawse-local",
                    pool=ipaddress.ip_network("10.1.0.0/16"),
                    aux_addresses={"router": ipaddress.ip_interface("10.1.0.9/16")},
                ),
            ),
            ipv6=(),
        ),
        id="CreateNetwork-28-internal-aux",
    ),
    pytest.param(
        {"NetworkID": NETWORK, "Options": None, "IPv4Data": None, "IPv6Data": None},
        CreateNetworkRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            options={},
            internal=False,
            enable_ipv4=True,
            enable_ipv6=False,
            ipv4=(),
            ipv6=(),
        ),
        id="CreateNetwork-null-everywhere",
    ),
    pytest.param(
        {
            "NetworkID": SWARM_NETWORK,
            "Options": {"com.docker.network.driver.mtu": "1400", "note": ""},
            "IPv4Data": [{"AddressSpace": "", "Pool": "10.1.0.0/16", "Gateway": "10.1.0.1/16", "AuxAddresses": None}],
            "IPv6Data": None,
        },
        AllocateNetworkRequest(
            network_id=SWARM_NETWORK,  # type: ignore[arg-type]
            options={"com.docker.network.driver.mtu": "1400", "note": ""},
            ipv4=(Subnet(pool=SUBNET.pool, gateway=SUBNET.gateway),),
            ipv6=(),
        ),
        id="AllocateNetwork",
    ),
    pytest.param(
        {"NetworkID": NETWORK, "Future": [1]},
        NetworkRequest(network_id=NETWORK),  # type: ignore[arg-type]
        id="unknown-field-is-ignored",
    ),
    pytest.param(
        {
            "NetworkID": NETWORK,
            "EndpointID": ENDPOINT,
            "Interface": {"Address": "10.1.0.5/16", "AddressIPv6": "", "MacAddress": "02:42:0A:01:00:05"},
            "Options": {"com.docker.network.portmap": None, "label.app": "web"},
        },
        CreateEndpointRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            endpoint_id=ENDPOINT,  # type: ignore[arg-type]
            address=ipaddress.ip_interface("10.1.0.5/16"),
            address_ipv6=None,
            mac=MacAddress("02:42:0a:01:00:05"),
            options={"com.docker.network.portmap": None, "label.app": "web"},
        ),
        id="CreateEndpoint",
    ),
    pytest.param(
        {"NetworkID": NETWORK, "EndpointID": ENDPOINT, "Interface": None, "Options": None},
        CreateEndpointRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            endpoint_id=ENDPOINT,  # type: ignore[arg-type]
            address=None,
            address_ipv6=None,
            mac=None,
            options={},
        ),
        id="CreateEndpoint-null-everywhere",
    ),
    pytest.param(
        {
            "NetworkID": NETWORK,
            "EndpointID": ENDPOINT,
            "SandboxKey": "/var/run/docker/netns/9b8a7c6d5e4f",
            "Options": {"com.docker.network.endpoint.exposedports": None, "com.docker.network.portmap": None},
        },
        JoinRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            endpoint_id=ENDPOINT,  # type: ignore[arg-type]
            sandbox_key="/var/run/docker/netns/9b8a7c6d5e4f",
        ),
        id="Join",
    ),
    pytest.param(
        {"NetworkID": NETWORK, "EndpointID": ENDPOINT},
        EndpointRequest(network_id=NETWORK, endpoint_id=ENDPOINT),  # type: ignore[arg-type]
        id="Leave",
    ),
    pytest.param(
        {
            "NetworkID": NETWORK,
            "EndpointID": ENDPOINT,
            "Options": {
                "com.docker.network.driver.private.no_proxy_6to4": True,
                "com.docker.network.portmap": [
                    {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}
                ],
            },
        },
        ExternalConnectivityRequest(
            network_id=NETWORK,  # type: ignore[arg-type]
            endpoint_id=ENDPOINT,  # type: ignore[arg-type]
            ports=(PortRequest(port=80, protocol="tcp", first_host_port=8080, last_host_port=8080),),
        ),
        id="ProgramExternalConnectivity-29",
    ),
    pytest.param(
        {"DiscoveryType": 1, "DiscoveryData": {"Address": "192.0.2.7", "BindAddress": "", "Self": True}},
        DiscoveryRequest(address="192.0.2.7"),
        id="DiscoverNew",
    ),
    pytest.param(
        {"DiscoveryType": 2, "DiscoveryData": ["keys"]},
        DiscoveryRequest(address=""),
        id="DiscoverNew-of-something-else",
    ),
]


@pytest.mark.parametrize(("body", "expected"), REQUESTS)
def test_requests_are_read(body: object, expected: Message) -> None:
    assert expected == read(type(expected), body)


WRONG = [
    pytest.param(NetworkRequest, {}, "NetworkID: missing", id="missing"),
    pytest.param(NetworkRequest, {"NetworkID": None}, "NetworkID: missing", id="null"),
    pytest.param(NetworkRequest, {"NetworkID": ""}, "NetworkID: missing", id="empty"),
    pytest.param(NetworkRequest, {"NetworkID": 7}, "NetworkID: expected a string, got a number", id="number"),
    pytest.param(NetworkRequest, {"NetworkID": "../x"}, "NetworkID: NetworkID '../x' is not an id", id="path"),
    pytest.param(EndpointRequest, {"NetworkID": "a", "EndpointID": "b" * 65}, "EndpointID:", id="long-id"),
    pytest.param(CreateNetworkRequest, {"NetworkID": "a", "Options": []}, "Options: expected an object", id="options"),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "Options": {"com.docker.network.generic": {"k": 1}}},
        "Options.com.docker.network.generic.k: expected a string, got a number",
        id="generic",
    ),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "Options": {"com.docker.network.internal": "yes"}},
        "Options.com.docker.network.internal: expected true or false, got a string",
        id="flag",
    ),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "IPv4Data": {"Pool": "10.1.0.0/16"}},
        "IPv4Data: expected a list, got an object",
        id="list",
    ),
    pytest.param(
        CreateNetworkRequest, {"NetworkID": "a", "IPv4Data": [None]}, "IPv4Data[0]: expected an object", id="element"
    ),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "IPv4Data": [{"Pool": "10.1.0.0/33"}]},
        "IPv4Data[0].Pool: ",
        id="pool",
    ),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "IPv4Data": [{"Pool": "10.1.0.7/16"}]},
        "did you mean 10.1.0.0/16",
        id="host-bits",
    ),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "IPv4Data": [{"Pool": "10.1.0.0/16", "Gateway": "10.1.0.1"}]},
        "IPv4Data[0].Gateway: '10.1.0.1' has no prefix length",
        id="gateway",
    ),
    pytest.param(
        CreateNetworkRequest,
        {"NetworkID": "a", "IPv4Data": [{"Pool": "10.1.0.0/16", "AuxAddresses": {"r": "nowhere/16"}}]},
        "IPv4Data[0].AuxAddresses.r: 'nowhere/16' is not an address",
        id="aux",
    ),
    pytest.param(
        CreateEndpointRequest,
        {"NetworkID": "a", "EndpointID": "b", "Interface": {"MacAddress": "01:00:5e:00:00:01"}},
        "Interface.MacAddress: MAC address 01:00:5e:00:00:01 is a multicast address",
        id="mac",
    ),
    pytest.param(DiscoveryRequest, {"DiscoveryType": True}, "DiscoveryType: expected an integer", id="integer"),
]


@pytest.mark.parametrize(("kind", "body", "said"), WRONG)
def test_what_is_wrong_is_named_with_its_path(kind: type[Message], body: object, said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(kind, body)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "body is empty", id="empty"),
        pytest.param(b" \n", "body is empty", id="blank"),
        pytest.param(b"{", "not JSON", id="cut"),
        pytest.param(b'{"NetworkID": "a"} x', "not JSON", id="trailing"),
        pytest.param(b'"\xff"', "not JSON", id="not-utf-8"),
        pytest.param(b'"\\ud800"', "not JSON", id="lone-surrogate"),
        pytest.param(b"9" * 5000, "not JSON", id="huge-number"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="deep"),
        pytest.param(b"[]", "body is a list", id="list"),
        pytest.param(b"null", "body is null", id="null"),
        pytest.param(b"1.5", "body is a number", id="number"),
        pytest.param(b"true", "body is a boolean", id="boolean"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Fields.of_body(body)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Done(), {}, id="done"),
        pytest.param(OperInfo(), {"Value": {}}, id="oper-info"),
        pytest.param(
            Capabilities(scope=Scope.GLOBAL),
            {"Scope": "global", "ConnectivityScope": "global", "GwAllocChecker": False},
            id="capabilities",
        ),
        pytest.param(AllocateNetworkAnswer(options={"a": "b"}), {"Options": {"a": "b"}}, id="allocate"),
        pytest.param(CreateEndpointAnswer(mac=None), {"Interface": {}}, id="nothing-to-add"),
        pytest.param(
            CreateEndpointAnswer(mac=MacAddress("0a:00:00:00:00:01")),
            {"Interface": {"MacAddress": "0a:00:00:00:00:01"}},
            id="mac",
        ),
        pytest.param(
            JoinAnswer(src_name="hwp0", gateway=ipaddress.ip_address("10.1.0.1")),
            {"InterfaceName": {"SrcName": "hwp0", "DstPrefix": "eth"}, "Gateway": "10.1.0.1"},
            id="join",
        ),
        pytest.param(
            JoinAnswer(src_name="hwp0", gateway=None),
            {"InterfaceName": {"SrcName": "hwp0", "DstPrefix": "eth"}, "DisableGatewayService": True},
            id="join-without-way-out",
        ),
    ],
)
def test_answers_are_written(answer: Answer, expected: Mapping[str, object]) -> None:
    assert expected == answer.as_json()
