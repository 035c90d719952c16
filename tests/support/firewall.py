"""What becomes of a host's firewall under its containers: flushed, or loaded anew by somebody who knows no Docker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tests.support.machine import Machine

_RELOADED: Final = """
flush ruleset

table inet firewall {
    chain input {
        type filter hook input priority filter + 10; policy drop;
        ct state established,related accept
        iifname "lo" accept
        ct state invalid drop
        # What docs/operations.md and Swarm want open between hosts.
        udp dport { 7946, 8472 } accept
        tcp dport { 2377, 7946 } accept
        reject with icmpx type admin-prohibited
    }
    chain forward {
        type filter hook forward priority filter + 10; policy drop;
        ct state established,related accept
        ct state invalid drop
        reject with icmpx type admin-prohibited
    }
}
"""
"""In the manner of firewalld: no zone lets anything in, and nothing is forwarded."""


def flush_iptables(machine: Machine) -> None:
    """Remove all rules and chains; Docker's policy of the chain FORWARD stays: drop."""
    for table in ("filter", "nat", "mangle", "raw"):
        machine.must("iptables", "-w", "-t", table, "-F")
        machine.must("iptables", "-w", "-t", table, "-X")
    machine.must("iptables", "-w", "-P", "FORWARD", "DROP")


def flush_nftables(machine: Machine) -> None:
    """Nothing is left of any rule, chain or table."""
    machine.must("nft", "flush", "ruleset")
    assert machine.must("nft", "list", "ruleset").strip() == ""


def reload(machine: Machine) -> None:
    """Only what hosts need of one another comes in, and nothing is forwarded."""
    machine.must("nft", "-f", "-", stdin=_RELOADED)


FIREWALLS: Final[Mapping[str, Callable[[Machine], None]]] = {
    "iptables-flushed": flush_iptables,
    "nftables-flushed": flush_nftables,
    "reloaded": reload,
}


@contextmanager
def kept(*machines: Machine) -> Iterator[None]:
    """What is done to the firewalls meanwhile is undone."""
    saved = {machine: machine.must("iptables-save") for machine in machines}
    try:
        yield
    finally:
        for machine, rules in saved.items():
            machine.must("nft", "flush", "ruleset")
            machine.must("iptables-restore", stdin=rules)
