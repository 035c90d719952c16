"""The root of the ``hawse`` command, and what all its commands have in common.

Exit codes that scripts can use: 0 all is well; 1 the agent failed, is not well, refused, or a check found something;
2 wrong usage; 3 the agent does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from cli.client import AgentClient

DEFAULT_SOCKET: Final = "/run/hawse/agent.sock"

EXIT_FAILED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells do."""


def _use_socket(context: click.Context, _option: click.Parameter, path: str | None) -> None:
    if path is not None:
        context.obj = AgentClient(path)


socket_option = click.option("--socket", callback=_use_socket, expose_value=False, hidden=True)
"""For those who write it last."""


def asks(*formats: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add what a command that asks the agent has: the client as first argument, ``-o`` and ``--socket``.

    Without formats they are table and json; the first one is the default.
    """
    choices = formats or ("table", "json")

    def add(command: Callable[..., None]) -> Callable[..., None]:
        output: Callable[..., Any] = click.option(
            "-o",
            "--output",
            type=click.Choice(choices),
            default=choices[0],
            show_default=True,
            help="For people, or for programs.",
        )
        added: Callable[..., None] = socket_option(output(click.pass_obj(command)))
        return added

    return add


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well, 1 a failure, refusal or finding, 2 wrong usage, 3 the agent does not answer.",
)
@click.option(
    "--socket",
    metavar="PATH",
    envvar="HAWSE_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    show_envvar=True,
    callback=_use_socket,
    expose_value=False,
    help="The agent's socket.",
)
@click.version_option(package_name="hawse", prog_name="hawse", message="%(prog)s %(version)s")
def hawse() -> None:
    """Show what this host's hawse agent knows: networks, containers, services, policies, packets; apply policies."""
