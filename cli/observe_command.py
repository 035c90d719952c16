"""``hawse observe``: the flows that the agent of this host has seen, and as they come."""

from __future__ import annotations

import re
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from cli.app import socket_option
from cli.client import AgentClient, AgentForbidden, AgentUnreachable
from cli.flow_documents import Flows, FlowsEnd
from cli.flow_text import writer
from cli.table import printable

_PATH: Final = "/v1/flows"
_LAST: Final = 20
_WAIT_S: Final = 5.0
_RETRY_S: Final = 0.5
_UNITS_S: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}[dhms])+")

_LINES: Final = frozenset({"json", "jsonpb"})
"""Outputs that the agent writes itself: both are the same."""

Query = list[tuple[str, str]]
Read = Callable[[str], tuple[str, FlowsEnd]]
"""From what is asked for to what is printed, and where the answer ends."""


class Since(click.ParamType[str]):
    """A moment: so long ago, or at a time; becomes RFC 3339."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read ``5m``, ``1h30m`` or ``2026-01-31T12:00:00Z``; a time without a zone is this host's."""
        if _DURATION.fullmatch(value):
            parts = re.findall(r"([0-9]+)([dhms])", value)
            try:
                ago = timedelta(seconds=sum(int(number) * _UNITS_S[unit] for number, unit in parts))
                return (datetime.now(UTC) - ago).isoformat()
            except OverflowError:
                self.fail(f"{value!r} is longer ago than time goes back", param, ctx)
        try:
            return datetime.fromisoformat(value).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither like 5m or 1h30m nor a time like 2026-01-31T12:00:00Z", param, ctx)


def _filter(name: str, metavar: str, description: str) -> Callable[..., Any]:
    return click.option(f"--{name}", metavar=metavar, multiple=True, help=description)


def _either_end(name: str, metavar: str, description: str) -> Callable[..., Any]:
    """Add three options: for any end, the source, the destination."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        command = _filter(f"to-{name}", metavar, "The same, of the destination.")(command)
        command = _filter(f"from-{name}", metavar, "The same, of the source.")(command)
        return _filter(name, metavar, description)(command)  # type: ignore[no-any-return]  # click's decorators

    return add


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with flows as they come.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0, max=2**31),
    help=f"The newest N that match; without it and --since {_LAST}, with -f none.",
)
@click.option("--since", type=Since(), help="So long ago, 5m, 1h30m, or at a time, 2026-01-31T12:00:00Z.")
@click.option(
    "--verdict",
    type=click.Choice(["FORWARDED", "DROPPED", "AUDIT"], case_sensitive=False),
    multiple=True,
    help="What became of it; AUDIT: a policy would have dropped it.",
)
@_filter("drop-reason", "NAME", "POLICY_DENIED (no rule allows it), POLICY_DENY (a rule denies it) or another.")
@click.option(
    "--direction",
    type=click.Choice(["ingress", "egress"], case_sensitive=False),
    multiple=True,
    help="Whose policy decided: the destination's or the source's.",
)
@_either_end("label", "KEY[=VALUE]", "A label of either end; several: all of them.")
@_either_end("container", "NAME", "Name of a container at either end; * stands for other characters.")
@_either_end("service", "NAME", "Name of a service whose virtual address or container is at either end.")
@_either_end("identity", "ID", "An identity at either end: a number, host, world, init or remote-node.")
@_either_end("ip", "ADDRESS", "An address at either end, or a prefix.")
@_either_end("port", "PORT", "A port at either end, or a range, 8000-8080.")
@_filter("protocol", "NAME", "tcp, udp, icmp, icmpv6, sctp or a number.")
@click.option("--print-policy", is_flag=True, help="Name the rules that allowed a flow, too.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["compact", "json", "jsonpb", "table"]),
    default="compact",
    show_default=True,
    help="For people, or an object a line as Hubble writes it.",
)
@socket_option
@click.pass_obj
def observe(
    client: AgentClient,
    /,
    *,
    follow: bool,
    last: int | None,
    since: str | None,
    print_policy: bool,
    output: str,
    **filters: Sequence[str],
) -> None:
    """Show packets this host dropped and why, and connections it let through.

    A value given several times, or with commas, is one of these; labels have to be all there.
    """
    query: Query = [(name, value) for name, values in filters.items() for value in values]
    if since is not None:
        query.append(("since_time", since))
    if last is None and since is None:
        last = 0 if follow else _LAST
    for text, end in _pages(_reader(client, output, with_policy=print_policy), query, last, follow=follow):
        click.echo(text, nl=False)
        if end["lost"]:
            _tell(f"{end['lost']} flows are missing: the kernel could not report them, or newer ones took their place")


def _reader(client: AgentClient, output: str, *, with_policy: bool) -> Read:
    # Who follows a busy host gets thousands a second: what is only handed on is not looked into.
    if output in _LINES:
        return lambda url: client.get_lines(url, FlowsEnd)
    write = writer(output, with_policy=with_policy)

    def read(url: str) -> tuple[str, FlowsEnd]:
        page = client.get(url, Flows)
        return write(page["flows"]), page

    return read


def _pages(read: Read, query: Query, last: int | None, *, follow: bool) -> Iterator[tuple[str, FlowsEnd]]:
    begin: Query = [] if last is None else [("last", str(last))]
    text, end = read(_url(query, begin))
    yield text, end
    while follow or end["more"]:
        epoch = end["epoch"]
        position = [("since", str(end["next"])), ("epoch", epoch), ("wait_s", f"{_WAIT_S:g}")]
        text, end = _ask(read, _url(query, position), patient=follow)
        if end["epoch"] != epoch:
            _tell("the agent was started anew: what passed in between is not shown")
        yield text, end


def _ask(read: Read, url: str, *, patient: bool) -> tuple[str, FlowsEnd]:
    told = False
    while True:
        try:
            return read(url)
        except AgentForbidden:
            raise
        except AgentUnreachable as err:
            if not patient:
                raise
            if not told:
                _tell(f"{err}; waiting for it")
            told = True
            time.sleep(_RETRY_S)


def _url(query: Query, more: Query) -> str:
    return f"{_PATH}?{urllib.parse.urlencode([*query, *more])}"


def _tell(sentence: str) -> None:
    click.echo(f"warning: {printable(sentence)}", err=True)
