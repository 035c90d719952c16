"""Keys are found by their addresses, also when several have one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from model.keys_by_address import KeysByAddress

ONE, OTHER = ip_address("10.1.0.5"), ip_address("fd00::5")


@pytest.fixture
def keys() -> KeysByAddress:
    return KeysByAddress()


def test_key_is_found_at_each_of_its_addresses_until_it_goes(keys: KeysByAddress) -> None:
    keys.put("a", [ONE, OTHER])
    assert (("a",), ("a",)) == (keys.at(ONE), keys.at(OTHER))

    keys.discard("a", [ONE])
    keys.discard("a", [ONE])

    assert ((), ("a",)) == (keys.at(ONE), keys.at(OTHER))


def test_several_at_one_address_are_in_the_order_of_their_coming(keys: KeysByAddress) -> None:
    for key in "abca":
        keys.put(key, [ONE])
    assert ("b", "c", "a") == keys.at(ONE)

    keys.discard("c", [ONE])
    assert ("b", "a") == keys.at(ONE)
    keys.discard("b", [ONE])
    assert ("a",) == keys.at(ONE)
    keys.discard("unknown", [ONE])
    assert ("a",) == keys.at(ONE)
    keys.clear()
    assert () == keys.at(ONE)
