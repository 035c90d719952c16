"""The texts of ``hawse service``."""

from __future__ import annotations

from cli.service_documents import Service, ServiceBackend, ServiceNetwork, ServicePort, Services, ServiceStatus
from cli.table import Column, printable, table
from cli.words import NOTHING, count, few, joined, share, socket

_SOURCES = {"swarm": "service of the Swarm", "label": "label hawse.service of containers"}


def services(document: Services) -> str:
    """Render ``hawse service ls``."""
    if not document["services"]:
        return (
            "There is no service: no Swarm service with a virtual address, no container with the label hawse.service.\n"
        )
    columns = (
        Column("NAME"),
        Column("SOURCE"),
        Column("VIP"),
        Column("PORTS"),
        Column("BACKENDS", right=True),
    )
    listed = table(
        columns,
        [
            (
                service["name"],
                service["source"],
                few([network["vip"] for network in service["networks"]]),
                few([_port(port) for port in service["ports"]]) if service["ports"] else "every",
                f"{service['active']}/{service['containers']}",
            )
            for service in document["services"]
        ],
    )
    return listed + "".join(
        f"NOT OK: {printable(service['name'])}: {problem}\n"
        for service in document["services"]
        for problem in dict.fromkeys(_problems(service))
    )


def service(document: Service) -> str:
    """Render ``hawse service get``."""
    facts = (
        ("service", document["name"]),
        ("id", document["id"]),
        ("source", _SOURCES.get(document["source"], document["source"])),
        ("ports", joined(map(_port, document["ports"])) if document["ports"] else "every port, as it is"),
        ("affinity", "a client keeps its backend" if document["affinity"] else "none: a backend for each connection"),
        ("backends", f"{document['active']} active of {document['containers']}"),
    )
    width = max(len(name) for name, _ in facts) + 2
    head = "".join(f"{name.ljust(width)}{printable(fact)}\n" for name, fact in facts)
    return head + "".join(_network(network) for network in document["networks"])


def service_status(document: ServiceStatus) -> list[str]:
    """Write the lines of services in ``hawse status``."""
    counted = f"{count(document['services'], 'service')} with {count(document['backends'], 'backend')} in the kernel"
    if document["published_here"] is not None:
        counted += f", {count(document['published_here'], 'port')} of this host published"
    return [_translation(document), counted]


def _translation(document: ServiceStatus) -> str:
    if document["translation"] is None:
        return "not translated yet: the datapath has not been started"
    if document["translation"] == "socket":
        return "translated at sockets"
    reason = document["translation_reason"]
    return f"translated in packets, because {reason}" if reason else "translated in packets"


def _network(network: ServiceNetwork) -> str:
    head = f"\n{network['vip']} in {network['network']}\n"
    if network["problem"]:
        head += f"  NOT OK: {printable(network['problem'])}\n"
    if not network["backends"]:
        return f"{head}  no backend: connections are refused\n"
    columns = (
        Column("BACKEND"),
        Column("NODE"),
        Column("ADDRESS"),
        Column("STATE"),
        Column("TRAFFIC", right=True),
    )
    rows = table(columns, [_backend(backend) for backend in network["backends"]])
    return head + "".join(f"  {row}\n" for row in rows.splitlines())


def _backend(backend: ServiceBackend) -> tuple[str, ...]:
    address = backend["address"] if backend["port"] is None else socket(backend["address"], backend["port"])
    traffic = share(backend["share"]) if backend["state"] == "active" else NOTHING
    return (backend["name"] or NOTHING, backend["node"] or NOTHING, address, backend["state"], traffic)


def _problems(service: Service) -> list[str]:
    return [printable(network["problem"]) for network in service["networks"] if network["problem"]]


def _port(port: ServicePort) -> str:
    published = f"{port['port']}/{port['protocol']}"
    return published if port["port"] == port["target_port"] else f"{published} → {port['target_port']}"
