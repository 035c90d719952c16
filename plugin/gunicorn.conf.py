# ruff: noqa: N999 # the name that gunicorn looks for
"""How gunicorn serves the agent; ``plugin/config.json`` starts it with this file.

1. The master binds both sockets before anything of the agent is imported: dockerd dials the plugin's socket soon after
   the start, and gives a plugin up that does not answer. So this file imports next to nothing.
2. One worker process imports :mod:`plugin.app` and holds all state and BPF descriptors; threads serve the calls. When
   it dies, the master starts another, on sockets that never closed: calls made meanwhile wait in their queue.
3. The engine's connections stay open as long as it likes: a connection closed under a request costs dockerd a second.
4. SIGTERM: the worker ends its calls, then the agent, before the engine's SIGKILL after 10 s.

Source: https://docs.gunicorn.org/en/stable/settings.html
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import TYPE_CHECKING, Final

from model.errors import InvalidInput
from plugin import logs
from plugin.settings import PLUGIN_SOCKET, Settings

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker


def _settings() -> Settings:
    try:
        return Settings.from_env(os.environ)
    except InvalidInput:
        # The application reads them again and says what is wrong.
        return Settings.from_env({})


_SETTINGS: Final = _settings()

# The C library gives threads heaps of their own, up to eight for each CPU, and returns little of them.
_M_ARENA_MAX: Final = -8
ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)

wsgi_app = "plugin.app:application()"
bind = [f"unix:{PLUGIN_SOCKET}", f"unix:{_SETTINGS.agent_socket}"]
umask = 0o177
worker_class = "plugin.gunicorn_worker.LingeringWorker"
workers = 1
threads = 32
# Threads block in etcd and in the kernel, each call with its own deadline; a busy worker is no dead worker.
timeout = 0
graceful_timeout = 8
keepalive = 3600
# A worker's heartbeat file on a disk that stalls would stall the worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108 # the directory of a private mount namespace
control_socket_disable = True
proc_name = "hawse"
logger_class = "plugin.gunicorn_logger.QuietLogger"
logconfig_dict = logs.configuration(_SETTINGS.log_level)


def on_starting(_arbiter: Arbiter) -> None:
    """Make the directories of the sockets; sockets left behind by a killed agent are replaced by gunicorn itself."""
    for socket in (PLUGIN_SOCKET, _SETTINGS.agent_socket):
        socket.parent.mkdir(parents=True, exist_ok=True)


def post_fork(_arbiter: Arbiter, _worker: Worker) -> None:
    """Look for no garbage while the application is imported: what is made then stays, and there is a lot of it."""
    gc.disable()


def post_worker_init(_worker: Worker) -> None:
    """Look for garbage from now on, but never in what was imported: that took longer than a call."""
    gc.freeze()
    gc.enable()


def worker_exit(_arbiter: Arbiter, worker: Worker) -> None:
    """Stop the agent once the last call has been answered."""
    agent = getattr(getattr(worker, "wsgi", None), "agent", None)
    if agent is not None:
        agent.stop()
