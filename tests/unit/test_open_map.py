"""A map that is read while another thread closes it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from datapath import abi, maps
from datapath.bpf_syscalls import MapInfo
from datapath.maps import TypedMap
from model.errors import DatapathError


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> TypedMap[abi.NatKey, abi.NatValue]:
    """Any file stands for the map."""
    info = MapInfo(
        map_type=1,
        key_bytes=ctypes.sizeof(abi.NatKey),
        value_bytes=ctypes.sizeof(abi.NatValue),
        max_entries=8,
        flags=0,
    )
    monkeypatch.setattr("datapath.bpf_syscalls.open_pinned", lambda _: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr("datapath.bpf_syscalls.map_info", lambda _: info)
    return TypedMap(Path("/"), "hawse_nat", maps.NAT)


def test_a_duplicate_stays_open(opened: TypedMap[abi.NatKey, abi.NatValue]) -> None:
    duplicate = opened.duplicate()
    opened.close()

    os.fstat(duplicate._fd)

    fd = duplicate._fd
    duplicate.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_of_a_closed_map_there_is_no_duplicate(opened: TypedMap[abi.NatKey, abi.NatValue]) -> None:
    opened.close()

    with pytest.raises(DatapathError, match="hawse_nat"):
        opened.duplicate()
