"""Begin again once what was missing at the start is there."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0


def begin_again_when(ready: Callable[[], bool], *, look_every_s: float = _LOOK_EVERY_S) -> threading.Thread:
    """End this worker when ``ready`` says so; gunicorn's master starts a new one, on sockets that stay open."""

    def wait() -> None:
        pause = threading.Event()
        while not ready():
            pause.wait(look_every_s)
        log.info("what was missing is there, beginning again")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait, name="recovery", daemon=True)
    thread.start()
    return thread
