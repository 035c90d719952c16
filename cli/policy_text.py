"""The texts of ``hawse policy`` and of policy in ``hawse status``."""

from __future__ import annotations

from collections.abc import Sequence

from cli.policy_documents import Applied, NodeRollout, Policies, PolicyStatus, Rollout
from cli.table import Column, printable, table
from cli.words import NOTHING, count, joined


def applied(document: Applied) -> str:
    """Render what ``apply`` and ``delete`` did, a line for each policy."""
    return "".join(
        f"policy {printable(name)} {done} (revision {document['revision']})\n"
        for done, names in (
            ("created", document["created"]),
            ("changed", document["changed"]),
            ("unchanged", document["unchanged"]),
            ("deleted", document["deleted"]),
        )
        for name in names
    )


def valid(file: str, names: Sequence[str]) -> str:
    """Render what ``validate`` says of a document without faults."""
    return "".join(f"{printable(file)}: policy {printable(name)} is valid\n" for name in names)


def policies(document: Policies) -> str:
    """Render ``hawse policy ls``."""
    if not document["policies"]:
        return "There is no policy: hawse policy apply -f FILE\n"
    columns = (
        Column("POLICY"),
        Column("KIND"),
        Column("REVISION", right=True),
        Column("SELECTS HERE", right=True),
        Column("APPLIED ON"),
        Column("APPLIED AT"),
    )
    listed = table(
        columns,
        [
            (
                policy["name"],
                policy["kind"],
                str(policy["revision"]),
                str(policy["selects_here"]),
                policy["applied_on"] or NOTHING,
                policy["applied_at"] or NOTHING,
            )
            for policy in document["policies"]
        ],
    )
    problems = [policy for policy in document["policies"] if policy["problem"]]
    return listed + "".join(
        f"NOT OK: {printable(policy['name'])}: {printable(policy['problem'] or '')}\n" for policy in problems
    )


def yaml(text: str) -> str:
    """Render a document that somebody else may have written."""
    return "".join(f"{printable(line)}\n" for line in text.splitlines())


def rollout(document: Rollout) -> str:
    """Render how far the nodes are: one line when all are there, else a line for each that is not."""
    lacking = [node for node in document["nodes"] if node["alive"] and not node["enforces"]]
    there = [node["node"] for node in document["nodes"] if node["alive"] and node["enforces"]]
    lines = [f"revision {document['revision']} is enforced on {joined(there)}"]
    if lacking:
        head = f"revision {document['revision']} is not enforced on {count(len(lacking), 'node')}"
        lines = [f"{head} of {len(lacking) + len(there)}:", *(f"  {_lacks(node)}" for node in lacking)]
    return "".join(f"{printable(line)}\n" for line in lines)


def absent_nodes(document: Rollout) -> list[str]:
    """Say of nodes that nobody waits for what they do."""
    return [
        f"{node['node']}: its agent does not run; {_enforces(node)}" for node in document["nodes"] if not node["alive"]
    ]


def policy_status(document: PolicyStatus | None) -> Sequence[str]:
    """Write the lines of policy in ``hawse status``."""
    if document is None:
        return ["not known: the store has not been reached since the agent started"]
    mode = "nothing enforced yet" if document["mode"] is None else f"mode {document['mode']}"
    audit = ", AUDIT: denials are only reported" if document["audit"] else ""
    lines = [f"{mode}{audit}, {count(document['policies'], 'policy', 'policies')}"]
    if document["nodes_behind"]:
        here = document["enforced_revision"]
        enforced = "none" if here is None else str(here)
        lines.append(f"revision {document['revision']}, this node enforces {enforced}")
        lines.append(f"not enforced yet on {joined(document['nodes_behind'])}")
    else:
        lines.append(f"revision {document['revision']}, enforced by every node whose agent runs")
    if document["without_labels"]:
        lines.append(f"{count(document['without_labels'], 'endpoint')} here without labels yet (identity init)")
    if document["map_full"]:
        lines.append(f"the kernel's map was too small {count(document['map_full'], 'time')} since the agent started")
    return lines


def _lacks(node: NodeRollout) -> str:
    problem = f": {node['problem']}" if node["problem"] else ""
    return f"{node['node']}: {_enforces(node)}{problem}"


def _enforces(node: NodeRollout) -> str:
    if node["revision"] is None:
        return "it has never said what it enforces"
    return f"it enforces revision {node['revision']}"
