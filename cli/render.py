"""From documents to text for people: pure functions; every text ends with a line feed.

Ids of Docker are shortened to 12 characters, as docker does; ``-o json`` has them whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cli.documents import (
    Addresses,
    Check,
    Counters,
    Endpoints,
    Feature,
    Networks,
    Node,
    Nodes,
    Status,
)
from cli.table import Column, printable, table

_SHORT_ID: Final = 12
_NOTHING: Final = "-"
_FEW: Final = 3
"""More holders than this make a table too wide; their number is shown instead."""


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
            f"{_count(counts['networks'], 'network')}, {_count(counts['endpoints'], 'endpoint')} "
            f"({counts['endpoints_here']} here), {_count(counts['addresses'], 'address', 'addresses')} in use"
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
        "compiled": "programs compiled by this agent",
        "adopted": "programs adopted, nothing compiled",
        "none": "no programs loaded",
    }.get(datapath["programs"], f"programs {datapath['programs']}")
    lines = [f"{datapath['device']}, UDP port {datapath['tunnel_port']}, MTU {datapath['mtu_bytes']}, {programs}"]
    parts.append(_section("datapath", lines + _features(datapath["features"])))
    nodes = document["nodes"]
    if nodes is None:
        parts.append(_section("nodes", ["not known: the store has not been reached since the agent started"]))
    else:
        running = sum(node["alive"] for node in nodes)
        rows = _node_table(nodes).splitlines() if nodes else []
        parts.append(_section("nodes", [f"{_count(len(nodes), 'node')}, {running} with a running agent", *rows]))
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
                network["gateway"] or _NOTHING,
                _yes(network["internal"]),
                str(network["mtu_bytes"] or "auto"),
                str(network["endpoints"]),
                _few([_short(docker["id"]) for docker in network["docker_networks"]]),
            )
            for network in document["networks"]
        ],
    )


def endpoints(document: Endpoints) -> str:
    """Render ``hawse endpoint ls``."""
    if not document["endpoints"]:
        return "There is no endpoint: no container is connected to a hawse network.\n"
    columns = (
        Column("ENDPOINT"),
        Column("NODE"),
        Column("NETWORK"),
        Column("ADDRESS"),
        Column("MAC"),
        Column("INTERFACE"),
    )
    return table(
        columns,
        [
            (
                _short(endpoint["id"]),
                endpoint["node"],
                endpoint["network"] or _NOTHING,
                _joined(endpoint["addresses"]),
                endpoint["mac"],
                endpoint["interface"] or ("missing" if endpoint["this_node"] else _NOTHING),
            )
            for endpoint in document["endpoints"]
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
                pool["gateway"] or _NOTHING,
                str(pool["in_use"]),
                str(pool["capacity"] or "huge"),
                _few(pool["holders"]),
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
                _NOTHING if address["endpoint"] is None else _short(address["endpoint"]),
                address["node"] or _NOTHING,
                _few(address["holders"]),
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
    return f"{_count(len(findings), 'finding')}:\n{found}"


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
                f"{counter['text']} ({counter['reason']})" if counter["reason"] else _NOTHING,
                counter["direction"],
                str(counter["packets"]),
                str(counter["bytes"]),
            )
            for counter in document["counters"]
        ],
    )


def duration(seconds: float) -> str:
    """Write a time in its two largest units: ``2d 4h``, ``3m 5s``, ``0s``."""
    left = int(seconds)
    words: list[str] = []
    for unit, size_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size_s)
        if number or (unit == "s" and not words):
            words.append(f"{number}{unit}")
    return " ".join(words[:2])


def byte_size(size_bytes: int) -> str:
    """Write a size in its largest binary unit: ``20.0 KiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - what the units mean
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _verdict(document: Status) -> str:
    problems = [f"NOT OK: {printable(problem)}\n" for problem in document["problems"]]
    hints = [hint for hint in (document["agent"]["scope_warning"], document["warning"]) if hint]
    if not problems:
        problems = ["OK, with a warning\n" if hints else "OK\n"]
    return "".join(problems + [f"warning: {printable(hint)}\n" for hint in hints])


def _section(title: str, lines: Iterable[str]) -> str:
    return f"\n{title}\n" + "".join(f"  {printable(line)}\n" for line in lines)


def _features(features: Sequence[Feature]) -> list[str]:
    available = _joined(feature["name"] for feature in features if feature["available"])
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
                node["registered_at"] or _NOTHING,
            )
            for node in found
        ],
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _short(ident: str) -> str:
    return ident[:_SHORT_ID]


def _few(words: Sequence[str]) -> str:
    shown = _joined(words[:_FEW])
    return shown if len(words) <= _FEW else f"{shown}, +{len(words) - _FEW}"


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words) or _NOTHING


def _yes(value: bool) -> str:  # noqa: FBT001 - it is what is rendered
    return "yes" if value else "no"
