"""``hawse policy``: who may talk to whom."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from cli import policy_text, trace_text
from cli.app import EXIT_FAILED, asks
from cli.client import AgentClient, AgentRefused
from cli.output import as_json, fail, warn, write, write_text
from cli.policy_documents import Applied, Policies, Policy, Rollout, Trace
from cli.policy_files import PolicyFile, check, faults_of, files_option, read_files, tell_faults
from cli.policy_rollout import wait_for_rollout

_WAIT_S: Final = 30


def _wait_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--wait",
        "wait_s",
        metavar="[=SECONDS]",
        type=click.FloatRange(min=0),
        is_flag=False,
        flag_value=_WAIT_S,
        help=f"Wait until every node enforces it, at most SECONDS ({_WAIT_S}).",
    )(command)


@click.group()
def policy() -> None:
    """Who may talk to whom: policies of the cluster."""


@policy.command()
@files_option(required=True)
@_wait_option
@asks()
def apply(client: AgentClient, output: str, paths: Sequence[str], wait_s: float | None) -> None:
    """Create or replace policies.

    A document is applied whole or not at all; of several, none is when one has a fault.
    """
    files = read_files(paths)
    if len(files) > 1:
        _require_valid(client, files)
    done = _nothing()
    for file in files:
        try:
            applied = client.post_text("/v1/policies", file.text, Applied)
        except AgentRefused as err:
            tell_faults(file, faults_of(err))
            raise click.exceptions.Exit(EXIT_FAILED) from err
        if output != "json":
            write_text(policy_text.applied(applied))
        done = _joined(done, applied)
    _finish(client, output, done, wait_s)


@policy.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@files_option(required=False)
@_wait_option
@asks()
def delete(
    client: AgentClient, output: str, names: tuple[str, ...], paths: Sequence[str], wait_s: float | None
) -> None:
    """Delete policies, by name or those of a document; all of them or none."""
    if not names and not paths:
        raise click.UsageError("name a policy, or a document with -f.")
    files = read_files(paths)
    named = [name for checked in _require_valid(client, files) for name in checked]
    wanted = list(dict.fromkeys([*names, *named]))
    deleted = client.post("/v1/policies/delete", {"names": wanted}, Applied)
    if output != "json":
        write_text(policy_text.applied(deleted))
    _finish(client, output, deleted, wait_s)


@policy.command("ls")
@asks()
def list_(client: AgentClient, output: str) -> None:
    """List the policies, and how many containers of this host each selects."""
    document = client.get("/v1/policies", Policies)
    warn(document["warning"])
    write(output, document, policy_text.policies)


@policy.command()
@click.argument("name")
@asks("yaml", "json")
def get(client: AgentClient, output: str, name: str) -> None:
    """Show a policy as it was applied."""
    document = client.get(f"/v1/policies/{urllib.parse.quote(name)}", Policy)
    warn(document["warning"])
    warn(document["policy"]["problem"])
    write_text(as_json(document["document"]) if output == "json" else policy_text.yaml(document["yaml"]))


@policy.command()
@files_option(required=True)
@asks()
def validate(client: AgentClient, output: str, paths: Sequence[str]) -> None:
    """Check documents, as apply would; nothing is written. Exit 1 when there is a fault."""
    checked = [check(client, file) for file in read_files(paths)]
    if output == "json":
        files = [
            {
                "file": one.file.name,
                "policies": list(one.policies),
                "faults": [{"path": path, "message": message} for path, message in one.faults],
            }
            for one in checked
        ]
        write_text(as_json({"files": files}))
    else:
        for one in checked:
            write_text(policy_text.valid(one.file.name, one.policies))
            tell_faults(one.file, one.faults)
    if any(one.faults for one in checked):
        raise click.exceptions.Exit(EXIT_FAILED)


@policy.command()
@click.argument("revision", required=False, type=click.IntRange(min=0, max=2**63 - 1))
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=_WAIT_S,
    show_default=True,
    help="Wait no longer.",
)
@asks()
def wait(client: AgentClient, output: str, revision: int | None, timeout_s: float) -> None:
    """Wait until every node enforces a revision, or the newest change; exit 1 when one does not."""
    rollout = wait_for_rollout(client, revision, timeout_s)
    write(output, rollout, policy_text.rollout)
    _judge(rollout)


@policy.command()
@click.option("--from", "source", metavar="WHO", required=True, help="app=web,tier=front; or as below.")
@click.option("--to", "destination", metavar="WHO", required=True, help="The same.")
@click.option("--dport", metavar="PORT", default="", help="5432/tcp, 53, http, tcp, icmp/8; default: is any port open?")
@asks()
def trace(client: AgentClient, output: str, source: str, destination: str, dport: str) -> None:
    """Tell whether a connection is allowed, and the rules that decide; exit 1 when it is denied.

    WHO may be labels, a number, an address, service:NAME, or host, world, remote-node, init. To a service every
    container that answers for it must be allowed. The answer comes from what fills the kernel's maps.
    """
    question = {"from": source, "to": destination, "dport": dport}
    document = client.post("/v1/policies/trace", question, Trace)
    write(output, document, trace_text.trace)
    if not document["allowed"]:
        raise click.exceptions.Exit(EXIT_FAILED)


def _require_valid(client: AgentClient, files: Sequence[PolicyFile]) -> list[tuple[str, ...]]:
    """Let the agent check all documents; one fault, or a policy that is in two of them, ends the command."""
    faulty = False
    seen: dict[str, str] = {}
    found = []
    for file in files:
        checked = check(client, file)
        twice = [("", f"the policy {name} is also in {seen[name]}") for name in checked.policies if name in seen]
        tell_faults(file, [*checked.faults, *twice])
        faulty = faulty or bool(checked.faults or twice)
        seen |= dict.fromkeys(checked.policies, file.name)
        found.append(checked.policies)
    if faulty:
        raise click.exceptions.Exit(fail("Nothing was changed.", EXIT_FAILED))
    return found


def _nothing() -> Applied:
    return {"revision": 0, "created": [], "changed": [], "unchanged": [], "deleted": []}


def _joined(before: Applied, after: Applied) -> Applied:
    return {
        "revision": max(before["revision"], after["revision"]),
        "created": before["created"] + after["created"],
        "changed": before["changed"] + after["changed"],
        "unchanged": before["unchanged"] + after["unchanged"],
        "deleted": before["deleted"] + after["deleted"],
    }


def _finish(client: AgentClient, output: str, done: Applied, wait_s: float | None) -> None:
    """Wait for the nodes when that was asked for; programs get everything in one document."""
    if wait_s is None:
        if output == "json":
            write_text(as_json(done))
        return
    rollout = wait_for_rollout(client, done["revision"], wait_s)
    write_text(as_json({**done, "rollout": rollout}) if output == "json" else policy_text.rollout(rollout))
    _judge(rollout)


def _judge(rollout: Rollout) -> None:
    for sentence in policy_text.absent_nodes(rollout):
        warn(sentence)
    if not rollout["complete"]:
        raise click.exceptions.Exit(EXIT_FAILED)
