"""Leadership: one agent does what concerns the whole cluster.

There are two offices, a key each: the one that collects garbage (:data:`kvstore.keys.LEADER`, for every agent), and the
one that writes down what the Swarm says (:data:`kvstore.keys.SWARM_LEADER`, for agents of managers).

The leader's key hangs on the lease that keeps its node alive. Being the leader is never enough to write something:
every write is a transaction on what was read, so a leader that was slow and is one no more does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kvstore import keys
from kvstore.store import Compare, Delete, KeyValue, LeaseId, Put, Store, absent, unchanged
from model.ids import NodeName

log = logging.getLogger(__name__)


class Election:
    """One candidate. For one thread, but for :attr:`leading`.

    A key that this node left behind under an older lease (its agent was killed and runs again) is its own: it leads
    again at once.

    Args:
        store: the cluster's state.
        node: this node.
        lease: this agent's lease, None while it is in doubt.
        key: the office.
    """

    def __init__(
        self, store: Store, node: NodeName, lease: Callable[[], LeaseId | None], *, key: str = keys.LEADER
    ) -> None:
        self._store = store
        self._node = node
        self._lease = lease
        self._key = key
        self._won: LeaseId | None = None
        self._claim: Compare | None = None

    @property
    def leading(self) -> bool:
        """Whether this node was the leader when it last looked and its lease still lasts."""
        return self._won is not None and self._won == self._lease()

    @property
    def claim(self) -> Compare:
        """Holds as long as nobody has led since this node last found that it does; for transactions."""
        return self._claim or absent(self._key)

    def open(self) -> bool:
        """Whether this node would lead if it tried. One round trip."""
        item = self._store.get(self._key)
        return item is None or self._is_own(item)

    def try_to_lead(self) -> bool:
        """Look who leads, and lead if nobody does. One or two round trips."""
        lease = self._lease()
        self._won = None
        if lease is None:
            return False
        item = self._store.get(self._key)
        if item is not None and item.lease == lease:
            self._won, self._claim = lease, unchanged(item)
        elif item is None or self._is_own(item):
            compare = absent(self._key) if item is None else unchanged(item)
            result = self._store.txn([compare], [Put(self._key, self._node.encode(), lease)])
            if result.succeeded:
                log.info("this node leads", extra={"node": self._node, "key": self._key})
                self._won, self._claim = lease, Compare(self._key, result.revision)
        return self.leading

    def resign(self) -> None:
        """Lead no more, so that another can at once. Idempotent; one or two round trips."""
        self._won = None
        item = self._store.get(self._key)
        if item is not None and self._is_own(item):
            self._store.txn([unchanged(item)], [Delete(self._key)])
            log.info("this node leads no more", extra={"node": self._node, "key": self._key})

    def _is_own(self, item: KeyValue) -> bool:
        return item.value == self._node.encode()
