"""Who has a port of the host, told by real control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from datapath.cgroup import find_cgroup
from datapath.host_ports import HostPorts, PortInUse
from model.policies import Protocol

_SERVER: Final = """
import pathlib, socket, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text("0")
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM if sys.argv[2] == "TCP" else socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
if sys.argv[2] == "TCP":
    server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""
_IDENT: Final = "3f" * 32


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mount = find_cgroup()
    assert mount is not None
    folder = mount / f"hawse-ports-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        for inner in [*folder.iterdir(), folder]:
            if inner.is_dir():
                inner.rmdir()


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize(
    ("unit", "named"),
    [("nginx.service", "nginx.service"), (f"docker-{_IDENT}.scope", f"container {_IDENT[:12]}")],
    ids=["service", "container"],
)
def test_the_owner_of_a_port_is_the_unit_that_its_process_is_in(
    cgroup: Path, protocol: Protocol, unit: str, named: str
) -> None:
    (cgroup / unit).mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(cgroup / unit), protocol.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with pytest.raises(PortInUse) as caught:
            HostPorts(cgroup=find_cgroup()).hold(protocol, port, None)
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()

    assert f"port {port}/{protocol.name.lower()} is used by {named} on this host" == str(caught.value)
