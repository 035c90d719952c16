"""Endpoints are found by address and by node, whatever comes and goes."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

from cluster.address_index import AddressIndex
from kvstore.watcher import Change
from model.ids import NodeName
from tests.support.policy_node import an_endpoint

ONE = an_endpoint("a", 300, host=5)
(ADDRESS,) = ONE.addresses


def test_two_at_one_address_are_both_found_until_they_go() -> None:
    index = AddressIndex()
    index.on_endpoints([Change("k1", None, ONE), Change("k2", None, ONE)])
    index.on_endpoints([Change("k2", ONE, dataclasses.replace(ONE, container="web"))])
    assert ["k1", "k2"] == index.at(ADDRESS)

    index.on_endpoints([Change("k1", ONE, None)])
    assert ["k2"] == index.at(ADDRESS)

    index.on_endpoints([Change("k2", ONE, None)])
    assert [] == index.at(ADDRESS)
    assert frozenset() == index.nodes()


def test_one_that_moves_is_found_where_it_is() -> None:
    index = AddressIndex()
    moved = dataclasses.replace(ONE, node=NodeName("other"), addresses=(ip_address("10.1.0.99"),))
    index.on_endpoints([Change("k1", None, ONE)])
    index.on_endpoints([Change("k1", ONE, moved)])

    assert [] == index.at(ADDRESS)
    assert ["k1"] == index.at(moved.addresses[0])
    assert [] == index.on_node(ONE.node)
    assert ["k1"] == index.on_node(moved.node)
    assert {moved.node} == index.nodes()
