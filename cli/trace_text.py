"""The text of ``hawse policy trace``: step by step, and the verdict last."""

from __future__ import annotations

from cli.policy_documents import Rule, Trace, TraceEnd, TraceStep
from cli.table import printable
from cli.words import joined, labels


def trace(document: Trace) -> str:
    """Render the way to the verdict."""
    lines = [
        f"From: {_end(document['source'])}",
        f"To:   {_end(document['destination'])}",
        f"Port: {_port(document)}",
        "",
    ]
    if not document["steps"]:
        lines += ["Neither end is a container of the cluster: no policy is asked", ""]
    for step in document["steps"]:
        lines += [*_step(step), ""]
    lines.append(f"Final verdict: {_verdict(allowed=document['allowed'])}")
    return "".join(f"{printable(line)}\n" for line in lines)


def _end(end: TraceEnd) -> str:
    if end["address"] is not None:
        return f"{end['address']}, outside of the cluster"
    if end["identity"] is not None:
        return f"{end['text']}, identity {end['identity']} ({joined(labels(end['labels']))})"
    return joined(labels(end["labels"]))


def _port(document: Trace) -> str:
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
