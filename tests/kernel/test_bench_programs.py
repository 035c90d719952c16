"""What the bench preloads into programs that it measures, where the host is set to another congestion control."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.images import CUBIC, preload
from tests.support.netns import Namespace, Namespaces

pytestmark = pytest.mark.kernel

_ALGORITHM: Final = """
import socket
for family in (socket.AF_INET, socket.AF_INET6):
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as made:
        print(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode())
"""


@pytest.fixture
def elsewhere() -> Iterator[Namespace]:
    """A namespace with another algorithm than Linux's own choice; this one is in every kernel."""
    namespaces = Namespaces()
    try:
        made = namespaces.make("reno")
        made.run("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        yield made
    finally:
        namespaces.close()


def test_sockets_are_born_with_cubic_whatever_the_host_is_set_to(elsewhere: Namespace, tmp_path: Path) -> None:
    library = preload(tmp_path, CUBIC)
    asks = ("python3", "-c", _ALGORITHM)

    assert elsewhere.run(*asks).split() == ["reno", "reno"]
    assert elsewhere.run("env", f"LD_PRELOAD={library}", *asks).split() == ["cubic", "cubic"]


def test_datagrams_are_left_alone(elsewhere: Namespace, tmp_path: Path) -> None:
    library = preload(tmp_path, CUBIC)
    makes = "import socket; print(socket.socket(type=socket.SOCK_DGRAM).type.name)"

    assert elsewhere.run("env", f"LD_PRELOAD={library}", "python3", "-c", makes).strip() == "SOCK_DGRAM"
