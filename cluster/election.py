"""Leadership: one agent collects what concerns the whole cluster.

The leader's key hangs on the lease that keeps its node alive. Being the leader is never enough to write something:
every write is a transaction on what was read, so a leader that was slow and is one no more does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kvstore import keys
from kvstore.store import LeaseId, Put, Store, absent
from model.ids import NodeName

log = logging.getLogger(__name__)


class Election:
    """One candidate.

    Args:
        store: the cluster's state.
        node: this node.
        lease: this agent's lease, None while it is in doubt.
    """

    def __init__(self, store: Store, node: NodeName, lease: Callable[[], LeaseId | None]) -> None:
        self._store = store
        self._node = node
        self._lease = lease
        self._won: LeaseId | None = None

    @property
    def leading(self) -> bool:
        """Whether this node was the leader when it last looked and its lease still lasts."""
        return self._won is not None and self._won == self._lease()

    def try_to_lead(self) -> bool:
        """Look who leads, and lead if nobody does. One or two round trips."""
        lease = self._lease()
        self._won = None
        if lease is None:
            return False
        item = self._store.get(keys.LEADER)
        if item is None:
            if self._store.txn([absent(keys.LEADER)], [Put(keys.LEADER, self._node.encode(), lease)]).succeeded:
                log.info("this node leads the cluster", extra={"node": self._node})
                self._won = lease
        elif item.lease == lease:
            self._won = lease
        return self.leading
