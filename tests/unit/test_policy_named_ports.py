"""Ports that a container names with ``hawse.port.<name>``."""

from __future__ import annotations

import pytest

from model.labels import Labels
from model.policies import Protocol
from policy.named_ports import named_ports, port_problems


def test_labels_name_ports() -> None:
    labels = Labels.of({
        "hawse.port.http": "8080/tcp",
        "hawse.port.dns": "53/UDP",
        "hawse.port.a-1": "65535/sctp",
        "app": "web",
    })  # fmt: skip

    assert named_ports(labels) == {
        "http": (Protocol.TCP, 8080),
        "dns": (Protocol.UDP, 53),
        "a-1": (Protocol.SCTP, 65535),
    }
    assert port_problems(labels) == ()


@pytest.mark.parametrize(
    "value", ["", "80", "http", "0/tcp", "65536/tcp", "-1/tcp", "080/tcp", "80/icmp", "80/http", "80/tcp ", "٨٠/tcp"]
)
def test_a_bad_port_names_nothing_and_is_reported(value: str) -> None:
    labels = Labels.of({"hawse.port.http": value, "hawse.port.good": "1/tcp"})

    assert named_ports(labels) == {"good": (Protocol.TCP, 1)}
    (problem,) = port_problems(labels)
    assert problem.startswith('label "hawse.port.http": ')
    assert "write one like 8080/tcp" in problem


@pytest.mark.parametrize("name", ["", "80", "HTTP", "a_b", "-a", "a-", "a--b", "a" * 16, "tcp", "udp", "sctp", "icmp"])
def test_a_bad_name_names_nothing_and_is_reported(name: str) -> None:
    labels = Labels.of({f"hawse.port.{name}": "80/tcp"})

    assert named_ports(labels) == {}
    assert "is no name of a port" in port_problems(labels)[0]
