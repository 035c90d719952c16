"""From documents to text for people: pure functions; every text ends with a line feed.

Ids of Docker are shortened to 12 characters, as docker does; ``-o json`` has them whole. Texts about endpoints,
policies, identities and maps have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cli.documents import (
    Addresses,
    Check,
    Counters,
    Feature,
    Networks,
    Node,
    Nodes,
    Status,
)
from cli.policy_text import policy_status
from cli.service_text import service_status
from cli.table import Column, printable, table
from cli.words import NOTHING, byte_size, count, duration, few, joined, short, yes


def status(document: Status) -> str:
    """Render ``hawse status``: the first line says whether all is well, sections follow."""
    agent = document["agent"]
    store = document["store"]
    datapath = document["datapath"]
    counts = document["counts"]
    parts = [_verdict(document)]
    address = agent["address"] or "address not known yet"
    up = duration(agent["uptime_s"])
    lines = [f"{agent['version']} on {agent['node']} ({address}), up {up}, {agent['scope']} scope"]
    if counts is not None:
        lines.append(
            f"{count(counts['networks'], 'network')}, {count(counts['endpoints'], 'endpoint')} "
            f"({counts['endpoints_here']} here), {count(counts['addresses'], 'address', 'addresses')} in use"
        )
    parts.append(_section("agent", lines))
    size = store["db_size_bytes"]
    facts = [
        store["detail"] if store["healthy"] else f"NOT OK: {store['detail']}",
        None if store["revision"] is None else f"revision {store['revision']}",
        None if size is None else f"{byte_size(size)} on disk",
    ]
    parts.append(_section("store", [", ".join(fact for fact in facts if fact)]))
    programs = {
        "loaded": "programs loaded by this agent",
        "adopted": "programs adopted, nothing loaded",
        "none": "no programs loaded",
    }.get(datapath["programs"], f"programs {datapath['programs']}")
    lines = [f"{datapath['device']}, UDP port {datapath['tunnel_port']}, MTU {datapath['mtu_bytes']}, {programs}"]
    parts.append(_section("datapath", lines + _features(datapath["features"])))
    parts.append(_section("policy", policy_status(document["policy"])))
    parts.append(_section("services", service_status(document["services"])))
    nodes = document["nodes"]
    if nodes is None:
        parts.append(_section("nodes", ["not known: the store has not been reached since the agent started"]))
    else:
        running = sum(node["alive"] for node in nodes)
        rows = _node_table(nodes).splitlines() if nodes else []
        parts.append(_section("nodes", [f"{count(len(nodes), 'node')}, {running} with a running agent", *rows]))
    return "".join(parts)


def nodes(document: Nodes) -> str:
    """Render ``hawse node ls``."""
    if not document["nodes"]:
        return "No node has registered yet.\n"
    return _node_table(document["nodes"])


def networks(document: Networks) -> str:
    """Render ``hawse network ls``."""
    if not document["networks"]:
        return (
            "There is no network yet: docker network create -d hawse:latest --ipam-driver hawse:latest "
            "--subnet 10.1.0.0/24 NAME\n"
        )
    columns = (
        Column("NETWORK"),
        Column("VNI", right=True),
        Column("GATEWAY"),
        Column("INTERNAL"),
        Column("MTU", right=True),
        Column("ENDPOINTS", right=True),
        Column("DOCKER NETWORK"),
    )
    return table(
        columns,
        [
            (
                network["pool"],
                str(network["vni"]),
                network["gateway"] or NOTHING,
                yes(network["internal"]),
                str(network["mtu_bytes"] or "auto"),
                str(network["endpoints"]),
                few([short(docker["id"]) for docker in network["docker_networks"]]),
            )
            for network in document["networks"]
        ],
    )


def addresses(document: Addresses) -> str:
    """Render ``hawse ipam ls``: the pools, and below them the addresses."""
    if not document["pools"] and not document["addresses"]:
        return "There is no address pool yet.\n"
    pools = table(
        (
            Column("POOL"),
            Column("GATEWAY"),
            Column("IN USE", right=True),
            Column("CAPACITY", right=True),
            Column("HOLDERS"),
        ),
        [
            (
                pool["pool"],
                pool["gateway"] or NOTHING,
                str(pool["in_use"]),
                str(pool["capacity"] or "huge"),
                few(pool["holders"]),
            )
            for pool in document["pools"]
        ],
    )
    if not document["addresses"]:
        return f"{pools}\nNo address is in use.\n"
    held = table(
        (
            Column("ADDRESS"),
            Column("POOL"),
            Column("KIND"),
            Column("ENDPOINT"),
            Column("NODE"),
            Column("HOLDERS"),
        ),
        [
            (
                address["address"],
                address["pool"],
                address["kind"],
                NOTHING if address["endpoint"] is None else short(address["endpoint"]),
                address["node"] or NOTHING,
                few(address["holders"]),
            )
            for address in document["addresses"]
        ],
    )
    return f"{pools}\n{held}"


def check(document: Check) -> str:
    """Render ``hawse ipam check``."""
    findings = document["findings"]
    if not findings:
        return "Clean: addresses, endpoints and Docker's networks agree.\n"
    rows = [(finding["kind"], finding["subject"], finding["detail"]) for finding in findings]
    found = table((Column("FINDING"), Column("ABOUT"), Column("WHAT IT IS")), rows)
    return f"{count(len(findings), 'finding')}:\n{found}"


def counters(document: Counters) -> str:
    """Render ``hawse counters``."""
    if not document["counters"]:
        return "No packet has been counted yet.\n"
    return table(
        (
            Column("OUTCOME"),
            Column("REASON"),
            Column("DIRECTION"),
            Column("PACKETS", right=True),
            Column("BYTES", right=True),
        ),
        [
            (
                "dropped" if counter["reason"] else "forwarded",
                f"{counter['text']} ({counter['reason']})" if counter["reason"] else NOTHING,
                counter["direction"],
                str(counter["packets"]),
                str(counter["bytes"]),
            )
            for counter in document["counters"]
        ],
    )


def _verdict(document: Status) -> str:
    problems = [f"NOT OK: {printable(problem)}\n" for problem in document["problems"]]
    hints = [hint for hint in (document["agent"]["scope_warning"], document["warning"], *document["warnings"]) if hint]
    if not problems:
        problems = ["OK, with a warning\n" if hints else "OK\n"]
    return "".join(problems + [f"warning: {printable(hint)}\n" for hint in hints])


def _section(title: str, lines: Iterable[str]) -> str:
    return f"\n{title}\n" + "".join(f"  {printable(line)}\n" for line in lines)


def _features(features: Sequence[Feature]) -> list[str]:
    available = joined(feature["name"] for feature in features if feature["available"])
    missing = [_missing(feature) for feature in features if not feature["available"]]
    return [f"available: {available}", *missing]


def _missing(feature: Feature) -> str:
    return f"{'NEEDED' if feature['required'] else 'not available'}: {feature['name']}: {feature['detail']}"


def _node_table(found: Sequence[Node]) -> str:
    columns = (
        Column("NODE"),
        Column("ADDRESS"),
        Column("AGENT"),
        Column("VERSION"),
        Column("PORT", right=True),
        Column("MTU", right=True),
        Column("SINCE"),
    )
    return table(
        columns,
        [
            (
                node["name"] + (" *" if node["this_node"] else ""),
                node["address"],
                "running" if node["alive"] else "down",
                node["version"],
                str(node["tunnel_port"]),
                str(node["mtu_bytes"]),
                node["registered_at"] or NOTHING,
            )
            for node in found
        ],
    )
