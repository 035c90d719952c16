"""Kernel tests: real programs, maps, interfaces and packets. They need root and fail without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import bpf_roots
from tests.support.netns import bpf_file_system, remove_leftovers
from tests.support.overlay import Container, Overlay, standing_overlay
from tests.support.policy_bench import PolicyBench, standing_bench


@pytest.fixture(scope="session")
def bpf_root() -> Iterator[Path]:
    """A BPF file system for all tests of the session; each uses its own folder."""
    remove_leftovers()
    with bpf_file_system() as folder:
        yield folder
        bpf_roots.remove(folder)


@pytest.fixture
def overlay(bpf_root: Path) -> Iterator[Overlay]:
    """An underlay to which the test adds nodes and containers."""
    with standing_overlay(bpf_root) as made:
        yield made


@pytest.fixture
def three(overlay: Overlay) -> tuple[Container, Container, Container]:
    """Two containers on one host, a third on another."""
    first, second = overlay.add_node(), overlay.add_node()
    containers = (
        overlay.add_container(first, "10.5.0.2"),
        overlay.add_container(first, "10.5.0.3"),
        overlay.add_container(second, "10.5.0.4"),
    )
    overlay.connect()
    return containers


@pytest.fixture(scope="session")
def _one_bench(bpf_root: Path) -> Iterator[PolicyBench]:
    """One for all tests: programs and maps are loaded once."""
    with standing_bench(bpf_root) as made:
        yield made


@pytest.fixture
def bench(_one_bench: PolicyBench) -> PolicyBench:
    """Programs and maps to push single packets through; empty."""
    _one_bench.reset()
    return _one_bench
