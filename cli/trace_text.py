"""The text of ``hawse policy trace``: step by step, and the verdict last."""

from __future__ import annotations

from cli.policy_documents import Rule, Trace, TraceEnd, TracePair, TraceStep
from cli.table import printable
from cli.words import joined, labels


def trace(document: Trace) -> str:
    """Render the way to the verdict; of a service, one for each that it may lead to."""
    pairs = document["pairs"]
    if len(pairs) == 1:
        (pair,) = pairs
        lines = [*_head(pair["source"], pair["destination"], _port_behind(document, pair)), "", *_steps(pair)]
        verdict = _verdict(allowed=document["allowed"])
    else:
        lines = [*_head(document["source"], document["destination"], _port(document)), ""]
        for number, pair in enumerate(pairs, 1):
            case = f"Case {number} of {len(pairs)}"
            ends = f"from {_short_end(pair['source'])} to {_short_end(pair['destination'])}, port {_port(pair)}"
            lines += [f"{case}: {ends}", "", *_steps(pair)]
            lines += [f"{case}: {_verdict(allowed=pair['allowed'])}", ""]
        allowed = sum(pair["allowed"] for pair in pairs)
        verdict = f"{_verdict(allowed=document['allowed'])}, {allowed} of {len(pairs)} cases are allowed"
    lines.append(f"Final verdict: {verdict}")
    return "".join(f"{printable(line)}\n" for line in lines)


def _head(source: TraceEnd, destination: TraceEnd, port: str) -> list[str]:
    return [f"From: {_end(source)}", f"To:   {_end(destination)}", f"Port: {port}"]


def _steps(pair: TracePair) -> list[str]:
    if not pair["steps"]:
        return ["Neither end is a container of the cluster: no policy is asked", ""]
    return [line for step in pair["steps"] for line in [*_step(step), ""]]


def _end(end: TraceEnd) -> str:
    if end["address"] is not None:
        return f"{end['address']}, outside of the cluster"
    if end["identity"] is not None:
        service = f", service {end['service']}" if end["service"] else ""
        return f"{end['text']}{service}, identity {end['identity']} ({joined(labels(end['labels']))})"
    if end["service"] is not None:
        return f"{end['text']}, the containers behind the service {end['service']}"
    return joined(labels(end["labels"]))


def _short_end(end: TraceEnd) -> str:
    """Write an end whose words as they were asked stand above."""
    if end["identity"] is None:
        return _end(end)
    return f"identity {end['identity']} ({joined(labels(end['labels']))})"


def _port_behind(document: Trace, pair: TracePair) -> str:
    port = _port(pair)
    asked = _port(document)
    return port if port == asked or document["port"] is None else f"{port}, of the service {asked}"


def _port(document: Trace | TracePair) -> str:
    protocol = (document["protocol"] or "any protocol").replace("ICMP", "ICMP type")
    if document["port_name"] is not None:
        return f"{document['port_name']} ({protocol})"
    if document["port"] is None:
        return "any" if document["protocol"] is None else f"any {protocol}"
    if document["protocol"] == "ICMP":
        return f"ICMP type {document['port']}"
    return f"{document['port']}/{document['protocol']}" if document["protocol"] else f"{document['port']} ({protocol})"


def _step(step: TraceStep) -> list[str]:
    name = step["direction"]
    lines = [f"Resolving {name} policy for {step['endpoint']}"]
    if step["enforced"]:
        lines.append(f"  closed by {joined(step['selecting'])}")
    else:
        lines.append(f"  {name} is open")
    lines += [f"  {_rule(rule)}" for rule in step["matched"]]
    lines += [f"  {step['reason']}", f"{name.capitalize()} verdict: {_verdict(allowed=step['allowed'])}"]
    return lines


def _rule(rule: Rule) -> str:
    where = f"{rule['policy']} {rule['path']}".rstrip()
    since = f" (revision {rule['revision']})" if rule["revision"] else ""
    return f"{where}: {'denies' if rule['deny'] else 'allows'}{since}"


def _verdict(*, allowed: bool) -> str:
    return "ALLOWED" if allowed else "DENIED"
