from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import keys
from model.addresses import IPAddress, IPNetwork
from model.errors import InvalidInput
from model.identities import IDENTITY_MAX, IDENTITY_MIN
from model.ids import IdentityId, Vni, endpoint_id, node_name
from model.labels import Labels

node_names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", fullmatch=True).map(node_name)
endpoint_ids = st.from_regex(r"[0-9a-f]{1,64}", fullmatch=True).map(endpoint_id)
addresses = st.ip_addresses()


@st.composite
def pools_with_address(draw: st.DrawFn) -> tuple[IPNetwork, IPAddress]:
    address = draw(addresses)
    prefix = draw(st.integers(0, address.max_prefixlen))
    return ipaddress.ip_network((address, prefix), strict=False), address


pools = pools_with_address().map(lambda pair: pair[0])


@given(pools)
def test_a_pool_survives_its_segment(pool: IPNetwork) -> None:
    segment = keys.pool_segment(pool)

    assert "/" not in segment
    assert pool == keys.parse_pool_segment(segment)


@given(pools)
def test_a_pool_survives_its_keys(pool: IPNetwork) -> None:
    assert pool == keys.parse_pool(keys.pool(pool))
    assert pool == keys.parse_network(keys.network(pool))


@given(pools_with_address())
def test_an_address_survives_its_key(pair: tuple[IPNetwork, IPAddress]) -> None:
    key = keys.address(*pair)

    assert pair == keys.parse_address(key)
    assert key.startswith(keys.addresses_of(pair[0]))


@given(node_names)
def test_a_node_survives_its_keys(name: str) -> None:
    assert name == keys.parse_node(keys.node(node_name(name)))
    assert name == keys.parse_node(keys.alive(node_name(name)))


@given(node_names, endpoint_ids)
def test_an_endpoint_survives_its_key(name: str, ident: str) -> None:
    key = keys.endpoint(node_name(name), endpoint_id(ident))

    assert (name, ident) == keys.parse_endpoint(key)
    assert key.startswith(keys.endpoints_of(node_name(name)))


@given(st.integers(IDENTITY_MIN, IDENTITY_MAX).map(IdentityId))
def test_an_identity_survives_its_key(number: IdentityId) -> None:
    assert number == keys.parse_identity(keys.identity(number))


label_sets = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=4).map(Labels.of)


@given(label_sets, label_sets)
def test_labels_that_differ_have_keys_that_differ(one: Labels, other: Labels) -> None:
    assert (one == other) == (keys.identity_labels(one) == keys.identity_labels(other))


policy_names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)


@given(policy_names, policy_names)
def test_a_policy_survives_its_key(namespace: str, name: str) -> None:
    assert name == keys.parse_policy(keys.policy(name))
    assert f"{namespace}/{name}" == keys.parse_policy(keys.policy(f"{namespace}/{name}"))


@given(node_names)
def test_an_enforcement_survives_its_key(name: str) -> None:
    assert name == keys.parse_enforced(keys.enforced(node_name(name)))


@given(node_names, node_names)
def test_the_endpoints_of_a_node_are_not_those_of_another(one: str, other: str) -> None:
    prefixes = keys.endpoints_of(node_name(one)), keys.endpoints_of(node_name(other))

    assert (one == other) == prefixes[0].startswith(prefixes[1])


def test_keys_are_what_an_operator_types() -> None:
    pool = ipaddress.ip_network("10.1.0.0/16")

    assert [
        "/hawse/v1/nodes/host-1",
        "/hawse/v1/alive/host-1",
        "/hawse/v1/networks/10.1.0.0-16",
        "/hawse/v1/vnis/4097",
        "/hawse/v1/ipam/pools/10.1.0.0-16",
        "/hawse/v1/ipam/addresses/10.1.0.0-16/10.1.0.5",
        "/hawse/v1/ipam/cursors/10.1.0.0-16",
        "/hawse/v1/endpoints/host-1/e1",
        "/hawse/v1/ipam/pools/fd00::-64",
        "/hawse/v1/identities/id/4711",
        "/hawse/v1/identities/by-labels/edbed1c2baf4bd07726f8b238c0ab603",
        "/hawse/v1/policies/deny-all",
        "/hawse/v1/policies/shop/allow-web",
        "/hawse/v1/enforced/host-1",
    ] == [
        keys.node(node_name("host-1")),
        keys.alive(node_name("host-1")),
        keys.network(pool),
        keys.vni(Vni(4097)),
        keys.pool(pool),
        keys.address(pool, ipaddress.ip_address("10.1.0.5")),
        keys.cursor(pool),
        keys.endpoint(node_name("host-1"), endpoint_id("e1")),
        keys.pool(ipaddress.ip_network("fd00::/64")),
        keys.identity(IdentityId(4711)),
        keys.identity_labels(Labels.of({"app": "web", "tier": "ä"})),
        keys.policy("deny-all"),
        keys.policy("shop/allow-web"),
        keys.enforced(node_name("host-1")),
    ]


PARSERS = [
    keys.parse_node,
    keys.parse_network,
    keys.parse_pool,
    keys.parse_address,
    keys.parse_endpoint,
    keys.parse_identity,
    keys.parse_policy,
    keys.parse_enforced,
]
ROOTS = [
    keys.NODES,
    keys.NETWORKS,
    keys.POOLS,
    keys.ADDRESSES,
    keys.ENDPOINTS,
    keys.IDENTITY_IDS,
    keys.IDENTITY_LABELS,
    keys.POLICIES,
    keys.ENFORCED,
]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(st.one_of(st.text(), st.sampled_from(ROOTS)))
def test_junk_is_refused_and_nothing_else_is_raised(parse: Callable[[str], object], key: str) -> None:
    with pytest.raises(InvalidInput):
        parse(key)


@given(
    st.sampled_from(
        [
            (keys.parse_pool, keys.POOLS, keys.pool),
            (keys.parse_network, keys.NETWORKS, keys.network),
        ]
    ),
    st.text("0123456789abcdef.:-/%", max_size=24),
)
def test_what_a_parser_accepts_its_builder_makes(
    pair: tuple[Callable[[str], IPNetwork], str, Callable[[IPNetwork], str]], rest: str
) -> None:
    parse, root, build = pair
    try:
        value = parse(root + rest)
    except InvalidInput:
        return

    assert root + rest == build(value)


@pytest.mark.parametrize(
    ("parse", "key"),
    [
        (keys.parse_pool, keys.POOLS + "10.1.0.0-255.255.0.0"),
        (keys.parse_pool, keys.POOLS + "10.1.0.1-16"),
        (keys.parse_pool, keys.POOLS + "10.1.0.0-016"),
        (keys.parse_pool, keys.POOLS + "10.1.0.0-33"),
        (keys.parse_pool, keys.POOLS + "10.1.0.0"),
        (keys.parse_pool, keys.POOLS + "fd00:0::-64"),
        (keys.parse_pool, keys.NETWORKS + "10.1.0.0-16"),
        (keys.parse_address, keys.ADDRESSES + "10.1.0.0-16/10.2.0.1"),
        (keys.parse_address, keys.ADDRESSES + "10.1.0.0-16/fd00::1"),
        (keys.parse_address, keys.ADDRESSES + "10.1.0.0-16/10.1.0.1/1"),
        (keys.parse_address, keys.ADDRESSES + "fd00::-64/fd00:0::1"),
        (keys.parse_endpoint, keys.ENDPOINTS + "host-1"),
        (keys.parse_endpoint, keys.ENDPOINTS + "host-1/e1/x"),
        (keys.parse_endpoint, keys.ENDPOINTS + "/e1"),
        (keys.parse_node, keys.NODES + "host 1"),
        (keys.parse_identity, keys.IDENTITY_IDS + "255"),
        (keys.parse_identity, keys.IDENTITY_IDS + "65536"),
        (keys.parse_identity, keys.IDENTITY_IDS + "0300"),
        (keys.parse_identity, keys.IDENTITY_IDS + "+300"),
        (keys.parse_identity, keys.IDENTITY_IDS + "३००"),
        (keys.parse_identity, keys.IDENTITY_IDS + "300\n"),
        (keys.parse_identity, keys.IDENTITY_LABELS + "300"),
        (keys.parse_policy, keys.POLICIES + "a/b/c"),
        (keys.parse_policy, keys.POLICIES + "/b"),
        (keys.parse_policy, keys.POLICIES + "a/"),
        (keys.parse_policy, keys.POLICIES + "-a"),
        (keys.parse_policy, keys.POLICIES + "a\n"),
        (keys.parse_policy, keys.POLICIES + "Upper"),
        (keys.parse_policy, keys.POLICIES + "a" * 254),
        (keys.parse_policy, keys.ENFORCED + "a"),
        (keys.parse_enforced, keys.ENFORCED + "host/1"),
    ],
)
def test_a_key_that_no_builder_makes_is_refused(parse: Callable[[str], object], key: str) -> None:
    with pytest.raises(InvalidInput):
        parse(key)
