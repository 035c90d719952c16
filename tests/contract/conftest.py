"""Stores to hold the contract against, in memory and real."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from kvstore.etcd import EtcdStore
from kvstore.memory import MemoryStore
from kvstore.store import Store
from tests.support.etcd import EtcdServer


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One etcd for all tests that only need some etcd; each keeps to its own ``prefix``."""
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The same test against every implementation."""
    made: Store = MemoryStore() if request.param == "memory" else EtcdStore(request.getfixturevalue("etcd").config)
    yield made
    made.close()


_numbers = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """Keys below it belong to this test alone."""
    return f"/test/{next(_numbers)}/"
