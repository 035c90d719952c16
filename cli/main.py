"""The entry point of ``hawse``: its commands, and an exit code for everything that can go wrong outside of it."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import click

from cli.app import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREACHABLE, hawse
from cli.bpf_commands import bpf
from cli.client import AgentFailed, AgentUnreachable
from cli.cluster_commands import endpoint, network, node
from cli.identity_commands import identity
from cli.ipam_commands import ipam
from cli.observe_command import observe
from cli.output import discard_output, fail
from cli.policy_commands import policy
from cli.service_commands import service
from cli.status_commands import counters, status

for command in (status, node, network, endpoint, service, ipam, identity, policy, observe, counters, bpf):
    hawse.add_command(command)


def main() -> NoReturn:
    """Run the command; never shows a traceback for what can go wrong outside of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets a question mark, not an exception.
            stream.reconfigure(errors="replace")
    sys.exit(_run())


def _run() -> int:
    code: object = 0
    try:
        code = hawse.main(prog_name="hawse", standalone_mode=False)
    except click.ClickException as err:
        err.show()
        code = err.exit_code
    except AgentUnreachable as err:
        code = fail(str(err), EXIT_UNREACHABLE)
    except AgentFailed as err:
        code = fail(str(err), EXIT_FAILED)
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        discard_output()
    except OSError as err:
        discard_output()
        code = fail(f"The output cannot be written: {err.strerror}", EXIT_FAILED)
    return code if isinstance(code, int) else 0
