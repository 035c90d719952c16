"""The texts of ``hawse bpf``: the kernel's maps."""

from __future__ import annotations

from typing import Final

from cli.map_documents import Connection, Connections, Ipcache, MapIdentity, MapRule, PolicyEntry, PolicyMap
from cli.table import Column, table
from cli.words import NOTHING, duration, few, left_out, socket

_LAST_PORT: Final = 65535
_UNTELLING: Final = ("com.docker.", "hawse.")


def policy_map(document: PolicyMap) -> str:
    """Render ``hawse bpf policy ls``."""
    if not document["entries"]:
        return "The policy map is empty: no policy closes an endpoint of this host.\n"
    columns = (
        Column("IDENTITY"),
        Column("DIRECTION"),
        Column("VERDICT"),
        Column("PEER"),
        Column("PORT"),
        Column("RULE"),
    )
    return table(
        columns,
        [
            (
                _identity(entry["local"]),
                entry["direction"],
                "deny" if entry["deny"] else "allow",
                "any" if entry["remote"] is None else _identity(entry["remote"]),
                _ports(entry),
                _rule(entry["rule"]),
            )
            for entry in document["entries"]
        ],
    )


def connections(document: Connections) -> str:
    """Render ``hawse bpf ct ls``."""
    if not document["connections"]:
        return "No connection is tracked.\n"
    columns = (
        Column("PROTOCOL"),
        Column("SOURCE"),
        Column("DESTINATION"),
        Column("VNI", right=True),
        Column("STATE"),
        Column("IDLE", right=True),
        Column("EPOCH", right=True),
        Column("RULE"),
    )
    return table(
        columns,
        [
            (
                connection["protocol"],
                _end(connection["source"], connection["source_port"], connection["source_identity"]),
                _end(connection["destination"], connection["destination_port"], connection["destination_identity"]),
                str(connection["vni"]),
                connection["state"],
                duration(connection["idle_s"]),
                str(connection["epoch"]),
                _rules(connection),
            )
            for connection in document["connections"]
        ],
    ) + left_out(document["left_out"])


def ipcache(document: Ipcache) -> str:
    """Render ``hawse bpf ipcache ls``."""
    if not document["entries"]:
        return "The ipcache is empty: no container of the cluster can be reached.\n"
    columns = (
        Column("VNI", right=True),
        Column("ADDRESS"),
        Column("NODE"),
        Column("IFINDEX", right=True),
        Column("IDENTITY"),
    )
    return table(
        columns,
        [
            (
                str(entry["vni"]),
                entry["address"],
                entry["tunnel_endpoint"] or "this one",
                str(entry["ifindex"] or NOTHING),
                _identity(entry["identity"]),
            )
            for entry in document["entries"]
        ],
    )


def _identity(identity: MapIdentity) -> str:
    names = [name for name in identity["text"].split(",") if name]
    # Docker's own labels are long, and say least where there are others.
    telling = [name for name in names if not name.startswith(_UNTELLING)] or names
    return f"{identity['number']} {few(telling)}" if names else str(identity["number"])


def _end(address: str, port: int, identity: MapIdentity) -> str:
    return f"{socket(address, port)} ({identity['number']})"


def _ports(entry: PolicyEntry) -> str:
    first, last = entry["first_port"], entry["last_port"]
    if entry["protocol"] is None:
        return "any"
    protocol = entry["protocol"].lower()
    if (first, last) == (0, _LAST_PORT):
        return protocol
    if protocol == "icmp":
        return f"icmp/{first}"
    return f"{first}/{protocol}" if first == last else f"{first}-{last}/{protocol}"


def _rules(connection: Connection) -> str:
    rules = {"egress": connection["egress_rule"], "ingress": connection["ingress_rule"]}
    return ", ".join(f"{name}: {_rule(rule)}" for name, rule in rules.items() if rule["number"]) or NOTHING


def _rule(rule: MapRule) -> str:
    if rule["policy"] is None:
        return f"{rule['number']}, not known here"
    return f"{rule['policy']} {rule['path'] or ''}".rstrip()
