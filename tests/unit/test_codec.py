from __future__ import annotations

import dataclasses
import json
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from kvstore import codec
from model.addresses import AddressKind, AddressRecord, IPAddress, IPInterface, MacAddress, PoolRecord
from model.endpoints import Endpoint
from model.errors import InvalidInput
from model.ids import DockerNetworkId, EndpointId, IdentityId, NodeName, Vni
from model.labels import Labels
from model.networks import Network
from model.nodes import Node
from model.policies import PolicyMode
from model.policy_answers import Enforcement, PolicyRecord

ENDPOINT = Endpoint(
    endpoint_id=EndpointId("e1"),
    node=NodeName("host-1"),
    network=ip_network("10.1.0.0/16"),
    docker_network=DockerNetworkId("n1"),
    vni=Vni(7),
    addresses=(ip_address("10.1.0.5"), ip_address("fd00::5")),
    mac=MacAddress("02:42:0a:00:00:05"),
    identity=IdentityId(300),
    sandbox_key="/var/run/docker/netns/1",
    created_at="2026-01-02T03:04:05Z",
)
NODE = Node(
    name=NodeName("host-1"),
    address=ip_address("192.0.2.1"),
    tunnel_port=8472,
    mtu_bytes=1450,
    version="0.1.0",
    registered_at="2026-01-02T03:04:05Z",
)
NETWORK = Network(
    pool=ip_network("fd00:1::/64"),
    vni=Vni(9),
    gateway=ip_address("fd00:1::1"),
    internal=True,
    mtu_bytes=1400,
    docker_ids=(("@swarm", DockerNetworkId("n1")), ("host-1", DockerNetworkId("n2"))),
)
POOL = PoolRecord(pool=ip_network("10.1.0.0/16"), holders=("@swarm", "host-1"), gateway=ip_address("10.1.0.1"))
POLICY = PolicyRecord(
    document={"kind": "Policy", "spec": {"ingress": [{}], "n": 1, "f": 1.5, "off": None, "on": True}},
    applied_at="2026-01-02T03:04:05Z",
    applied_on=NodeName("host-1"),
)
ENFORCEMENT = Enforcement(revision=7, mode=PolicyMode.ALWAYS, audit=True, problem="full")
ADDRESS = AddressRecord(kind=AddressKind.GATEWAY, holders=("host-1",), granted_at="2026-01-02T03:04:05Z")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    endpoint: Endpoint
    links: tuple[MacAddress, ...] = ()
    gateway: IPInterface | None = None
    by_name: dict[str, IPAddress] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    "record",
    [
        POLICY,
        ENFORCEMENT,
        ENDPOINT,
        dataclasses.replace(ENDPOINT, sandbox_key=None),
        NODE,
        NETWORK,
        Network(pool=ip_network("10.1.0.0/16"), vni=Vni(1)),
        POOL,
        PoolRecord(pool=ip_network("10.1.0.0/16"), holders=()),
        ADDRESS,
        Nested(endpoint=ENDPOINT),
        Nested(
            endpoint=ENDPOINT,
            links=(ENDPOINT.mac,),
            gateway=ip_interface("10.1.0.1/16"),
            by_name={"a": ip_address("::1")},
        ),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_survives_the_store(record: object) -> None:
    data = codec.encode(record)

    assert record == codec.decode(type(record), data, key="/k")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, "10.1.0.0/16"),
        (int, 5),
        (IPAddress, ip_address("10.1.0.5")),
        (MacAddress, ENDPOINT.mac),
        (tuple[IPAddress, ...], (ip_address("10.1.0.5"), ip_address("::1"))),
    ],
    ids=str,
)
def test_a_bare_value_survives_the_store(kind: type[object], value: object) -> None:
    assert value == codec.decode(kind, codec.encode(value), key="/k")


def test_what_many_records_have_in_common_is_there_once() -> None:
    wanted = dataclasses.replace(ENDPOINT, labels=Labels.of({"app": "web"}))
    one, other = (codec.decode(Endpoint, codec.encode(wanted), key="k") for _ in range(2))
    held, again = (codec.decode(AddressRecord, codec.encode(ADDRESS), key="k") for _ in range(2))

    assert wanted == one == other
    assert one.node is other.node
    assert one.docker_network is other.docker_network
    assert one.network is other.network
    assert one.labels is other.labels
    assert held.holders is again.holders


def test_the_form_is_compact_in_order_of_declaration_and_without_none() -> None:
    data = codec.encode(Network(pool=ip_network("10.1.0.0/16"), vni=Vni(1)))

    assert data == b'{"pool":"10.1.0.0/16","vni":1,"internal":false,"masquerade":true,"docker_ids":[]}'


def test_a_none_that_is_not_the_default_is_written() -> None:
    @dataclasses.dataclass(frozen=True)
    class Limit:
        most: int | None = 5

    assert codec.encode(Limit(most=None)) == b'{"most":null}'


def test_a_field_of_a_newer_version_is_ignored() -> None:
    raw = json.loads(codec.encode(NODE)) | {"features": ["gbp"]}

    assert codec.decode(Node, json.dumps(raw).encode(), key="/k") == NODE


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"address": "10.1.0.999"}, "$.address"),
        ({"address": 5}, "$.address"),
        ({"mtu_bytes": "1450"}, "$.mtu_bytes"),
        ({"mtu_bytes": 14.5}, "$.mtu_bytes"),
        ({"tunnel_port": True}, "$.tunnel_port"),
        ({"version": None}, "$.version"),
    ],
    ids=str,
)
def test_a_wrong_field_is_refused_with_key_and_path(change: dict[str, object], path: str) -> None:
    raw = json.loads(codec.encode(NODE)) | change

    with pytest.raises(InvalidInput) as caught:
        codec.decode(Node, json.dumps(raw).encode(), key="/hawse/v1/nodes/host-1")

    assert "/hawse/v1/nodes/host-1" in str(caught.value)
    assert path in str(caught.value)


def test_a_wrong_member_is_refused_with_its_index() -> None:
    raw = json.loads(codec.encode(ENDPOINT)) | {"addresses": ["10.1.0.5", "10.1.0"]}

    with pytest.raises(InvalidInput, match=r"addresses\[1\]"):
        codec.decode(Endpoint, json.dumps(raw).encode(), key="/k")


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "02:42", "02-42-0A-00-00-05"])
def test_an_impossible_mac_is_refused_with_its_path(mac: str) -> None:
    raw = json.loads(codec.encode(ENDPOINT)) | {"mac": mac}

    with pytest.raises(InvalidInput, match=r"\$\.mac"):
        codec.decode(Endpoint, json.dumps(raw).encode(), key="/k")


def test_a_network_with_host_bits_is_refused() -> None:
    with pytest.raises(InvalidInput, match="host bits"):
        codec.decode(PoolRecord, b'{"pool":"10.1.0.1/16","holders":[]}', key="/k")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidInput, match="holders"):
        codec.decode(PoolRecord, b'{"pool":"10.1.0.0/16"}', key="/k")


def test_an_error_inside_a_nested_record_is_refused_with_both_paths() -> None:
    raw = json.loads(codec.encode(Nested(endpoint=ENDPOINT)))
    raw["endpoint"]["vni"] = "seven"

    with pytest.raises(InvalidInput, match=r"\$\.vni.*\$\.endpoint"):
        codec.decode(Nested, json.dumps(raw).encode(), key="/k")


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_record_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="/k"):
        codec.decode(Node, data, key="/k")


def test_a_type_without_a_form_in_the_store_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bytes"):
        codec.encode(b"raw")
