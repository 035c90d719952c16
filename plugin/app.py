"""The WSGI application that gunicorn's worker runs: two applications, told apart by the socket a request came in on.

Docker's calls are answered on the plugin socket only and the operator's on the agent socket only, so that neither can
reach what is meant for the other.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from datapath.underlay import UnderlayNotFound
from model.errors import InvalidInput
from plugin.agent import Agent
from plugin.recovery import begin_again_when
from plugin.refusal import refusing_applications
from plugin.settings import PLUGIN_SOCKET, Settings
from plugin.wiring import build, has_underlay

log = logging.getLogger(__name__)

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
WsgiApplication: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

_SWITCH_INTERVAL_S: Final = 0.0005
_GUNICORN_SOCKET: Final = "gunicorn.socket"
"""gunicorn puts the accepted connection here; its own name is the path that was listened on."""


class BySocket:
    """Hand each request to the application that belongs to the socket it came in on.

    Args:
        applications: by the path that the socket is bound to.
        agent: what runs beside the applications; gunicorn's ``worker_exit`` stops it.
    """

    def __init__(self, applications: Mapping[str, WsgiApplication], agent: Agent | None = None) -> None:
        self._applications = applications
        self.agent = agent

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        connection: socket.socket = environ[_GUNICORN_SOCKET]
        return self._applications[connection.getsockname()](environ, start_response)


def application() -> BySocket:
    """Build everything and start the agent; called once, in gunicorn's worker.

    Nothing here waits for etcd or for the kernel: those are connected in the background, while the first calls of
    dockerd, which are answered from constants, are served. A setting that breaks its rule does not keep the plugin from
    starting: every call is then refused with the reason, so that the user sees it, and not only the engine's log. The
    same goes for a host without an underlay, until it gets one.
    """
    try:
        settings = Settings.from_env(os.environ)
    except InvalidInput as err:
        # gunicorn.conf.py has bound the sockets of the defaults then.
        return _misconfigured(err, Settings.from_env({}).agent_socket)
    try:
        wired = build(settings)
    except UnderlayNotFound as err:
        log.warning("host has no underlay", extra={"reason": str(err)})
        begin_again_when(lambda: has_underlay(settings))
        return _refusing(str(err), settings.agent_socket)
    except InvalidInput as err:
        return _misconfigured(err, settings.agent_socket)
    # A thread that comes back from the kernel or from etcd waits this long for one that computes, at every step of a
    # call. The default of 5 ms is as long as a whole call.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    wired.agent.start()
    return BySocket({str(PLUGIN_SOCKET): wired.driver, str(settings.agent_socket): wired.operator}, wired.agent)


def _misconfigured(err: InvalidInput, agent_socket: Path) -> BySocket:
    log.error("settings are wrong", extra={"reason": str(err)})
    return _refusing(f"hawse is not configured right: {err} (docker plugin set)", agent_socket)


def _refusing(reason: str, agent_socket: Path) -> BySocket:
    driver, operator = refusing_applications(reason)
    return BySocket({str(PLUGIN_SOCKET): driver, str(agent_socket): operator})
