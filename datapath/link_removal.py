"""Removes the interfaces of endpoints without anybody waiting for it.

The kernel takes 20 ms to remove a pair, for it waits until no processor uses it any more, and who has asked waits with
it. By then the endpoint is over: its entries are gone from the maps, and nothing passes an interface without. So a
thread does it, with a netlink socket of its own. What was not removed when the agent ends is an interface without a
record, and collected as such.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from model.errors import HawseError, LinkError

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 5.0


class LinkRemoval:
    """Interfaces that are being removed, by name. Safe from any thread.

    Args:
        remove: removes one; raises LinkError.
    """

    def __init__(self, remove: Callable[[str], None]) -> None:
        self._remove = remove
        self._changed = threading.Condition()
        self._pending: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    def begin(self, ifname: str) -> None:
        """Remove an interface soon; returns at once."""
        with self._changed:
            self._pending[ifname] = None
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="link removal", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def pending(self) -> frozenset[str]:
        """What is as good as gone."""
        with self._changed:
            return frozenset(self._pending)

    def settle(self, ifname: str) -> None:
        """Wait until an interface of this name is not being removed.

        Raises:
            LinkError: it takes too long.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: ifname not in self._pending, _PATIENCE_S):
                raise LinkError(f"interface {ifname} is still being removed after {_PATIENCE_S:g} s")

    def close(self) -> None:
        """Remove what is to be removed, and end. Idempotent."""
        ends_s = time.monotonic() + _PATIENCE_S
        with self._changed:
            thread, self._thread = self._thread, None
            self._closing = True
            self._changed.notify_all()
        if thread is not None:
            thread.join(max(0.0, ends_s - time.monotonic()))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._pending)
                ifname = next(iter(self._pending), None)
            if ifname is None:
                return
            try:
                self._remove(ifname)
            except HawseError as err:
                log.warning("interface could not be removed", extra={"ifname": ifname, "reason": str(err)})
            except Exception:
                log.exception("removing an interface broke", extra={"ifname": ifname})
            with self._changed:
                self._pending.pop(ifname, None)
                self._changed.notify_all()
